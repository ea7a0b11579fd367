#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/extract_internal.h"

#define XATTR_VALUE_MAX 65536
#define DIRS_MAX        (1u << 20)
#define DEFAULT_ACL     "system.posix_acl_default"

// libarchive (3.6) reads "-1000.5" as 1000 seconds before the epoch and half a second after that.
static struct timespec entry_time(time_t seconds, long nanoseconds)
{
    if (seconds < 0 && nanoseconds > 0)
        return (struct timespec){seconds - 1, 1000000000 - nanoseconds};
    return (struct timespec){seconds, nanoseconds};
}

void extract_times(struct archive_entry *e, struct timespec times[2])
{
    times[1] = entry_time(archive_entry_mtime(e), archive_entry_mtime_nsec(e));
    times[0] = times[1];
    if (archive_entry_atime_is_set(e))
        times[0] = entry_time(archive_entry_atime(e), archive_entry_atime_nsec(e));
}

static int set_owner(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf, bool fresh)
{
    int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);

    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EOVERFLOW,
                         "entry \"%s\": owner %lld:%lld is out of range", x->path, (long long)uid,
                         (long long)gid);
    if (fresh && uid == 0 && gid == 0 && !x->groups_inherited && geteuid() == 0)
        return 0;
    if (fchownat(dir_fd, leaf, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
        return extract_failed(x, errno, "change the owner");
    return 0;
}

// These would let an image speak to overlayfs itself.
static bool xattr_is_forbidden(const char *name)
{
    return str_has_prefix(name, "trusted.") || str_has_prefix(name, "user.overlay.") ||
           str_has_prefix(name, "security.overlay");
}

static bool xattr_is_wanted(const char *name)
{
    return str_has_prefix(name, "user.") || str_eq(name, "security.capability") ||
           str_eq(name, "system.posix_acl_access");
}

static int set_xattr(struct extract *x, int fd, const char *name, const void *value, size_t size)
{
    if (size > XATTR_VALUE_MAX)
        return extract_failed(x, E2BIG, "set an extended attribute");
    if (fsetxattr(fd, name, value, size, 0) == 0)
        return 0;
    // tmpfs before Linux 6.6; file systems mounted without ACLs
    if (errno == EOPNOTSUPP && !str_has_prefix(name, "security."))
        return 0;
    return error_set(
        x->err, errno == ENOSPC || errno == EDQUOT ? STATUS_RESOURCE_EXHAUSTED : STATUS_FAILED_PRECONDITION,
        errno, "entry \"%s\": set the extended attribute \"%.100s\": %s", x->path, name, strerror(errno));
}

static int set_xattrs(struct extract *x, struct archive_entry *e, int fd)
{
    const char *name;
    const void *value;
    size_t size;

    archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
        if (!name)
            continue;
        if (xattr_is_forbidden(name))
            return error_set(x->err, STATUS_FAILED_PRECONDITION, EPERM,
                             "entry \"%s\": the extended attribute \"%.100s\" is not allowed in a layer",
                             x->path, name);
        int r = xattr_is_wanted(name) ? set_xattr(x, fd, name, value, size) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

// Owner first: changing it clears set-id bits and file capabilities.
int extract_metadata(struct extract *x, struct archive_entry *e, int fd, bool fresh)
{
    mode_t mode = archive_entry_perm(e);
    int r = set_owner(x, e, fd, "", fresh);

    if (r < 0)
        return r;
    if (!(fresh && (mode & 07000) == 0) && fchmod(fd, mode) < 0)
        return extract_failed(x, errno, "set the mode");
    return archive_entry_xattr_count(e) > 0 ? set_xattrs(x, e, fd) : 0;
}

int extract_special_metadata(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    struct timespec times[2];
    int r = set_owner(x, e, dir_fd, leaf, true);

    if (r < 0)
        return r;
    // fchmodat() follows symlinks, but this name is ours, made just now, and no symlink.
    if (archive_entry_filetype(e) != AE_IFLNK && fchmodat(dir_fd, leaf, archive_entry_perm(e), 0) < 0)
        return extract_failed(x, errno, "set the mode");
    extract_times(e, times);
    return utimensat(dir_fd, leaf, times, AT_SYMLINK_NOFOLLOW) == 0
               ? 0
               : extract_failed(x, errno, "set the times");
}

static int take_default_acl(struct extract *x, struct archive_entry *e, struct dir_end *d)
{
    const char *name;
    const void *value;
    size_t size;

    archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
        if (!str_eq(name, DEFAULT_ACL) || size == 0 || size > XATTR_VALUE_MAX)
            continue;
        free(d->default_acl);
        d->default_acl = malloc(size);
        if (!d->default_acl)
            return extract_failed(x, ENOMEM, "remember");
        memcpy(d->default_acl, value, size);
        d->default_acl_len = size;
    }
    return 0;
}

int extract_remember_dir(struct extract *x, struct archive_entry *e)
{
    if (x->n_dirs == x->dirs_alloc) {
        size_t n = x->dirs_alloc ? 2 * x->dirs_alloc : 256;
        struct dir_end *dirs = n <= DIRS_MAX ? reallocarray(x->dirs, n, sizeof(*dirs)) : NULL;
        if (!dirs)
            return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                             "the layer has more than %u directories", DIRS_MAX / 2);
        x->dirs = dirs;
        x->dirs_alloc = n;
    }
    struct dir_end *d = &x->dirs[x->n_dirs];
    *d = (struct dir_end){.path = strdup(x->path)};
    if (!d->path)
        return extract_failed(x, ENOMEM, "remember");
    x->n_dirs++;
    extract_times(e, d->times);
    x->groups_inherited = x->groups_inherited || (archive_entry_perm(e) & S_ISGID);
    return archive_entry_xattr_count(e) > 0 ? take_default_acl(x, e, d) : 0;
}

int extract_finish_dirs(struct extract *x)
{
    for (size_t i = 0; i < x->n_dirs; i++) {
        const struct dir_end *d = &x->dirs[i];
        _cleanup_fd_ int fd = tree_open_dir(&x->tree, d->path, NULL);
        int r;

        // Gone or something else by now: a later entry replaced it. Of two entries the later one counts.
        if (fd < 0)
            continue;
        memcpy(x->path, d->path, strlen(d->path) + 1);
        r = d->default_acl ? set_xattr(x, fd, DEFAULT_ACL, d->default_acl, d->default_acl_len) : 0;
        if (r < 0)
            return r;
        if (futimens(fd, d->times) < 0)
            return extract_failed(x, errno, "set the times");
    }
    return 0;
}
