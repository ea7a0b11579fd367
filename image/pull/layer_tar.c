#include "image/pull/layer_tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/map.h"
#include "base/str.h"
#include "image/pull/tar_write.h"

#define DEPTH_MAX   200 // folders in each other that are open at once; deeper ones are refused
#define CHUNK       (256 * 1024)
#define XATTRS_MAX  64
#define XATTR_BYTES (64 * 1024) // of one value, and of the list of names
#define HEADER_MAX  (8u << 20)
#define OPAQUE      "trusted.overlay.opaque"

struct walk {
    int out_fd;
    struct map *links; // inode -> the first name of it, in fresh memory
    char *chunk;
    char path[PATH_MAX]; // of what is being written
    size_t path_len;
    struct error *err;
};

static int failed(const struct walk *w, int errnum, const char *what)
{
    return error_errno(w->err, errnum, "%s \"%s\"", what, w->path_len ? w->path : ".");
}

static int put(const struct walk *w, const void *data, size_t len)
{
    int r = file_write_all(w->out_fd, data, len);

    return r < 0 ? error_errno(w->err, -r, "hand out the layer") : 0;
}

static int put_header(const struct walk *w, const struct tar_entry *e)
{
    _cleanup_(buf_done) struct buf header;
    int r;

    buf_init(&header, HEADER_MAX);
    r = tar_write_header(&header, e);
    return r < 0 ? failed(w, -r, "write the header of") : put(w, header.data, header.len);
}

// Extended attributes, as the unpacker takes them back: those of overlay and of security modules are the
// machine's.
static bool is_exported(const char *name)
{
    return str_has_prefix(name, "user.") || str_eq(name, "security.capability") ||
           str_has_prefix(name, "system.posix_acl_");
}

static int compare_xattrs(const void *a, const void *b)
{
    return strcmp(((const struct tar_xattr *)a)->name, ((const struct tar_xattr *)b)->name);
}

struct xattrs {
    char names[XATTR_BYTES];
    struct tar_xattr list[XATTRS_MAX];
    size_t n;
};

static void xattrs_free(struct xattrs **x)
{
    for (size_t i = 0; *x && i < (*x)->n; i++)
        free((void *)(uintptr_t)(*x)->list[i].value);
    free(*x);
}

static int read_xattrs(const struct walk *w, int fd, struct xattrs *x)
{
    ssize_t len = flistxattr(fd, x->names, sizeof(x->names));

    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : failed(w, errno, "list the extended attributes of");
    for (const char *name = x->names; name < x->names + len; name += strlen(name) + 1) {
        if (!is_exported(name))
            continue;
        if (x->n == XATTRS_MAX)
            return failed(w, E2BIG, "read the extended attributes of");
        char *value = malloc(XATTR_BYTES);
        ssize_t n = value ? fgetxattr(fd, name, value, XATTR_BYTES) : -1;
        if (n < 0) {
            free(value);
            return failed(w, value ? errno : ENOMEM, "read the extended attributes of");
        }
        x->list[x->n++] = (struct tar_xattr){name, value, (size_t)n};
    }
    if (x->n > 0)
        qsort(x->list, x->n, sizeof(x->list[0]), compare_xattrs);
    return 0;
}

static bool is_opaque(int fd)
{
    char value[2];

    return fgetxattr(fd, OPAQUE, value, sizeof(value)) == 1 && value[0] == 'y';
}

// Bodies

