#include "base/mount_template.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

struct task {
    int ns;     // the result
    int errnum; // 0: done
    const char *step;
};

// Where the new root is put for a moment: a directory that every host has. Nothing outside the namespace sees
// it.
#define PLACE "/proc"

static int fill_root(struct task *t)
{
    static const char *const dirs[] = {"layers", "container", "root"};
    t->step = "make its directories";
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (mkdir(dirs[i], 0755) < 0)
            return -errno;
    _cleanup_fd_ int null = open("null", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (null < 0)
        return -errno;
    t->step = "bind /dev/null";
    if (mount("/dev/null", "null", NULL, MS_BIND, NULL) < 0)
        return -errno;
    return mount(NULL, "null", NULL, MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

static int make(struct task *t)
{
    t->step = "make a mount namespace";
    if (unshare(CLONE_NEWNS) < 0) // implies CLONE_FS: root and working directory are this thread's own then
        return -errno;
    t->ns = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (t->ns < 0)
        return -errno;
    t->step = "cut it off from the host's";
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    t->step = "mount its root";
    // As small as it can be: nobody is ever to put anything there.
    if (mount("tmpfs", PLACE, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=16k,nr_inodes=16") < 0 ||
        chdir(PLACE) < 0)
        return -errno;
    int r = fill_root(t);
    if (r < 0)
        return r;
    t->step = "enter its root";
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    t->step = "make its root read-only";
    return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) < 0 ? -errno
                                                                                                      : 0;
}

static void *run(void *arg)
{
    struct task *t = arg;
    t->errnum = -make(t);
    return NULL;
}

int mount_template_new(int *fd, struct error *err)
{
    struct task t = {.ns = -1, .step = "start"};
    pthread_t thread;
    *fd = -1;
    int r = pthread_create(&thread, NULL, run, &t);
    if (r)
        return error_errno(err, r, "start a thread for the containers' mount namespace");
    (void)pthread_join(thread, NULL);
    if (t.errnum) {
        fd_closep(&t.ns);
        return error_errno(err, t.errnum, "prepare the containers' mount namespace: %s", t.step);
    }
    *fd = t.ns;
    return 0;
}
