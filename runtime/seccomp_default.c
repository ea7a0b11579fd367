// The default profile: what a container may call.
//
// It protects as the ecosystem's default profiles do: what reaches beyond the container's namespaces, or into
// parts of the kernel that had many holes (keyrings, io_uring, userfaultfd, bpf, modules, kexec, clocks,
// swap), is not there unless the container has the capability that is meant for it.
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/seccomp_internal.h"

#define NAMESPACE_FLAGS                                                                                      \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |            \
     CLONE_NEWNET)
#define INT_MASK 0xffffffffu // of an `int` argument the kernel looks at 32 bits, whatever the register holds

#define ALWAYS    0
#define WITH(cap) CAPS_BIT(cap)

// One row a topic: names separated by spaces, allowed if the container has one of the capabilities (or
// always).
static const struct {
    uint64_t caps;
    const char *names;
} allowed[] = {
    // Files: opening, reading, writing.
    {ALWAYS,
     "open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv pwritev "
     "preadv2 pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 flock ioctl truncate truncate64 "
     "ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 readahead sendfile sendfile64 splice tee "
     "vmsplice copy_file_range sync syncfs fsync fdatasync sync_file_range cachestat"},
    // Files: names, attributes, directories. Mounting is not among them.
    {ALWAYS,
     "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 "
     "access faccessat faccessat2 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat "
     "lchown lchown32 umask utime utimes futimesat utimensat utimensat_time64 link linkat symlink "
     "symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir mknod "
     "mknodat chdir fchdir getcwd getdents getdents64 name_to_handle_at file_getattr file_setattr"},
    {ALWAYS, "setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr "
             "llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat"},
    // Being told of changes (fanotify_init needs SYS_ADMIN), and what is mounted in one's own namespace.
    {ALWAYS,
     "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark statmount listmount"},
    // Waiting for events.
    {ALWAYS, "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 "
             "epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 "
             "signalfd signalfd4 pipe pipe2"},
    // Asynchronous I/O of the old kind: io_uring is left out, it passes by what filters can see.
    {ALWAYS, "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64"},
    // Memory.
    {ALWAYS,
     "brk mmap mmap2 munmap mremap mprotect madvise mincore mlock mlock2 mlockall munlock munlockall msync "
     "mseal memfd_create memfd_secret map_shadow_stack membarrier pkey_alloc pkey_free pkey_mprotect "
     "remap_file_pages"},
    // Processes and threads. clone has a rule of its own.
    {ALWAYS,
     "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid "
     "setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list futex futex_time64 "
     "futex_waitv futex_wait futex_wake futex_requeue rseq restart_syscall pidfd_open pidfd_send_signal "
     "process_mrelease pause prctl set_thread_area get_thread_area uretprobe"},
    {ALWAYS,
     "kill tkill tgkill sigaltstack rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
     "rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigprocmask "
     "sigreturn"},
    // Tracing one's own processes is safe since Linux 4.8, where a tracer can no longer evade this filter.
    {ALWAYS, "ptrace process_vm_readv process_vm_writev"},
    {ALWAYS,
     "sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler "
     "sched_setscheduler sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min "
     "sched_rr_get_interval sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set "
     "getcpu getrlimit setrlimit ugetrlimit prlimit64 getrusage times sysinfo uname"},
    // Who one is, and giving privileges up.
    {ALWAYS,
     "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid "
     "getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid "
     "setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 "
     "setgroups setgroups32 capget capset seccomp landlock_create_ruleset landlock_add_rule "
     "landlock_restrict_self lsm_get_self_attr lsm_set_self_attr lsm_list_modules"},
    // Time: reading and waiting; adjtimex without its capability only reads.
    {ALWAYS,
     "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep "
     "clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer "
     "timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime "
     "timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
     "timerfd_settime64 getrandom"},
    // Networking. socket has a rule of its own; socketcall is how 32-bit programs do all of it.
    {ALWAYS,
     "socketpair socketcall bind connect listen accept accept4 getsockname getpeername getsockopt "
     "setsockopt shutdown send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64"},
    // IPC: the namespace is the pod's.
    {ALWAYS,
     "ipc shmget shmat shmdt shmctl semget semop semctl semtimedop semtimedop_time64 msgget msgsnd msgrcv "
     "msgctl mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 "
     "mq_timedreceive mq_timedreceive_time64"},
    // The processor's own.
    {ALWAYS, "arch_prctl modify_ldt"},

    {WITH(CAP_SYS_ADMIN),
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
     "mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd "
     "setdomainname sethostname setns syslog umount umount2 unshare"},
    {WITH(CAP_DAC_READ_SEARCH), "open_by_handle_at"},
    {WITH(CAP_SYS_BOOT), "reboot"},
    {WITH(CAP_SYS_CHROOT), "chroot"},
    {WITH(CAP_SYS_MODULE), "init_module finit_module delete_module"},
    {WITH(CAP_SYS_PACCT), "acct"},
    {WITH(CAP_SYS_PTRACE), "kcmp pidfd_getfd process_madvise"},
    {WITH(CAP_SYS_RAWIO), "iopl ioperm"},
    {WITH(CAP_SYS_TIME), "settimeofday stime clock_settime clock_settime64"},
    {WITH(CAP_SYS_TTY_CONFIG), "vhangup"},
    {WITH(CAP_SYS_NICE), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {WITH(CAP_SYSLOG), "syslog"},
    {WITH(CAP_BPF), "bpf"},
    {WITH(CAP_PERFMON), "perf_event_open"},
};

// What depends on an argument.
static const struct {
    uint64_t unless_caps; // with one of these the table above allows it whole
    struct seccomp_rule rule;
} conditional[] = {
    // New namespaces only with SYS_ADMIN: a user namespace gives a full set of capabilities to attack with.
    {CAPS_BIT(CAP_SYS_ADMIN), {"clone", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, NAMESPACE_FLAGS, 0}}, 1}},
    // clone3's flags are in memory, where no filter can look: C libraries take ENOSYS for "use clone".
    {CAPS_BIT(CAP_SYS_ADMIN), {"clone3", SECCOMP_RET_ERRNO | ENOSYS, {{0}}, 0}},
    // Vsock reaches the hypervisor, or other guests, past any network namespace.
    {0, {"socket", SECCOMP_RET_ALLOW, {{0, SECCOMP_NE, INT_MASK, AF_VSOCK}}, 1}},
    // PER_LINUX, PER_LINUX32, both with UNAME26, and reading it. Not ADDR_NO_RANDOMIZE.
    {0, {"personality", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, INT_MASK, 0x0}}, 1}},
    {0, {"personality", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, INT_MASK, 0x8}}, 1}},
    {0, {"personality", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, INT_MASK, 0x20000}}, 1}},
    {0, {"personality", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, INT_MASK, 0x20008}}, 1}},
    {0, {"personality", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, INT_MASK, 0xffffffff}}, 1}},
};

