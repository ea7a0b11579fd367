#include "base/spawn.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

static struct spawn_result result;
static struct error err;

static int run_sh(const char *script, const char *input, size_t max, const struct ctx *ctx)
{
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    char *envp[] = {"A=1", "PATH=/usr/bin:/bin", NULL};
    struct spawn_options o = {.path = "/bin/sh", .argv = argv, .envp = envp};

    err = ERROR_INIT;
    return spawn_run(&o, input, strlen(input), max, ctx, &result, &err);
}

static void test_run(void **state)
{
    (void)state;
    assert_int_equal(run_sh("cat; echo $A; echo oops >&2; exit 3", "input ", 100, &CTX_NONE), 0);
    assert_string_equal(result.out.data, "input 1\n");
    assert_string_equal(result.err.data, "oops\n");
    assert_int_equal(result.exit_code, 3);
    spawn_result_done(&result);
    assert_int_equal(run_sh("kill -TERM $$", "", 100, &CTX_NONE), 0);
    assert_int_equal(result.exit_code, 128 + SIGTERM);
    spawn_result_done(&result);
}

static void test_missing(void **state)
{
    char *argv[] = {"x", NULL};
    struct spawn_options o = {.path = "/no/such/program", .argv = argv};

    (void)state;
    assert_int_equal(spawn_run(&o, NULL, 0, 10, &CTX_NONE, &result, &err), -ENOENT);
    assert_non_null(strstr(err.message, "/no/such/program"));
    spawn_result_done(&result);
    o.path = "/etc/passwd";
    assert_int_equal(spawn_run(&o, NULL, 0, 10, &CTX_NONE, &result, &err), -EACCES);
    spawn_result_done(&result);
}

static void test_output_limit(void **state)
{
    (void)state;
    assert_int_equal(run_sh("head -c 100000 /dev/zero", "", 100000, &CTX_NONE), 0); // just fits
    assert_int_equal(result.out.len, 100000);
    spawn_result_done(&result);
    assert_int_equal(run_sh("while :; do echo spam; done", "", 1000, &CTX_NONE), -EFBIG);
    assert_non_null(strstr(err.message, "1000 bytes"));
    spawn_result_done(&result);
    assert_int_equal(run_sh("while :; do echo spam >&2; done", "", 1000, &CTX_NONE), -EFBIG);
    spawn_result_done(&result);
}

static void test_big_input(void **state)
{
    enum { SIZE = 1 << 20 };
    char *input = malloc(SIZE + 1);

    (void)state;
    memset(input, 'i', SIZE);
    input[SIZE] = '\0';
    assert_int_equal(run_sh("true", input, 10, &CTX_NONE), 0); // nobody reads it: no SIGPIPE
    spawn_result_done(&result);
    assert_int_equal(run_sh("cat", input, SIZE, &CTX_NONE), 0);
    assert_int_equal(result.out.len, SIZE);
    spawn_result_done(&result);
    free(input);
}

// The time-out kills what the child started, too.
static void test_timeout(void **state)
{
    struct ctx ctx = ctx_with_timeout(NULL, testing_limit(100 * NS_PER_MS));
    int64_t before = clock_mono_ns();

    (void)state;
    assert_int_equal(run_sh("sleep 1000 & echo $!; wait", "", 100, &ctx), -ETIMEDOUT);
    assert_true(clock_mono_ns() - before < testing_limit(5 * NS_PER_SEC));
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    int sleeper = atoi(result.out.data);
    assert_true(sleeper > 1);
    spawn_result_done(&result);
    for (int i = 0; i < 100 && kill(sleeper, 0) == 0; i++) {
        uint64_t ticks; // killed but not reaped by init yet counts as dead
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%d/stat", sleeper);
        _cleanup_free_ char *text = NULL;
        if (clock_process_start(sleeper, &ticks) < 0 || file_read(path, 1024, &text, NULL, NULL) < 0 ||
            strstr(text, ") Z"))
            return;
        struct ctx tick = ctx_with_timeout(NULL, 20 * NS_PER_MS);
        (void)ctx_wait_fd(&tick, -1, 0, NULL);
    }
    assert_int_equal(kill(sleeper, 0), -1);
}

static void test_cancel(void **state)
{
    _cleanup_fd_ int cancel = eventfd(1, EFD_CLOEXEC);
    struct ctx ctx = CTX_NONE;

    (void)state;
    ctx.cancel_fd = cancel;
    assert_int_equal(run_sh("sleep 1000", "", 100, &ctx), -ECANCELED);
    spawn_result_done(&result);
    struct ctx past = ctx_with_timeout(NULL, 0);
    assert_int_equal(run_sh("touch /tmp/never", "", 100, &past), -ETIMEDOUT);
    spawn_result_done(&result);
}

// A grandchild that keeps the pipes open doesn't hold up the result.
static void test_lingering_grandchild(void **state)
{
    int64_t before = clock_mono_ns();

    (void)state;
    assert_int_equal(run_sh("sleep 3 & echo done", "", 100, &CTX_NONE), 0);
    assert_true(clock_mono_ns() - before < testing_limit(2 * NS_PER_SEC));
    assert_string_equal(result.out.data, "done\n");
    spawn_result_done(&result);
}

// Descriptors swap places, others are closed, signals are at their defaults.
static void test_start_fds(void **state)
{
    int p[2], q[2], pidfd = -1;
    char text[4096] = "";

    (void)state;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(pipe2(q, 0), 0); // not O_CLOEXEC: closed all the same
    char *argv[] = {"sh", "-c", "echo to-out; ls /proc/self/fd >&7; echo $(ps -o ignored= -p $$) >&7", NULL};
    char *envp[] = {"PATH=/usr/bin:/bin", NULL};
    struct spawn_fd fds[] = {{.from = p[1], .to = 7}, {.from = p[1], .to = 1}, {.from = p[0], .to = p[1]}};
    struct spawn_options o = {
        .path = "/bin/sh", .argv = argv, .envp = envp, .fds = fds, .n_fds = 3, .new_session = true};
    sigset_t blocked, old;
    sigfillset(&blocked);
    assert_int_equal(sigprocmask(SIG_BLOCK, &blocked, &old), 0);
    (void)signal(SIGPIPE, SIG_IGN);
    pid_t pid = spawn_start(&o, &pidfd, &err);
    (void)signal(SIGPIPE, SIG_DFL);
    assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
    assert_true(pid > 0);
    assert_int_equal(getsid(pid), pid);
    assert_true(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
    siginfo_t info;
    assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    assert_int_equal(info.si_status, 0);
    assert_true(read(p[0], text, sizeof(text) - 1) > 0);
    assert_true(strncmp(text, "to-out\n", 7) == 0);
    char name[16];
    (void)snprintf(name, sizeof(name), "\n%d\n", q[0] > 7 ? q[0] : 99);
    assert_null(strstr(text, name));
    assert_null(strstr(text, "1000\n")); // SIGPIPE isn't ignored
    close(pidfd);
    for (int i = 0; i < 2; i++) {
        close(p[i]);
        close(q[i]);
    }
    o.n_fds = 100;
    assert_int_equal(spawn_start(&o, &pidfd, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),          cmocka_unit_test(test_missing),
        cmocka_unit_test(test_output_limit), cmocka_unit_test(test_big_input),
        cmocka_unit_test(test_timeout),      cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_start_fds),    cmocka_unit_test(test_lingering_grandchild),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
