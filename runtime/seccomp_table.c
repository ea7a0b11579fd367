// The default profile as a table: what a container may call, by purpose and with the reason.
//
// It protects as the ecosystem's default profiles do: what reaches beyond the container's namespaces, or into
// parts of the kernel that had many holes (keyrings, io_uring, userfaultfd, bpf, modules, kexec, clocks,
// swap), is not there unless the container has the capability that is meant for it. What the table allows may
// still fail: the kernel's own checks come after it. Names that an architecture lacks are skipped there.
//
// Denied calls fail with EPERM. Calls newer than runtime/seccomp_numbers.def fail with ENOSYS.
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>

#include "runtime/caps.h"
#include "runtime/seccomp_internal.h"

#define ALWAYS         SECCOMP_ALLOWED, 0, 0
#define SINCE(version) SECCOMP_ALLOWED, 0, version
#define WITH(cap)      SECCOMP_ALLOWED, CAPS_BIT(cap), 0
#define NEVER          SECCOMP_DENIED, 0, 0

const struct seccomp_row seccomp_rows[] = {
    // Files: opening, reading, writing.
    {ALWAYS,
     "open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv pwritev "
     "preadv2 pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 flock ioctl truncate truncate64 "
     "ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 readahead sendfile sendfile64 splice tee "
     "vmsplice copy_file_range sync syncfs fsync fdatasync sync_file_range cachestat"},
    // Files: names, attributes, directories. Mounting is not among them. file_getattr and file_setattr do
    // what
    // ioctl(FS_IOC_FSSETXATTR) does.
    {ALWAYS,
     "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 "
     "access faccessat faccessat2 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat "
     "lchown lchown32 umask utime utimes futimesat utimensat utimensat_time64 link linkat symlink "
     "symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir mknod "
     "mknodat chdir fchdir getcwd getdents getdents64 name_to_handle_at file_getattr file_setattr"},
    {ALWAYS, "setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr "
             "llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat"},
    // Being told of changes (fanotify_init is what needs SYS_ADMIN), and what is mounted in one's own
    // namespace.
    {ALWAYS,
     "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark statmount listmount"},
    // Waiting for events.
    {ALWAYS, "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 "
             "epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 "
             "signalfd signalfd4 pipe pipe2"},
    // Asynchronous I/O of the old kind.
    {ALWAYS, "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64"},
    // Memory of one's own.
    {ALWAYS,
     "brk mmap mmap2 munmap mremap mprotect madvise mincore mlock mlock2 mlockall munlock munlockall msync "
     "mseal memfd_create memfd_secret map_shadow_stack membarrier pkey_alloc pkey_free pkey_mprotect "
     "remap_file_pages"},
    // Processes and threads. clone and clone3 have rules of their own. uretprobe and uprobe are how the
    // kernel's
    // own trampolines return when somebody outside traces the program: without them it would die.
    {ALWAYS,
     "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid "
     "setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list futex futex_time64 "
     "futex_waitv futex_wait futex_wake futex_requeue rseq restart_syscall pidfd_open pidfd_send_signal "
     "process_mrelease pause prctl set_thread_area get_thread_area uretprobe uprobe"},
    {ALWAYS,
     "kill tkill tgkill sigaltstack rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
     "rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigprocmask "
     "sigreturn"},
    // Tracing: one's own processes only, as others' are in other pid namespaces. Before Linux 4.8 a tracer
    // could
    // evade its tracee's filter.
    {SINCE(SECCOMP_KERNEL(4, 8)), "ptrace process_vm_readv process_vm_writev"},
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
     "landlock_restrict_self"},
    // Time: reading and waiting; adjtimex without its capability only reads.
    {ALWAYS,
     "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep "
     "clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer "
     "timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime "
     "timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
     "timerfd_settime64 getrandom"},
    // Networking. socket has rules of its own. socketcall is how older 32-bit programs do all of it, with the
    // address family where no filter sees it: denying it breaks them.
    {ALWAYS, "socketpair socketcall bind connect listen accept accept4 getsockname getpeername getsockopt "
             "setsockopt shutdown sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg recvmmsg_time64"},
    // IPC: the namespace is the pod's.
    {ALWAYS,
     "ipc shmget shmat shmdt shmctl semget semop semctl semtimedop semtimedop_time64 msgget msgsnd msgrcv "
     "msgctl mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 "
     "mq_timedreceive mq_timedreceive_time64"},
    // The processor's own.
    {ALWAYS, "arch_prctl modify_ldt"},

    // Administration. clone and clone3: with new namespaces too.
    {WITH(CAP_SYS_ADMIN),
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
     "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr "
     "perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"},
    {WITH(CAP_DAC_READ_SEARCH), "open_by_handle_at"},
    {WITH(CAP_SYS_BOOT), "reboot"},
    {WITH(CAP_SYS_CHROOT), "chroot"},
    {WITH(CAP_SYS_MODULE), "init_module finit_module delete_module"},
    {WITH(CAP_SYS_PACCT), "acct"},
    {WITH(CAP_SYS_PTRACE), "kcmp pidfd_getfd process_madvise ptrace process_vm_readv process_vm_writev"},
    {WITH(CAP_SYS_RAWIO), "iopl ioperm"},
    {WITH(CAP_SYS_TIME), "settimeofday stime clock_settime clock_settime64"},
    {WITH(CAP_SYS_TTY_CONFIG), "vhangup"},
    {WITH(CAP_SYS_NICE), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {WITH(CAP_SYSLOG), "syslog"},
    {WITH(CAP_BPF), "bpf"},
    {WITH(CAP_PERFMON), "perf_event_open"},

    // Keyrings have no namespace: keys of one container could be read in another.
    {NEVER, "add_key keyctl request_key"},
    // io_uring does what other calls do, past this filter; and it had many holes.
    {NEVER, "io_uring_setup io_uring_enter io_uring_register"},
    // Handling another's page faults holds kernel code up at will, which many exploits need.
    {NEVER, "userfaultfd"},
    // The whole machine's: its kernel, swap, memory placement, the root of a mount namespace.
    {NEVER, "kexec_load kexec_file_load swapon swapoff migrate_pages move_pages pivot_root nfsservctl"},
    // 16-bit code's interfaces, and what was superseded long ago: hardly ever tested.
    {NEVER,
     "vm86 vm86old uselib ustat sysfs _sysctl create_module query_module get_kernel_syms bdflush readdir"},
    {NEVER,
     "oldstat oldfstat oldlstat olduname oldolduname nice signal sigaction sigpending sigsuspend sgetmask "
     "ssetmask idle"},
    // Numbers without a call behind them.
    {NEVER, "afs_syscall break ftime getpmsg gtty lock mpx prof profil putpmsg security stty tuxcall ulimit "
            "vserver"},
};

