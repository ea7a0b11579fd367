// One layer's unpacking child as crisp-pull sees it: bytes go in, events come out, and what the child may not
// do itself (overlay's marks) is done here once it has ended.
#ifndef IMAGE_PULL_LAYER_UNPACK_H
#define IMAGE_PULL_LAYER_UNPACK_H

#include <stdbool.h>
#include <stddef.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "base/pb.h"

struct layer_unpack {
    const Pull__Layer *desc; // the caller's
    char *dir;               // where it is unpacked
    int data_fd;             // to the child; -1 once all is written
    bool broken;             // the child no longer reads: its events say why
    char *pending;           // what the pipe had no room for
    size_t pending_pos, pending_len, pending_alloc;
    int event_fd;
    struct pb_frame_reader events;
    char **opaque_dirs;
    size_t n_opaque, opaque_alloc;
    Pull__UnpackDone *result; // NULL until the layer is unpacked
};

void layer_unpack_init(struct layer_unpack *u, const Pull__Layer *desc);
void layer_unpack_done(struct layer_unpack *u);
// Makes the folder (dir becomes ours) and has a child forked.
int layer_unpack_start(struct layer_unpack *u, int forker, char *dir, const Pull__Limits *limits,
                       struct error *err);
// Takes all the bytes, never waits: 0, -ENOMEM, or -EPIPE when the child no longer reads.
int layer_unpack_write(struct layer_unpack *u, const char *bytes, size_t len);
// Bytes wait for the pipe (data_fd is to be polled for writing): nothing more is to be written.
bool layer_unpack_is_full(const struct layer_unpack *u);
void layer_unpack_flush(struct layer_unpack *u);
// All was written and found right: the child may believe it.
void layer_unpack_end(struct layer_unpack *u);
// Reads the child's events without waiting. 1 when the layer is unpacked, its diffID right and its opaque
// folders marked (u->result), 0 when there is more to come, -errno.
int layer_unpack_step(struct layer_unpack *u, struct error *err);

#endif
