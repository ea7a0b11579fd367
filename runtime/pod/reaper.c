// The first process of a pid namespace that all of a pod's containers share: it reaps orphans, and its end is
// theirs. The containers see it as process 1, so it gives up all that could be taken from it: its root is
// empty, it has no capabilities (/proc/1/root would be the host's otherwise), and it was made in the pod's
// namespaces: whoever may trace it (CAP_SYS_PTRACE) would else speak with the host's loopback and abstract
// sockets. No filter of a container's is its own, and its cgroups are crisp-pod's: what a tracer makes it
// call is held by a filter that allows what its loop needs.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/pod/child.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/stage_arch.h"
#include "runtime/pod/sys.h"

#include <linux/capability.h>

#define LOAD(field)       BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define RETURN(what)      BPF_STMT(BPF_RET | BPF_K, (what))
#define IF_EQUAL(k, t, f) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(k), (t), (f))
#define ALLOW_CALL(nr)    IF_EQUAL((nr), 0, 1), RETURN(SECCOMP_RET_ALLOW)

// at: any directory; only this namespace sees it covered.
static int empty_root(const char *at)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return -errno;
    if (mount("none", at, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2") < 0)
        return -errno;
    if (chdir(at) < 0 || sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}

// For those who launch (child_proc.c). Nobody stays there: what a process that a container may trace has in
// its root, the container has too, and this procfs has nothing masked.
static int make_proc_ns(int mount_template)
{
    if (setns(mount_template, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("proc", POD_PROC_DIR, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -errno;
    int fd = open(POD_PROC_DIR "/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int drop_all(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};

    for (unsigned long n = 0; prctl(PR_CAPBSET_READ, n) >= 0; n++)
        (void)prctl(PR_CAPBSET_DROP, n);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &head, none) < 0)
        return -errno;
    return 0;
}

// Nothing that makes, opens or maps anything. What is held at that time can be used only for what it is for:
// `ready` is the one that is written to, and once that is closed there is none.
static int allow_the_loop(int ready)
{
    struct sock_filter filter[] = {
        LOAD(arch),
        IF_EQUAL(AUDIT_ARCH_OWN, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
#ifdef SYS_poll
        ALLOW_CALL(SYS_poll),
#endif
        ALLOW_CALL(SYS_ppoll),
        ALLOW_CALL(SYS_read),
        ALLOW_CALL(SYS_wait4),
        ALLOW_CALL(SYS_close),
        ALLOW_CALL(SYS_exit_group),
        ALLOW_CALL(SYS_restart_syscall), // a poll(2) goes on after a stop
        IF_EQUAL(SYS_write, 1, 0),
        IF_EQUAL(SYS_sendmsg, 0, 3),
        LOAD(args[0]),
        IF_EQUAL(ready, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};

    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}

_Noreturn void reaper_run(int alive, int ready, int mount_template)
{
    const int keep[] = {alive, ready, mount_template};
    struct child c = {.sock = -1, .proc_self = -1};
    struct error err;
    sigset_t set;
    int proc_ns = -1;

    if (child_begin(&c, keep, ARRAY_SIZE(keep), &err) < 0)
        _exit(1);
    (void)close(c.proc_self);
    if (mount_template >= 0 && (proc_ns = make_proc_ns(mount_template)) < 0)
        _exit(1);
    if (empty_root(proc_ns < 0 ? "/proc" : POD_PROC_DIR) < 0 || drop_all() < 0)
        _exit(1);
    fd_closep(&mount_template);
    (void)prctl(PR_SET_NAME, "crisp-pod-init");
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        _exit(1);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    // Before anybody can see it.
    if (signals < 0 || allow_the_loop(ready) < 0)
        _exit(1);
    if (launch_send(ready, "", 1, &proc_ns, proc_ns >= 0) != 1)
        _exit(1);
    fd_closep(&proc_ns);
    (void)close(ready);
    for (;;) {
        struct pollfd fds[2] = {{.fd = alive, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        struct signalfd_siginfo info;
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            _exit(1);
        if (fds[0].revents)
            _exit(0);
        if (fds[1].revents)
            (void)!read(signals, &info, sizeof(info));
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}
