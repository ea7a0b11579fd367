// Waiting for a state to change, within a ctx: what condition variables can't do (they know no cancel).
//
// Both are guarded by a mutex of the owner's, which must be held in every call here.
#ifndef RUNTIME_GATE_H
#define RUNTIME_GATE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/ctx.h"
#include "base/error.h"

struct notify_waiter;

// Those that wait for some change; all zero to begin with.
struct notify {
    struct notify_waiter *first;
};

// Releases the lock, sleeps until notify_wake() or the ctx's bounds, takes the lock again: 0 or as
// ctx_check(). May wake for no reason: test the condition in a loop. Whoever waits keeps the owner alive.
int notify_wait(pthread_mutex_t *lock, struct notify *n, const struct ctx *ctx, struct error *err);
void notify_wake(struct notify *n);

// Lets one whole operation in at a time; all zero to begin with.
struct gate {
    bool held;
    struct notify freed;
};

int gate_enter(pthread_mutex_t *lock, struct gate *g, const struct ctx *ctx, struct error *err);
void gate_leave(struct gate *g);

#endif
