#include "image/pull/extract.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/tar.h"
#include "image/pull/tree.h"

#define BLOCK           4096
#define XATTR_VALUE_MAX 65536
#define DIR_TIMES_MAX   (1u << 20)
#define WHITEOUT        ".wh."
#define OPAQUE          ".wh..wh..opq"

// A directory's times are set at the end: every entry made in it would change them again.
struct dir_times {
    char *path;
    struct timespec times[2];
};

struct extract {
    const struct extract_options *options;
    struct extract_stats *stats;
    struct error *err;
    struct tree tree;
    struct tar tar;
    struct dir_times *dirs;
    size_t n_dirs, dirs_alloc;
    char path[PATH_MAX]; // the entry at hand, clean
};

static int entry_failed(struct extract *x, int errnum, const char *what)
{
    return error_set(x->err,
                     errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG ? STATUS_RESOURCE_EXHAUSTED
                                                                             : STATUS_INTERNAL,
                     errnum, "entry \"%s\": %s: %s", x->path, what, strerror(errnum));
}

static void entry_times(const struct tar_entry *e, struct timespec times[2])
{
    times[0] = e->atime;
    times[1] = e->mtime;
}

static int set_owner(struct extract *x, const struct tar_entry *e, int dir_fd, const char *leaf)
{
    int64_t uid = e->uid, gid = e->gid;

    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EOVERFLOW,
                         "entry \"%s\": owner %lld:%lld is out of range", x->path, (long long)uid,
                         (long long)gid);
    if (fchownat(dir_fd, leaf, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
        return entry_failed(x, errno, "change the owner");
    return 0;
}

static bool xattr_is_forbidden(const char *name)
{
    return str_has_prefix(name, "trusted.") || str_has_prefix(name, "user.overlay.") ||
           str_has_prefix(name, "security.overlay");
}

static int set_xattrs(struct extract *x, const struct tar_entry *e, int fd)
{
    for (size_t i = 0; i < e->n_xattrs; i++) {
        const struct tar_xattr *attr = &e->xattrs[i];
        bool user = str_has_prefix(attr->name, "user.");

        // These would let an image speak to overlayfs itself.
        if (xattr_is_forbidden(attr->name))
            return error_set(x->err, STATUS_FAILED_PRECONDITION, EPERM,
                             "entry \"%s\": the extended attribute \"%.100s\" is not allowed in a layer",
                             x->path, attr->name);
        if (!user && !str_eq(attr->name, "security.capability"))
            continue;
        if (attr->size > XATTR_VALUE_MAX)
            return entry_failed(x, E2BIG, "set an extended attribute");
        if (fsetxattr(fd, attr->name, attr->value, attr->size, 0) < 0) {
            if (errno == EOPNOTSUPP && user)
                continue; // tmpfs before Linux 6.6
            return entry_failed(x, errno, "set an extended attribute");
        }
    }
    return 0;
}

// Owner first: changing it clears set-id bits and file capabilities.
static int set_metadata(struct extract *x, const struct tar_entry *e, int fd)
{
    int r = set_owner(x, e, fd, "");

    if (r < 0)
        return r;
    if (fchmod(fd, (mode_t)e->mode) < 0)
        return entry_failed(x, errno, "set the mode");
    return set_xattrs(x, e, fd);
}

static int remember_dir(struct extract *x, const struct tar_entry *e)
{
    if (x->n_dirs == x->dirs_alloc) {
        size_t n = x->dirs_alloc ? 2 * x->dirs_alloc : 256;
        struct dir_times *dirs = n <= DIR_TIMES_MAX ? reallocarray(x->dirs, n, sizeof(*dirs)) : NULL;
        if (!dirs)
            return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                             "the layer has more than %u directories", DIR_TIMES_MAX / 2);
        x->dirs = dirs;
        x->dirs_alloc = n;
    }
    struct dir_times *d = &x->dirs[x->n_dirs];
    d->path = strdup(x->path);
    if (!d->path)
        return entry_failed(x, ENOMEM, "remember");
    entry_times(e, d->times);
    x->n_dirs++;
    return 0;
}

static int report_opaque(struct extract *x, const char *path)
{
    return x->options->opaque(x->options->data, path, x->err);
}

