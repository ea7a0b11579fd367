// Background work: what could not be finished at once is tried again, ever more rarely, until it is done.
#ifndef RUNTIME_WORKER_H
#define RUNTIME_WORKER_H

#include <stdint.h>

struct worker;

// 0: done; anything else: try again (after 100 ms, doubling up to a minute). attempt counts from 0. It may
// block: there are several threads, so that one stuck job doesn't hold up the rest for long.
typedef int (*worker_fn)(void *data, unsigned attempt);
typedef void (*worker_drop_fn)(void *data);

#define WORKER_THREADS_MAX   4
#define WORKER_THREADS_LIMIT 512

struct worker *worker_new(void);                       // NULL on ENOMEM; threads start with the first jobs
struct worker *worker_new_sized(unsigned max_threads); // up to WORKER_THREADS_LIMIT
// Waits for running jobs; the others are not begun any more. NULL is fine.
void worker_stop(struct worker *w);
// Stops it and drops what is left: whatever it would have done is found again at the next start.
void worker_free(struct worker *w);
// Queues a job, to run after delay_ns; drop (may be NULL) gets data once it is done or given up. 0 or
// -ENOMEM; then, or when the worker is ending (-ESHUTDOWN), data has been dropped already.
int worker_add(struct worker *w, worker_fn run, worker_drop_fn drop, void *data, int64_t delay_ns);
// Takes such a job out of the queue and drops its data, if it waits there; one that runs runs on.
void worker_cancel(struct worker *w, worker_fn run, const void *data);

#endif
