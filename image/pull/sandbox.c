#include "image/pull/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define OPEN_FILES_MAX 256 // tree_remove() holds one for each level
// Bytes of memory of its own: zstd's window (128 MiB), what libarchive makes of sparse maps, and the times of
// a layer's directories are all as large as the layer wants them to be.
#define DATA_MAX ((rlim_t)1 << 30)

// Those map terabytes for themselves.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static const int kept_caps[] = {
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP,
};

// Reading the blob, making files, memory, and nothing else: no sockets, no exec, no fork, no mount.
static const int allowed_calls[] = {
    SCMP_SYS(read),         SCMP_SYS(write),
    SCMP_SYS(readv),        SCMP_SYS(writev),
    SCMP_SYS(pwrite64),     SCMP_SYS(pread64),
    SCMP_SYS(lseek),        SCMP_SYS(close),
    SCMP_SYS(openat),       SCMP_SYS(openat2),
    SCMP_SYS(mkdirat),      SCMP_SYS(mknodat),
    SCMP_SYS(linkat),       SCMP_SYS(symlinkat),
    SCMP_SYS(unlinkat),     SCMP_SYS(fchownat),
    SCMP_SYS(fchown),       SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),     SCMP_SYS(fsetxattr),
    SCMP_SYS(utimensat),    SCMP_SYS(ftruncate),
    SCMP_SYS(fstat),        SCMP_SYS(newfstatat),
    SCMP_SYS(statx),        SCMP_SYS(getdents64),
    SCMP_SYS(mmap),         SCMP_SYS(munmap),
    SCMP_SYS(mremap),       SCMP_SYS(mprotect),
    SCMP_SYS(madvise),      SCMP_SYS(brk),
    SCMP_SYS(futex),        SCMP_SYS(exit),
    SCMP_SYS(exit_group),   SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(sendmsg),      SCMP_SYS(sendto),
    SCMP_SYS(getrandom),    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(getpid),       SCMP_SYS(gettid),
    SCMP_SYS(sched_yield),  SCMP_SYS(poll),
    SCMP_SYS(ppoll),        SCMP_SYS(restart_syscall),
    SCMP_SYS(sigaltstack),  SCMP_SYS(geteuid),
    SCMP_SYS(umask),
#ifdef __NR_fchmodat2
    SCMP_SYS(fchmodat2),
#endif
};

// For a layer that is read: DAC_READ_SEARCH, and SYS_ADMIN, without which the kernel doesn't show overlay's
// marks (trusted.*). The filter leaves nothing to do with it.
static const int reader_caps[] = {CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN};

static const int reader_calls[] = {
    SCMP_SYS(read),          SCMP_SYS(write),        SCMP_SYS(close),        SCMP_SYS(openat),
    SCMP_SYS(getdents64),    SCMP_SYS(lseek),        SCMP_SYS(fstat),        SCMP_SYS(newfstatat),
    SCMP_SYS(statx),         SCMP_SYS(readlinkat),   SCMP_SYS(flistxattr),   SCMP_SYS(fgetxattr),
    SCMP_SYS(mmap),          SCMP_SYS(munmap),       SCMP_SYS(mremap),       SCMP_SYS(mprotect),
    SCMP_SYS(madvise),       SCMP_SYS(brk),          SCMP_SYS(futex),        SCMP_SYS(exit),
    SCMP_SYS(exit_group),    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(sendmsg),       SCMP_SYS(poll),         SCMP_SYS(ppoll),        SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime), SCMP_SYS(getpid),       SCMP_SYS(gettid),       SCMP_SYS(restart_syscall),
    SCMP_SYS(sigaltstack),   SCMP_SYS(sched_yield),
};

struct profile {
    const int *caps, *calls;
    size_t n_caps, n_calls;
    uint64_t attributes; // of the mount
};

