// What the files of the image RPCs share.
#ifndef CRI_RPC_IMAGE_H
#define CRI_RPC_IMAGE_H

#include "api/cri/api.pb-c.h"
#include "base/arena.h"
#include "cri/rpc.h"
#include "image/image.h"

// The verbose information of ImageStatus: {"id": …, "imageSpec": the OCI image config, …}. source: NULL when
// it isn't kept. In arena; NULL when that is full.
char *image_info_json(const struct image *image, const struct image_source *source, struct arena *arena);

// What a file system's user takes; in the call's arena, NULL when it is full. mountpoint stays the caller's.
Cri__FilesystemUsage *rpc_filesystem_usage(struct rpc_call *call, const char *mountpoint,
                                           int64_t timestamp_ns, uint64_t bytes, uint64_t inodes);

#endif
