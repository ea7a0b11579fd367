// A file that says "this directory (or socket) is mine": flock(2), so that the kernel lets go of it when its
// holder dies, however it dies.
#ifndef CRI_LOCKFILE_H
#define CRI_LOCKFILE_H

#include "base/error.h"

struct lockfile {
    char *path;
    int fd; // -1: not held
};

#define LOCKFILE_INIT ((struct lockfile){.fd = -1})

// Takes the lock; waits, up to 3 s, only for a holder that is dead already. -EBUSY (FAILED_PRECONDITION) with
// the holder's pid in the message when somebody has it. `what` is what the lock stands for: "the directory
// /var/lib/crisp".
int lockfile_take(struct lockfile *lock, const char *path, const char *what, struct error *err);
// Removes the file and lets go. A lock that isn't held is fine.
void lockfile_release(struct lockfile *lock);

#endif
