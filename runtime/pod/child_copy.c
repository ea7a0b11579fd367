// The content of an image's volumes: copied from the container's root into the empty directory that is then
// mounted there. Runs before anything else is mounted in the root and before any process of the container, so
// that all it reads is the image's; and an image leads it nowhere, as it follows no link and crosses no
// mount.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define DEPTH_MAX  256   // directories in each other; two descriptors each
#define LINKS_MAX  4096  // files with several names that are remembered; further ones are copied again
#define XATTRS_MAX 65536 // the kernel's own bound
#define CHUNK_MAX  (1 << 30)

// A file with several names that was copied: the next name becomes a link to it.
struct seen {
    dev_t dev;
    ino_t ino;
    char *path; // below the volume
};

struct copy {
    int top; // the volume
    const Pod__LaunchPlan *plan;
    const char *destination; // of the volume
    struct seen *seen;
    size_t n_seen;
    char path[PATH_MAX]; // of what is being copied, below the volume
    size_t path_len;
    struct error *err;
};

static int failed(const struct copy *c, int errnum, const char *what)
{
    return error_errno(c->err, errnum, "copy \"%s\" of the image: %s", c->path, what);
}

// By sendfile(2): overlay and what lies below a volume are different file systems, where copy_file_range(2)
// and FICLONE give up.
static int copy_bytes(struct copy *c, int from, int to, off_t at, off_t end)
{
    if (lseek(to, at, SEEK_SET) < 0)
        return failed(c, errno, "content");
    while (at < end) {
        ssize_t n = sendfile(to, from, &at, end - at > CHUNK_MAX ? (size_t)CHUNK_MAX : (size_t)(end - at));
        if (n <= 0)
            return n < 0 ? failed(c, errno, "content") : 0;
    }
    return 0;
}

// Holes stay holes.
static int copy_content(struct copy *c, int from, int to, off_t size)
{
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0)
            break; // nothing but a hole follows
        off_t hole = lseek(from, data, SEEK_HOLE);
        at = hole < 0 || hole > size ? size : hole;
        int rc = copy_bytes(c, from, to, data, at);
        if (rc < 0)
            return rc;
    }
    return ftruncate(to, size) < 0 ? failed(c, errno, "size") : 0;
}

static int copy_xattr(struct copy *c, int from, int to, const char *name)
{
    _cleanup_free_ char *value = malloc(XATTRS_MAX);

    // A label is the place's, not the image's.
    if (str_eq(name, "security.selinux"))
        return 0;
    ssize_t n = value ? fgetxattr(from, name, value, XATTRS_MAX) : -1;
    if (!value || n < 0)
        return failed(c, value ? errno : ENOMEM, name);
    if (fsetxattr(to, name, value, (size_t)n, 0) < 0 && errno != EOPNOTSUPP)
        return failed(c, errno, name);
    return 0;
}

static int copy_xattrs(struct copy *c, int from, int to)
{
    ssize_t n = flistxattr(from, NULL, 0);
    _cleanup_free_ char *names = NULL;

    if (n == 0 || (n < 0 && errno == EOPNOTSUPP))
        return 0;
    names = malloc(XATTRS_MAX + 1);
    n = names ? flistxattr(from, names, XATTRS_MAX) : -1;
    if (n < 0)
        return failed(c, names ? errno : ENOMEM, "attributes");
    names[n] = '\0';
    for (const char *name = names; name < names + n; name += strlen(name) + 1) {
        int rc = copy_xattr(c, from, to, name);
        if (rc < 0)
            return rc;
    }
    return 0;
}

// In this order: a new owner takes set-uid bits and capabilities away, and everything changes the times.
static int copy_attributes(struct copy *c, int from, int to, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};

    if (fchown(to, st->st_uid, st->st_gid) < 0)
        return failed(c, errno, "owner");
    int rc = copy_xattrs(c, from, to);
    if (rc < 0)
        return rc;
    if (fchmod(to, st->st_mode & 07777) < 0)
        return failed(c, errno, "mode");
    return futimens(to, times) < 0 ? failed(c, errno, "times") : 0;
}

static int copy_file(struct copy *c, int from_dir, int to_dir, const char *name)
{
    struct stat st;
    _cleanup_fd_ int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_fd_ int to = -1;

    if (from < 0 || fstat(from, &st) < 0)
        return failed(c, errno, "open");
    if (!S_ISREG(st.st_mode))
        return failed(c, ESTALE, "open");
    to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return failed(c, errno, "make");
    int rc = copy_content(c, from, to, st.st_size);
    return rc < 0 ? rc : copy_attributes(c, from, to, &st);
}

// Links, pipes, sockets and device nodes.
static int copy_special(struct copy *c, int from_dir, int to_dir, const char *name, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    char target[PATH_MAX];

    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);
        if (n < 0)
            return failed(c, errno, "read the link");
        target[n] = '\0';
        if (symlinkat(target, to_dir, name) < 0)
            return failed(c, errno, "make the link");
    } else if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0) {
        return failed(c, errno, "make");
    }
    if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0) ||
        utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(c, errno, "owner and mode");
    return 0;
}

// A further name of a file that was copied already. 1: done.
static int link_seen(struct copy *c, int to_dir, const char *name, const struct stat *st)
{
    for (size_t i = 0; i < c->n_seen; i++) {
        if (c->seen[i].dev != st->st_dev || c->seen[i].ino != st->st_ino)
            continue;
        return linkat(c->top, c->seen[i].path, to_dir, name, 0) < 0 ? failed(c, errno, "link") : 1;
    }
    return 0;
}

