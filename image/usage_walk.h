// Adding up what one container's folders take, some entries at a time: a container may have made millions.
#ifndef IMAGE_USAGE_WALK_H
#define IMAGE_USAGE_WALK_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

// Levels of directories that are counted; each is a descriptor and 32 KiB meanwhile.
#define USAGE_DEPTH_MAX 256

struct usage_walk {
    char *id;          // of the container; NULL: not begun
    unsigned next_top; // of its folders: upper, volumes
    DIR *open[USAGE_DEPTH_MAX];
    unsigned depth;
    // A file with several names counts at each with its share: overlay has one whiteout for all that is
    // removed.
    double bytes, inodes;
};

bool usage_walk_begin(struct usage_walk *w, const char *id); // false: no memory
// Looks at up to max entries more. True: that was all. What vanishes meanwhile is not counted.
bool usage_walk_step(struct usage_walk *w, int containers_fd, unsigned max);
void usage_walk_end(struct usage_walk *w); // at any time; may be begun again

#endif
