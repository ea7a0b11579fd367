// Background jobs, gates, and what config_diff() says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka wants those before it
#include <cmocka.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/pb.h"
#include "runtime/store.h"

static atomic_int ran, dropped;

static int run_third_time(void *data, unsigned attempt)
{
    (void)data;
    atomic_fetch_add(&ran, 1);
    return attempt < 2 ? -EBUSY : 0;
}

static void count_drop(void *data)
{
    (void)data;
    atomic_fetch_add(&dropped, 1);
}

static void wait_count(atomic_int *counter, int n)
{
    for (int i = 0; i < 500 && atomic_load(counter) < n; i++)
        (void)poll(NULL, 0, 10);
    assert_int_equal(atomic_load(counter), n);
}

static void test_worker_tries_again(void **state)
{
    (void)state;
    struct worker *w = worker_new();
    atomic_store(&ran, 0);
    atomic_store(&dropped, 0);
    assert_int_equal(worker_add(w, run_third_time, count_drop, &ran, 0), 0);
    wait_count(&dropped, 1);
    assert_int_equal(atomic_load(&ran), 3);
    // What isn't due is dropped at the end, without being run.
    assert_int_equal(worker_add(w, run_third_time, count_drop, &ran, 3600 * NS_PER_SEC), 0);
    worker_stop(w);
    assert_int_equal(worker_add(w, run_third_time, count_drop, &ran, 0), -ESHUTDOWN);
    worker_free(w);
    assert_int_equal(atomic_load(&ran), 3);
    assert_int_equal(atomic_load(&dropped), 3);
}

static void test_worker_cancels(void **state)
{
    (void)state;
    struct worker *w = worker_new();
    int one, other;
    atomic_store(&ran, 0);
    atomic_store(&dropped, 0);
    assert_int_equal(worker_add(w, run_third_time, count_drop, &one, 3600 * NS_PER_SEC), 0);
    assert_int_equal(worker_add(w, run_third_time, count_drop, &other, 3601 * NS_PER_SEC), 0);
    worker_cancel(w, run_third_time, &other);
    assert_int_equal(atomic_load(&dropped), 1);
    worker_cancel(w, run_third_time, &other); // there is none any more
    assert_int_equal(atomic_load(&dropped), 1);
    worker_cancel(w, run_third_time, &one);
    assert_int_equal(atomic_load(&dropped), 2);
    worker_free(w);
    assert_int_equal(atomic_load(&dropped), 2);
    assert_int_equal(atomic_load(&ran), 0);
}

static int hang(void *data, unsigned attempt)
{
    (void)attempt;
    struct pollfd p = {.fd = *(int *)data, .events = POLLIN};
    (void)poll(&p, 1, 10000);
    return 0;
}

static void test_worker_is_not_held_up(void **state)
{
    (void)state;
    struct worker *w = worker_new();
    int event = eventfd(0, EFD_CLOEXEC);
    uint64_t one = 1;
    atomic_store(&dropped, 0);
    for (int i = 0; i < WORKER_THREADS_MAX - 1; i++)
        assert_int_equal(worker_add(w, hang, NULL, &event, 0), 0);
    assert_int_equal(worker_add(w, run_third_time, count_drop, NULL, 0), 0);
    wait_count(&dropped, 1);
    assert_int_equal(write(event, &one, sizeof(one)), sizeof(one));
    worker_free(w);
    close(event);
}

// Those that come due while all who watch are at work.
static void test_worker_grows_for_what_is_due_later(void **state)
{
    (void)state;
    struct worker *w = worker_new_sized(2);
    int event = eventfd(0, EFD_CLOEXEC);
    uint64_t one = 1;
    atomic_store(&dropped, 0);
    assert_int_equal(worker_add(w, hang, NULL, &event, 20 * NS_PER_MS), 0);
    assert_int_equal(worker_add(w, run_third_time, count_drop, NULL, 20 * NS_PER_MS), 0);
    wait_count(&dropped, 1);
    assert_int_equal(write(event, &one, sizeof(one)), sizeof(one));
    worker_free(w);
    close(event);
}

