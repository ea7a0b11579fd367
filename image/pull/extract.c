#include "image/pull/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <iconv.h>
#include <langinfo.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
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
    struct inflate *in;
    struct error *err;
    struct tree tree;
    struct archive *archive;
    struct dir_times *dirs;
    size_t n_dirs, dirs_alloc;
    char path[PATH_MAX]; // the entry at hand, clean
};

static la_ssize_t read_archive(struct archive *a, void *data, const void **block)
{
    struct extract *x = data;
    ssize_t n = inflate_read(x->in, block, x->err);

    if (n < 0)
        archive_set_error(a, (int)-n, "%s", x->err->message);
    return n;
}

// Our own reader's error is the better one: libarchive only passes it on.
static int archive_failed(struct extract *x)
{
    const char *text = archive_error_string(x->archive);

    if (x->err->errnum)
        return -x->err->errnum;
    if (archive_errno(x->archive) == ENOMEM)
        return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                         "the layer takes too much memory to unpack: %s", text ? text : "libarchive");
    return error_set(x->err, STATUS_DATA_LOSS, EBADMSG, "the layer's tar is damaged: %s",
                     text ? text : "unknown");
}

static int entry_failed(struct extract *x, int errnum, const char *what)
{
    return error_set(x->err,
                     errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG ? STATUS_RESOURCE_EXHAUSTED
                                                                             : STATUS_INTERNAL,
                     errnum, "entry \"%s\": %s: %s", x->path, what, strerror(errnum));
}

static void entry_times(struct archive_entry *e, struct timespec times[2])
{
    times[1].tv_sec = archive_entry_mtime(e);
    times[1].tv_nsec = archive_entry_mtime_nsec(e);
    times[0] = times[1];
    if (archive_entry_atime_is_set(e)) {
        times[0].tv_sec = archive_entry_atime(e);
        times[0].tv_nsec = archive_entry_atime_nsec(e);
    }
}

static int set_owner(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);

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

static int set_xattrs(struct extract *x, struct archive_entry *e, int fd)
{
    const char *name;
    const void *value;
    size_t size;

    archive_entry_xattr_reset(e);
    while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
        if (!name)
            continue;
        // These would let an image speak to overlayfs itself.
        if (xattr_is_forbidden(name))
            return error_set(x->err, STATUS_FAILED_PRECONDITION, EPERM,
                             "entry \"%s\": the extended attribute \"%.100s\" is not allowed in a layer",
                             x->path, name);
        if (!str_has_prefix(name, "user.") && !str_eq(name, "security.capability"))
            continue;
        if (size > XATTR_VALUE_MAX)
            return entry_failed(x, E2BIG, "set an extended attribute");
        if (fsetxattr(fd, name, value, size, 0) < 0) {
            if (errno == EOPNOTSUPP && str_has_prefix(name, "user."))
                continue; // tmpfs before Linux 6.6
            return entry_failed(x, errno, "set an extended attribute");
        }
    }
    return 0;
}

// Owner first: changing it clears set-id bits and file capabilities.
static int set_metadata(struct extract *x, struct archive_entry *e, int fd)
{
    int r = set_owner(x, e, fd, "");

    if (r < 0)
        return r;
    if (fchmod(fd, archive_entry_perm(e)) < 0)
        return entry_failed(x, errno, "set the mode");
    return set_xattrs(x, e, fd);
}

static int remember_dir(struct extract *x, struct archive_entry *e)
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

static int make_dir(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
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
    const void *block;
    size_t size;
    la_int64_t offset;
    uint64_t written = 0;
    int r;

    while ((r = archive_read_data_block(x->archive, &block, &size, &offset)) == ARCHIVE_OK) {
        const char *p = block;

        written += size;
        while (size > 0) {
            ssize_t n = pwrite(fd, p, size, offset);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return entry_failed(x, errno, "write");
            p += n;
            offset += n;
            size -= (size_t)n;
        }
    }
    x->stats->bytes += (written + BLOCK - 1) / BLOCK * BLOCK;
    return r == ARCHIVE_EOF ? 0 : archive_failed(x);
}

static int make_file(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
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
    if (archive_entry_sparse_count(e) > 0 && ftruncate(fd, archive_entry_size(e)) < 0)
        return entry_failed(x, errno, "set the size");
    r = set_metadata(x, e, fd);
    if (r < 0)
        return r;
    entry_times(e, times);
    return futimens(fd, times) == 0 ? 0 : entry_failed(x, errno, "set the times");
}

static int make_symlink(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    const char *target = archive_entry_symlink(e);

    if (str_empty(target) || strlen(target) >= PATH_MAX)
        return error_set(x->err, STATUS_DATA_LOSS, EINVAL, "entry \"%s\": a symlink without a valid target",
                         x->path);
    if (symlinkat(target, dir_fd, leaf) < 0)
        return entry_failed(x, errno, "make the symlink");
    x->tree.inodes++;
    return 0;
}

static int make_node(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    dev_t dev = makedev((unsigned)archive_entry_rdevmajor(e), (unsigned)archive_entry_rdevminor(e));

    if (mknodat(dir_fd, leaf, archive_entry_filetype(e) | 0600, dev) < 0)
        return entry_failed(x, errno, "make the device node or FIFO");
    x->tree.inodes++;
    return 0;
}

