#include "cri/client/layout_tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define BLOCK       512
#define PIECE_BYTES (512 * 1024)
#define BLOBS       "blobs/sha256"

struct writer {
    layout_tar_fn fn;
    void *data;
    char *piece;
};

// A header of a regular file; names are short here (blobs/sha256/<hex>).
static void make_header(const char *name, uint64_t size, char h[BLOCK])
{
    unsigned sum = 0;

    memset(h, 0, BLOCK);
    (void)snprintf(h, 100, "%s", name);
    memcpy(h + 100,
           "0000644\0"
           "0000000\0"
           "0000000",
           24);
    if (size < UINT64_C(1) << 33)
        (void)snprintf(h + 124, 12, "%011llo", (unsigned long long)size);
    else // base 256
        for (int i = 0; i < 12; i++)
            h[124 + i] = i == 0 ? (char)0x80 : i < 4 ? 0 : (char)(size >> (8 * (11 - i)));
    memcpy(h + 136, "00000000000", 12);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)h[i];
    (void)snprintf(h + 148, 8, "%06o", sum);
}

static int write_body(struct writer *w, int fd, const char *name, uint64_t size, struct error *err)
{
    for (uint64_t left = size; left > 0;) {
        ssize_t n = read(fd, w->piece, left < PIECE_BYTES ? (size_t)left : PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : ENODATA, "read %s, which has become shorter", name);
        int rc = w->fn(w->data, w->piece, (size_t)n, false, err);
        if (rc < 0)
            return rc;
        left -= (uint64_t)n;
    }
    memset(w->piece, 0, BLOCK);
    return size % BLOCK ? w->fn(w->data, w->piece, BLOCK - size % BLOCK, false, err) : 0;
}

// What isn't a regular file isn't the layout's.
static int write_file(struct writer *w, int dir_fd, const char *path, const char *name, struct error *err)
{
    _cleanup_fd_ int fd = openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char header[BLOCK];
    struct stat st;

    if (fd < 0 && errno == ENOENT)
        return error_set(err, STATUS_INVALID_ARGUMENT, ENOENT, "%s is no OCI image layout: it has no %s",
                         path, name);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "open %s/%s", path, name);
    if (!S_ISREG(st.st_mode))
        return 0;
    make_header(name, (uint64_t)st.st_size, header);
    int rc = w->fn(w->data, header, BLOCK, false, err);
    return rc < 0 ? rc : write_body(w, fd, name, (uint64_t)st.st_size, err);
}

static void close_dirp(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int write_blobs(struct writer *w, int dir_fd, const char *path, struct error *err)
{
    int fd = openat(dir_fd, BLOBS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_(close_dirp) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int rc = 0;

    if (!dir)
        return error_errno(err, errno, "open %s/" BLOBS, path);
    for (const struct dirent *e; rc == 0 && (e = readdir(dir));) { // NOLINT(concurrency-mt-unsafe)
        char name[sizeof(BLOBS) + 66];
        if (strlen(e->d_name) != 64 || !str_is_hex(e->d_name, 64))
            continue;
        (void)snprintf(name, sizeof(name), BLOBS "/%s", e->d_name);
        rc = write_file(w, dir_fd, path, name, err);
    }
    return rc;
}

int layout_tar_write(int dir_fd, const char *path, layout_tar_fn fn, void *data, struct error *err)
{
    _cleanup_free_ char *piece = malloc(PIECE_BYTES);
    struct writer w = {fn, data, piece};

    if (!piece)
        return error_errno(err, ENOMEM, "read %s", path);
    int rc = write_file(&w, dir_fd, path, "oci-layout", err);
    if (rc == 0)
        rc = write_file(&w, dir_fd, path, "index.json", err);
    if (rc == 0)
        rc = write_blobs(&w, dir_fd, path, err);
    if (rc < 0)
        return rc;
    memset(piece, 0, 2 * BLOCK);
    return fn(data, piece, 2 * BLOCK, true, err);
}
