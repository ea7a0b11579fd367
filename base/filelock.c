#include "base/filelock.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/str.h"

#define DEAD_WAIT_MS 10
#define DEAD_WAITS   300 // 3 s

void filelock_holder(int fd, char pid[FILELOCK_PID_SIZE])
{
    ssize_t n = pread(fd, pid, FILELOCK_PID_SIZE - 1, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
}

// Gone, or a zombie.
static bool holder_is_dead(int fd)
{
    char pid[FILELOCK_PID_SIZE], path[40], program[2];
    filelock_holder(fd, pid);
    uint64_t number;
    if (str_parse_u64(pid, 1, INT32_MAX, &number) < 0)
        return false; // being taken right now
    (void)snprintf(path, sizeof(path), "/proc/%s/exe", pid);
    return readlink(path, program, sizeof(program)) < 0 &&
           errno == ENOENT; // a zombie has no program any more
}

static int try(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

int filelock_take(int fd)
{
    int rc = try(fd);
    for (int i = 0; i < DEAD_WAITS && rc == -EBUSY && holder_is_dead(fd); i++) {
        (void)poll(NULL, 0, DEAD_WAIT_MS);
        rc = try(fd);
    }
    if (rc < 0)
        return rc;
    char pid[FILELOCK_PID_SIZE];
    int len = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, pid, (size_t)len, 0);
    return 0;
}