// Owner, mode and times of what must not be opened.
static int finish_special(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    struct timespec times[2];
    int r = set_owner(x, e, dir_fd, leaf);

    if (r < 0)
        return r;
    // fchmodat() follows symlinks, but this name is ours, made just now, and no symlink.
    if (archive_entry_filetype(e) != AE_IFLNK && fchmodat(dir_fd, leaf, archive_entry_perm(e), 0) < 0)
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

static int extract_root(struct extract *x, struct archive_entry *e)
{
    _cleanup_fd_ int fd = tree_open_dir(&x->tree, "", x->err);
    int r;

    if (fd < 0)
        return fd;
    if (archive_entry_filetype(e) != AE_IFDIR)
        return error_set(x->err, STATUS_FAILED_PRECONDITION, ENOTDIR, "the layer's root is not a directory");
    r = set_metadata(x, e, fd);
    return r < 0 ? r : remember_dir(x, e);
}

static int extract_entry(struct extract *x, struct archive_entry *e)
{
    const char *name = archive_entry_pathname(e), *target = archive_entry_hardlink(e), *leaf;
    int r = tree_clean_path(name ? name : archive_entry_pathname_utf8(e), x->path, x->err);
    unsigned type = archive_entry_filetype(e);

    if (r < 0)
        return r;
    if (*x->path == '\0')
        return extract_root(x, e);
    leaf = strrchr(x->path, '/');
    leaf = leaf ? leaf + 1 : x->path;
    // AUFS kept its whiteouts as hard links of one file, and layers that were made on it still say so.
    if (target && !str_has_prefix(leaf, WHITEOUT))
        return make_hardlink(x, target);
    r = tree_parent(&x->tree, x->path, true, &leaf, x->err);
    if (r < 0)
        return r;
    int dir_fd = x->tree.parent_fd;
    if (str_has_prefix(leaf, WHITEOUT))
        return make_whiteout(x, dir_fd, leaf);
    if (type == AE_IFDIR)
        return make_dir(x, e, dir_fd, leaf);
    r = tree_remove(&x->tree, dir_fd, leaf, x->err);
    if (r < 0)
        return r;
    if (type == AE_IFREG)
        return make_file(x, e, dir_fd, leaf);
    if (type == AE_IFLNK)
        r = make_symlink(x, e, dir_fd, leaf);
    else if (type == AE_IFCHR || type == AE_IFBLK || type == AE_IFIFO)
        r = make_node(x, e, dir_fd, leaf);
    else
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP, "entry \"%s\" is of an unknown type",
                         x->path);
    return r < 0 ? r : finish_special(x, e, dir_fd, leaf);
}

static int extract_entries(struct extract *x)
{
    struct archive_entry *e;
    int r;

    for (;;) {
        r = archive_read_next_header(x->archive, &e);
        if (r == ARCHIVE_EOF)
            return 0;
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return archive_failed(x);
        if (++x->stats->entries > x->options->max_entries)
            return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "the layer has more than %llu entries",
                             (unsigned long long)x->options->max_entries);
        r = extract_entry(x, e);
        if (r < 0)
            return r;
    }
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

// Names have to stay as they are, byte for byte (libarchive 3.6). In a UTF-8 locale libarchive brings those
// in PAX headers into Unicode's normal form C, which changes them; in the "C" locale its conversion fails for
// all but ASCII, and then it hands out the raw bytes (with a warning). So no program that unpacks calls
// setlocale().
void extract_prepare(void)
{
    static const char *const pairs[][2] = {{NULL, "UTF-8"}, {"UTF-8", NULL}};

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        const char *locale = nl_langinfo(CODESET);
        iconv_t cd = iconv_open(pairs[i][0] ? pairs[i][0] : locale, pairs[i][1] ? pairs[i][1] : locale);
        if (cd != (iconv_t)-1)
            iconv_close(cd);
    }
}

static int open_archive(struct extract *x)
{
    x->archive = archive_read_new();
    if (!x->archive)
        return error_errno(x->err, ENOMEM, "unpack");
    if (archive_read_support_format_tar(x->archive) != ARCHIVE_OK ||
        archive_read_support_format_empty(x->archive) != ARCHIVE_OK ||
        archive_read_open(x->archive, x, NULL, read_archive, NULL) != ARCHIVE_OK)
        return archive_failed(x);
    return 0;
}

int extract_tar(struct inflate *in, const struct extract_options *options, struct extract_stats *stats,
                struct error *err)
{
    struct error local = ERROR_INIT;
    struct extract x = {.options = options, .stats = stats, .in = in, .err = err ? err : &local};
    int r;

    *stats = (struct extract_stats){0};
    *x.err = ERROR_INIT;
    tree_init(&x.tree, options->root_fd);
    r = open_archive(&x);
    if (r == 0)
        r = extract_entries(&x);
    if (r == 0)
        r = set_dir_times(&x);
    stats->inodes = x.tree.inodes;
    archive_read_free(x.archive);
    for (size_t i = 0; i < x.n_dirs; i++)
        free(x.dirs[i].path);
    free(x.dirs);
    tree_done(&x.tree);
    return r;
}