static int put_body(struct walk *w, int fd, uint64_t size)
{
    for (uint64_t left = size; left > 0;) {
        ssize_t n = read(fd, w->chunk, left < CHUNK ? (size_t)left : CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed(w, n < 0 ? errno : ENODATA, "read");
        int r = put(w, w->chunk, (size_t)n);
        if (r < 0)
            return r;
        left -= (uint64_t)n;
    }
    memset(w->chunk, 0, TAR_BLOCK);
    return put(w, w->chunk, tar_padding(size));
}

// 1: it was written before, and this is a hard link to that.
static int try_link(struct walk *w, const struct stat *st, struct tar_entry *e)
{
    char key[32];
    const char *first;
    char *name;

    if (st->st_nlink < 2)
        return 0;
    (void)snprintf(key, sizeof(key), "%llu", (unsigned long long)st->st_ino);
    first = map_get(w->links, key);
    if (first) {
        e->type = '1';
        e->link = first;
        e->size = 0;
        return 1;
    }
    name = strdup(w->path);
    if (!name || map_set(w->links, key, name) < 0) {
        free(name);
        return failed(w, ENOMEM, "remember the links of");
    }
    return 0;
}

static int put_file(struct walk *w, int parent, const char *name, struct tar_entry *e)
{
    _cleanup_fd_ int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_(xattrs_free) struct xattrs *x = calloc(1, sizeof(*x));
    int r;

    if (fd < 0 || !x)
        return failed(w, x ? errno : ENOMEM, "open");
    r = read_xattrs(w, fd, x);
    e->xattrs = x->list;
    e->n_xattrs = x->n;
    if (r == 0)
        r = put_header(w, e);
    return r < 0 ? r : put_body(w, fd, e->size);
}

static int put_symlink(struct walk *w, int parent, const char *name, struct tar_entry *e)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(parent, name, target, sizeof(target));

    if (n < 0 || n >= (ssize_t)sizeof(target))
        return failed(w, n < 0 ? errno : ENAMETOOLONG, "read the link");
    target[n] = '\0';
    e->link = target;
    return put_header(w, e);
}

// ".wh.NAME" beside what it hides.
static int put_whiteout(struct walk *w, const char *name)
{
    char path[PATH_MAX + 8];
    struct tar_entry e = {.name = path, .type = '0', .mode = 0644};
    size_t dir = w->path_len - strlen(name);

    (void)snprintf(path, sizeof(path), "%.*s.wh.%s", (int)dir, w->path, name);
    return put_header(w, &e);
}

static int put_opaque(struct walk *w)
{
    char path[PATH_MAX + 16];
    struct tar_entry e = {.name = path, .type = '0', .mode = 0644};

    (void)snprintf(path, sizeof(path), "%s%s.wh..wh..opq", w->path, w->path_len ? "/" : "");
    return put_header(w, &e);
}

// Folders

