// The first process of a pid namespace that all of a pod's containers share: it reaps orphans, and its end is
// theirs. The containers see it as process 1, so it gives up all that could be taken from it: its root is
// empty, it has no capabilities (/proc/1/root would be the host's otherwise), and it was made in the pod's
// namespaces: whoever may trace it (CAP_SYS_PTRACE) would else speak with the host's loopback and abstract
// sockets.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/pod/child.h"
#include "runtime/pod/sys.h"

#include <linux/capability.h>

static int empty_root(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return -errno;
    // Any directory serves as the mount point: only this namespace sees it covered.
    if (mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2") <
        0)
        return -errno;
    if (chdir("/proc") < 0 || sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
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

_Noreturn void reaper_run(int alive, int ready)
{
    const int keep[] = {alive, ready};
    struct child c = {.sock = -1, .proc_self = -1};
    struct error err;
    sigset_t set;

    if (child_begin(&c, keep, ARRAY_SIZE(keep), &err) < 0 || empty_root() < 0 || drop_all() < 0)
        _exit(1);
    (void)close(c.proc_self);
    (void)prctl(PR_SET_NAME, "crisp-pod-init");
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        _exit(1);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (write(ready, "", 1) != 1)
        _exit(1);
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
