// crisp-pull as a process of crispd's.
#ifndef IMAGE_STORE_PROGRAM_H
#define IMAGE_STORE_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct image_store;

struct pull_program {
    pid_t pid; // 0: none
    int pidfd;
    int sock; // the conversation
    // Which file it was started from: an upgrade puts another one there.
    uint64_t dev, ino, size;
    int64_t ctime_ns;
    int64_t started_ns; // CLOCK_MONOTONIC
    bool lasting;       // started by a thread that lasts: the program ends with it (PR_SET_PDEATHSIG)
};

#define PULL_PROGRAM_NONE                                                                                    \
    (struct pull_program)                                                                                    \
    {                                                                                                        \
        .pidfd = -1, .sock = -1                                                                              \
    }

// Starts one, which waits for its request. -errno (STATUS_INTERNAL): *p is PULL_PROGRAM_NONE.
int pull_program_start(const struct image_store *s, struct pull_program *p, struct error *err);
// Does it run, and is it what a new one would be?
bool pull_program_is_current(const struct image_store *s, const struct pull_program *p);
// Ends it with all its children, and waits for that; *p is PULL_PROGRAM_NONE then. One that is done has two
// seconds to end by itself.
void pull_program_end(struct pull_program *p, bool done);

#endif