struct contest {
    pthread_mutex_t lock;
    struct gate gate;
    int inside, most, n;
};

static void *contest_main(void *data)
{
    struct contest *c = data;
    const struct ctx none = CTX_NONE;
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&c->lock);
        (void)gate_enter(&c->lock, &c->gate, &none, NULL);
        c->inside++;
        c->most = c->inside > c->most ? c->inside : c->most;
        pthread_mutex_unlock(&c->lock);
        pthread_mutex_lock(&c->lock);
        c->inside--;
        c->n++;
        gate_leave(&c->gate);
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

static void test_gate_lets_one_in(void **state)
{
    (void)state;
    struct contest c = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, contest_main, &c), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c.most, 1);
    assert_int_equal(c.n, 400);
}

static void test_gate_within_ctx(void **state)
{
    (void)state;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct gate gate = {.held = true};
    struct error err = ERROR_INIT;
    const struct ctx none = CTX_NONE;
    struct ctx ctx = ctx_with_timeout(&none, 20 * NS_PER_MS);
    pthread_mutex_lock(&lock);
    assert_int_equal(gate_enter(&lock, &gate, &ctx, &err), -ETIMEDOUT);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    ctx = none;
    ctx.cancel_fd = eventfd(1, EFD_CLOEXEC);
    assert_int_equal(gate_enter(&lock, &gate, &ctx, &err), -ECANCELED);
    close(ctx.cancel_fd);
    gate_leave(&gate);
    assert_int_equal(gate_enter(&lock, &gate, &none, &err), 0);
    assert_null(gate.freed.first);
    pthread_mutex_unlock(&lock);
}

static void expect_diff(const Cri__PodSandboxConfig *a, const Cri__PodSandboxConfig *b, const char *path)
{
    char where[64];
    config_diff(&a->base, &b->base, where, sizeof(where));
    assert_string_equal(where, path);
    config_diff(&b->base, &a->base, where, sizeof(where));
    assert_string_equal(where, path);
}

static void test_config_diff(void **state)
{
    (void)state;
    Cri__PodSandboxConfig a = CRI__POD_SANDBOX_CONFIG__INIT, b = CRI__POD_SANDBOX_CONFIG__INIT;
    Cri__LinuxPodSandboxConfig la = CRI__LINUX_POD_SANDBOX_CONFIG__INIT,
                               lb = CRI__LINUX_POD_SANDBOX_CONFIG__INIT;
    Cri__PodSandboxConfig__LabelsEntry x = CRI__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT,
                                       y = CRI__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT;
    Cri__PodSandboxConfig__LabelsEntry *xy[] = {&x, &y}, *yx[] = {&y, &x};
    x.key = (char *)"x";
    y.key = (char *)"y";
    expect_diff(&a, &b, "");
    a.labels = xy;
    b.labels = yx; // Go sends maps in any order
    a.n_labels = b.n_labels = 2;
    expect_diff(&a, &b, "");
    b.n_labels = 1;
    expect_diff(&a, &b, "labels");
    b.n_labels = 2;
    a.linux = &la;
    expect_diff(&a, &b, "linux");
    b.linux = &lb;
    expect_diff(&a, &b, "");
    lb.cgroup_parent = (char *)"/other";
    expect_diff(&a, &b, "linux.cgroup_parent");
    b.hostname = (char *)"other";
    expect_diff(&a, &b, "hostname"); // the first in the message's order
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_tries_again),
        cmocka_unit_test(test_worker_cancels),
        cmocka_unit_test(test_worker_is_not_held_up),
        cmocka_unit_test(test_worker_grows_for_what_is_due_later),
        cmocka_unit_test(test_gate_lets_one_in),
        cmocka_unit_test(test_gate_within_ctx),
        cmocka_unit_test(test_config_diff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
