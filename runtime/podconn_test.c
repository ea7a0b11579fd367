// The connection to crisp-pod, against a peer that the test plays itself.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka wants those before it
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/spawn.h"
#include "runtime/podconn.h"

struct fixture {
    struct monitor *monitor;
    struct podconn *conn;
    int peer; // the other end
    pid_t pid;
    atomic_int exited, exec_exited, broken, gone;
    atomic_int exit_code;
};

static void on_exited(void *data, const Pod__ExitRecord *exit)
{
    struct fixture *f = data;
    atomic_store(&f->exit_code, exit->exit_code);
    atomic_fetch_add(&f->exited, 1);
}

static void on_exec_exited(void *data, const Pod__ExecExit *exit)
{
    struct fixture *f = data;
    (void)exit;
    atomic_fetch_add(&f->exec_exited, 1);
}

static void on_broken(void *data)
{
    struct fixture *f = data;
    atomic_fetch_add(&f->broken, 1);
}

static void on_gone(void *data)
{
    struct fixture *f = data;
    atomic_fetch_add(&f->gone, 1);
}

static const struct podconn_events events = {on_exited, on_exec_exited, on_broken, on_gone};

static void wait_count(atomic_int *counter, int n)
{
    for (int i = 0; i < 500 && atomic_load(counter) < n; i++)
        (void)poll(NULL, 0, 10);
    assert_int_equal(atomic_load(counter), n);
}

// A process that stands for crisp-pod: all it does is live.
static pid_t start_sleeper(int *pidfd)
{
    struct error err = ERROR_INIT;
    char *const argv[] = {(char *)"sleep", (char *)"60", NULL};
    char *const envp[] = {NULL};
    const struct spawn_options o = {.path = "/bin/sleep", .argv = argv, .envp = envp};
    pid_t pid = spawn_start(&o, pidfd, &err);
    if (pid < 0)
        fail_msg("%s", err.message);
    return pid;
}

