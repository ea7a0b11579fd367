// One layer on its way: blob -> hash -> unpacking child. Driven by session.c's loop.
#ifndef IMAGE_PULL_LAYER_H
#define IMAGE_PULL_LAYER_H

#include <stdbool.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "image/pull/digest.h"
#include "image/pull/layer_unpack.h"
#include "image/pull/registry.h"
#include "image/pull/retry.h"

enum layer_state {
    LAYER_UNDECIDED, // crispd has not said what to do
    LAYER_QUEUED,    // to be fetched
    LAYER_RUNNING,   // being fetched or unpacked
    LAYER_FINISHED,  // there, or unpacked and reported
};

struct layer {
    const Pull__Layer *desc;
    uint32_t index;
    enum layer_state state;
    int64_t started_ns; // monotonic; by layer_start()

    struct http_request http;
    char *url;
    bool transferring;
    size_t endpoint;
    struct retry retry;               // at this endpoint, since `milestone`
    int transfers;                    // all in all
    int64_t start_at_mono_ns;         // 0: not waiting to start the next transfer
    unsigned breaks, authentications; // at this endpoint, since `milestone`
    uint64_t received, skip;          // bytes taken; bytes of an answer that repeats what was taken
    uint64_t from;                    // `received` when the transfer began
    uint64_t milestone;               // `received` when there was progress worth the name
    struct digest *digest;
    bool too_large, bad_range; // what the server sends
    bool verified;             // all is there and has the right digest
    struct error refused;      // what endpoints before this one did wrong; "" none
    unsigned restarts;

    int forker;
    const char *staging_dir; // the session's
    const Pull__Limits *limits;

    int file_fd; // of an archive, where the bytes are; -1: they come from a registry
    uint64_t file_offset;
    bool file_verified; // by its diffID only: its digest is not known

    bool paused; // until the child has taken what was written
    struct layer_unpack unpack;
};

// The time at which layer_step() has something to do though nothing happens, 0: none.
int64_t layer_deadline_mono_ns(const struct layer *l);
void layer_init(struct layer *l, const Pull__Layer *desc, uint32_t index);
void layer_done(struct layer *l, struct http *http);
// Makes the folder, has a child forked and starts the transfer.
int layer_start(struct layer *l, struct registry *r, int forker, const char *staging_dir,
                const Pull__Limits *limits, struct error *err);
// Does what can be done without waiting. 1 when the layer is unpacked and marked (l->unpack.result), 0 when
// there is more to come, -errno.
int layer_step(struct layer *l, struct registry *r, struct error *err);

#endif
