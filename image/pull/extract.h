// A layer's tar stream onto disk, as overlay wants it: whiteouts become character devices 0:0, opaque markers
// are reported (the mark itself is a trusted.* attribute, which the sandboxed unpacker may not set), and what
// only lower layers could tell is left for later.
#ifndef IMAGE_PULL_EXTRACT_H
#define IMAGE_PULL_EXTRACT_H

#include <stdint.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "image/pull/inflate.h"

struct extract_options {
    int root_fd; // the layer's root directory
    uint64_t max_entries;
    // A directory that hides what lower layers have there; clean path below the root ("" is the root).
    int (*opaque)(void *data, const char *path, struct error *err);
    void *data;
    Pull__Loose *loose; // initialised; gets what depends on lower layers, in fresh memory. May be NULL
};

struct extract_stats {
    uint64_t entries, inodes;
    uint64_t bytes; // on disk, in whole blocks of 4 KiB
};

// To be called before a chroot: whatever libarchive's character conversion may want to load (glibc's gconv
// tables) must not come out of the layer.
void extract_prepare(void);

// Unpacks the tar that `in` yields. In layers, names are refused ("..", too long) or contained (absolute,
// through symlinks); extended attributes other than user.*, security.capability and ACLs are dropped,
// trusted.* and overlay's own are refused; FAILED_PRECONDITION and DATA_LOSS errors name the entry. What was
// written before a failure stays: the caller throws the whole directory away.
int extract_tar(struct inflate *in, const struct extract_options *options, struct extract_stats *stats,
                struct error *err);

#endif
