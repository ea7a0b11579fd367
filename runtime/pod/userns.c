#include "runtime/pod/userns.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/pod/sys.h"

#define OPTIONS_MAX 4096 // of a file system

static int write_map(pid_t pid, const char *name, struct id_range r, struct error *err)
{
    char path[64], text[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int len = snprintf(text, sizeof(text), "0 %u %u\n", r.host_id, r.length);
    _cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)len) < 0)
        return error_errno(err, errno, "map %u ids from %u on (%s)", r.length, r.host_id, name);
    return 0;
}

static int open_ns(pid_t pid, struct id_range uids, struct id_range gids, struct error *err)
{
    char path[64];
    int rc = write_map(pid, "uid_map", uids, err);

    if (rc == 0)
        rc = write_map(pid, "gid_map", gids, err);
    if (rc < 0)
        return rc;
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? error_errno(err, errno, "open %s", path) : fd;
}

// A process of its own is needed: one can't map ids of the host for itself from inside.
int userns_new(struct id_range uids, struct id_range gids, struct error *err)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);

    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            (void)pause();
    }
    if (pid < 0)
        return error_errno(err, errno, "make a user namespace (/proc/sys/user/max_user_namespaces?)");
    int fd = open_ns(pid, uids, gids, err);
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return fd;
}

bool userns_wanted(const struct child *c)
{
    return c->ns[POD_NS_USER] >= 0;
}

static uint32_t host_id(const struct child *c, struct id_range r, uint32_t id)
{
    if (!userns_wanted(c))
        return id;
    return id < r.length ? r.host_id + id : 0;
}

uint32_t userns_host_uid(const struct child *c, uint32_t id)
{
    return host_id(c, c->uids, id);
}

uint32_t userns_host_gid(const struct child *c, uint32_t id)
{
    return host_id(c, c->gids, id);
}

char *userns_host_options(const struct child *c, const char *options)
{
    struct buf b;
    int rc = 0;

    buf_init(&b, OPTIONS_MAX);
    for (const char *at = options; rc == 0 && *at;) {
        size_t len = strcspn(at, ",");
        uint32_t id = (uint32_t)strtoul(len > 4 ? at + 4 : "", NULL, 10);
        if (userns_wanted(c) && str_has_prefix(at, "uid="))
            rc = buf_printf(&b, "uid=%u", userns_host_uid(c, id));
        else if (userns_wanted(c) && str_has_prefix(at, "gid="))
            rc = buf_printf(&b, "gid=%u", userns_host_gid(c, id));
        else
            rc = buf_append(&b, at, len);
        at += len;
        if (rc == 0 && *at == ',')
            rc = buf_append(&b, at++, 1);
    }
    char *copy = rc == 0 ? strdup(b.data ? b.data : "") : NULL;
    buf_done(&b);
    return copy;
}

int userns_idmap(const struct child *c, int tree, const char *what, struct error *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)c->ns[POD_NS_USER]};

    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        return 0;
    if (errno == EINVAL)
        return error_set(err, STATUS_FAILED_PRECONDITION, EINVAL,
                         "%s: its file system can't be idmapped by this kernel, which a pod with a user "
                         "namespace needs (tmpfs can since Linux 6.3)",
                         what);
    return error_errno(err, errno, "idmap %s", what);
}

// Leaving fsuid 0 takes the capabilities about files out of the effective set.
static int raise_all(struct error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) < 0)
        return error_errno(err, errno, "read capabilities");
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return syscall(SYS_capset, &head, data) < 0 ? error_errno(err, errno, "keep capabilities") : 0;
}

// Changing ids clears the one, and sets the other to what fs.suid_dumpable says.
void userns_after_new_ids(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

int userns_own_files(const struct child *c, struct error *err)
{
    if (!userns_wanted(c))
        return 0;
    (void)setfsgid(c->gids.host_id);
    (void)setfsuid(c->uids.host_id);
    userns_after_new_ids();
    return raise_all(err);
}

int userns_check_account(const struct child *c, struct error *err)
{
    const struct account *a = &c->account;

    if (!c->uids.length)
        return 0;
    if (a->uid >= c->uids.length)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "user %u does not exist in the pod's user namespace, which maps %u ids", a->uid,
                         c->uids.length);
    for (size_t i = 0; i < a->n_groups + 1; i++) {
        uint32_t gid = i < a->n_groups ? a->groups[i] : a->gid;
        if (gid >= c->gids.length)
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "group %u does not exist in the pod's user namespace, which maps %u ids", gid,
                             c->gids.length);
    }
    return 0;
}

// The terminal was opened in a mount namespace that the process has left: once more by its name, which
// programs look for (ttyname(3)).
static void reopen_tty(struct child *c)
{
    char path[64];
    struct stat was, now;

    if (fstat(c->tty, &was) < 0)
        return;
    (void)snprintf(path, sizeof(path), "/dev/pts/%u", minor(was.st_rdev));
    int fd = open(path, O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &now) == 0 && now.st_rdev == was.st_rdev && now.st_dev == was.st_dev &&
        fcntl(fd, F_SETFL, 0) == 0)
        c->tty = fd;
}

int userns_enter(struct child *c, struct error *err)
{
    child_step(c, "enter the user namespace");
    if (setns(c->ns[POD_NS_USER], CLONE_NEWUSER) < 0)
        return error_errno(err, errno, "enter the pod's user namespace");
    fd_closep(&c->ns[POD_NS_USER]); // all ids are the container's own from here on
    if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return error_errno(err, errno, "become root of the pod's user namespace");
    userns_after_new_ids();
    // The one it has belongs to the host's root.
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EPERM)
        return error_errno(err, errno, "make a session keyring");
    return 0;
}

int userns_copy(struct child *c, struct error *err)
{
    child_step(c, "copy the mount namespace into the user namespace");
    if (c->copied_ns && unshare(c->copied_ns) < 0)
        return error_errno(err, errno, "make the user namespace's own mount namespace");
    if (c->copied_ns && c->tty >= 0)
        reopen_tty(c);
    return 0;
}
