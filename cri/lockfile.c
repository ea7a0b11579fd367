#include "cri/lockfile.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/filelock.h"

#define LOCKFILE_TRIES 100

// Whether path still names the file behind fd: the holder before us may have removed it in between.
static bool is_current(int fd, const char *path)
{
    struct stat mine, there;
    return fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_dev == there.st_dev &&
           mine.st_ino == there.st_ino;
}

static int busy(int fd, const char *path, const char *what, struct error *err)
{
    char pid[FILELOCK_PID_SIZE];
    filelock_holder(fd, pid);
    return error_set(
        err, STATUS_FAILED_PRECONDITION, EBUSY,
        "%s is in use by another crispd%s%s (lock %s): stop that one, or configure another place", what,
        pid[0] ? ", pid " : "", pid, path);
}

int lockfile_take(struct lockfile *lock, const char *path, const char *what, struct error *err)
{
    for (int i = 0; i < LOCKFILE_TRIES; i++) {
        _cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return error_errno(err, errno, "lock %s: open %s", what, path);
        int r = filelock_take(fd);
        if (r == -EBUSY)
            return busy(fd, path, what, err);
        if (r < 0)
            return error_errno(err, r, "lock %s: flock %s", what, path);
        if (!is_current(fd, path))
            continue;
        lock->path = strdup(path);
        if (!lock->path)
            return error_errno(err, ENOMEM, "lock %s", what);
        lock->fd = steal_fd(&fd);
        return 0;
    }
    return error_set(err, STATUS_FAILED_PRECONDITION, EBUSY, "%s is being taken by another crispd (lock %s)",
                     what, path);
}

void lockfile_release(struct lockfile *lock)
{
    if (lock->fd < 0)
        return;
    if (is_current(lock->fd, lock->path))
        (void)unlink(lock->path);
    fd_closep(&lock->fd);
    free(steal_ptr(&lock->path));
}
