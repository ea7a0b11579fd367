#include "network/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"

#define MAX_STACKED 16 // mounts on top of each other, by hands other than ours

int netns_pin(int netns_fd, const char *path, struct error *err)
{
    char source[40];
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd < 0)
        return error_errno(err, errno, "create %s", path);
    (void)snprintf(source, sizeof(source), "/proc/self/fd/%d", netns_fd);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0) {
        int saved = errno;
        (void)unlink(path);
        return error_errno(err, saved, "pin network namespace at %s", path);
    }
    return 0;
}

int netns_unpin(const char *path, struct error *err)
{
    for (int i = 0; i < MAX_STACKED; i++) {
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            continue;
        if (errno == ENOENT)
            return 0;
        if (errno == EINVAL) // not a mount (any more)
            break;
        return error_errno(err, errno, "unmount %s", path);
    }
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove %s", path);
    return 0;
}

bool netns_is_pinned(const char *path)
{
    struct statfs fs;
    return path[0] && statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}
