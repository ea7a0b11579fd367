// A layer whose bytes are in a file: of an archive that is imported.
#ifndef IMAGE_PULL_LAYER_FILE_H
#define IMAGE_PULL_LAYER_FILE_H

#include "image/pull/layer.h"

// Gives the unpacking child what it takes, without waiting for it; at the end the digest is compared. 0 or
// -errno.
int layer_file_step(struct layer *l, struct error *err);

#endif