static const struct profile unpacker = {
    .caps = kept_caps,
    .n_caps = ARRAY_SIZE(kept_caps),
    .calls = allowed_calls,
    .n_calls = ARRAY_SIZE(allowed_calls),
    .attributes = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
};
static const struct profile reader = {
    .caps = reader_caps,
    .n_caps = ARRAY_SIZE(reader_caps),
    .calls = reader_calls,
    .n_calls = ARRAY_SIZE(reader_calls),
    .attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
};

// Not F_SETOWN and F_SETSIG, which send a signal to any process of the same user, and that is root.
static const int allowed_fcntls[] = {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC};

static int limit_resources(uint64_t max_file_bytes, struct error *err)
{
    const struct {
        __rlimit_resource_t what;
        rlim_t value;
    } limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_NOFILE, OPEN_FILES_MAX},
        {RLIMIT_FSIZE, max_file_bytes},
        {RLIMIT_DATA, SANITIZED ? RLIM_INFINITY : DATA_MAX},
    };

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        struct rlimit l = {limits[i].value, limits[i].value}, now;
        if (getrlimit(limits[i].what, &now) == 0 && now.rlim_max < l.rlim_max)
            l = (struct rlimit){now.rlim_max, now.rlim_max};
        if (setrlimit(limits[i].what, &l) < 0)
            return error_errno(err, errno, "limit the unpacker's resources");
    }
    return 0;
}

static int drop_capabilities(const struct profile *p, struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uint64_t keep = 0, have;

    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
            return error_errno(err, errno, "drop the unpacker's capabilities");
    if (syscall(SYS_capget, &header, data) < 0)
        return error_errno(err, errno, "read the unpacker's capabilities");
    for (size_t i = 0; i < p->n_caps; i++)
        keep |= UINT64_C(1) << p->caps[i];
    have = keep & ((uint64_t)data[1].permitted << 32 | data[0].permitted);
    for (int i = 0; i < 2; i++) {
        data[i].permitted = data[i].effective = (uint32_t)(have >> (32 * i));
        data[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return error_errno(err, errno, "drop the unpacker's capabilities");
    return 0;
}

static int load_filter(const struct profile *p, struct error *err)
{
    // ENOSYS and not death: a C library that probes for a newer call goes on with the older one.
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int r = filter ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < p->n_calls; i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, p->calls[i], 0);
        if (r == -EDOM) // not a call of this architecture
            r = 0;
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed_fcntls); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                             SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)allowed_fcntls[i], 0));
    // abort() signals itself; nobody else may be signalled.
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    if (r == 0)
        r = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return r < 0 ? error_errno(err, -r, "load the unpacker's seccomp filter") : 0;
}

// dir by a mount of its own that nobody else sees (Linux 5.12): device nodes can be made in it, as layers
// have them, but not opened, and nothing in it can be run.
static int open_root(const struct profile *p, const char *dir, struct error *err)
{
    struct mount_attr attr = {.attr_set = p->attributes};
    _cleanup_fd_ int root =
        open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);

    if (root < 0 || mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "mount %s for the unpacker", dir);
    if (fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return error_errno(err, errno, "shut the unpacker into %s", dir);
    return steal_fd(&root);
}

static int enter(const struct profile *p, const char *dir, uint64_t max_file_bytes, struct error *err)
{
    _cleanup_fd_ int root = -1;
    int r;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return error_errno(err, errno, "prepare the unpacker");
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return error_errno(err, errno, "give the unpacker namespaces of its own");
    root = open_root(p, dir, err);
    if (root < 0)
        return root;
    umask(0);
    (void)signal(SIGXFSZ, SIG_IGN); // EFBIG instead
    r = limit_resources(max_file_bytes, err);
    if (r == 0)
        r = drop_capabilities(p, err);
    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(err, errno, "prepare the unpacker");
    r = load_filter(p, err);
    return r < 0 ? r : steal_fd(&root);
}

int sandbox_enter(const char *dir, uint64_t max_file_bytes, struct error *err)
{
    return enter(&unpacker, dir, max_file_bytes, err);
}

int sandbox_enter_reader(const char *dir, struct error *err)
{
    return enter(&reader, dir, 0, err);
}
