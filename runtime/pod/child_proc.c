// /proc of a pid namespace that others are in already.
//
// A new procfs shows the pid namespace of the process that makes it, and no process that may do such a thing
// appears where a neighbour could take it over (child_stage.c). So the container gets a copy of one that is
// mounted elsewhere: of the pod's, in a mount namespace that nobody lives in (reaper.c), or of the other
// container's own.
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/sys.h"

#define ROOT_INODE 1 // of every procfs

// The other container might have something else at its /proc: a volume, or what it mounted itself.
static int check_shown(const struct child *c, int tree, struct error *err)
{
    struct statfs fs;
    struct stat top, shown, wanted;
    char path[64];

    if (fstatfs(tree, &fs) < 0 || fstat(tree, &top) < 0)
        return error_errno(err, errno, "look at the /proc to share");
    (void)snprintf(path, sizeof(path), "../%d/ns/pid", (int)c->join_target);
    int rc = c->join_target ? fstatat(c->proc_self, path, &wanted, 0) : fstat(c->join_pid, &wanted);
    if (rc < 0)
        return error_errno(err, errno, "look at the pid namespace to share");
    if (fs.f_type == PROC_SUPER_MAGIC && top.st_ino == ROOT_INODE &&
        fstatat(tree, "1/ns/pid", &shown, 0) == 0 && shown.st_dev == wanted.st_dev &&
        shown.st_ino == wanted.st_ino)
        return 0;
    return error_set(err, STATUS_FAILED_PRECONDITION, EINVAL,
                     "the /proc of the container whose pid namespace is to be shared does not show that "
                     "namespace: it has ended, or has another file system there");
}

static int copy_proc(const struct child *c, int *tree, struct error *err)
{
    const char *path = c->join_target ? "/proc" : POD_PROC_DIR;
    _cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_errno(err, errno, "open the root of what is to be shared");
    _cleanup_fd_ int at = file_open_in_root(root, path, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0, err);
    if (at < 0)
        return at;
    *tree = open_tree(at, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return *tree < 0 ? error_errno(err, errno, "copy the mount of %s", path) : check_shown(c, *tree, err);
}

static bool has_proc(const Pod__LaunchPlan *plan)
{
    for (size_t i = 0; i < plan->n_mounts; i++)
        if (str_eq(plan->mounts[i]->type, "proc"))
            return true;
    return false;
}

int proc_take(struct child *c, const Pod__LaunchPlan *plan, struct error *err)
{
    _cleanup_fd_ int home = -1, root = -1;

    if (c->join_pid < 0 || !has_proc(plan))
        return 0;
    child_step(c, "share /proc");
    home = openat(c->proc_self, "ns/mnt", O_RDONLY | O_CLOEXEC);
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0 || root < 0)
        return error_errno(err, errno, "open the own mount namespace");
    if (setns(c->ns[POD_NS_PROC], CLONE_NEWNS) < 0)
        return errno == ESRCH ? error_set(err, STATUS_FAILED_PRECONDITION, ESRCH,
                                          "the container whose pid namespace is to be shared has just exited")
                              : error_errno(err, errno, "enter the mount namespace with the /proc to share");
    int rc = copy_proc(c, &c->proc_tree, err);
    // Its root may not be where this daemon's is.
    if (setns(home, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0)
        return error_errno(err, errno, "return to the own mount namespace");
    return rc;
}

int proc_use(struct child *c, uint64_t attrs, struct error *err)
{
    struct mount_attr attr = {.attr_set = attrs,
                              .attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                          MOUNT_ATTR_NOEXEC | MOUNT_ATTR__ATIME,
                              .propagation = MS_PRIVATE};
    int tree = steal_fd(&c->proc_tree);

    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        return tree;
    int rc = error_errno(err, errno, "set the flags of /proc");
    (void)close(tree);
    return rc;
}
