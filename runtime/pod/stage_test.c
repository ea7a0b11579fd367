// What a launch's second stage says that it has not to say: it can be traced, and made to say anything.
#include "base/testing.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/pod/launch.h"
#include "runtime/pod/sys.h"

enum forgery { NOTHING, EARLY_SECOND, EARLY_EXECUTING, EXECUTING, TTY, HELD, SHORT, FAILED };

static void say(int sock, struct report *r, const int *fds, size_t n_fds)
{
    if (launch_send(sock, r, offsetof(struct report, groups), fds, n_fds) < 0)
        _exit(1);
}

// What a tracer of the second stage makes it say.
static void forge(int sock, enum forgery what)
{
    struct report r = {
        .pid = 1, .may_trace = 0, .status = STATUS_NOT_FOUND, .errnum = ESRCH, .text = "/forged"};
    int fd = pidfd_open(getpid(), 0);

    r.kind = what == EARLY_SECOND ? REPORT_SECOND
             : what == TTY        ? REPORT_TTY
             : what == HELD       ? REPORT_HELD
             : what == FAILED     ? REPORT_FAILED
                                  : REPORT_EXECUTING;
    if (what == SHORT)
        (void)!write(sock, &r, sizeof(r.kind));
    else if (what != NOTHING)
        say(sock, &r, &fd, what == EARLY_SECOND || what == TTY);
}

// Both stages, as child_stage.c has them.
static void stages(void *arg, int sock, char *step)
{
    enum forgery what = *(enum forgery *)arg;
    bool early = what == EARLY_SECOND || what == EARLY_EXECUTING;
    struct report r = {.kind = REPORT_EXECUTING, .uid = 5, .may_trace = 1, .text = "/home"};
    int pidfd = -1, gate[2];
    char byte;

    (void)step;
    if (pipe2(gate, O_CLOEXEC) < 0)
        _exit(1);
    say(sock, &r, NULL, 0);
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (early)
            forge(sock, what);
        if (read(gate[0], &byte, 1) != 1)
            _exit(1);
        if (!early)
            forge(sock, what);
        _exit(0); // closes the socket, as execve() would
    }
    if (early) // it has spoken first
        (void)poll(NULL, 0, 100);
    r = (struct report){.kind = REPORT_SECOND, .pid = pid};
    say(sock, &r, &pidfd, 1);
    (void)!write(gate[1], "", 1);
    _exit(0);
}

static void done(struct launch *l)
{
    l->pod->loop.stop = true;
}

static void test_forged(void **state)
{
    (void)state;
    for (enum forgery what = NOTHING; what <= FAILED; what++) {
        struct pod p = {.own_pid_ns = -1};
        struct launch l = {.two_stages = true, .only_first = true, .done = done};
        struct launch_options o = {.pid_ns_pidfd = -1, .pid_ns_fd = -1, .child = stages, .arg = &what};
        struct error err = ERROR_INIT;

        assert_int_equal(loop_init(&p.loop, &err), 0);
        assert_int_equal(launch_clone(&l, &p, &o, &err), 0);
        pid_t first = l.pid;
        assert_int_equal(launch_watch(&l, 20000, &err), 0);
        assert_int_equal(loop_run(&p.loop, &err), 0);
        assert_int_equal(l.failed, what != NOTHING);
        if (l.failed)
            assert_int_equal(l.error.status, STATUS_ABORTED);
        // The first one is believed, and nothing else.
        assert_true(l.second && l.pid != first && l.pid != 1);
        assert_true(l.may_trace && l.user && l.user->uid == 5 && strcmp(l.user->home, "/home") == 0);
        assert_true(l.tty < 0 && !l.held);
        for (int i = 0; i < 2; i++)
            assert_true(waitpid(i ? l.pid : first, NULL, 0) > 0);
        launch_done(&l);
        loop_done(&p.loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
