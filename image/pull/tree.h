// Writing a layer's files below one directory, whatever their names try.
//
// Every lookup goes through openat2(RESOLVE_IN_ROOT | NO_MAGICLINKS | NO_XDEV): symlinks of the layer are
// followed as they would be in a container and cannot lead out (Linux 5.6; without it unpacking fails). Last
// components are never followed. In a pull this runs chrooted and unprivileged besides; each alone suffices.
#ifndef IMAGE_PULL_TREE_H
#define IMAGE_PULL_TREE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"

struct tree {
    int root_fd;           // the caller's
    int parent_fd;         // of the directory used last: entries come in runs
    char parent[PATH_MAX]; // its path; valid while parent_fd >= 0
    uint64_t inodes;       // made so far
    bool removed_dir;      // a directory gave place to something else; the caller's to reset
    // Is told each directory that had to be made for something in it; may be NULL.
    int (*implicit)(void *data, const char *path, struct error *err);
    void *data;
};

void tree_init(struct tree *t, int root_fd);
void tree_done(struct tree *t);

// An entry's name as a path below the root: no leading, double or trailing "/", no "."; "" is the root
// itself. Absolute names are taken as relative to the root. ".." and over-long names are refused.
int tree_clean_path(const char *name, char out[PATH_MAX], struct error *err);
// The directory of a clean path and its last component (pointing into path). Missing directories are made
// with mode 0755 (when make) and belong to root. The descriptor stays the tree's, valid until the next call.
int tree_parent(struct tree *t, const char *path, bool make, const char **leaf, struct error *err);
// Opens a directory by its clean path, not following the last component.
int tree_open_dir(struct tree *t, const char *path, struct error *err);
// Removes what is at dir_fd/leaf, a whole tree if need be; absent is fine.
int tree_remove(struct tree *t, int dir_fd, const char *leaf, struct error *err);

#endif
