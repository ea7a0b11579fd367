// The pool of worker threads: hand-over, growth, its cap, and ending of idle threads.
#include "cri/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "base/clock.h"

struct job {
    struct pool_task task; // first: run() casts back
    sem_t *started, *go;
    atomic_int *done;
};

static void job_run(struct pool_task *task)
{
    struct job *job = (struct job *)task;
    if (job->started)
        sem_post(job->started);
    if (job->go)
        sem_wait(job->go);
    atomic_fetch_add(job->done, 1);
}

static struct pool *make_pool(size_t max, int64_t idle_ns)
{
    struct pool *pool = NULL;
    struct pool_options options = {.max_threads = max, .idle_ns = idle_ns};
    assert_int_equal(pool_new(&options, &pool, NULL), 0);
    return pool;
}

static void wait_many(sem_t *sem, int n)
{
    for (int i = 0; i < n; i++)
        sem_wait(sem);
}

// Waits until the pool's counts satisfy a condition; a bound keeps a failure from hanging.
static void expect_threads(struct pool *pool, size_t threads)
{
    struct pool_stats stats;
    int64_t until = clock_mono_ns() + 10 * NS_PER_SEC;
    do {
        pool_get_stats(pool, &stats);
        if (stats.threads == threads)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 2 * NS_PER_MS}, NULL);
    } while (clock_mono_ns() < until);
    assert_int_equal(stats.threads, threads);
}

static void test_long_waits_do_not_starve(void **state)
{
    (void)state;
    enum { WAITS = 300 };
    static struct job jobs[WAITS];
    struct pool *pool = make_pool(1000, NS_PER_SEC);
    sem_t started, go;
    atomic_int done = 0;
    sem_init(&started, 0, 0);
    sem_init(&go, 0, 0);
    for (int i = 0; i < WAITS; i++) {
        jobs[i] = (struct job){.task.run = job_run, .started = &started, .go = &go, .done = &done};
        assert_int_equal(pool_submit(pool, &jobs[i].task, NULL), 0);
    }
    wait_many(&started, WAITS); // all are under way at once
    struct job quick = {.task.run = job_run, .started = &started, .done = &done};
    assert_int_equal(pool_submit(pool, &quick.task, NULL), 0);
    wait_many(&started, 1);
    for (int i = 0; i < WAITS; i++)
        sem_post(&go);
    pool_free(pool);
    assert_int_equal(done, WAITS + 1);
    sem_destroy(&started);
    sem_destroy(&go);
}

static void test_cap_queues(void **state)
{
    (void)state;
    struct job jobs[10];
    struct pool *pool = make_pool(2, NS_PER_SEC);
    sem_t started, go;
    atomic_int done = 0;
    sem_init(&started, 0, 0);
    sem_init(&go, 0, 0);
    for (int i = 0; i < 10; i++) {
        jobs[i] = (struct job){.task.run = job_run, .started = &started, .go = &go, .done = &done};
        assert_int_equal(pool_submit(pool, &jobs[i].task, NULL), 0);
    }
    wait_many(&started, 2);
    struct pool_stats stats;
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.threads, 2);
    assert_int_equal(stats.queued, 8);
    for (int i = 0; i < 10; i++)
        sem_post(&go);
    pool_free(pool); // finishes what is queued
    assert_int_equal(done, 10);
    sem_destroy(&started);
    sem_destroy(&go);
}

static void test_idle_threads_end(void **state)
{
    (void)state;
    struct job jobs[8];
    struct pool *pool = make_pool(8, 20 * NS_PER_MS);
    atomic_int done = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++) {
            jobs[i] = (struct job){.task.run = job_run, .done = &done};
            assert_int_equal(pool_submit(pool, &jobs[i].task, NULL), 0);
        }
        expect_threads(pool, 0);
    }
    assert_int_equal(done, 24);
    pool_free(pool);
}

static void test_idle_thread_is_reused(void **state)
{
    (void)state;
    struct pool *pool = make_pool(8, 10 * NS_PER_SEC);
    atomic_int done = 0;
    for (int i = 0; i < 50; i++) {
        sem_t started;
        sem_init(&started, 0, 0);
        struct job job = {.task.run = job_run, .started = &started, .done = &done};
        assert_int_equal(pool_submit(pool, &job.task, NULL), 0);
        wait_many(&started, 1);
        struct pool_stats stats = {0};
        int64_t until = clock_mono_ns() + 10 * NS_PER_SEC;
        while (stats.idle != 1 && clock_mono_ns() < until)
            pool_get_stats(pool, &stats);
        assert_int_equal(stats.threads, 1);
        sem_destroy(&started);
    }
    pool_free(pool);
    assert_int_equal(done, 50);
}

struct feeder {
    struct pool *pool;
    struct job jobs[200];
};

static void *feed(void *arg)
{
    struct feeder *f = arg;
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(pool_submit(f->pool, &f->jobs[i].task, NULL), 0);
    return NULL;
}

static void test_many_submitters(void **state)
{
    (void)state;
    static struct feeder feeders[4];
    struct pool *pool = make_pool(16, NS_PER_MS);
    atomic_int done = 0;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        feeders[i].pool = pool;
        for (size_t j = 0; j < 200; j++)
            feeders[i].jobs[j] = (struct job){.task.run = job_run, .done = &done};
        assert_int_equal(pthread_create(&threads[i], NULL, feed, &feeders[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pool_free(pool);
    assert_int_equal(done, 800);
}

static void test_free_unused(void **state)
{
    (void)state;
    pool_free(make_pool(4, NS_PER_SEC));
    pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_waits_do_not_starve), cmocka_unit_test(test_cap_queues),
        cmocka_unit_test(test_idle_threads_end),         cmocka_unit_test(test_idle_thread_is_reused),
        cmocka_unit_test(test_many_submitters),          cmocka_unit_test(test_free_unused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
