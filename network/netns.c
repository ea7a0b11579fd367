#include "network/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
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

struct lo_task {
    int netns_fd;
    int result; // 0 or -errno
    const char *step;
};

static void *bring_up_lo(void *arg)
{
    struct lo_task *task = arg;
    struct ifreq req = {.ifr_name = "lo"};
    _cleanup_fd_ int sock = -1;
    task->step = "enter";
    if (setns(task->netns_fd, CLONE_NEWNET) < 0)
        goto fail;
    task->step = "open a socket in";
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        goto fail;
    task->step = "bring up lo in";
    if (ioctl(sock, SIOCGIFFLAGS, &req) < 0)
        goto fail;
    req.ifr_flags |= IFF_UP;
    if (ioctl(sock, SIOCSIFFLAGS, &req) < 0)
        goto fail;
    return NULL;
fail:
    task->result = -errno;
    return NULL;
}

int netns_bring_up_lo(int netns_fd, struct error *err)
{
    struct lo_task task = {.netns_fd = netns_fd};
    pthread_t thread;
    int r = pthread_create(&thread, NULL, bring_up_lo, &task);
    if (r)
        return error_errno(err, r, "start a thread for network namespace");
    (void)pthread_join(thread, NULL);
    return task.result < 0 ? error_errno(err, -task.result, "%s network namespace", task.step) : 0;
}
