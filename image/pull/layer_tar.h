// An unpacked layer as a tar again.
#ifndef IMAGE_PULL_LAYER_TAR_H
#define IMAGE_PULL_LAYER_TAR_H

#include "base/error.h"

// Writes what is below root_fd to out_fd: names in the order of their bytes, overlay's whiteouts and marks in
// the form that images have (.wh.NAME, .wh..wh..opq), hard links within the layer as such. The same layer
// gives the same bytes. The files are an image's: nothing of it is followed or run.
int layer_tar_write(int root_fd, int out_fd, struct error *err);

#endif
