// The tar around an image: what members it has and where their bytes are. Read once, headers only; nothing of
// it is ever unpacked as files.
//
// All input is hostile: names are cleaned, and what leads out of the archive, appears twice or is no file,
// folder or link is refused; the number of members and the sizes of names are bounded.
#ifndef IMAGE_PULL_ARCHIVE_INDEX_H
#define IMAGE_PULL_ARCHIVE_INDEX_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#define ARCHIVE_MEMBERS_MAX 65536

struct archive_member {
    const char *name; // without "./", "//" and ".."
    const char *link; // another member's name; NULL: a file
    uint64_t offset, size;
};

struct archive_index {
    int fd; // the caller's
    uint64_t size;
    struct arena *arena; // the caller's
    struct map *members; // name -> struct archive_member
};

// Reads the headers of all members of the tar in fd (a regular file). INVALID_ARGUMENT for what is no tar,
// DATA_LOSS for a damaged one. The arena outlives the index.
int archive_index_read(struct archive_index *a, int fd, struct arena *arena, struct error *err);
void archive_index_done(struct archive_index *a);

// A file by its name, links followed; NULL: there is none.
const struct archive_member *archive_index_find(const struct archive_index *a, const char *name);
// All of a file that has at most max bytes, else DATA_LOSS.
int archive_index_load(const struct archive_index *a, const struct archive_member *m, size_t max,
                       struct buf *out, struct error *err);

#endif
