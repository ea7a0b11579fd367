// How far a pull is, and where its time went: for crispd, which tells those who watch.
#ifndef IMAGE_PULL_PROGRESS_H
#define IMAGE_PULL_PROGRESS_H

#include "image/pull/layer.h"

struct progress {
    int64_t next_ns; // monotonic: not before
    uint64_t told;   // the sum of what was told last
};

// Tells what the running layers have received, at most ten times in a second and never waiting for crispd.
int progress_report(struct progress *p, int sock, const struct layer *layers, size_t n, struct error *err);
// Of a layer that is unpacked.
void progress_figures(const struct layer *l, Pull__LayerDone *done);

#endif
