// A tree of directories, walked deepest first by a few descriptors and bounded memory, however deep and wide
// it is: for cgroups, which a container may nest as it likes.
#ifndef BASE_DIRWALK_H
#define BASE_DIRWALK_H

#include <stddef.h>

// Called once all below a directory has been visited; name is its name in parent_fd, and fd is it. A count
// that is added up (0 …), or -errno.
typedef long (*dirwalk_fn)(int parent_fd, const char *name, int fd, void *arg);

// Visits `name` in at_fd (may be several components) and all directories below; no link is followed.
// max_bytes: of the names that are remembered at one time (those of a directory's siblings, on each level
// down to where the walk is). A directory that is too wide is read in parts, half of the memory being kept
// for depth; one that is too deep (some 3,000 levels in 1 MiB) is visited without what is below it, which is
// told by -E2BIG: a caller that removes what it visits calls again, others with more memory. A directory that
// fails doesn't keep the others from their visit; one that has gone meanwhile is no failure. Returns the sum
// of the counts, or the first failure (-ENOENT: there is no such directory).
long dirwalk(int at_fd, const char *name, size_t max_bytes, dirwalk_fn visit, void *arg);

#endif
