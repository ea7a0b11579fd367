// The inside of mending; only image/mend*.c include this.
#ifndef IMAGE_MEND_INTERNAL_H
#define IMAGE_MEND_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/map.h"
#include "image/mend.h"

struct mend_view {
    int fd;               // of the layer's folder
    bool opaque_root;     // it hides all that is below it
    struct map *implicit; // path -> anything: folders without an entry of their own
    struct map *links;    // name -> target, whose folder is resolved: hard links that are not made
};

struct mend {
    const char *layers_dir;
    struct mend_view *views; // bottom first; a part (mend_part.c) is above the layer that it is of
    size_t n;
};

// mend_view.c: what an overlay of the layers shows, without mounting one.
int mend_open(struct mend *m, const char *layers_dir, size_t n, struct error *err);
int mend_add_view(struct mend *m, const struct mend_layer *layer, struct error *err);
void mend_close(struct mend *m);

struct mend_found {
    size_t layer;
    char path[PATH_MAX]; // there; another one for a link that is made by mending, too
    struct stat st;
};

// The entry at path as the layers up to (not with) `end` show it. 1: found, 0: nothing there, -errno.
int mend_find(const struct mend *m, const char *path, size_t end, struct mend_found *out, struct error *err);
// What path leads to in the image that the layers up to (not with) `end` are, as in a container: symbolic
// links are followed, absolute ones and ".." end at the image's root. What isn't there is taken as it is
// called. FAILED_PRECONDITION for a ring of links, and for one that leads to or through what is no folder.
// Nothing is opened.
int mend_resolve(const struct mend *m, const char *path, size_t end, char out[PATH_MAX], struct error *err);
// 1 and the mode, opaque (also by a folder above it), 0: the layer has nothing there; -errno.
int mend_look_at(const struct mend_view *v, const char *path, struct stat *st, bool *opaque);
// The layer whose entry a directory's metadata comes from: 1 and out; 0: none of those that are seen has one
// of its own, or it is no directory (any longer). *mended: it isn't the uppermost that has the directory.
int mend_find_dir(const struct mend *m, const char *path, struct mend_found *out, bool *mended,
                  struct error *err);
// Is what layer `from` has (or had, were it not for a link) at path still seen above all layers? 1, 0,
// -errno.
int mend_is_seen(const struct mend *m, const char *path, size_t from, struct error *err);

// mend_part.c: what the uppermost view has below folders without an entry that are symbolic links in layers
// below: makes the folder "<to>/<number>" with the links, and with what is below where they lead, and adds it
// as a view. 1, 0: there is nothing of that kind, -errno.
int mend_make_part(struct mend *m, const char *to, size_t number, struct mend_stats *stats,
                   struct error *err);

// The folder of a path below root, opened through no symbolic link, and its last component: an fd or -errno.
int mend_open_parent(int root, const char *path, const char **leaf);
// mend_copy.c: from one folder into another; paths' last components are never followed.
int mend_copy_entry(int from, const char *path, const struct stat *st, int to, const char *to_path,
                    struct mend_stats *stats, struct error *err);
// Owner, mode and attributes; not times.
int mend_copy_metadata(int from, const char *path, const struct stat *st, int to, const char *to_path,
                       struct error *err);

// Of what is copied for one image.
#define MEND_BYTES_MAX  (4ull << 30)
#define MEND_INODES_MAX 200000

#define MEND_OPAQUE "trusted.overlay.opaque"

#endif
