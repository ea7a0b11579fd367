// What an image's layers don't tell by themselves. Each is unpacked alone, and shared by images with other
// layers below it; so what depends on those is made for the image, in a folder on top of all its layers:
//   - a folder without an entry of its own has the owner, mode, times and attributes that it has below;
//   - a hard link to what only a lower layer has is a copy of that, as overlay's copying up makes it, and so
//     is the name linked to;
//   - a folder without an entry of its own that is a symbolic link below (lib/x.so where lib leads to
//   usr/lib)
//     stays the link, and what the layer has in it is where the link leads. That is made of copies, in one
//     more folder for each such layer, its part, right above it.
#ifndef IMAGE_MEND_H
#define IMAGE_MEND_H

#include <stddef.h>
#include <stdint.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"

struct mend_layer {
    const char *dir;          // its folder's name
    const Pull__Loose *loose; // NULL: nothing
};

struct mend_stats {
    uint64_t bytes, inodes; // on disk
};

// layers: bottom first, below layers_dir; cancel_fd (-1: none) becomes readable when nobody wants it any
// more: CANCELLED. Makes the folder `to` if there is something to mend: 1; else 0.
// Without parts `to` is what goes on top of all. With parts they are in it ("3": of the fourth layer), and on
// top goes "top", if there is one; *parts (else NULL) says which, the caller's to
// pull__loose__free_unpacked(). FAILED_PRECONDITION (the link and its target are named) for a link to
// nothing, RESOURCE_EXHAUSTED for parts of more than a GiB or 50,000 entries. After an error `to` may be
// there.
int mend_make(const char *layers_dir, const struct mend_layer *layers, size_t n, const char *to,
              int cancel_fd, struct mend_stats *stats, Pull__Loose **parts, struct error *err);

#endif
