#include "image/pull/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define REMOVE_DEPTH_MAX 128

void tree_init(struct tree *t, int root_fd)
{
    t->root_fd = root_fd;
    t->parent_fd = -1;
    t->inodes = 0;
    t->removed_dir = false;
    t->implicit = NULL;
}

static void forget_parent(struct tree *t)
{
    fd_closep(&t->parent_fd);
}

void tree_done(struct tree *t)
{
    forget_parent(t);
}

int tree_clean_path(const char *name, char out[PATH_MAX], struct error *err)
{
    size_t len = 0;

    if (!name || *name == '\0')
        return error_set(err, STATUS_DATA_LOSS, EINVAL, "an entry has no name");
    for (const char *s = name; *s;) {
        size_t n = strcspn(s, "/");

        if (n == 2 && s[0] == '.' && s[1] == '.')
            return error_set(err, STATUS_FAILED_PRECONDITION, EINVAL, "entry \"%s\": \"..\" is not allowed",
                             name);
        if (n > 0 && !(n == 1 && s[0] == '.')) {
            if (n > NAME_MAX || len + 1 + n >= PATH_MAX)
                return error_set(err, STATUS_FAILED_PRECONDITION, ENAMETOOLONG,
                                 "entry \"%.100s…\": the name is too long", name);
            if (len > 0)
                out[len++] = '/';
            memcpy(out + len, s, n);
            len += n;
        }
        s += n;
        s += *s == '/';
    }
    out[len] = '\0';
    return 0;
}

static int open_in_root(struct tree *t, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };

    for (int tries = 0; tries < 16; tries++) {
        long fd = syscall(SYS_openat2, t->root_fd, *path ? path : ".", &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno != EAGAIN && errno != EINTR) // EAGAIN: a rename raced with the lookup
            break;
    }
    return -errno;
}

// mkdir -p of a clean path of len bytes; afterwards t->parent_fd is its directory.
static int make_dirs(struct tree *t, const char *path, size_t len, struct error *err)
{
    char prefix[PATH_MAX];
    _cleanup_fd_ int at = open_in_root(t, "", O_PATH | O_DIRECTORY);

    for (size_t end = 0; at >= 0 && end < len;) {
        size_t start = end;
        while (end < len && path[end] != '/')
            end++;
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        int next = open_in_root(t, prefix, O_PATH | O_DIRECTORY);
        if (next == -ENOENT) {
            if (mkdirat(at, prefix + start, 0755) < 0)
                // EEXIST: a dangling symlink, which openat2 would not see through
                return error_set(err, STATUS_FAILED_PRECONDITION, errno,
                                 "entry \"%s\": can't make its parent \"%s\": %s", path, prefix,
                                 strerror(errno));
            t->inodes++;
            int r = t->implicit ? t->implicit(t->data, prefix, err) : 0;
            if (r < 0)
                return r;
            next = open_in_root(t, prefix, O_PATH | O_DIRECTORY);
        }
        if (next < 0)
            return error_set(err, STATUS_FAILED_PRECONDITION, -next, "entry \"%s\": its parent \"%s\": %s",
                             path, prefix, strerror(-next));
        (void)close(at);
        at = next;
        end += end < len;
    }
    if (at < 0)
        return error_errno(err, -at, "open the layer's root");
    t->parent_fd = steal_fd(&at);
    return 0;
}

int tree_parent(struct tree *t, const char *path, bool make, const char **leaf, struct error *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    int r;

    *leaf = slash ? slash + 1 : path;
    if (t->parent_fd >= 0 && strlen(t->parent) == len && memcmp(t->parent, path, len) == 0)
        return 0;
    forget_parent(t);
    memcpy(t->parent, path, len);
    t->parent[len] = '\0';
    r = open_in_root(t, t->parent, O_PATH | O_DIRECTORY);
    if (r == -ENOENT && make)
        return make_dirs(t, path, len, err);
    if (r < 0)
        return error_set(err, STATUS_FAILED_PRECONDITION, -r, "entry \"%s\": its parent \"%s\": %s", path,
                         t->parent, strerror(-r));
    t->parent_fd = r;
    return 0;
}

int tree_open_dir(struct tree *t, const char *path, struct error *err)
{
    int fd = open_in_root(t, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);

    return fd >= 0 ? fd : error_errno(err, -fd, "open directory \"%s\"", path);
}

static int remove_children(int dir_fd, int depth, bool *removed_dir, struct error *err);

static int remove_one(int dir_fd, const char *name, int depth, bool *removed_dir, struct error *err)
{
    _cleanup_fd_ int fd = -1;
    int r;

    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return error_errno(err, errno, "replace \"%s\"", name);
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "replace \"%s\"", name);
    *removed_dir = true;
    r = remove_children(fd, depth + 1, removed_dir, err);
    if (r < 0)
        return r;
    return unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 ? 0 : error_errno(err, errno, "replace \"%s\"", name);
}

static int remove_children(int dir_fd, int depth, bool *removed_dir, struct error *err)
{
    _cleanup_(dir_closep) DIR *dir = NULL;
    struct dirent *d;
    int fd, r;

    if (depth > REMOVE_DEPTH_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, ELOOP, "a directory deeper than %d is replaced",
                         REMOVE_DEPTH_MAX);
    fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir)
        return error_errno(err, errno, "read a directory that is replaced");
    while ((d = readdir(dir))) {
        if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
            continue;
        r = remove_one(dirfd(dir), d->d_name, depth, removed_dir, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int tree_remove(struct tree *t, int dir_fd, const char *leaf, struct error *err)
{
    int r = remove_one(dir_fd, leaf, 0, &t->removed_dir, err);

    // What was remembered may have been a path through the thing removed; the caller's dir_fd may be the
    // remembered one, so it is not closed, only never found again.
    if (t->parent_fd >= 0 && t->parent_fd != dir_fd)
        forget_parent(t);
    return r;
}
