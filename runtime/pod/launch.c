#include "runtime/pod/launch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime/pod/sys.h"

#define FDS_MAX             8
#define STEP_PAGE           4096
#define REPORTS_MAX         1024 // read at once: more than fit into a socket, for one who never ends to write
#define DEADLINE_DEFAULT_MS 60000

long launch_send(int sock, const void *data, size_t len, const int *fds, size_t n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (n_fds) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    // write(): the one that a seccomp profile is sure to allow, under which a failed execve() is still told.
    do
        n = n_fds ? sendmsg(sock, &msg, MSG_NOSIGNAL) : write(sock, data, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int launch_name_senders(int sock)
{
    const int on = 1;

    return setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ? -errno : 0;
}

long launch_recv(int sock, void *data, size_t size, int *fds, size_t *n_fds, int flags)
{
    return launch_recv_from(sock, data, size, fds, n_fds, flags, NULL);
}

long launch_recv_from(int sock, void *data, size_t size, int *fds, size_t *n_fds, int flags, pid_t *sender)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct ucred from;
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    size_t room = *n_fds;
    ssize_t n;

    msg.msg_control = control.bytes;
    msg.msg_controllen = sizeof(control.bytes);
    *n_fds = 0;
    if (sender)
        *sender = 0;
    do
        n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (sender && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&from, CMSG_DATA(c), sizeof(from));
            *sender = from.pid;
        }
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (*n_fds < room)
                fds[(*n_fds)++] = fd;
            else
                (void)close(fd);
        }
    }
    return n;
}

static int enter_pid_ns(const struct launch_options *o)
{
    if (o->pid_ns_pidfd >= 0)
        return setns(o->pid_ns_pidfd, CLONE_NEWPID);
    return o->pid_ns_fd >= 0 ? setns(o->pid_ns_fd, CLONE_NEWPID) : 0;
}

// Children would else be born in a container's: nothing is launched then.
static int return_to_own_pid_ns(struct pod *p, struct error *err)
{
    if (p->pid_ns_left && setns(p->own_pid_ns, CLONE_NEWPID) < 0)
        return error_errno(err, errno, "return to crisp-pod's own pid namespace");
    p->pid_ns_left = false;
    return 0;
}

// setns(CLONE_NEWPID) only says where the *children* of crisp-pod are born: it is put back at once.
static pid_t clone_child(struct launch *l, const struct launch_options *o, int cgroup, struct error *err)
{
    struct clone_args args = {
        .flags = CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&l->pidfd,
        .exit_signal = SIGCHLD,
    };
    bool elsewhere = o->pid_ns_pidfd >= 0 || o->pid_ns_fd >= 0;

    if (o->new_pid_ns)
        args.flags |= CLONE_NEWPID;
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    if (return_to_own_pid_ns(l->pod, err) < 0)
        return -err->errnum;
    if (elsewhere && enter_pid_ns(o) < 0)
        return errno == ESRCH ? error_set(err, STATUS_FAILED_PRECONDITION, ESRCH, "it has just exited")
                              : error_errno(err, errno, "enter the container's pid namespace");
    l->pod->pid_ns_left = elsewhere;
    pid_t pid = sys_clone3(&args);
    if (pid == 0)
        return 0;
    int errnum = errno;
    // If that fails now (memory is short), this child is where it should be, and the next launch tries again.
    (void)return_to_own_pid_ns(l->pod, NULL);
    return pid > 0 ? pid : error_errno(err, errnum, "clone a process");
}

