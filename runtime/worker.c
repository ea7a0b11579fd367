#include "runtime/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (60 * NS_PER_SEC)
#define STACK_BYTES    (256u << 10)

struct job {
    struct job *next; // sorted by due_ns
    int64_t due_ns;   // monotonic
    worker_fn run;
    worker_drop_fn drop;
    void *data;
    unsigned attempt;
};

struct worker {
    pthread_mutex_t lock;
    pthread_cond_t changed; // on the monotonic clock
    struct job *first;
    unsigned max_threads, n_threads, n_idle;
    bool ending;
    pthread_t threads[]; // max_threads
};

struct worker *worker_new(void)
{
    return worker_new_sized(WORKER_THREADS_MAX);
}

struct worker *worker_new_sized(unsigned max_threads)
{
    max_threads = max_threads < WORKER_THREADS_LIMIT ? max_threads : WORKER_THREADS_LIMIT;
    struct worker *w = calloc(1, sizeof(*w) + max_threads * sizeof(w->threads[0]));
    if (!w)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&w->lock, NULL);
    w->max_threads = max_threads;
    return w;
}

static void job_free(struct job *job)
{
    if (job->drop)
        job->drop(job->data);
    free(job);
}

static void job_insert(struct worker *w, struct job *job)
{
    struct job **at = &w->first;
    while (*at && (*at)->due_ns <= job->due_ns)
        at = &(*at)->next;
    job->next = *at;
    *at = job;
    pthread_cond_signal(&w->changed);
}

static void *worker_main(void *data);

// One more thread when every one is busy. Without it the jobs wait for the next addition or a thread there
// is.
static int grow(struct worker *w)
{
    if (w->n_idle > 0 || w->n_threads == w->max_threads)
        return 0;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int r = pthread_create(&w->threads[w->n_threads], &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    if (r == 0)
        w->n_threads++;
    return w->n_threads > 0 ? 0 : -r;
}

// The next job that is due, taken off the list; NULL when the worker ends. The lock is held.
static struct job *job_wait(struct worker *w)
{
    while (!w->ending) {
        struct job *job = w->first;
        if (job && job->due_ns <= clock_mono_ns()) {
            w->first = job->next;
            if (w->first) // whose time may come while this one is at work
                (void)grow(w);
            return job;
        }
        w->n_idle++;
        if (!job) {
            pthread_cond_wait(&w->changed, &w->lock);
        } else {
            struct timespec at = {.tv_sec = job->due_ns / NS_PER_SEC, .tv_nsec = job->due_ns % NS_PER_SEC};
            pthread_cond_timedwait(&w->changed, &w->lock, &at);
        }
        w->n_idle--;
    }
    return NULL;
}

static int64_t backoff_ns(unsigned attempt)
{
    int64_t ns = BACKOFF_MIN_NS;
    while (attempt-- > 0 && ns < BACKOFF_MAX_NS)
        ns *= 2;
    return ns < BACKOFF_MAX_NS ? ns : BACKOFF_MAX_NS;
}

static void *worker_main(void *data)
{
    struct worker *w = data;
    struct job *job;

    pthread_mutex_lock(&w->lock);
    while ((job = job_wait(w))) {
        pthread_mutex_unlock(&w->lock);
        int r = job->run(job->data, job->attempt);
        if (r == 0)
            job_free(job);
        pthread_mutex_lock(&w->lock);
        if (r != 0) { // dropped with the others if the worker is ending
            job->due_ns = clock_mono_ns() + backoff_ns(job->attempt++);
            job_insert(w, job);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int worker_add(struct worker *w, worker_fn run, worker_drop_fn drop, void *data, int64_t delay_ns)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job) {
        if (drop)
            drop(data);
        return -ENOMEM;
    }
    *job = (struct job){.due_ns = clock_mono_ns() + delay_ns, .run = run, .drop = drop, .data = data};

    pthread_mutex_lock(&w->lock);
    int r = w->ending ? -ESHUTDOWN : grow(w);
    if (r == 0)
        job_insert(w, job);
    pthread_mutex_unlock(&w->lock);
    if (r < 0)
        job_free(job);
    return r;
}

void worker_cancel(struct worker *w, worker_fn run, const void *data)
{
    pthread_mutex_lock(&w->lock);
    struct job **at = &w->first;
    while (*at && ((*at)->run != run || (*at)->data != data))
        at = &(*at)->next;
    struct job *job = *at;
    if (job)
        *at = job->next;
    pthread_mutex_unlock(&w->lock);
    if (job)
        job_free(job);
}

void worker_stop(struct worker *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    w->n_threads = 0;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    worker_stop(w);
    while (w->first) {
        struct job *job = w->first;
        w->first = job->next;
        job_free(job);
    }
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
