// Trees: removing one, and resolving paths inside a root that somebody else filled.
#include "base/file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define RESOLVE_RETRIES_MAX 128

static int open_in_root(int root_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | __O_TMPFILE) ? mode & 07777 : 0, // openat2 refuses a mode without O_CREAT
        .resolve = resolve,
    };

    // EAGAIN: a rename or mount raced with ".." and the kernel couldn't prove that it stayed inside.
    for (int i = 0; i < RESOLVE_RETRIES_MAX; i++) {
        long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EAGAIN;
}

int file_open_in_root(int root_fd, const char *path, int flags, mode_t mode, struct error *err)
{
    int fd = open_in_root(root_fd, *path ? path : ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);

    if (fd == -ENOSYS)
        return error_set(err, STATUS_INTERNAL, ENOSYS,
                         "open %s inside a root: this kernel has no openat2(2); Linux 5.6 or newer is needed",
                         path);
    if (fd < 0)
        return error_errno(err, fd, "open %s inside a root", path);
    return fd;
}

int file_open_beneath(int root_fd, const char *path, int flags)
{
    return open_in_root(root_fd, path, flags, 0,
                        RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

// Mostly only the last component is missing, and one look finds its parent: its length, *dir is open then. 0:
// more is missing, or there is no parent in the path.
static size_t open_parent_in_root(int root_fd, const char *path, size_t len, char prefix[PATH_MAX], int *dir)
{
    while (len > 0 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    if (len == 0)
        return 0;
    memcpy(prefix, path, len);
    prefix[len] = '\0';
    int fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    if (fd < 0)
        return 0;
    fd_closep(dir);
    *dir = fd;
    return len;
}

int file_mkdir_p_in_root(int root_fd, const char *path, mode_t mode, struct error *err)
{
    char prefix[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof(prefix))
        return error_errno(err, ENAMETOOLONG, "create directory %.64s… inside a root", path);
    _cleanup_fd_ int dir = -1;
    size_t found = open_parent_in_root(root_fd, path, len, prefix, &dir);
    if (dir < 0)
        dir = file_open_in_root(root_fd, ".", O_PATH | O_DIRECTORY, 0, err);
    if (dir < 0)
        return dir;

    // Each prefix is resolved from the root anew, so that links and ".." in it mean what they would inside.
    for (size_t end = found; end < len;) {
        while (path[end] == '/')
            end++;
        size_t start = end;
        while (end < len && path[end] != '/')
            end++;
        if (end == start)
            break;
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        int fd =
            open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        if (fd == -ENOENT) {
            char name[NAME_MAX + 1];
            if (end - start > NAME_MAX)
                return error_errno(err, ENAMETOOLONG, "create directory %s inside a root", prefix);
            memcpy(name, path + start, end - start);
            name[end - start] = '\0';
            // dir is the resolved parent; a dangling link of that name is EEXIST here and ENOENT below.
            if (mkdirat(dir, name, mode) < 0 && errno != EEXIST)
                return error_errno(err, errno, "create directory %s inside a root", prefix);
            fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0,
                              RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        }
        if (fd < 0)
            return error_errno(err, fd, "create directory %s inside a root", prefix);
        fd_closep(&dir);
        dir = fd;
    }
    return steal_fd(&dir);
}

// Removal keeps at most LEVELS_MAX directories open. A directory deeper than that is first moved up to the
// top of the tree, so that a hostile depth costs neither memory nor descriptors.
#define LEVELS_MAX 32

struct removal {
    DIR *levels[LEVELS_MAX];
    char names[LEVELS_MAX][NAME_MAX + 1]; // of each level, in the one above
    size_t depth;
    unsigned moved; // directories that were moved to the top
};

// RESOLVE_NO_XDEV refuses mount points, bind mounts of the same file system too: emptying one of those would
// empty what a host directory holds.
static int removal_descend(struct removal *r, int at, const char *name)
{
    _cleanup_fd_ int fd = open_in_root(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
                                       RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH);
    if (fd < 0)
        return fd;
    DIR *dir = fdopendir(fd);
    if (!dir)
        return -errno;
    (void)steal_fd(&fd);

    size_t len = strnlen(name, NAME_MAX);
    r->levels[r->depth] = dir;
    memcpy(r->names[r->depth], name, len);
    r->names[r->depth][len] = '\0';
    r->depth++;
    return 1;
}

static int removal_move_up(struct removal *r, const char *name)
{
    char moved[64];

    for (int i = 0; i < RESOLVE_RETRIES_MAX; i++) {
        (void)snprintf(moved, sizeof(moved), ".removing-%d-%u", (int)getpid(), r->moved++);
        if (renameat2(dirfd(r->levels[r->depth - 1]), name, dirfd(r->levels[0]), moved, RENAME_NOREPLACE) ==
                0 ||
            errno == ENOENT)
            return 1;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

// The deepest level is empty, as far as readdir() told: back to the one above.
static int removal_ascend(struct removal *r)
{
    r->depth--;
    dir_closep(&r->levels[r->depth]);
    if (r->depth == 0)
        return 0;
    if (unlinkat(dirfd(r->levels[r->depth - 1]), r->names[r->depth], AT_REMOVEDIR) < 0 && errno != ENOENT)
        return -errno;
    return 1;
}

// Removes the next entry of the deepest level, or descends into it, or ascends: 1 while there is more.
static int removal_step(struct removal *r)
{
    DIR *dir = r->levels[r->depth - 1];
    errno = 0;
    struct dirent *e = readdir(dir); // NOLINT(concurrency-mt-unsafe): the stream is ours alone

    if (!e)
        return errno ? -errno : removal_ascend(r);
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
        return 1;
    if (e->d_type != DT_DIR) {
        if (unlinkat(dirfd(dir), e->d_name, 0) == 0 || errno == ENOENT)
            return 1;
        if (errno != EISDIR) // DT_UNKNOWN: some file systems don't tell
            return -errno;
    }
    if (r->depth == LEVELS_MAX)
        return removal_move_up(r, e->d_name);
    int rc = removal_descend(r, dirfd(dir), e->d_name);
    return rc == -ENOENT ? 1 : rc;
}

static int remove_directory(int parent, const char *name)
{
    _cleanup_free_ struct removal *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;

    unsigned moved;
    int rc;
    do { // once more while a pass has moved directories up, which its readdir() may have missed
        moved = r->moved;
        rc = removal_descend(r, parent, name);
        while (rc > 0)
            rc = removal_step(r);
        while (r->depth > 0)
            dir_closep(&r->levels[--r->depth]);
        if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0)
            rc = -errno;
    } while (rc == -ENOTEMPTY && r->moved != moved);
    return rc == -ENOENT ? 0 : rc;
}

int file_remove_tree(const char *path, struct error *err)
{
    char parent[PATH_MAX];
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len >= sizeof(parent))
        return error_errno(err, ENAMETOOLONG, "remove %.64s…", path);
    memcpy(parent, path, len);
    parent[len] = '\0';
    char *slash = strrchr(parent, '/');
    char name[NAME_MAX + 1];
    const char *last = slash ? slash + 1 : parent;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || strlen(last) > NAME_MAX)
        return error_errno(err, EINVAL, "remove %s", path);
    memcpy(name, last, strlen(last) + 1);
    if (slash)
        slash[slash == parent] = '\0';

    _cleanup_fd_ int fd = open(slash ? parent : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "remove %s", path);
    struct stat st;
    int rc = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    if (rc == 0)
        rc = S_ISDIR(st.st_mode) ? remove_directory(fd, name) : unlinkat(fd, name, 0) < 0 ? -errno : 0;
    if (rc == 0 || rc == -ENOENT)
        return 0;
    return error_errno(err, rc, rc == -EXDEV ? "remove %s: something is still mounted in it" : "remove %s",
                       path);
}
