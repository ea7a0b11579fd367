#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "image/mend_internal.h"

#define XATTR_NAMES_MAX 65536 // the kernel's own limits
#define XATTR_VALUE_MAX 65536

static int failed(struct error *err, const char *path)
{
    return error_errno(err, errno, "copy \"%s\" out of its layer", path);
}

int mend_open_parent(int root, const char *path, const char **leaf)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX];
    size_t len = slash ? (size_t)(slash - path) : 0;

    *leaf = slash ? slash + 1 : path;
    if (len >= sizeof(dir) || str_eq(*leaf, ".."))
        return -EINVAL;
    memcpy(dir, path, len);
    dir[len] = '\0';
    return file_open_beneath(root, len > 0 ? dir : ".", O_PATH | O_DIRECTORY);
}

static int copy_range(int from, int to, off_t at, off_t end)
{
    while (at < end) {
        off_t to_at = at;
        ssize_t n = copy_file_range(from, &at, to, &to_at, (size_t)(end - at), 0);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EIO; // layers don't change
    }
    return 0;
}

// Holes stay holes.
static int copy_data(int from, int to, off_t size)
{
    int r = ftruncate(to, size) < 0 ? -errno : 0;

    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    for (off_t end = 0; r == 0 && end < size;) {
        off_t at = lseek(from, end, SEEK_DATA);
        if (at < 0)
            return errno == ENXIO ? 0 : -errno;
        end = lseek(from, at, SEEK_HOLE);
        r = end < 0 ? -errno : copy_range(from, to, at, end);
    }
    return r;
}

static int copy_file(int from, const char *path, const struct stat *st, int to, const char *to_path,
                     struct error *err)
{
    _cleanup_fd_ int in = openat(from, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_fd_ int out = openat(to, to_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r;

    if (in < 0 || out < 0)
        return failed(err, path);
    r = copy_data(in, out, st->st_size);
    return r < 0 ? error_errno(err, -r, "copy \"%s\" out of its layer", path) : 0;
}

static int copy_symlink(int from, const char *path, int to, const char *to_path, struct error *err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, path, target, sizeof(target) - 1);

    if (n < 0)
        return failed(err, path);
    target[n] = '\0';
    return symlinkat(target, to, to_path) == 0 ? 0 : failed(err, path);
}

static int copy_xattr(const char *from, const char *to, const char *name)
{
    _cleanup_free_ char *value = malloc(XATTR_VALUE_MAX);
    ssize_t n = value ? lgetxattr(from, name, value, XATTR_VALUE_MAX) : -1;

    if (!value || n < 0)
        return -1;
    return lsetxattr(to, name, value, (size_t)n, 0);
}

static int copy_xattrs(int from, const char *path, int to, const char *to_path, struct error *err)
{
    _cleanup_free_ char *in = str_printf("/proc/self/fd/%d/%s", from, path);
    _cleanup_free_ char *out = str_printf("/proc/self/fd/%d/%s", to, to_path);
    _cleanup_free_ char *names = malloc(XATTR_NAMES_MAX);
    ssize_t n;

    if (!in || !out || !names)
        return error_errno(err, ENOMEM, "copy \"%s\" out of its layer", path);
    n = llistxattr(in, names, XATTR_NAMES_MAX);
    if (n < 0)
        return errno == EOPNOTSUPP ? 0 : failed(err, path);
    for (const char *name = names; name < names + n; name += strlen(name) + 1)
        // Overlay's marks say something of the place; the host's labels are not the image's.
        if (!str_has_prefix(name, "trusted.") && !str_eq(name, "security.selinux") &&
            copy_xattr(in, out, name) < 0)
            return failed(err, path);
    return 0;
}

static int copy_metadata(int from, const char *path, const struct stat *st, int to, const char *to_path,
                         struct error *err)
{
    // Owner first: changing it clears set-id bits and file capabilities.
    if (fchownat(to, to_path, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(err, path);
    if (!S_ISLNK(st->st_mode) && fchmodat(to, to_path, st->st_mode & 07777, 0) < 0)
        return failed(err, path);
    return copy_xattrs(from, path, to, to_path, err);
}

static int copy_entry(int from, const char *path, const struct stat *st, int to, const char *to_path,
                      struct error *err)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    int r;

    if (S_ISREG(st->st_mode))
        r = copy_file(from, path, st, to, to_path, err);
    else if (S_ISLNK(st->st_mode))
        r = copy_symlink(from, path, to, to_path, err);
    else
        r = mknodat(to, to_path, (st->st_mode & S_IFMT) | 0600, st->st_rdev) == 0 ? 0 : failed(err, path);
    if (r == 0)
        r = copy_metadata(from, path, st, to, to_path, err);
    if (r == 0 && utimensat(to, to_path, times, AT_SYMLINK_NOFOLLOW) < 0)
        r = failed(err, path);
    return r;
}

typedef int (*copy_fn)(int, const char *, const struct stat *, int, const char *, struct error *);

static int copy_between(copy_fn copy, int from, const char *path, const struct stat *st, int to,
                        const char *to_path, struct error *err)
{
    const char *leaf, *to_leaf;
    _cleanup_fd_ int dir = mend_open_parent(from, path, &leaf);
    _cleanup_fd_ int to_dir = mend_open_parent(to, to_path, &to_leaf);

    if (dir < 0 || to_dir < 0)
        return error_errno(err, dir < 0 ? -dir : -to_dir, "copy \"%s\" out of its layer", path);
    return copy(dir, leaf, st, to_dir, to_leaf, err);
}

int mend_copy_metadata(int from, const char *path, const struct stat *st, int to, const char *to_path,
                       struct error *err)
{
    return copy_between(copy_metadata, from, path, st, to, to_path, err);
}

int mend_copy_entry(int from, const char *path, const struct stat *st, int to, const char *to_path,
                    struct mend_stats *stats, struct error *err)
{
    uint64_t bytes = (uint64_t)st->st_blocks * 512;

    if (stats->inodes >= MEND_INODES_MAX || bytes > MEND_BYTES_MAX || stats->bytes > MEND_BYTES_MAX - bytes)
        return error_set(
            err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
            "\"%s\": the image's layers have too many links to what layers below have: copies of %llu "
            "MiB and %d entries are possible",
            path, MEND_BYTES_MAX >> 20, MEND_INODES_MAX);
    stats->inodes++;
    stats->bytes += bytes;
    return copy_between(copy_entry, from, path, st, to, to_path, err);
}
