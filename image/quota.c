#include "image/quota.h"

#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#ifndef SYS_quotactl_fd // Linux 5.14
#define SYS_quotactl_fd 443
#endif
#ifndef PRJQUOTA
#define PRJQUOTA 2
#endif

// Numbers that people give to projects are small.
#define ID_MIN  0x40000000u
#define ID_MASK 0x3fffffffu
#define TRIES   64

static int call(int fd, unsigned cmd, uint32_t id, void *data)
{
    return syscall(SYS_quotactl_fd, fd, QCMD(cmd, PRJQUOTA), id, data) < 0 ? -errno : 0;
}

static int lacks(struct error *err, const char *path)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                     "the file system of %s enforces no project quotas: it has to be xfs, or ext4 made with "
                     "\"-O quota,project\", and mounted with prjquota",
                     path);
}

static bool is_enforced(int fd)
{
    struct fs_quota_statv state = {.qs_version = FS_QSTATV_VERSION1};
    return call(fd, Q_XGETQSTATV, 0, &state) == 0 && (state.qs_flags & FS_QUOTA_PDQ_ENFD);
}

static int set_limit(int fd, uint32_t id, uint64_t bytes)
{
    struct dqblk q = {.dqb_bhardlimit = (bytes + 1023) / 1024, .dqb_valid = QIF_BLIMITS}; // in KiB
    return call(fd, Q_SETQUOTA, id, &q);
}

// One that has no files. Chance makes it so that no list of those in use is needed.
static int find_id(int fd, uint32_t *id)
{
    for (int i = 0; i < TRIES; i++) {
        struct dqblk q = {0};
        if (getrandom(id, sizeof(*id), 0) != sizeof(*id))
            return -EIO;
        *id = ID_MIN + (*id & ID_MASK);
        int r = call(fd, Q_GETQUOTA, *id, &q);
        if (r == -ENOENT || (r == 0 && q.dqb_curinodes == 0 && q.dqb_curspace == 0)) // xfs: none such
            return 0;
        if (r < 0)
            return r;
    }
    return -EBUSY;
}

static int set_project(int dir_fd, const char *name, uint32_t id)
{
    struct fsxattr attr;
    _cleanup_fd_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FS_IOC_FSGETXATTR, &attr) < 0)
        return -errno;
    attr.fsx_projid = id;
    attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    return ioctl(fd, FS_IOC_FSSETXATTR, &attr) < 0 ? -errno : 0;
}

static int get_project(int fd, uint32_t *id)
{
    struct fsxattr attr;
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attr) < 0)
        return -errno;
    *id = attr.fsx_xflags & FS_XFLAG_PROJINHERIT ? attr.fsx_projid : 0;
    return 0;
}

// The limit is there before anything belongs to the project.
static int claim(int fd, const char *const *inside, uint64_t bytes)
{
    uint32_t id = 0;
    int r = get_project(fd, &id);
    if (r == 0 && id < ID_MIN) // else it is a retry: it keeps its own
        r = find_id(fd, &id);
    if (r == 0)
        r = set_limit(fd, id, bytes);
    if (r == 0)
        r = set_project(fd, ".", id);
    for (; r == 0 && *inside; inside++)
        r = set_project(fd, *inside, id);
    return r;
}

int quota_limit(const char *path, const char *const *inside, uint64_t bytes, struct error *err)
{
    static pthread_mutex_t claims = PTHREAD_MUTEX_INITIALIZER; // a number that is free until it is taken
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open %s", path);
    if (!is_enforced(fd))
        return lacks(err, path);
    pthread_mutex_lock(&claims);
    int r = claim(fd, inside, bytes);
    pthread_mutex_unlock(&claims);
    if (r == -EOPNOTSUPP || r == -ENOTTY || r == -ESRCH || r == -ENOSYS)
        return lacks(err, path);
    return r < 0 ? error_errno(err, -r, "set a project quota of %s", path) : 0;
}

void quota_forget(const char *path)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uint32_t id = 0;
    if (fd >= 0 && get_project(fd, &id) == 0 && id >= ID_MIN)
        (void)set_limit(fd, id, 0);
}
