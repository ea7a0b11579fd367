#include "cri/lockfile.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define LOCKFILE_TRIES 100
#define DEAD_WAIT_MS   10
#define DEAD_WAITS     300 // 3 s

// Whether path still names the file behind fd: the holder before us may have removed it in between.
static bool is_current(int fd, const char *path)
{
    struct stat mine, there;
    return fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_dev == there.st_dev &&
           mine.st_ino == there.st_ino;
}

static void read_holder(int fd, char pid[16])
{
    ssize_t n = pread(fd, pid, 15, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
}

// Gone, or a zombie.
static bool holder_is_dead(int fd)
{
    char pid[16], path[40];
    read_holder(fd, pid);
    uint64_t number;
    char program[2];
    if (str_parse_u64(pid, 1, INT32_MAX, &number) < 0)
        return false; // being taken right now
    (void)snprintf(path, sizeof(path), "/proc/%s/exe", pid);
    return readlink(path, program, sizeof(program)) < 0 &&
           errno == ENOENT; // a zombie has no program any more
}

// A daemon that was killed while it was starting a helper leaves a copy of its descriptors in that one, until
// its exec: the lock outlives the daemon by a moment. 0: it is ours now.
static int wait_for_dead(int fd)
{
    for (int i = 0; i < DEAD_WAITS && holder_is_dead(fd); i++) {
        (void)poll(NULL, 0, DEAD_WAIT_MS);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
    }
    return -EBUSY;
}

static int busy(int fd, const char *path, const char *what, struct error *err)
{
    char pid[16];
    read_holder(fd, pid);
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
        int r = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
        if (r < 0 && r != -EWOULDBLOCK)
            return error_errno(err, r, "lock %s: flock %s", what, path);
        if (r < 0 && wait_for_dead(fd) < 0)
            return busy(fd, path, what, err);
        if (!is_current(fd, path))
            continue;
        char pid[16];
        int len = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
        // The pid is for people only; the lock holds without it (on a full disk).
        if (ftruncate(fd, 0) == 0)
            (void)!pwrite(fd, pid, (size_t)len, 0);
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
