// Reading the statistics of many containers and pods by several threads.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "runtime/stats.h"

#define ITEMS_PER_THREAD 16 // fewer aren't worth a thread
#define ITEMS_AT_ONCE    4  // what a thread takes from the list at a time
#define STACK_BYTES      (256u << 10)
#define ARENA_MAX        (64u << 20)

struct reading {
    struct runtime *rt;
    struct stats_batch *batch;
    atomic_size_t next;
    pthread_mutex_t lock; // of what follows
    int result;
    struct error *err; // of the first failure
    size_t n_threads;  // that have taken their arena
};

// The first failure is told; the others have nothing left to take.
static void fail(struct reading *r, int result, const struct error *why)
{
    pthread_mutex_lock(&r->lock);
    if (r->result == 0) {
        r->result = result;
        if (r->err)
            *r->err = *why;
    }
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->next, r->batch->n);
}

static int read_item(struct reading *r, struct stats_item *item, struct arena *arena, struct error *err)
{
    int n = item->container ? runtime_container_stats(r->rt, item->container, &item->of_container, err)
                            : runtime_pod_stats(r->rt, item->pod, arena, &item->of_pod, err);
    item->runs = n == 0;
    return n == -ENOENT ? 0 : n;
}

static void *read_some(void *data)
{
    struct reading *r = data;
    struct error err = ERROR_INIT;
    struct arena *arena = arena_new(ARENA_MAX);
    int n = arena ? 0 : error_errno(&err, ENOMEM, "read statistics");
    pthread_mutex_lock(&r->lock);
    r->batch->arenas[r->n_threads++] = arena;
    pthread_mutex_unlock(&r->lock);
    while (n == 0) {
        size_t at = atomic_fetch_add(&r->next, ITEMS_AT_ONCE), end = at + ITEMS_AT_ONCE;
        if (at >= r->batch->n)
            return NULL;
        for (; n == 0 && at < end && at < r->batch->n; at++)
            n = read_item(r, &r->batch->items[at], arena, &err);
    }
    fail(r, n, &err);
    return NULL;
}

static size_t threads_for(size_t n_items)
{
    cpu_set_t cpus;
    size_t n = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (size_t)CPU_COUNT(&cpus) : STATS_THREADS_MAX;
    n = n < STATS_THREADS_MAX ? n : STATS_THREADS_MAX;
    return n < n_items / ITEMS_PER_THREAD ? n : n_items / ITEMS_PER_THREAD;
}

// Without one more the work is done all the same.
static bool start(struct reading *r, pthread_t *thread)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0)
        return false;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(thread, &attr, read_some, r);
    pthread_attr_destroy(&attr);
    return rc == 0;
}

int runtime_stats_read(struct runtime *rt, struct stats_batch *batch, struct error *err)
{
    struct reading r = {.rt = rt, .batch = batch, .err = err, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t others[STATS_THREADS_MAX - 1];
    size_t n = 0, wanted = threads_for(batch->n);
    for (size_t i = 0; i < STATS_THREADS_MAX; i++)
        batch->arenas[i] = NULL;
    while (n + 1 < wanted && start(&r, &others[n]))
        n++;
    (void)read_some(&r);
    while (n > 0)
        pthread_join(others[--n], NULL);
    pthread_mutex_destroy(&r.lock);
    return r.result;
}

void runtime_stats_done(struct stats_batch *batch)
{
    for (size_t i = 0; i < STATS_THREADS_MAX; i++)
        arena_freep(&batch->arenas[i]);
}
