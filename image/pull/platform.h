// Choosing the entry of an image index for this machine.
#ifndef IMAGE_PULL_PLATFORM_H
#define IMAGE_PULL_PLATFORM_H

#include <stdbool.h>

#include "image/pull/manifest.h"

// What this machine runs, the best first; constant, the caller's.
struct platforms {
    Pull__Platform *const *list;
    size_t n;
};

// The index's entries that may be ours, the best first: those of the first platform in their order, those of
// the second, …; then those that don't say what they are for. *out is in arena.
// FAILED_PRECONDITION (ENOEXEC) naming the platforms there when there is none.
int platform_choose(const struct manifest *index, const struct platforms *platforms, struct arena *arena,
                    const struct index_entry ***out, size_t *n, struct error *err);
// Is an image config's platform one of these? What it doesn't say is fine; its variant isn't looked at.
bool platform_is_runnable(const char *os, const char *architecture, const struct platforms *platforms);

#endif
