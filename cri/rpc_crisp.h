// What the files of crisp's own service share.
#ifndef CRI_RPC_CRISP_H
#define CRI_RPC_CRISP_H

#include "api/crisp/images.pb-c.h"
#include "base/arena.h"
#include "image/image.h"

#define RPC_PROGRESS_MAX (256u << 10) // bytes of one message about a pull or an import

// In the arena, digests but for those of `layers`; NULL when it is full.
Crisp__LayerProgress **rpc_layer_progress(struct arena *arena, const struct image_layer_progress *layers,
                                          size_t n);

#endif