static int remember(struct copy *c, const struct stat *st)
{
    if (c->n_seen == LINKS_MAX)
        return 0;
    if ((c->n_seen & (c->n_seen - 1)) == 0) { // full at each power of two
        size_t room = c->n_seen ? c->n_seen * 2 : 1;
        struct seen *more = reallocarray(c->seen, room, sizeof(*more));
        if (!more)
            return failed(c, ENOMEM, "links");
        c->seen = more;
    }
    char *path = strdup(c->path);
    if (!path)
        return failed(c, ENOMEM, "links");
    c->seen[c->n_seen++] = (struct seen){.dev = st->st_dev, .ino = st->st_ino, .path = path};
    return 0;
}

static int copy_dir(struct copy *c, int from, int to, int depth);

// A volume in the volume: its content is copied there, and what is copied here would never be seen.
static bool is_volume_itself(const struct copy *c)
{
    size_t len = strlen(c->destination);

    for (size_t i = 0; i < c->plan->n_mounts; i++) {
        const Pod__Mount *m = c->plan->mounts[i];
        if (m->copy_content && str_has_prefix(m->destination, c->destination) && m->destination[len] == '/' &&
            str_eq(m->destination + len + 1, c->path))
            return true;
    }
    return false;
}

static int copy_subdir(struct copy *c, int from_dir, int to_dir, const char *name, int depth)
{
    _cleanup_fd_ int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_fd_ int to = -1;

    if (from < 0)
        return failed(c, errno, "open");
    if (depth == DEPTH_MAX)
        return failed(c, ELOOP, "too many directories in each other");
    if (mkdirat(to_dir, name, 0700) < 0)
        return failed(c, errno, "make");
    if (is_volume_itself(c))
        return 0;
    to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return to < 0 ? failed(c, errno, "open") : copy_dir(c, from, to, depth + 1);
}

static int copy_entry(struct copy *c, int from, int to, const char *name, int depth)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(c, errno, "look at it");
    if (S_ISDIR(st.st_mode))
        return copy_subdir(c, from, to, name, depth);
    int rc = st.st_nlink > 1 ? link_seen(c, to, name, &st) : 0;
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = S_ISREG(st.st_mode) ? copy_file(c, from, to, name) : copy_special(c, from, to, name, &st);
    return rc == 0 && st.st_nlink > 1 ? remember(c, &st) : rc;
}

// The directory itself comes last: its times change with each entry.
static int copy_dir(struct copy *c, int from, int to, int depth)
{
    int rc = 0, again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_(dir_closep) DIR *dir = again < 0 ? NULL : fdopendir(again);
    struct stat st;
    size_t len = c->path_len;

    if (!dir || fstat(from, &st) < 0)
        return failed(c, errno, "read");
    for (struct dirent *d; rc == 0 && (errno = 0, d = readdir(dir));) {
        if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
            continue;
        int n = snprintf(c->path + len, sizeof(c->path) - len, "%s%s", len ? "/" : "", d->d_name);
        if (n < 0 || (size_t)n >= sizeof(c->path) - len)
            return failed(c, ENAMETOOLONG, "path");
        c->path_len = len + (size_t)n;
        rc = copy_entry(c, from, to, d->d_name, depth);
        if (rc == 0)
            c->path[len] = '\0';
        c->path_len = len;
    }
    if (rc == 0 && errno != 0)
        rc = failed(c, errno, "read");
    return rc < 0 ? rc : copy_attributes(c, from, to, &st);
}

// The directory of the root; -ENOENT when there is none, or when something else of ours is mounted there.
static int open_from(int root, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

    return fd >= 0 ? fd : errno == EXDEV ? -ENOENT : -errno;
}

static int fill(const struct child *child, int root, const Pod__LaunchPlan *plan, const Pod__Mount *m,
                int tree, struct error *err)
{
    struct copy c = {.top = tree, .plan = plan, .destination = m->destination, .err = err};
    _cleanup_fd_ int from = open_from(root, m->destination);
    _cleanup_fd_ int to = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (to < 0)
        return error_errno(err, errno, "open %s", m->source);
    // One that the image doesn't have is the container's root's.
    if (from < 0 && userns_wanted(child) &&
        fchown(to, userns_host_uid(child, 0), userns_host_gid(child, 0)) < 0)
        return error_errno(err, errno, "set the owner of %s", m->source);
    // What else is wrong with the place is told when it is mounted on.
    int rc = from < 0 ? 0 : copy_dir(&c, from, to, 0);
    for (size_t i = 0; i < c.n_seen; i++)
        free(c.seen[i].path);
    free(c.seen);
    return rc;
}

int volumes_empty(const Pod__Mount *m, struct error *err)
{
    if (rmdir(m->source) < 0 && errno != ENOENT) {
        int rc = file_remove_tree(m->source, err);
        if (rc < 0)
            return error_wrap(err, "volume %s", m->destination);
    }
    return mkdir(m->source, 0755) < 0 ? error_errno(err, errno, "make %s", m->source) : 0;
}

int volumes_fill(struct child *c, int root, const Pod__LaunchPlan *plan, const int *trees, struct error *err)
{
    for (size_t i = 0; i < plan->n_mounts; i++) {
        const Pod__Mount *m = plan->mounts[i];
        if (!m->copy_content || trees[i] < 0)
            continue;
        child_step(c, "copy the image's content to its volume %s", m->destination);
        int rc = labels_begin_volume(c, trees[i], plan->root->mount_label, err);
        if (rc == 0)
            rc = fill(c, root, plan, m, trees[i], err);
        labels_end_volume(c, plan->root->mount_label);
        if (rc < 0)
            return error_wrap(err, "volume %s", m->destination);
    }
    return 0;
}
