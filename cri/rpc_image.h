// What the files of the image RPCs share.
#ifndef CRI_RPC_IMAGE_H
#define CRI_RPC_IMAGE_H

#include "base/arena.h"
#include "image/image.h"

// The verbose information of ImageStatus: {"id": …, "imageSpec": the OCI image config}. In arena; NULL when
// it is full.
char *image_info_json(const struct image *image, struct arena *arena);

#endif
