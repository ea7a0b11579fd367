#include "image/pull/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <iconv.h>
#include <langinfo.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/extract_internal.h"

#define BLOCK    4096
#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"

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

int extract_failed(struct extract *x, int errnum, const char *what)
{
    return error_set(x->err,
                     errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG ? STATUS_RESOURCE_EXHAUSTED
                                                                             : STATUS_INTERNAL,
                     errnum, "entry \"%s\": %s: %s", x->path, what, strerror(errnum));
}

static int report_opaque(struct extract *x, const char *path)
{
    // Overlay heeds no mark on a layer's own root: the image's list of layers ends here.
    if (*path == '\0' && x->options->loose) {
        x->options->loose->opaque_root = true;
        return 0;
    }
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
        return extract_failed(x, errno, "make the directory");
    } else if (!S_ISDIR(st.st_mode)) {
        // A directory in the place of our own whiteout still hides what lower layers have.
        hides = S_ISCHR(st.st_mode) && st.st_rdev == 0;
        r = tree_remove(&x->tree, dir_fd, leaf, x->err);
        if (r < 0)
            return r;
        if (mkdirat(dir_fd, leaf, 0700) < 0)
            return extract_failed(x, errno, "make the directory");
    }
    fd = openat(dir_fd, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return extract_failed(x, errno, "open the directory");
    r = extract_metadata(x, e, fd, false);
    if (r == 0 && hides)
        r = report_opaque(x, x->path);
    return r < 0 ? r : extract_remember_dir(x, e);
}

// *end: behind the last byte; a hole may follow.
static int write_data(struct extract *x, int fd, la_int64_t *end)
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
                return extract_failed(x, errno, "write");
            p += n;
            offset += n;
            size -= (size_t)n;
        }
        *end = offset;
    }
    x->stats->bytes += (written + BLOCK - 1) / BLOCK * BLOCK;
    return r == ARCHIVE_EOF ? 0 : archive_failed(x);
}

static int create_file(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir_fd, leaf, flags, archive_entry_perm(e) & 0777);

    if (fd < 0 && errno == EEXIST) {
        int r = tree_remove(&x->tree, dir_fd, leaf, x->err);
        if (r < 0)
            return r;
        fd = openat(dir_fd, leaf, flags, archive_entry_perm(e) & 0777);
    }
    return fd >= 0 ? fd : extract_failed(x, errno, "create the file");
}

static int make_file(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    _cleanup_fd_ int fd = create_file(x, e, dir_fd, leaf);
    struct timespec times[2];
    la_int64_t end = 0;
    int r;

    if (fd < 0)
        return fd;
    x->tree.inodes++;
    r = write_data(x, fd, &end);
    if (r < 0)
        return r;
    if (archive_entry_size(e) > end && ftruncate(fd, archive_entry_size(e)) < 0)
        return extract_failed(x, errno, "set the size");
    r = extract_metadata(x, e, fd, true);
    if (r < 0)
        return r;
    extract_times(e, times);
    return futimens(fd, times) == 0 ? 0 : extract_failed(x, errno, "set the times");
}

static int make_symlink(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    const char *target = archive_entry_symlink(e);

    if (str_empty(target) || strlen(target) >= PATH_MAX)
        return error_set(x->err, STATUS_DATA_LOSS, EINVAL, "entry \"%s\": a symlink without a valid target",
                         x->path);
    if (symlinkat(target, dir_fd, leaf) < 0)
        return extract_failed(x, errno, "make the symlink");
    x->tree.inodes++;
    return 0;
}

static int make_node(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf)
{
    dev_t dev = makedev((unsigned)archive_entry_rdevmajor(e), (unsigned)archive_entry_rdevminor(e));

    if (mknodat(dir_fd, leaf, archive_entry_filetype(e) | 0600, dev) < 0)
        return extract_failed(x, errno, "make the device node or FIFO");
    x->tree.inodes++;
    return 0;
}