// The names of the table above as C strings: made once, never freed (rules point at them).
static char **row_names[ARRAY_SIZE(allowed)];
static pthread_once_t split_once = PTHREAD_ONCE_INIT;
static bool split_failed;

static void split_rows(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(allowed) && !split_failed; i++) {
        _cleanup_free_ char *copy = strdup(allowed[i].names);
        char *rest = copy;
        row_names[i] = strv_new(0);
        split_failed = !copy || !row_names[i];
        for (char *name; !split_failed && (name = strsep(&rest, " ")) != NULL;)
            split_failed = strv_append(&row_names[i], name) < 0;
    }
}

int seccomp_default_profile(uint64_t caps, struct seccomp_profile *out)
{
    (void)pthread_once(&split_once, split_rows);
    *out = (struct seccomp_profile){.default_action = SECCOMP_RET_ERRNO | EPERM,
                                    .arches = {true, true, true},
                                    // Without it kernels before 5.16 slow the container's processes down.
                                    .flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW};
    int r = split_failed ? -ENOMEM : 0;
    for (size_t i = 0; i < ARRAY_SIZE(allowed) && r == 0; i++) {
        if (allowed[i].caps && !(allowed[i].caps & caps))
            continue;
        for (char **name = row_names[i]; *name && r == 0; name++) {
            struct seccomp_rule rule = {.name = *name, .action = SECCOMP_RET_ALLOW};
            r = seccomp_profile_add(out, &rule);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(conditional) && r == 0; i++) {
        if (!(conditional[i].unless_caps & caps))
            r = seccomp_profile_add(out, &conditional[i].rule);
    }
    if (r < 0)
        seccomp_profile_done(out);
    return r;
}
