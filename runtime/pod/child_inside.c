// A container with a pid namespace of its own, in a pod with a user namespace. The pid namespace is to belong
// to the user namespace (mounting /proc again, reboot(2), setns(2) ask for that), so its first process has to
// be made by somebody inside, who can't build a root any more. So there are two:
//
//   the builder, outside, which crisp-pod made: opens, mounts, pivots, and ends;
//   the container's first process, made inside in the builder's new mount namespace, which waits for it.
//
// The one thing that the builder needs from it is a procfs of its pid namespace: it configures that, and the
// builder mounts it, so that the kernel locks it with all the rest.
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

// From the builder, with its pidfd, and the terminal, if there is one.
struct built {
    int rc;
    struct error err;
};

// Runs in a short-lived process: fsopen(2) asks for privileges in the mount namespace, and the builder's,
// which the container's first process is to stay in, is the host's.
static _Noreturn void give_proc(int sock, const Pod__LaunchPlan *plan)
{
    const char *options = NULL, *label = plan->root->mount_label;
    struct error err = ERROR_INIT;
    char none = 0;

    for (size_t i = 0; i < plan->n_mounts && !options; i++)
        if (str_eq(plan->mounts[i]->type, "proc"))
            options = plan->mounts[i]->data;
    _cleanup_fd_ int fs = options ? mounts_configure_fs("proc", options, label, &err) : -1;
    (void)!(options && fs < 0 ? launch_send(sock, &err, sizeof(err), NULL, 0)
                              : launch_send(sock, &none, sizeof(none), &fs, fs >= 0 ? 1 : 0));
    _exit(0);
}

// A procfs can only be configured by a process of the pid namespace that it shows.
static int send_proc(int sock, const Pod__LaunchPlan *plan, struct error *err)
{
    struct clone_args args = {.flags = CLONE_NEWNS, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);

    if (pid == 0)
        give_proc(sock, plan);
    if (pid < 0)
        return error_errno(err, errno, "make a process that opens /proc");
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

int inside_take_proc(struct child *c, struct error *err)
{
    struct error told;
    size_t n_fds = 1;

    if (c->built < 0 || c->proc_taken)
        return 0;
    c->proc_taken = true;
    long n = launch_recv(c->built, &told, sizeof(told), &c->proc_fs, &n_fds, 0);
    if (n_fds == 0)
        c->proc_fs = -1;
    if (n == (long)sizeof(told)) {
        *err = told;
        return -err->errnum;
    }
    return n == 1 ? 0
                  : error_set(err, STATUS_ABORTED, ECHILD,
                              "the container's first process was killed (memory limit too small?)");
}

// Inside from the first moment on. Whatever goes wrong is told like any failure, once crisp-pod asks.
static int begin_inside(struct child *c, const Pod__LaunchPlan *plan, int sock, struct error *err)
{
    struct built b;
    int fds[2];
    size_t n_fds = 2;

    userns_after_new_ids();
    (void)setsid();
    int self = openat(c->proc_self, "../self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (self < 0)
        return error_errno(err, errno, "open /proc/self of the host");
    (void)dup3(self, c->proc_self, O_CLOEXEC);
    (void)close(self);
    int rc = send_proc(sock, plan, err);
    if (rc < 0)
        return rc;
    long n = launch_recv(sock, &b, sizeof(b), fds, &n_fds, 0);
    c->tty = n_fds > 1 ? fds[1] : -1;
    if (n == (long)sizeof(b)) {
        *err = b.err;
        rc = b.rc < 0 ? b.rc : userns_copy(c, err);
    } else {
        rc = error_set(err, STATUS_ABORTED, ECHILD,
                       "the process that builds the container's root was killed (memory limit too small?)");
    }
    // Until the builder has ended: nothing of ours is to be left in the cgroups when this process ends.
    struct pollfd builder = {.fd = n_fds > 0 ? fds[0] : -1, .events = POLLIN};
    while (builder.fd >= 0 && poll(&builder, 1, -1) < 0 && errno == EINTR)
        ;
    fd_closep(&builder.fd);
    (void)close(sock);
    return rc;
}

// In a process between the two: it enters, makes the container's first process, and tells crisp-pod of it.
static int make_inside(struct child *c, struct error *err)
{
    struct report r = {.kind = REPORT_SECOND};
    int pidfd = -1;
    struct clone_args args = {.flags = CLONE_NEWPID | CLONE_PARENT | CLONE_PIDFD,
                              .pidfd = (uint64_t)(uintptr_t)&pidfd};
    int gate[2], rc = userns_enter(c, err);
    char told;

    if (rc < 0)
        return rc;
    if (pipe2(gate, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make the container's first process");
    r.pid = sys_clone3(&args);
    if (r.pid == 0) {
        // Nothing before crisp-pod has been told: it would take the builder's end for that of the launch.
        (void)close(gate[1]);
        if (read(gate[0], &told, 1) != 1)
            _exit(1);
        (void)close(gate[0]);
        return 0;
    }
    if (r.pid < 0)
        return error_errno(err, errno, "make the container's first process");
    long sent = launch_send(c->sock, &r, offsetof(struct report, step), &pidfd, 1);
    if (sent >= 0)
        (void)!write(gate[1], "", 1);
    _exit(sent < 0);
}

int inside_make(struct child *c, const Pod__LaunchPlan *plan, struct error *err)
{
    struct clone_args args = {.flags = CLONE_PARENT};
    int pair[2];

    child_step(c, "make the container's first process");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "make the container's first process");
    pid_t between = sys_clone3(&args);
    if (between == 0) {
        (void)close(pair[0]);
        int rc = make_inside(c, err);
        if (rc < 0) {
            (void)launch_send(pair[1], err, sizeof(*err), NULL, 0);
            _exit(1);
        }
        c->inside = true;
        return begin_inside(c, plan, pair[1], err);
    }
    (void)close(pair[1]);
    c->built = pair[0];
    return between < 0 ? error_errno(err, errno, "make the container's first process") : 0;
}

int inside_hand_over(struct child *c, int rc, struct error *err)
{
    struct built b = {.rc = rc};
    struct error ignored;

    // Else what is unread would make its reading fail when this socket closes.
    (void)inside_take_proc(c, &ignored);
    if (rc < 0)
        b.err = *err;
    int fds[2] = {pidfd_open(getpid(), 0), c->tty};
    if (fds[0] >= 0 && launch_send(c->built, &b, sizeof(b), fds, c->tty >= 0 ? 2 : 1) >= 0)
        _exit(0);
    return rc < 0 ? rc // why there is nobody, maybe
                  : error_set(err, STATUS_ABORTED, ECHILD,
                              "the container's first process was killed (memory limit too small?)");
}
