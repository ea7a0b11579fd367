// The two stages of a process that joins a pid namespace in which a container's processes are already: every
// start in the pod's or another container's, and the execs beside who may trace.
//
// Those can see it from its first moment, and one with CAP_SYS_PTRACE can take it over, dumpable or not. So
// the first stage stays outside: it joins all other namespaces, opens what it needs and gives up every
// privilege, the seccomp filter last of all (of a start: it builds the root too). Only then it makes the
// second stage, inside, which never was more than the container is. It is crisp-pod's child (CLONE_PARENT),
// waits until crisp-pod was told of it, and executes.
//
// Between filter and exec a few system calls are needed that a profile may forbid. The filter gets a prologue
// that lets these pass, and no others, if their sixth argument, which none of them uses, is a random number.
// Nobody knows it once the second stage has executed: it is in the kernel's copy of the filter only.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/pod/child.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/stage_arch.h"
#include "runtime/pod/sys.h"

#define FILTER_MAX  4096 // instructions (BPF_MAXINSNS)
#define STAGE_FLAGS ((uint32_t)(CLONE_PARENT | CLONE_PIDFD | SIGCHLD))

// What may pass with the key. With `argument` >= 0 only if that argument's lower half is `value`.
static const struct {
    uint32_t nr;
    int argument;
    uint32_t value;
} keyed[] = {
    {SYS_clone, 0, STAGE_FLAGS}, {SYS_ioctl, 1, TIOCSCTTY}, {SYS_prctl, 0, PR_SET_PDEATHSIG},
    {SYS_capset, -1, 0},         {SYS_sendmsg, -1, 0},      {SYS_write, -1, 0},
    {SYS_read, -1, 0},           {SYS_setsid, -1, 0},       {SYS_exit_group, -1, 0},
};
#define PER_KEYED    9 // instructions
#define PROLOGUE_MAX (3 + PER_KEYED * ARRAY_SIZE(keyed))

#define LOAD(field_offset)   ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(field_offset)))
#define LOW_HALF(n)          (offsetof(struct seccomp_data, args) + 8 * (size_t)(n)) // little endian, as both are
#define UNLESS(wanted, skip) ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (wanted), 0, (skip)))
#define ALLOW                ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW))
#define KEY_ARGUMENT         5

// By number first: the kernel's cache of system calls that are always allowed stays good for all others.
static size_t write_prologue(struct sock_filter *at, uint64_t key)
{
    size_t n = 0;

    at[n++] = LOAD(offsetof(struct seccomp_data, arch));
    at[n++] = UNLESS(AUDIT_ARCH_OWN, (uint8_t)(1 + PER_KEYED * ARRAY_SIZE(keyed)));
    at[n++] = LOAD(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ARRAY_SIZE(keyed); i++) {
        at[n++] = UNLESS(keyed[i].nr, 8);
        at[n++] = LOAD(LOW_HALF(KEY_ARGUMENT));
        at[n++] = UNLESS((uint32_t)key, 5);
        at[n++] = LOAD(LOW_HALF(KEY_ARGUMENT) + 4);
        at[n++] = UNLESS((uint32_t)(key >> 32), 3);
        // The key itself once more where no argument matters: always equal.
        at[n++] = LOAD(keyed[i].argument < 0 ? LOW_HALF(KEY_ARGUMENT) : LOW_HALF(keyed[i].argument));
        at[n++] = UNLESS(keyed[i].argument < 0 ? (uint32_t)key : keyed[i].value, 1);
        at[n++] = ALLOW;
        at[n++] = LOAD(offsetof(struct seccomp_data, nr));
    }
    return n;
}

int stage_make_key(struct child *c, struct error *err)
{
    if (getrandom(&c->key, sizeof(c->key), 0) != sizeof(c->key))
        return error_errno(err, errno, "get a random number");
    c->key |= 1; // 0: none
    return 0;
}

