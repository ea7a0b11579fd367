#include "cri/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

// Handlers keep little on the stack (an error is 1 KiB); the sanitizers' frames are several times as big.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POOL_STACK_BYTES (2u << 20)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define POOL_STACK_BYTES (2u << 20)
#endif
#endif
#ifndef POOL_STACK_BYTES
#define POOL_STACK_BYTES (256u << 10)
#endif

struct worker {
    struct pool *pool;
    pthread_t thread;
    pthread_cond_t wake;    // signalled when task is set or the pool ends
    struct pool_task *task; // handed over directly by the submitter
    struct worker *next;    // in pool->idle or pool->ended
    bool idle;              // on pool->idle
};

struct pool {
    struct pool_options options;
    pthread_mutex_t lock; // guards everything below and the workers
    pthread_cond_t none;  // signalled when the last thread has ended
    struct worker *idle;  // newest first
    struct worker *ended; // to be joined; each thread that ends joins those that ended before it
    struct pool_task *head, **tail;
    size_t n_threads, n_idle, n_queued;
    bool closing;
};

int pool_new(const struct pool_options *options, struct pool **out, struct error *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return error_errno(err, ENOMEM, "make the thread pool");
    pool->options = *options;
    pool->tail = &pool->head;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->none, NULL);
    *out = pool;
    return 0;
}

static void worker_join_all(struct worker *list)
{
    while (list) {
        struct worker *next = list->next;
        (void)pthread_join(list->thread, NULL);
        pthread_cond_destroy(&list->wake);
        free(list);
        list = next;
    }
}

static struct pool_task *queue_take(struct pool *pool)
{
    struct pool_task *task = pool->head;
    if (!task)
        return NULL;
    pool->head = task->next;
    if (!pool->head)
        pool->tail = &pool->head;
    pool->n_queued--;
    return task;
}

static void idle_remove(struct pool *pool, struct worker *w)
{
    for (struct worker **at = &pool->idle; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            pool->n_idle--;
            break;
        }
    }
    w->idle = false;
}

// Waits for a task with the lock held; NULL when the thread is to end.
static struct pool_task *worker_next(struct worker *w)
{
    struct pool *pool = w->pool;
    struct pool_task *task = w->task ? w->task : queue_take(pool);
    w->task = NULL;
    if (task || pool->closing)
        return task;
    int64_t until = clock_mono_ns() + pool->options.idle_ns;
    struct timespec at = {.tv_sec = until / NS_PER_SEC, .tv_nsec = until % NS_PER_SEC};
    w->next = pool->idle;
    w->idle = true;
    pool->idle = w;
    pool->n_idle++;
    int rc = 0;
    while (w->idle && !pool->closing && rc == 0)
        rc = pthread_cond_timedwait(&w->wake, &pool->lock, &at);
    if (w->idle)
        idle_remove(pool, w);
    task = w->task;
    w->task = NULL;
    return task;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *pool = w->pool;
    struct pool_task *task;
    pthread_mutex_lock(&pool->lock);
    while ((task = worker_next(w))) {
        pthread_mutex_unlock(&pool->lock);
        task->run(task);
        pthread_mutex_lock(&pool->lock);
    }
    struct worker *before = pool->ended;
    w->next = NULL;
    pool->ended = w;
    if (--pool->n_threads == 0)
        pthread_cond_signal(&pool->none);
    pthread_mutex_unlock(&pool->lock);
    worker_join_all(before);
    return NULL;
}

static int worker_start(struct pool *pool, struct pool_task *task)
{
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->pool = pool;
    w->task = task;
    pthread_condattr_t cond;
    pthread_condattr_init(&cond);
    pthread_condattr_setclock(&cond, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &cond);
    pthread_condattr_destroy(&cond);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, POOL_STACK_BYTES);
    int rc = pthread_create(&w->thread, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        pthread_cond_destroy(&w->wake);
        free(w);
        return -rc;
    }
    pool->n_threads++;
    return 0;
}

static void queue_add(struct pool *pool, struct pool_task *task)
{
    *pool->tail = task;
    pool->tail = &task->next;
    pool->n_queued++;
}

int pool_submit(struct pool *pool, struct pool_task *task, struct error *err)
{
    int rc = 0;
    task->next = NULL;
    pthread_mutex_lock(&pool->lock);
    struct worker *w = pool->idle;
    if (w) {
        idle_remove(pool, w);
        w->task = task;
        pthread_cond_signal(&w->wake);
    } else if (pool->n_threads >= pool->options.max_threads) {
        queue_add(pool, task);
    } else {
        // The new thread blocks on the lock until this one has written its id.
        rc = worker_start(pool, task);
        if (rc != 0 && pool->n_threads > 0) {
            queue_add(pool, task); // the others will come to it
            rc = 0;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (rc != 0)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, -rc,
                         "no thread can be made for this call: raise the limit of tasks of this service");
    return 0;
}

void pool_get_stats(struct pool *pool, struct pool_stats *out)
{
    pthread_mutex_lock(&pool->lock);
    *out = (struct pool_stats){.threads = pool->n_threads, .idle = pool->n_idle, .queued = pool->n_queued};
    pthread_mutex_unlock(&pool->lock);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    for (struct worker *w = pool->idle; w; w = w->next)
        pthread_cond_signal(&w->wake);
    while (pool->n_threads > 0)
        pthread_cond_wait(&pool->none, &pool->lock);
    struct worker *ended = pool->ended;
    pool->ended = NULL;
    pthread_mutex_unlock(&pool->lock);
    worker_join_all(ended);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->none);
    free(pool);
}
