// Threads for calls that may block: made when there is work for them, ended when there is none.
//
// A StopContainer waits out a grace period, a PullImage a download: hundreds of such waits may be in flight
// at once, so each call gets a thread, and a bounded pool would let them starve the short ones. A thread at
// rest is handed work again newest first, so that the warm ones are reused and the rest can end.
#ifndef CRI_POOL_H
#define CRI_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct pool;

// Embedded in whatever the work is about; must stay valid until run() is entered.
struct pool_task {
    void (*run)(struct pool_task *task);
    struct pool_task *next;
};

struct pool_options {
    size_t max_threads; // work beyond it waits in a queue, in order
    int64_t idle_ns;    // a thread without work ends after this long
};

// Starts no thread yet. 0 or -errno.
int pool_new(const struct pool_options *options, struct pool **out, struct error *err);

// Has run() called on some thread, which inherits the signal mask of the first submitter. -EAGAIN
// (RESOURCE_EXHAUSTED) when not a single thread can be made: the task was then not taken.
int pool_submit(struct pool *pool, struct pool_task *task, struct error *err);

struct pool_stats {
    size_t threads, idle, queued;
};
void pool_get_stats(struct pool *pool, struct pool_stats *out);

// Waits until all submitted work is done and every thread has been joined. No submit may run at the same time
// or later. NULL is fine.
void pool_free(struct pool *pool);

#endif
