// The inside of the extractor; only extract*.c include this.
#ifndef IMAGE_PULL_EXTRACT_INTERNAL_H
#define IMAGE_PULL_EXTRACT_INTERNAL_H

#include <archive.h>
#include <archive_entry.h>

#include "base/map.h"
#include "image/pull/extract.h"
#include "image/pull/tree.h"

// What a directory gets at the end: every entry made in it would change its times again, and take over its
// default ACL.
struct dir_end {
    char *path;
    struct timespec times[2];
    void *default_acl; // an xattr's value; NULL: none
    size_t default_acl_len;
};

struct extract {
    const struct extract_options *options;
    struct extract_stats *stats;
    struct inflate *in;
    struct error *err;
    struct tree tree;
    struct archive *archive;
    struct dir_end *dirs;
    size_t n_dirs, dirs_alloc;
    bool root_named;       // the root has an entry
    bool groups_inherited; // there is a set-group-id directory: new files may not have group 0
    struct map *implicit;  // path -> itself: directories without an entry
    struct map *links;     // path -> target: hard links to what is not in this layer
    size_t loose_bytes;    // names in both, ever
    size_t loose_steps;    // names looked at for directories that were replaced
    char path[PATH_MAX];   // the entry at hand, clean
};

int extract_failed(struct extract *x, int errnum, const char *what); // on the entry at hand: -errno

// extract_meta.c: owner, mode, extended attributes, times.
void extract_times(struct archive_entry *e, struct timespec times[2]);
// fresh: made just now by root with exactly `mode`: what is so already is not set again.
int extract_metadata(struct extract *x, struct archive_entry *e, int fd, bool fresh);
// Of what must not be opened: symlinks, devices, FIFOs. With times.
int extract_special_metadata(struct extract *x, struct archive_entry *e, int dir_fd, const char *leaf);
// Remembers the directory at hand (its default ACL is taken from the entry), and sets what was remembered.
int extract_remember_dir(struct extract *x, struct archive_entry *e);
int extract_finish_dirs(struct extract *x);

// extract_loose.c: what depends on lower layers.
int extract_loose_start(struct extract *x);
void extract_loose_done(struct extract *x);
int extract_loose_link(struct extract *x,
                       const char *target); // the entry at hand is a link to what isn't here
const char *extract_loose_target(struct extract *x, const char *path); // NULL: not a link of that kind
void extract_loose_named(struct extract *x, bool is_dir); // the entry at hand is made by an entry of its own
// A directory gave place to the entry at hand: so did the links below it.
int extract_loose_replaced(struct extract *x);
int extract_loose_report(struct extract *x); // into the options' Loose

#endif
