// What bounds a piece of work: a deadline, and somebody who may call it off.
#ifndef BASE_CTX_H
#define BASE_CTX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct ctx {
    int64_t deadline_mono_ns; // monotonic; INT64_MAX: none
    int cancel_fd;            // readable (an eventfd) once called off; -1: nobody can
};

#define CTX_NONE ((struct ctx){.deadline_mono_ns = INT64_MAX, .cancel_fd = -1})

struct ctx ctx_with_timeout(const struct ctx *parent, int64_t timeout_ns); // never later than the parent's
// Milliseconds left for poll(2): -1 for no deadline, 0 when it has passed.
int ctx_poll_ms(const struct ctx *ctx);
// 0, -ECANCELED (status CANCELLED) or -ETIMEDOUT (status DEADLINE_EXCEEDED).
int ctx_check(const struct ctx *ctx, struct error *err);
// Waits until fd has one of `events` (poll(2) bits; fd -1: for nothing but the bounds), the deadline or the
// cancel: 1 when ready, else as ctx_check().
int ctx_wait_fd(const struct ctx *ctx, int fd, short events, struct error *err);

#endif
