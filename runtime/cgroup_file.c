// Files and directories of a place, by descriptors of the hierarchies' roots.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirwalk.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define PIDS_CHUNK 8192
// Of names: what a container nests in its cgroup costs crispd no more, and the container more than that.
#define WALK_BYTES_MAX (16u << 20)

// "/a/b" + "file" as a path relative to the root: "a/b/file"; the root itself is ".".
static int join(char *out, size_t size, const char *path, const char *file)
{
    while (*path == '/')
        path++;
    const char *sep = *path && *file ? "/" : "";
    const char *dot = *path || *file ? "" : ".";
    int n = snprintf(out, size, "%s%s%s%s", path, sep, file, dot);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int cgroup_file_open(const struct cgroup_hierarchy_fd *root, const char *path, const char *file, int flags)
{
    char name[CGROUP_PATH_MAX + 128];
    int r = join(name, sizeof(name), path, file);
    if (r < 0)
        return r;
    int fd = openat(root->fd, name, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int cgroup_file_write(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                      const char *value)
{
    _cleanup_fd_ int fd = cgroup_file_open(root, path, file, O_WRONLY);
    if (fd < 0)
        return fd;
    // Cgroup files take a value in one write; a short count cannot happen.
    return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

int cgroup_file_read(const struct cgroup_hierarchy_fd *root, const char *path, const char *file, char *out,
                     size_t size)
{
    _cleanup_fd_ int fd = cgroup_file_open(root, path, file, O_RDONLY);
    if (fd < 0)
        return fd;
    size_t used = 0;
    for (;;) {
        ssize_t n = read(fd, out + used, size - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
        if (used == size)
            return -E2BIG;
    }
    while (used > 0 && (out[used - 1] == '\n' || out[used - 1] == ' '))
        used--;
    out[used] = '\0';
    return 0;
}

int cgroup_file_read_i64(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                         int64_t *out)
{
    char text[CGROUP_VALUE_MAX];
    int r = cgroup_file_read(root, path, file, text, sizeof(text));
    if (r < 0)
        return r;
    if (str_eq(text, "max")) {
        *out = -1;
        return 0;
    }
    return str_parse_i64(text, INT64_MIN, INT64_MAX, out);
}

int cgroup_file_read_key(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                         const char *key, int64_t *out)
{
    char text[4096];
    int r = cgroup_file_read(root, path, file, text, sizeof(text));
    if (r < 0)
        return r;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *name = strsep(&line, " ");
        if (line && str_eq(name, key))
            return str_parse_i64(line, INT64_MIN, INT64_MAX, out);
    }
    return -ENOENT;
}

bool cgroup_file_exists(const struct cgroup_hierarchy_fd *root, const char *path, const char *file)
{
    char name[CGROUP_PATH_MAX + 128];
    return join(name, sizeof(name), path, file) == 0 &&
           faccessat(root->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

// A threaded cgroup of v2 tells its threads only, of which a signal reaches the process just as well.
static long pids_of_dir(int dir_fd, cgroup_pid_fn fn, void *arg)
{
    _cleanup_fd_ int fd = openat(dir_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char chunk[PIDS_CHUNK];
    long count = 0;
    unsigned long pid = 0;
    bool threads = false;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EOPNOTSUPP && !threads) {
            threads = true;
            fd_closep(&fd);
            fd = openat(dir_fd, "cgroup.threads", O_RDONLY | O_CLOEXEC);
            continue;
        }
        if (n < 0)
            return errno == ENODEV ? count : -errno; // removed meanwhile
        if (n == 0)
            return count;
        for (ssize_t i = 0; i < n; i++) {
            if (chunk[i] >= '0' && chunk[i] <= '9') {
                pid = pid * 10 + (unsigned long)(chunk[i] - '0');
                continue;
            }
            if (pid > 0) { // 0 is a process of a pid namespace that we can't see
                fn((pid_t)pid, arg);
                count++;
            }
            pid = 0;
        }
    }
}

struct pid_visit {
    cgroup_pid_fn fn;
    void *arg;
};

static long visit_pids(int parent_fd, const char *name, int dir_fd, void *arg)
{
    (void)parent_fd;
    (void)name;
    struct pid_visit *v = arg;
    return pids_of_dir(dir_fd, v->fn, v->arg);
}

long cgroup_each_pid(const struct cgroup_hierarchy_fd *root, const char *path, cgroup_pid_fn fn, void *arg)
{
    char name[CGROUP_PATH_MAX];
    int r = join(name, sizeof(name), path, "");
    if (r < 0)
        return r;
    struct pid_visit v = {.fn = fn, .arg = arg};
    return dirwalk(root->fd, name, WALK_BYTES_MAX, visit_pids, &v);
}

struct written {
    const char *file, *value;
};

static long visit_write(int parent_fd, const char *name, int dir_fd, void *arg)
{
    const struct written *w = arg;
    (void)parent_fd;
    (void)name;
    _cleanup_fd_ int fd = openat(dir_fd, w->file, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, w->value, strlen(w->value)) < 0 ? -errno : 0;
}

void cgroup_write_below(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                        const char *value)
{
    char name[CGROUP_PATH_MAX];
    struct written w = {.file = file, .value = value};
    if (join(name, sizeof(name), path, "") == 0)
        (void)dirwalk(root->fd, name, WALK_BYTES_MAX, visit_write, &w);
}

static long visit_rmdir(int parent_fd, const char *name, int dir_fd, void *arg)
{
    (void)dir_fd;
    (void)arg;
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

int cgroup_rmdir_tree(const struct cgroup_hierarchy_fd *root, const char *path)
{
    char name[CGROUP_PATH_MAX];
    int r = join(name, sizeof(name), path, "");
    if (r < 0)
        return r;
    if (unlinkat(root->fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != EBUSY)
        return -errno;
    // Busy: it has processes, or children (an exec's, or those that the container made itself).
    long done = dirwalk(root->fd, name, WALK_BYTES_MAX, visit_rmdir, NULL);
    // More than one walk can hold, or changing under it: the next one gets further.
    return done == -ENOENT ? 0 : done == -E2BIG || done == -EAGAIN ? -EBUSY : done < 0 ? (int)done : 0;
}

bool cgroup_has_children(const struct cgroup_hierarchy_fd *root, const char *path)
{
    char name[CGROUP_PATH_MAX];
    if (join(name, sizeof(name), path, "") < 0)
        return false;
    int fd = openat(root->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    _cleanup_(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !dir)
        (void)close(fd);
    for (const struct dirent *e; dir && (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe)
        if (e->d_type == DT_DIR && e->d_name[0] != '.')
            return true;
    }
    return false;
}

static bool is_owners(int dir_fd, const char *name, const char *owner)
{
    char mark[CGROUP_OWNER_MAX];
    _cleanup_fd_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : fgetxattr(fd, CGROUP_OWNER_XATTR, mark, sizeof(mark));
    return n >= 0 && (size_t)n == strlen(owner) && memcmp(mark, owner, (size_t)n) == 0;
}

int cgroup_children(struct cgroup_host *h, const char *path, char ***names, struct error *err)
{
    char name[CGROUP_PATH_MAX];
    int r = join(name, sizeof(name), path, "");
    if (r < 0)
        return error_errno(err, -r, "list the cgroup %.200s", path);
    _cleanup_strv_ char **list = strv_new(0);
    int fd = openat(h->fds[0].fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    _cleanup_(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!list || (fd >= 0 && !dir)) {
        fd_closep(&fd);
        return error_errno(err, ENOMEM, "list the cgroup %s", path);
    }
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own stream
        if (e->d_type != DT_DIR || e->d_name[0] == '.' || !is_owners(dirfd(dir), e->d_name, h->owner))
            continue;
        if (strv_append(&list, e->d_name) < 0)
            return error_errno(err, ENOMEM, "list the cgroup %s", path);
    }
    *names = steal_ptr(&list);
    return 0;
}
