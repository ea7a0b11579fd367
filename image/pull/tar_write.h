// Writing tars: headers as POSIX pax has them, with records only for what the old form can't say, so that the
// same entry always gives the same bytes.
#ifndef IMAGE_PULL_TAR_WRITE_H
#define IMAGE_PULL_TAR_WRITE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

#define TAR_BLOCK 512

struct tar_xattr {
    const char *name;
    const void *value;
    size_t len;
};

struct tar_entry {
    const char *name; // as it is to be written: a folder's with "/" at its end
    const char *link; // of links; else NULL
    char type;        // '0' file, '1' hard link, '2' symlink, '3' and '4' devices, '5' folder, '6' FIFO
    mode_t mode;
    uint64_t uid, gid, size;
    int64_t mtime_s;
    uint32_t mtime_ns;
    unsigned major, minor;
    const struct tar_xattr *xattrs; // in the order in which they are written
    size_t n_xattrs;
};

// Appends the header (after a pax one, if it needs that). 0, -ENOMEM, -E2BIG, or -EOVERFLOW for numbers that
// no tar can hold. The body and its padding are the caller's.
int tar_write_header(struct buf *out, const struct tar_entry *e);
// Zeros that follow a body of that size.
size_t tar_padding(uint64_t size);

#endif