static int setup(void **state)
{
    static struct fixture f;
    struct error err = ERROR_INIT;
    int socks[2], pidfd;
    memset(&f, 0, sizeof(f));
    assert_int_equal(monitor_new(&f.monitor, &err), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
    f.pid = start_sleeper(&pidfd);
    f.peer = socks[1];
    assert_int_equal(podconn_new(f.monitor, "test", socks[0], pidfd, &events, &f, &f.conn, &err), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->peer >= 0)
        close(f->peer);
    (void)kill(f->pid, SIGKILL);
    wait_count(&f->gone, 1);
    monitor_free(f->monitor);
    podconn_unref(f->conn);
    return 0;
}

static Pod__Request *receive(struct fixture *f)
{
    struct pb_frame_reader reader;
    ProtobufCMessage *m = NULL;
    int fds[PB_FRAME_FDS_MAX];
    size_t n_fds = PB_FRAME_FDS_MAX;
    pb_frame_reader_init(&reader);
    while (pb_frame_reader_take(&reader, &pod__request__descriptor, NULL, &m, fds, &n_fds) == 0) {
        assert_true(pb_frame_reader_feed(&reader, f->peer) > 0);
        n_fds = PB_FRAME_FDS_MAX;
    }
    pb_frame_reader_done(&reader);
    assert_non_null(m);
    return (Pod__Request *)m;
}

static void reply(struct fixture *f, uint64_t id, int pid, const int *fds, size_t n_fds)
{
    Pod__Reply r = POD__REPLY__INIT;
    Pod__StartReply start = POD__START_REPLY__INIT;
    r.id = id;
    r.result_case = POD__REPLY__RESULT_START;
    r.start = &start;
    start.pid = pid;
    assert_int_equal(pb_frame_send(f->peer, &r.base, fds, n_fds, NULL), 0);
}

static void request_init(Pod__Request *request, Pod__StateRequest *state)
{
    pod__request__init(request);
    pod__state_request__init(state);
    request->op_case = POD__REQUEST__OP_STATE;
    request->state = state;
}

static int64_t soon(void)
{
    return clock_mono_ns() + 5 * NS_PER_SEC;
}

static void test_out_of_order(void **state)
{
    struct fixture *f = *state;
    Pod__Request request;
    Pod__StateRequest body;
    struct podconn_call a, b;
    struct error err = ERROR_INIT;
    int null = STDIN_FILENO;
    request_init(&request, &body);
    assert_int_equal(podconn_send(f->conn, &request, NULL, 0, &a, &err), 0);
    assert_int_equal(podconn_send(f->conn, &request, NULL, 0, &b, &err), 0);
    Pod__Request *first = receive(f);
    uint64_t first_id = first->id;
    pod__request__free_unpacked(first, NULL);
    reply(f, first_id + 1, 22, &null, 1);
    reply(f, 999, 1, &null, 1); // nobody's: thrown away, with its descriptor
    reply(f, first_id, 11, NULL, 0);
    _cleanup_reply_ Pod__Reply *ra = NULL;
    _cleanup_reply_ Pod__Reply *rb = NULL;
    assert_int_equal(podconn_wait(f->conn, &a, soon(), &ra, &err), 0);
    assert_int_equal(podconn_wait(f->conn, &b, soon(), &rb, &err), 0);
    assert_int_equal(ra->start->pid, 11);
    assert_int_equal(rb->start->pid, 22);
    assert_int_equal(b.n_fds, 1);
    podconn_drop(f->conn, &a);
    podconn_drop(f->conn, &b);
}

static void test_error_and_event(void **state)
{
    struct fixture *f = *state;
    Pod__Request request;
    Pod__StateRequest body;
    struct podconn_call call;
    struct error err = ERROR_INIT;
    Pod__Reply r = POD__REPLY__INIT;
    Pod__Error e = POD__ERROR__INIT;
    Pod__Event event = POD__EVENT__INIT;
    Pod__ExitRecord exit = POD__EXIT_RECORD__INIT;
    request_init(&request, &body);
    assert_int_equal(podconn_send(f->conn, &request, NULL, 0, &call, &err), 0);
    exit.exit_code = 42;
    event.exit = &exit;
    r.result_case = POD__REPLY__RESULT_EVENT;
    r.event = &event;
    assert_int_equal(pb_frame_send(f->peer, &r.base, NULL, 0, NULL), 0);
    pod__reply__init(&r);
    r.id = call.id;
    r.error = &e;
    e.status = STATUS_INVALID_ARGUMENT;
    e.errnum = ENOENT;
    e.message = (char *)"no such thing";
    assert_int_equal(pb_frame_send(f->peer, &r.base, NULL, 0, NULL), 0);
    assert_int_equal(podconn_wait(f->conn, &call, soon(), NULL, &err), -ENOENT);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(err.message, "no such thing");
    podconn_drop(f->conn, &call);
    assert_int_equal(atomic_load(&f->exited), 1); // the event came before
    assert_int_equal(atomic_load(&f->exit_code), 42);
}

static void test_timeout(void **state)
{
    struct fixture *f = *state;
    Pod__Request request;
    Pod__StateRequest body;
    struct error err = ERROR_INIT;
    request_init(&request, &body);
    assert_true(podconn_request(f->conn, &request, 50 * NS_PER_MS, NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    reply(f, request.id, 1, NULL, 0); // late: thrown away
}

static void test_broken_and_reattached(void **state)
{
    struct fixture *f = *state;
    Pod__Request request;
    Pod__StateRequest body;
    struct podconn_call call;
    struct error err = ERROR_INIT;
    int socks[2];
    request_init(&request, &body);
    assert_int_equal(podconn_send(f->conn, &request, NULL, 0, &call, &err), 0);
    close(f->peer);
    assert_true(podconn_wait(f->conn, &call, soon(), NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    podconn_drop(f->conn, &call);
    wait_count(&f->broken, 1);
    assert_true(podconn_send(f->conn, &request, NULL, 0, &call, &err) < 0);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
    f->peer = socks[1];
    assert_int_equal(podconn_reattach(f->conn, socks[0], &err), 0);
    assert_int_equal(podconn_send(f->conn, &request, NULL, 0, &call, &err), 0);
    reply(f, call.id, 5, NULL, 0);
    assert_int_equal(podconn_wait(f->conn, &call, soon(), NULL, &err), 0);
    podconn_drop(f->conn, &call);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
    assert_int_equal(podconn_reattach(f->conn, socks[0], &err), -EALREADY); // connected already
    close(socks[1]);
}

static void test_garbage(void **state)
{
    struct fixture *f = *state;
    const unsigned char huge[] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4};
    assert_int_equal(write(f->peer, huge, sizeof(huge)), sizeof(huge));
    wait_count(&f->broken, 1);
}

static void test_last_words(void **state)
{
    struct fixture *f = *state;
    Pod__Reply r = POD__REPLY__INIT;
    Pod__Event event = POD__EVENT__INIT;
    Pod__ExitRecord exit = POD__EXIT_RECORD__INIT;
    event.exit = &exit;
    r.result_case = POD__REPLY__RESULT_EVENT;
    r.event = &event;
    for (int i = 0; i < 100; i++)
        assert_int_equal(pb_frame_send(f->peer, &r.base, NULL, 0, NULL), 0);
    (void)kill(f->pid, SIGKILL); // its socket stays open, as if a child held it
    wait_count(&f->gone, 1);
    assert_int_equal(atomic_load(&f->exited), 100);
    assert_int_equal(atomic_load(&f->broken), 0);
}

static void *caller_main(void *data)
{
    struct fixture *f = data;
    Pod__Request request;
    Pod__StateRequest body;
    for (int i = 0; i < 200; i++) {
        struct error err = ERROR_INIT;
        _cleanup_reply_ Pod__Reply *r = NULL;
        request_init(&request, &body);
        if (podconn_request(f->conn, &request, 5 * NS_PER_SEC, &r, &err) < 0 ||
            r->start->pid != (int)request.id)
            return data;
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[8];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, caller_main, f), 0);
    struct pb_frame_reader reader;
    pb_frame_reader_init(&reader);
    for (int n = 0; n < 200 * (int)ARRAY_SIZE(threads);) {
        ProtobufCMessage *m = NULL;
        size_t n_fds = 0;
        if (pb_frame_reader_take(&reader, &pod__request__descriptor, NULL, &m, NULL, &n_fds) != 1) {
            assert_true(pb_frame_reader_feed(&reader, f->peer) > 0);
            continue;
        }
        uint64_t id = ((Pod__Request *)m)->id;
        pod__request__free_unpacked((Pod__Request *)m, NULL);
        reply(f, id, (int)id, NULL, 0);
        n++;
    }
    pb_frame_reader_done(&reader);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_out_of_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_error_and_event, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_and_reattached, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_callers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