// What the link names, opened by its directory: *leaf points into clean. -ENOENT: its directory isn't here.
static int open_target_dir(struct extract *x, const char *clean, const char **leaf)
{
    int r = tree_parent(&x->tree, clean, false, leaf, x->err);

    if (r < 0)
        return r;
    r = fcntl(x->tree.parent_fd, F_DUPFD_CLOEXEC, 3);
    return r >= 0 ? r : extract_failed(x, errno, "link");
}

static int make_hardlink(struct extract *x, const char *target)
{
    char clean[PATH_MAX];
    const char *leaf, *target_leaf, *loose;
    _cleanup_fd_ int target_dir = -1;
    int r = tree_clean_path(target, clean, x->err);

    if (r < 0)
        return error_wrap(x->err, "entry \"%s\": its link target", x->path);
    if (*clean == '\0' || str_eq(clean, x->path))
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EINVAL, "entry \"%s\" is a hard link to %s",
                         x->path, *clean ? "itself" : "the layer's root");
    loose = extract_loose_target(x, clean);
    if (!loose) {
        target_dir = open_target_dir(x, clean, &target_leaf);
        if (target_dir < 0 && target_dir != -ENOENT)
            return target_dir;
        *x->err = ERROR_INIT;
    }
    r = tree_parent(&x->tree, x->path, true, &leaf, x->err);
    if (r == 0)
        r = tree_remove(&x->tree, x->tree.parent_fd, leaf, x->err);
    if (r < 0)
        return r;
    extract_loose_named(x, false);
    if (target_dir >= 0 && linkat(target_dir, target_leaf, x->tree.parent_fd, leaf, 0) == 0)
        return 0;
    if (target_dir >= 0 && errno != ENOENT)
        return extract_failed(x, errno, "link");
    return extract_loose_link(x, loose ? loose : clean); // a lower layer may have it
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
        return extract_failed(x, errno, "make the whiteout");
    // The layer has both: what it has stays, and hides what is below it.
    if (fstatat(dir_fd, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return extract_failed(x, errno, "make the whiteout");
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
    x->root_named = true;
    r = extract_metadata(x, e, fd, false);
    return r < 0 ? r : extract_remember_dir(x, e);
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
    extract_loose_named(x, type == AE_IFDIR);
    if (type == AE_IFDIR)
        return make_dir(x, e, dir_fd, leaf);
    if (type == AE_IFREG)
        return make_file(x, e, dir_fd, leaf);
    r = tree_remove(&x->tree, dir_fd, leaf, x->err);
    if (r < 0)
        return r;
    if (type == AE_IFLNK)
        r = make_symlink(x, e, dir_fd, leaf);
    else if (type == AE_IFCHR || type == AE_IFBLK || type == AE_IFIFO)
        r = make_node(x, e, dir_fd, leaf);
    else
        return error_set(x->err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP, "entry \"%s\" is of an unknown type",
                         x->path);
    return r < 0 ? r : extract_special_metadata(x, e, dir_fd, leaf);
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
        if (r == 0 && x->tree.removed_dir)
            r = extract_loose_replaced(x);
        if (r < 0)
            return r;
    }
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

    mode_t mask = umask(0); // files are made with their modes
    *stats = (struct extract_stats){0};
    *x.err = ERROR_INIT;
    tree_init(&x.tree, options->root_fd);
    r = extract_loose_start(&x);
    if (r == 0)
        r = open_archive(&x);
    if (r == 0)
        r = extract_entries(&x);
    if (r == 0)
        r = extract_finish_dirs(&x);
    if (r == 0)
        r = extract_loose_report(&x);
    stats->inodes = x.tree.inodes;
    archive_read_free(x.archive);
    for (size_t i = 0; i < x.n_dirs; i++)
        free(x.dirs[i].path), free(x.dirs[i].default_acl);
    free(x.dirs);
    extract_loose_done(&x);
    tree_done(&x.tree);
    (void)umask(mask);
    return r;
}
