// Reading tars: v7, ustar, GNU (long names, sparse, base-256 numbers) and PAX (POSIX.1-2001).
//
// A reader of our own and not libarchive, because names must stay byte for byte what they are (libarchive 3.6
// brings PAX names into Unicode's normal form C), because a parser of hostile bytes should be small and load
// nothing (libarchive's character conversion opens files, in the chroot that the layer fills), and because a
// dozen libraries less halve crisp-pull's start.
#ifndef IMAGE_PULL_TAR_H
#define IMAGE_PULL_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"
#include "base/error.h"
#include "image/pull/inflate.h"

#define TAR_BLOCK       512
#define TAR_PAX_MAX     (1024 * 1024) // bytes of one PAX header
#define TAR_NAME_MAX    65536         // bytes of a GNU long name
#define TAR_XATTRS_MAX  256           // of one entry
#define TAR_EXTENTS_MAX 65536         // pieces of a sparse file

enum tar_type {
    TAR_FILE = '0',
    TAR_HARDLINK = '1',
    TAR_SYMLINK = '2',
    TAR_CHAR = '3',
    TAR_BLOCK_DEVICE = '4',
    TAR_DIR = '5',
    TAR_FIFO = '6',
};

struct tar_xattr {
    const char *name;
    const void *value;
    size_t size;
};

struct tar_extent {
    uint64_t offset, length; // in the file
};

struct tar_entry {
    int type;                // enum tar_type, or an unknown character
    const char *name, *link; // as in the archive: any bytes but NUL; link is "" for other types
    uint64_t size;           // of the file, holes included
    int64_t uid, gid;
    uint32_t mode; // permissions only
    uint32_t major, minor;
    struct timespec atime, mtime; // atime is mtime's where there is none
    const struct tar_xattr *xattrs;
    size_t n_xattrs;
    bool sparse;
};

struct tar {
    struct inflate *in;
    const unsigned char *block; // what inflate_read() gave, from pos on
    size_t pos, len;
    bool ended;

    struct tar_entry entry;
    uint64_t data_left;         // bytes of the entry's data in the archive
    unsigned padding;           // after them
    uint64_t offset;            // in the file, of the next byte of data
    struct buf name, link, pax; // what came before the header
    bool has_name, has_link;
    char header_name[257], header_link[101];
    struct tar_xattr xattrs[TAR_XATTRS_MAX];
    struct tar_extent *extents; // of a sparse file
    size_t n_extents, extents_alloc, extent;
};

void tar_init(struct tar *t, struct inflate *in);
void tar_done(struct tar *t);
// The next entry (the tar's, until the next call): 1, 0 at the end, -errno (DATA_LOSS for what is no tar).
int tar_next(struct tar *t, const struct tar_entry **entry, struct error *err);
// The next piece of the entry's data and its offset in the file: its length, 0 at the end, -errno.
ssize_t tar_read(struct tar *t, const void **data, uint64_t *offset, struct error *err);

#endif