static int make_dir(struct extract *x, const struct tar_entry *e, int dir_fd, const char *leaf)
{
    _cleanup_fd_ int fd = -1;
    struct stat st;
    bool hides = false;
    int r;

    if (mkdirat(dir_fd, leaf, 0700) == 0) {
        x->tree.inodes++;
        x->stats->bytes += BLOCK;
    } else if (errno != EEXIST || fstatat(dir_fd, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return entry_failed(x, errno, "make the directory");
    } else if (!S_ISDIR(st.st_mode)) {
        // A directory in the place of our own whiteout still hides what lower layers have.
        hides = S_ISCHR(st.st_mode) && st.st_rdev == 0;
        r = tree_remove(&x->tree, dir_fd, leaf, x->err);
        if (r < 0)
            return r;
        if (mkdirat(dir_fd, leaf, 0700) < 0)
            return entry_failed(x, errno, "make the directory");
    }
    fd = openat(dir_fd, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return entry_failed(x, errno, "open the directory");
    r = set_metadata(x, e, fd);
    if (r == 0 && hides)
        r = report_opaque(x, x->path);
    return r < 0 ? r : remember_dir(x, e);
}

static int write_data(struct extract *x, int fd)
{
    uint64_t written = 0, offset;
    const void *data;
    ssize_t len;

    while ((len = tar_read(&x->tar, &data, &offset, x->err)) > 0) {
        const char *p = data;

        written += (uint64_t)len;
        while (len > 0) {
            ssize_t n = pwrite(fd, p, (size_t)len, (off_t)offset);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return entry_failed(x, errno, "write");
            p += n;
            offset += (uint64_t)n;
            len -= n;
        }
    }
    x->stats->bytes += (written + BLOCK - 1) / BLOCK * BLOCK;
    return (int)len;
}

static int make_file(struct extract *x, const struct tar_entry *e, int dir_fd, const char *leaf)
{
    _cleanup_fd_ int fd = openat(dir_fd, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct timespec times[2];
    int r;

    if (fd < 0)
        return entry_failed(x, errno, "create the file");
    x->tree.inodes++;
    r = write_data(x, fd);
    if (r < 0)
        return r;
    if (e->sparse && ftruncate(fd, (off_t)e->size) < 0)
        return entry_failed(x, errno, "set the size");
    r = set_metadata(x, e, fd);
    if (r < 0)
        return r;
    entry_times(e, times);
    return futimens(fd, times) == 0 ? 0 : entry_failed(x, errno, "set the times");
}

static int make_symlink(struct extract *x, const struct tar_entry *e, int dir_fd, const char *leaf)
{
    const char *target = e->link;

    if (*target == '\0' || strlen(target) >= PATH_MAX)
        return error_set(x->err, STATUS_DATA_LOSS, EINVAL, "entry \"%s\": a symlink without a valid target",
                         x->path);
    if (symlinkat(target, dir_fd, leaf) < 0)
        return entry_failed(x, errno, "make the symlink");
    x->tree.inodes++;
    return 0;
}

static int make_node(struct extract *x, const struct tar_entry *e, int dir_fd, const char *leaf)
{
    mode_t type = e->type == TAR_FIFO ? S_IFIFO : e->type == TAR_CHAR ? S_IFCHR : S_IFBLK;

    if (mknodat(dir_fd, leaf, type | 0600, makedev(e->major, e->minor)) < 0)
        return entry_failed(x, errno, "make the device node or FIFO");
    x->tree.inodes++;
    return 0;
}

// Owner, mode and times of what must not be opened.
static int finish_special(struct extract *x, const struct tar_entry *e, int dir_fd, const char *leaf)
{
    struct timespec times[2];
    int r = set_owner(x, e, dir_fd, leaf);

    if (r < 0)
        return r;
    // fchmodat() follows symlinks, but this name is ours, made just now, and no symlink.
    if (e->type != TAR_SYMLINK && fchmodat(dir_fd, leaf, (mode_t)e->mode, 0) < 0)
        return entry_failed(x, errno, "set the mode");
    entry_times(e, times);
    return utimensat(dir_fd, leaf, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0
                                                                    : entry_failed(x, errno, "set the times");
}

static int make_hardlink(struct extract *x, const char *target)
{
    char clean[PATH_MAX];
    const char *leaf, *target_leaf;
    _cleanup_fd_ int target_dir = -1;
    int r = tree_clean_path(target, clean, x->err);

    if (r < 0)
        return error_wrap(x->err, "entry \"%s\": its link target", x->path);
    if (str_eq(clean, x->path))
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EINVAL, "entry \"%s\" is a hard link to itself",
                         clean);
    r = tree_parent(&x->tree, clean, false, &target_leaf, x->err);
    if (r == -ENOENT)
        goto missing;
    if (r < 0)
        return r;
    target_dir = fcntl(x->tree.parent_fd, F_DUPFD_CLOEXEC, 3);
    if (target_dir < 0)
        return entry_failed(x, errno, "link");
    r = tree_parent(&x->tree, x->path, true, &leaf, x->err);
    if (r == 0)
        r = tree_remove(&x->tree, x->tree.parent_fd, leaf, x->err);
    if (r < 0)
        return r;
    if (linkat(target_dir, target_leaf, x->tree.parent_fd, leaf, 0) == 0)
        return 0;
    if (errno != ENOENT)
        return entry_failed(x, errno, "link");
missing:
    return error_set(x->err, STATUS_FAILED_PRECONDITION, ENOENT,
                     "entry \"%s\" is a hard link to \"%s\", which is not in this layer", x->path, clean);
}

static int make_whiteout(struct extract *x, int dir_fd, const char *leaf)
{
    const char *hidden = leaf + strlen(WHITEOUT);
    char path[PATH_MAX];
    struct stat st;

    if (str_eq(leaf, OPAQUE)) {
        char *slash = strrchr(x->path, '/');
        if (slash)
            *slash = '\0';
        return report_opaque(x, slash ? x->path : "");
    }
    if (str_has_prefix(hidden, WHITEOUT))
        return 0; // what AUFS kept for itself
    if (*hidden == '\0' || str_eq(hidden, ".") || str_eq(hidden, ".."))
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EINVAL, "entry \"%s\": a whiteout of no name",
                         x->path);
    if (mknodat(dir_fd, hidden, S_IFCHR, 0) == 0) {
        x->tree.inodes++;
        return 0;
    }
    if (errno != EEXIST)
        return entry_failed(x, errno, "make the whiteout");
    // The layer has both: what it has stays, and hides what is below it.
    if (fstatat(dir_fd, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return entry_failed(x, errno, "make the whiteout");
    if (!S_ISDIR(st.st_mode))
        return 0;
    memcpy(path, x->path, sizeof(path));
    char *at = path + (leaf - x->path);
    memmove(at, at + strlen(WHITEOUT), strlen(hidden) + 1);
    return report_opaque(x, path);
}

static int extract_root(struct extract *x, const struct tar_entry *e)
{
    _cleanup_fd_ int fd = tree_open_dir(&x->tree, "", x->err);
    int r;

    if (fd < 0)
        return fd;
    if (e->type != TAR_DIR)
        return error_set(x->err, STATUS_FAILED_PRECONDITION, ENOTDIR, "the layer's root is not a directory");
    r = set_metadata(x, e, fd);
    return r < 0 ? r : remember_dir(x, e);
}

static int extract_entry(struct extract *x, const struct tar_entry *e)
{
    const char *leaf;
    int r = tree_clean_path(e->name, x->path, x->err);

    if (r < 0)
        return r;
    if (*x->path == '\0')
        return extract_root(x, e);
    if (e->type == TAR_HARDLINK)
        return make_hardlink(x, e->link);
    r = tree_parent(&x->tree, x->path, true, &leaf, x->err);
    if (r < 0)
        return r;
    int dir_fd = x->tree.parent_fd;
    if (str_has_prefix(leaf, WHITEOUT))
        return make_whiteout(x, dir_fd, leaf);
    if (e->type == TAR_DIR)
        return make_dir(x, e, dir_fd, leaf);
    r = tree_remove(&x->tree, dir_fd, leaf, x->err);
    if (r < 0)
        return r;
    switch (e->type) {
    case TAR_FILE:
        return make_file(x, e, dir_fd, leaf);
    case TAR_SYMLINK:
        r = make_symlink(x, e, dir_fd, leaf);
        break;
    case TAR_CHAR:
    case TAR_BLOCK_DEVICE:
    case TAR_FIFO:
        r = make_node(x, e, dir_fd, leaf);
        break;
    default:
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP, "entry \"%s\" is of an unknown type",
                         x->path);
    }
    return r < 0 ? r : finish_special(x, e, dir_fd, leaf);
}

static int extract_entries(struct extract *x)
{
    const struct tar_entry *e;
    int r;

    while ((r = tar_next(&x->tar, &e, x->err)) > 0) {
        if (++x->stats->entries > x->options->max_entries)
            return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "the layer has more than %llu entries",
                             (unsigned long long)x->options->max_entries);
        r = extract_entry(x, e);
        if (r < 0)
            return r;
    }
    return r;
}

static int set_dir_times(struct extract *x)
{
    for (size_t i = x->n_dirs; i-- > 0;) {
        _cleanup_fd_ int fd = tree_open_dir(&x->tree, x->dirs[i].path, NULL);

        // Gone or something else by now: a later entry replaced it.
        if (fd < 0)
            continue;
        if (futimens(fd, x->dirs[i].times) < 0)
            return error_errno(x->err, errno, "set the times of \"%s\"", x->dirs[i].path);
    }
    return 0;
}

int extract_tar(struct inflate *in, const struct extract_options *options, struct extract_stats *stats,
                struct error *err)
{
    struct error local = ERROR_INIT;
    struct extract x = {.options = options, .stats = stats, .err = err ? err : &local};
    int r;

    *stats = (struct extract_stats){0};
    *x.err = ERROR_INIT;
    tree_init(&x.tree, options->root_fd);
    tar_init(&x.tar, in);
    r = extract_entries(&x);
    if (r == 0)
        r = set_dir_times(&x);
    stats->inodes = x.tree.inodes;
    tar_done(&x.tar);
    for (size_t i = 0; i < x.n_dirs; i++)
        free(x.dirs[i].path);
    free(x.dirs);
    tree_done(&x.tree);
    return r;
}