static void fill_entry(const struct stat *st, const char *name, struct tar_entry *e)
{
    *e = (struct tar_entry){.name = name,
                            .mode = st->st_mode,
                            .uid = st->st_uid,
                            .gid = st->st_gid,
                            .mtime_s = st->st_mtim.tv_sec,
                            .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
                            .major = major(st->st_rdev),
                            .minor = minor(st->st_rdev)};
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void close_dirp(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int list_names(struct walk *w, int fd, char ***names)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    _cleanup_(close_dirp) DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    size_t n = 0, alloc = 0;

    if (!dir)
        return failed(w, errno, "list");
    for (const struct dirent *e; (errno = 0, e = readdir(dir));) { // NOLINT(concurrency-mt-unsafe)
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        if (n + 1 >= alloc) { // strv_append() would count what is there each time
            alloc = alloc ? 2 * alloc : 64;
            char **larger = reallocarray(*names, alloc, sizeof(*larger));
            if (!larger)
                return failed(w, ENOMEM, "list");
            *names = larger;
        }
        (*names)[n] = strdup(e->d_name);
        if (!(*names)[n])
            return failed(w, ENOMEM, "list");
        (*names)[++n] = NULL;
    }
    if (errno)
        return failed(w, errno, "list");
    if (n > 1)
        qsort(*names, n, sizeof(**names), compare_names);
    return 0;
}

static int put_dir(struct walk *w, int fd, const struct stat *st, int depth);

static int put_special(struct walk *w, const struct stat *st, const char *name, struct tar_entry *e)
{
    if (S_ISCHR(st->st_mode) && st->st_rdev == 0)
        return put_whiteout(w, name);
    e->type = S_ISCHR(st->st_mode) ? '3' : S_ISBLK(st->st_mode) ? '4' : S_ISFIFO(st->st_mode) ? '6' : 0;
    if (!e->type) // a socket: no tar has one
        return 0;
    int r = try_link(w, st, e);
    return r < 0 ? r : put_header(w, e);
}

static int put_named(struct walk *w, int parent, const char *name, int depth)
{
    struct tar_entry e;
    struct stat st;
    int r;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(w, errno, "look at");
    if (S_ISDIR(st.st_mode)) {
        _cleanup_fd_ int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? failed(w, errno, "open") : put_dir(w, fd, &st, depth + 1);
    }
    fill_entry(&st, w->path, &e);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return put_special(w, &st, name, &e);
    e.type = S_ISREG(st.st_mode) ? '0' : '2';
    e.size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    r = try_link(w, &st, &e);
    if (r != 0)
        return r < 0 ? r : put_header(w, &e);
    return S_ISREG(st.st_mode) ? put_file(w, parent, name, &e) : put_symlink(w, parent, name, &e);
}

static int put_children(struct walk *w, int fd, int depth)
{
    _cleanup_strv_ char **names = NULL;
    size_t len = w->path_len;
    int r = list_names(w, fd, &names);

    for (char **n = names; r == 0 && n && *n; n++) {
        int added = snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len ? "/" : "", *n);
        if (added < 0 || len + (size_t)added >= sizeof(w->path))
            return failed(w, ENAMETOOLONG, "name what is in");
        w->path_len = len + (size_t)added;
        r = put_named(w, fd, *n, depth);
        if (r < 0)
            return r; // the path is in the error already
        w->path_len = len;
        w->path[len] = '\0';
    }
    return r;
}

static int put_dir(struct walk *w, int fd, const struct stat *st, int depth)
{
    _cleanup_(xattrs_free) struct xattrs *x = calloc(1, sizeof(*x));
    char name[PATH_MAX + 2];
    struct tar_entry e;
    int r;

    if (depth > DEPTH_MAX)
        return error_set(w->err, STATUS_RESOURCE_EXHAUSTED, ELOOP,
                         "the image has more than %d folders in each other", DEPTH_MAX);
    if (!x)
        return failed(w, ENOMEM, "open");
    (void)snprintf(name, sizeof(name), "%s/", w->path_len ? w->path : ".");
    fill_entry(st, name, &e);
    e.type = '5';
    r = read_xattrs(w, fd, x);
    e.xattrs = x->list;
    e.n_xattrs = x->n;
    if (r == 0)
        r = put_header(w, &e);
    if (r == 0 && is_opaque(fd))
        r = put_opaque(w);
    return r < 0 ? r : put_children(w, fd, depth);
}

int layer_tar_write(int root_fd, int out_fd, struct error *err)
{
    struct walk *w = calloc(1, sizeof(*w));
    _cleanup_fd_ int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    int r;

    if (!w || fd < 0 || fstat(fd, &st) < 0) {
        free(w);
        return error_errno(err, w ? errno : ENOMEM, "open the layer");
    }
    w->out_fd = out_fd;
    w->err = err;
    w->links = map_new();
    w->chunk = malloc(CHUNK);
    r = w->links && w->chunk ? put_dir(w, fd, &st, 0) : error_errno(err, ENOMEM, "open the layer");
    if (r == 0) {
        memset(w->chunk, 0, 2 * TAR_BLOCK);
        r = put(w, w->chunk, 2 * TAR_BLOCK);
    }
    for (struct map_iter it = {0}; w->links && map_next(w->links, &it);)
        free(it.value);
    map_free(w->links);
    free(w->chunk);
    free(w);
    return r;
}