int stage_install_filter(const struct child *c, const Pod__Process *process, struct error *err)
{
    size_t size = sizeof(struct sock_filter), n = process->seccomp.len / size, head = 0;

    if (process->seccomp.len % size || n > FILTER_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the seccomp filter has %zu bytes: no filter",
                         process->seccomp.len);
    if (c->key && n > FILTER_MAX - PROLOGUE_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "the seccomp filter has %zu instructions: what joins a pid namespace takes at "
                         "most %zu",
                         n, FILTER_MAX - PROLOGUE_MAX);
    _cleanup_free_ struct sock_filter *filter = calloc(n + PROLOGUE_MAX, size);
    if (!filter)
        return error_errno(err, ENOMEM, "install the seccomp filter");
    if (c->key)
        head = write_prologue(filter, c->key);
    memcpy(filter + head, process->seccomp.data, n * size);
    struct sock_fprog program = {.len = (unsigned short)(head + n), .filter = filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, process->seccomp_flags, &program) < 0)
        return error_errno(err, errno, "install the seccomp filter");
    explicit_bzero(filter, head * size);
    return 0;
}

// The second stage as crisp-pod will know it, and its pidfd.
static int report_second(const struct child *c, pid_t pid, int pidfd, struct error *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct report r = {.kind = REPORT_SECOND, .pid = pid};
    struct iovec iov = {.iov_base = &r, .iov_len = offsetof(struct report, step)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &pidfd, sizeof(pidfd));
    if (syscall(SYS_sendmsg, c->sock, &msg, MSG_NOSIGNAL, 0, 0, c->key) < 0)
        return error_errno(err, errno, "tell crisp-pod of the process");
    return 0;
}

// Inside: what does not pass from parent to child is made anew.
static int become_second(struct child *c, int gate, bool tty, struct error *err)
{
    char byte;

    // Nothing before crisp-pod knows of it: it could end, and be reaped, as a stranger.
    if (syscall(SYS_read, gate, &byte, 1, 0, 0, c->key) != 1)
        _exit(1);
    (void)syscall(SYS_setsid, 0, 0, 0, 0, 0, c->key);
    (void)syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, c->key);
    if (tty && syscall(SYS_ioctl, 0, TIOCSCTTY, 0, 0, 0, c->key) < 0)
        return error_errno(err, errno, "set the controlling terminal");
    explicit_bzero(&c->key, sizeof(c->key));
    return 0;
}

int stage_enter_pid_ns(struct child *c, struct error *err)
{
    if (setns(c->join_pid, CLONE_NEWPID) < 0)
        return errno == ESRCH ? error_set(err, STATUS_FAILED_PRECONDITION, ESRCH,
                                          "the container whose pid namespace is to be shared has just exited")
                              : error_errno(err, errno, "enter the pid namespace");
    fd_closep(&c->join_pid);
    return 0;
}

pid_t stage_await_second(int sock, pid_t first, int *pidfd)
{
    static struct report r;

    for (;;) {
        size_t n_fds = 1;
        pid_t sender;
        long n = launch_recv_from(sock, &r, sizeof(r), pidfd, &n_fds, 0, &sender);
        if (n <= 0)
            return 0;
        if (sender == first && r.kind == REPORT_SECOND && n_fds == 1)
            return r.pid;
        if (n_fds == 1)
            fd_closep(pidfd);
    }
}

int stage_hand_over(struct child *c, int gate[2], bool tty, struct error *err)
{
    int pidfd = -1;

    // Not clone3(2), whose flags no filter can see. It gets a copy of the memory, as every child here does.
    pid_t pid = (pid_t)syscall(SYS_clone, STAGE_FLAGS, 0, &pidfd, 0, 0, c->key);
    if (pid == 0)
        return become_second(c, gate[0], tty, err);
    if (pid < 0 && errno == ENOMEM) // so says the kernel of a pid namespace whose first process is dead
        return error_set(err, STATUS_FAILED_PRECONDITION, ESRCH, "its pid namespace has just ended");
    if (pid < 0)
        return error_errno(err, errno, "clone a process (the limit of the container's processes?)");
    int rc = report_second(c, pid, pidfd, err);
    if (rc < 0)
        return rc; // the gate closes, and the second stage ends
    (void)syscall(SYS_write, gate[1], "", 1, 0, 0, c->key);
    (void)syscall(SYS_exit_group, 0, 0, 0, 0, 0, c->key);
    _exit(0);
}
