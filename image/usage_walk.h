// Adding up what one container's folders take, some entries at a time: a container may have made millions.
#ifndef IMAGE_USAGE_WALK_H
#define IMAGE_USAGE_WALK_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Levels of directories that stay open; each is a descriptor and 32 KiB meanwhile.
#define USAGE_OPEN_MAX 256u
// Levels below those that are counted: of them only the last is open, and of the others it is known how to
// come back (24 bytes).
#define USAGE_DEEP_MAX (256u << 10)

struct usage_place {
    dev_t dev;
    ino_t ino;
    long position; // where reading goes on
};

struct usage_walk {
    char *id;          // of the container; NULL: not begun
    unsigned next_top; // of its folders: upper, volumes
    DIR *open[USAGE_OPEN_MAX];
    unsigned depth; // of those that are open; all of them if there are deep ones
    DIR *deep;      // the last of the deep ones
    struct usage_place *places;
    size_t n_deep, room, deep_max;
    // Why something isn't counted that hasn't vanished (-errno), 0: all is.
    int incomplete;
    // A file with several names counts at each with its share: overlay has one whiteout for all that is
    // removed.
    double bytes, inodes;
};

bool usage_walk_begin(struct usage_walk *w, const char *id); // false: no memory
// Looks at up to max entries more. True: that was all. What vanishes meanwhile is not counted; what can't be
// counted for another reason is told in `incomplete`.
bool usage_walk_step(struct usage_walk *w, int containers_fd, unsigned max);
void usage_walk_end(struct usage_walk *w); // at any time; may be begun again

#endif