int launch_clone(struct launch *l, struct pod *p, const struct launch_options *o, struct error *err)
{
    _cleanup_fd_ int cgroup = -1;
    int pair[2];

    l->pod = p;
    l->source.fd = -1;
    l->pidfd = l->tty = -1;
    if (o->cgroup_v2) {
        cgroup = open(o->cgroup_v2, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (cgroup < 0)
            return error_errno(err, errno, "open cgroup %s", o->cgroup_v2);
    }
    l->step = mmap(NULL, STEP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (l->step == MAP_FAILED) {
        l->step = NULL;
        return error_errno(err, errno, "launch a process");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "launch a process: socket");
    if (l->only_first && launch_name_senders(pair[0]) < 0) {
        (void)error_errno(err, errno, "launch a process: socket");
        (void)close(pair[0]);
        (void)close(pair[1]);
        return -err->errnum;
    }
    pid_t pid = clone_child(l, o, cgroup, err);
    if (pid == 0) {
        (void)close(pair[0]);
        o->child(o->arg, pair[1], l->step);
        _exit(127);
    }
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return pid;
    }
    (void)madvise(l->step, STEP_PAGE, MADV_DONTFORK); // other children have no business with it
    l->pid = l->first = pid;
    l->source.fd = pair[0]; // kept here; watched from launch_watch() on
    return 0;
}

static void finish(struct launch *l)
{
    loop_disarm(&l->pod->loop, &l->deadline);
    int sock = l->source.fd;
    loop_remove(&l->pod->loop, &l->source);
    fd_closep(&sock);
    if (l->step)
        (void)munmap(l->step, STEP_PAGE);
    l->step = NULL;
    if (l->done)
        l->done(l);
}

static void fail(struct launch *l, const struct report *r)
{
    l->failed = true;
    (void)error_set(&l->error, (enum status)r->status, r->errnum, "%.*s", (int)sizeof(r->text) - 1, r->text);
    (void)snprintf(l->failed_step, sizeof(l->failed_step), "%.*s", (int)sizeof(r->step) - 1, r->step);
}

// A second stage can be traced, and be made to say whatever its tracer likes (to be allowed to trace unseen,
// to be another process): it is believed nothing but that it failed, and so is nobody but the first one.
static bool may_say(const struct launch *l, struct report *r, long n, pid_t sender)
{
    if (!l->only_first || sender == l->first)
        return true;
    if (n < (long)offsetof(struct report, text) || r->kind != REPORT_FAILED)
        return false;
    // Those would be understood of the container itself, or of nothing.
    if (r->status == STATUS_OK || r->status == STATUS_NOT_FOUND || r->status == STATUS_ALREADY_EXISTS ||
        r->status > STATUS_UNAUTHENTICATED)
        r->status = STATUS_ABORTED;
    return true;
}

static void fail_forged(struct launch *l)
{
    l->failed = true;
    (void)snprintf(l->failed_step, sizeof(l->failed_step), "exec");
    (void)error_set(&l->error, STATUS_ABORTED, EPROTO,
                    "its process said what it has not to say before its program ran: a process with "
                    "CAP_SYS_PTRACE in the same pid namespace has taken it over");
}

// The child ended without a word: say at least what it was doing.
static void fail_silent(struct launch *l)
{
    char step[LAUNCH_STEP_MAX];

    (void)snprintf(step, sizeof(step), "%.*s", LAUNCH_STEP_MAX - 1, l->step ? l->step : "");
    l->failed = true;
    (void)snprintf(l->failed_step, sizeof(l->failed_step), "%s", step);
    if (l->timed_out)
        (void)error_set(&l->error, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
                        "launch took too long and was killed while it was busy with: %s", step);
    else
        (void)error_set(&l->error, STATUS_ABORTED, ECHILD,
                        "killed before its program ran, while it was busy with: %s (memory limit too small?)",
                        step);
}

static void take_user(struct launch *l, const struct report *r)
{
    size_t groups = r->n_groups <= ACCOUNTS_GROUPS_MAX ? r->n_groups * sizeof(r->groups[0]) : 0;
    size_t home = strnlen(r->text, ACCOUNTS_HOME_MAX - 1);

    l->executing = true;
    l->may_trace = r->may_trace;
    if (l->user)
        return;
    l->user = calloc(1, sizeof(*l->user) + groups + home + 1);
    if (!l->user)
        return;
    l->user->uid = r->uid;
    l->user->gid = r->gid;
    l->user->n_groups = groups / sizeof(r->groups[0]);
    l->user->groups = (uint32_t *)(void *)(l->user + 1);
    l->user->home = (char *)(l->user + 1) + groups;
    memcpy(l->user->groups, r->groups, groups);
    memcpy(l->user->home, r->text, home);
}

// It was killed, and reaped as a stranger, before we could be told of it? Then it is as if it had never been.
static bool take_second(struct launch *l, pid_t pid, int pidfd)
{
    siginfo_t info;

    if (!l->two_stages || l->second || pid <= 0 ||
        (pid != l->reaped && waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 &&
         errno == ECHILD))
        return false;
    fd_closep(&l->pidfd);
    l->pid = pid;
    l->pidfd = pidfd;
    l->second = true;
    return true;
}

// Reads what there is. True when the child's end is closed.
static bool read_reports(struct launch *l)
{
    _cleanup_free_ struct report *r = calloc(1, sizeof(*r)); // too big for a stack that stays small

    if (!r)
        return true;
    for (int i = 0; i < REPORTS_MAX; i++) {
        int fds[FDS_MAX];
        size_t n_fds = FDS_MAX;
        pid_t sender;
        long n = launch_recv_from(l->source.fd, r, sizeof(*r), fds, &n_fds, MSG_DONTWAIT, &sender);
        if (n == -EAGAIN)
            return false;
        if (n == -ECONNRESET) // it ended without reading our order; what it said comes now
            continue;
        if (n <= 0)
            return true;
        if (!may_say(l, r, n, sender)) {
            fail_forged(l); // told, and what there is killed, when it is over
            while (n_fds > 0)
                (void)close(fds[--n_fds]);
            continue;
        }
        for (size_t k = 0; k < n_fds; k++) {
            if (r->kind == REPORT_TTY && l->tty < 0)
                l->tty = fds[k];
            else if (r->kind != REPORT_SECOND || k > 0 || !take_second(l, r->pid, fds[k]))
                (void)close(fds[k]);
        }
        l->held = l->held || r->kind == REPORT_HELD;
        if (r->kind == REPORT_FAILED)
            fail(l, r);
        else if (r->kind == REPORT_EXECUTING)
            take_user(l, r);
    }
    return false;
}

static void fail_unless_executing(struct launch *l)
{
    if (!l->failed && (!l->executing || (l->two_stages && !l->second)))
        fail_silent(l);
}

static void report_ready(struct source *s, uint32_t events)
{
    struct launch *l = container_of(s, struct launch, source);

    (void)events;
    if (!read_reports(l)) {
        void (*on_held)(struct launch * l) = l->held ? l->on_held : NULL;
        if (on_held) {
            l->on_held = NULL;
            loop_change(&l->pod->loop, &l->source, EPOLLRDHUP);
            on_held(l);
        }
        return;
    }
    fail_unless_executing(l);
    finish(l);
}

static void deadline_fired(struct timer *t)
{
    struct launch *l = container_of(t, struct launch, deadline);

    // Not waited for: it may be stuck in the kernel, or frozen. Whoever launched it kills it.
    l->timed_out = true;
    (void)read_reports(l);
    if (!l->failed)
        fail_silent(l);
    finish(l);
}

int launch_watch(struct launch *l, uint32_t deadline_ms, struct error *err)
{
    l->source.ready = report_ready;
    l->deadline.fired = deadline_fired;
    int sock = l->source.fd;
    // Only the hang-up wakes, where nothing comes that can't wait: the reports are read then, all at once.
    uint32_t events = l->on_held ? EPOLLRDHUP | EPOLLIN : EPOLLRDHUP;
    int rc = loop_add(&l->pod->loop, &l->source, sock, events, err);
    if (rc < 0)
        return rc;
    loop_arm(&l->pod->loop, &l->deadline, (deadline_ms ? deadline_ms : DEADLINE_DEFAULT_MS) * NS_PER_MS);
    return 0;
}

bool launch_goes_on(struct launch *l, pid_t pid)
{
    if (!l->two_stages || l->second || l->source.fd < 0)
        return false;
    l->reaped = pid;
    (void)read_reports(l);
    l->reaped = 0;
    return l->second;
}

void launch_child_gone(struct launch *l, int status)
{
    (void)status;
    if (l->source.fd < 0)
        return;
    (void)read_reports(l);
    fail_unless_executing(l);
    finish(l);
}

void launch_done(struct launch *l)
{
    loop_disarm(&l->pod->loop, &l->deadline);
    int sock = l->source.fd;
    loop_remove(&l->pod->loop, &l->source);
    fd_closep(&sock);
    fd_closep(&l->tty);
    fd_closep(&l->pidfd);
    if (l->step)
        (void)munmap(l->step, STEP_PAGE);
    l->step = NULL;
    free(l->user);
    l->user = NULL;
}
