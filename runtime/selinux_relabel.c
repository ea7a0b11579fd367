// Relabelling a volume.
//
// Other containers may be changing it meanwhile, with links and renames to lead this walk astray. So nothing
// is ever reached by a path of more than one component: each directory is opened from its parent's descriptor
// without following links, and each label is set through the descriptor of what was found.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/selinux.h"

#define ATTRIBUTE  "security.selinux"
#define LEVELS_MAX 128

// Volumes that are the node's own: with another label on them the node breaks.
static const char *const forbidden[] = {"/",      "/bin", "/boot", "/dev",  "/etc",     "/home",   "/lib",
                                        "/lib64", "/opt", "/proc", "/root", "/run",     "/sbin",   "/srv",
                                        "/sys",   "/tmp", "/usr",  "/var",  "/var/lib", "/var/log"};

struct walk {
    const char *label;
    DIR *levels[LEVELS_MAX];
    size_t depth;
};

// "/proc/self/fd/N": for O_PATH descriptors, which f*xattr(2) don't take.
static bool has_label(const char *fd_path, const char *label)
{
    char now[SELINUX_LABEL_MAX + 1];
    ssize_t n = getxattr(fd_path, ATTRIBUTE, now, sizeof(now) - 1);
    if (n < 0)
        return false;
    now[n] = '\0'; // the kernel's own NUL, if it is there, comes before
    return strcmp(now, label) == 0;
}

static int set_label(int fd, const char *label)
{
    char path[32];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (has_label(path, label))
        return 0;
    return setxattr(path, ATTRIBUTE, label, strlen(label) + 1, 0) < 0 ? -errno : 0;
}

static int push(struct walk *w, int at, const char *name)
{
    if (w->depth == LEVELS_MAX)
        return -ELOOP;
    _cleanup_fd_ int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir)
        return -errno;
    (void)steal_fd(&fd);
    w->levels[w->depth++] = dir;
    return 0;
}

// Directories are labelled when they are left, the rest as it is found.
static int pop(struct walk *w)
{
    int r = set_label(dirfd(w->levels[w->depth - 1]), w->label);
    dir_closep(&w->levels[--w->depth]);
    return r;
}

static int visit(struct walk *w, const char *name)
{
    int at = dirfd(w->levels[w->depth - 1]);
    struct stat st;
    _cleanup_fd_ int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; // removed meanwhile
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return push(w, fd, ".");
    return set_label(fd, w->label);
}

// Other file systems may be mounted below, some without labels.
static bool is_unsupported(int r)
{
    return r == -EOPNOTSUPP || r == -EROFS;
}

static int walk_tree(struct walk *w)
{
    while (w->depth > 0) {
        errno = 0;
        const struct dirent *e =
            readdir(w->levels[w->depth - 1]); // NOLINT(concurrency-mt-unsafe): ours alone
        int r;
        if (!e && errno)
            return -errno;
        if (!e)
            r = pop(w);
        else if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        else
            r = visit(w, e->d_name);
        if (r < 0 && !is_unsupported(r))
            return r;
    }
    return 0;
}

static int check_place(const char *path, int fd, struct error *err)
{
    char self[32], real[PATH_MAX];
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(self, real, sizeof(real) - 1);
    if (n < 0)
        return error_errno(err, errno, "relabel %s", path);
    real[n] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
        if (strcmp(real, forbidden[i]) == 0)
            return error_set(err, STATUS_FAILED_PRECONDITION, EPERM,
                             "%s is a directory of the node's own, which is not relabelled", real);
    }
    return 0;
}

int selinux_relabel(const char *path, const char *label, struct error *err)
{
    struct stat st;
    char self[32];
    _cleanup_fd_ int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "relabel %s", path);
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (has_label(self, label))
        return 0;
    int r = check_place(path, fd, err);
    if (r < 0)
        return r;
    if (S_ISDIR(st.st_mode)) {
        _cleanup_free_ struct walk *w = calloc(1, sizeof(*w));
        if (!w)
            return error_errno(err, ENOMEM, "relabel %s", path);
        w->label = label;
        r = push(w, fd, ".");
        if (r == 0)
            r = walk_tree(w);
        while (w->depth > 0)
            dir_closep(&w->levels[--w->depth]);
    } else {
        r = set_label(fd, label);
    }
    if (r == -ELOOP)
        return error_set(err, STATUS_FAILED_PRECONDITION, ELOOP,
                         "relabel %s: its directories are more than %d levels deep", path, LEVELS_MAX);
    // A file system without labels of its own has one for all of it, from its mount.
    return r < 0 && !is_unsupported(r) ? error_errno(err, -r, "relabel %s as %s", path, label) : 0;
}
