#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

int file_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int file_read_exact(int fd, void *data, size_t len)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = read(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int read_whole(int fd, const char *path, size_t max, char **out, size_t *len, struct error *err)
{
    // One byte more than allowed tells "just fits" from "too big"; st_size is a lie in /proc and /sys.
    struct buf b;
    buf_init(&b, max < SIZE_MAX ? max + 1 : max);
    long n;
    do
        n = buf_read_fd(&b, fd, b.len < 4096 ? 4096 : b.len);
    while (n > 0);
    if (n == -E2BIG || b.len > max) {
        buf_done(&b);
        return error_set(err, STATUS_INTERNAL, EFBIG, "%s is larger than the %zu bytes that are allowed",
                         path, max);
    }
    if (n < 0) {
        buf_done(&b);
        return error_errno(err, (int)n, "read %s", path);
    }
    size_t got = b.len;
    char *text = buf_steal(&b);
    if (!text)
        return error_errno(err, ENOMEM, "read %s", path);
    *out = text;
    if (len)
        *len = got;
    return 0;
}

int file_read_at(int at, const char *path, size_t max, char **out, size_t *len, struct error *err)
{
    _cleanup_fd_ int fd = openat(at, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open %s", path);
    return read_whole(fd, path, max, out, len, err);
}

int file_read(const char *path, size_t max, char **out, size_t *len, struct error *err)
{
    return file_read_at(AT_FDCWD, path, max, out, len, err);
}

int file_read_regular(const char *path, size_t max, char **out, size_t *len, struct error *err)
{
    struct stat st;
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_errno(err, errno, "open %s", path);
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "look at %s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s is not a regular file", path);
    return read_whole(fd, path, max, out, len, err);
}

int file_write_existing(const char *path, const char *text, struct error *err)
{
    _cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open %s", path);

    // Kernel files take a value in one write or not at all: a second write would be a second value.
    size_t len = strlen(text);
    ssize_t n;
    do
        n = write(fd, text, len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_errno(err, errno, "write \"%.64s\" to %s", text, path);
    if ((size_t)n != len)
        return error_errno(err, EIO, "write \"%.64s\" to %s: only %zd bytes taken", text, path, n);
    return 0;
}

// The folder of path as a fresh string: "." for a bare name, "/" for what lies in the root.
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return strdup(".");
    if (slash == path)
        return strdup("/");
    return strndup(path, (size_t)(slash - path));
}

int file_sync_dir(const char *path, struct error *err)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open directory %s", path);
    if (fsync(fd) < 0)
        return error_errno(err, errno, "fsync directory %s", path);
    return 0;
}

static int fill_file(int fd, const char *path, const void *data, size_t len, mode_t mode, bool sync,
                     struct error *err)
{
    int rc = file_write_all(fd, data, len);
    if (rc < 0)
        return error_errno(err, rc, "write %s", path);
    if (fchmod(fd, mode) < 0) // open() had the umask in its way
        return error_errno(err, errno, "set the mode of %s", path);
    if (sync && fsync(fd) < 0)
        return error_errno(err, errno, "fsync %s", path);
    return 0;
}

int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode, bool sync,
                      struct error *err)
{
    char suffix[9];
    int rc = str_random_hex(suffix, sizeof(suffix) - 1);
    if (rc < 0)
        return error_errno(err, rc, "name a temporary file for %s", path);
    _cleanup_free_ char *tmp = str_printf("%s.tmp.%s", path, suffix);
    _cleanup_free_ char *folder = folder_of(path);
    if (!tmp || !folder)
        return error_errno(err, ENOMEM, "write %s", path);

    _cleanup_fd_ int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "create %s", tmp);
    rc = fill_file(fd, tmp, data, len, mode, sync, err);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = error_errno(err, errno, "rename %s to %s", tmp, path);
    if (rc < 0) {
        (void)unlink(tmp);
        return rc;
    }
    return sync ? file_sync_dir(folder, err) : 0;
}

int file_mkdir_p(const char *path, mode_t mode, struct error *err)
{
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return error_errno(err, ENOMEM, "create directory %s", path);

    char *p = copy;
    while (*p) {
        while (*p == '/')
            p++;
        while (*p && *p != '/')
            p++;
        char end = *p;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            int saved = errno;
            struct stat st; // a read-only file system answers EROFS for what exists, too
            if (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode))
                return error_errno(err, saved, "create directory %s", copy);
        }
        *p = end;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return error_errno(err, errno, "create directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return error_errno(err, ENOTDIR, "create directory %s", path);
    return 0;
}