const size_t seccomp_n_rows = sizeof(seccomp_rows) / sizeof(seccomp_rows[0]);

#define NAMESPACE_FLAGS                                                                                      \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |            \
     CLONE_NEWNET)
#define INT_MASK 0xffffffffu // of an `int` argument the kernel looks at 32 bits, whatever the register holds

#define IF(cmp, value) {{0, cmp, INT_MASK, value}}, 1
#define ALLOW(name, ...)                                                                                     \
    {                                                                                                        \
        0,                                                                                                   \
        {                                                                                                    \
            name, SECCOMP_RET_ALLOW, __VA_ARGS__                                                             \
        }                                                                                                    \
    }
#define DENY(name, ...)                                                                                      \
    {                                                                                                        \
        0,                                                                                                   \
        {                                                                                                    \
            name, SECCOMP_RET_ERRNO | EPERM, __VA_ARGS__                                                     \
        }                                                                                                    \
    }

// What depends on an argument.
const struct seccomp_condition seccomp_conditions[] = {
    // New namespaces only with SYS_ADMIN: a user namespace gives a full set of capabilities to attack with.
    {CAPS_BIT(CAP_SYS_ADMIN), {"clone", SECCOMP_RET_ALLOW, {{0, SECCOMP_EQ, NAMESPACE_FLAGS, 0}}, 1}},
    // clone3's flags are in memory, where no filter can look: C libraries take ENOSYS for "use clone".
    {CAPS_BIT(CAP_SYS_ADMIN), {"clone3", SECCOMP_RET_ERRNO | ENOSYS, {{0}}, 0}},
    // The kernel's cryptography needs no socket, and had holes behind it (CVE-2026-31431).
    DENY("socket", IF(SECCOMP_EQ, AF_ALG)),
    // Vsock reaches the hypervisor, or other guests, past any network namespace.
    DENY("socket", IF(SECCOMP_EQ, AF_VSOCK)),
    // Families that newer kernels have removed: asking for one loads its module where it still is there.
    DENY("socket", IF(SECCOMP_EQ, AF_DECnet)),
    DENY("socket", IF(SECCOMP_EQ, AF_ATMSVC)),
    DENY("socket", IF(SECCOMP_EQ, AF_ISDN)),
    DENY("socket", IF(SECCOMP_EQ, AF_CAIF)),
    // The last family that we know of. Newer ones are denied.
    ALLOW("socket", IF(SECCOMP_LE, AF_MCTP)),
    // PER_LINUX, PER_LINUX32, both with UNAME26, and reading it. Not ADDR_NO_RANDOMIZE.
    ALLOW("personality", IF(SECCOMP_EQ, 0x0)),
    ALLOW("personality", IF(SECCOMP_EQ, 0x8)),
    ALLOW("personality", IF(SECCOMP_EQ, 0x20000)),
    ALLOW("personality", IF(SECCOMP_EQ, 0x20008)),
    ALLOW("personality", IF(SECCOMP_EQ, 0xffffffff)),
};

const size_t seccomp_n_conditions = sizeof(seccomp_conditions) / sizeof(seccomp_conditions[0]);
