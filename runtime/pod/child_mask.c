// Masked and read-only paths.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/sys.h"

// The host's /dev/null, which the mount namespace began with, as a detached mount. Never the container's: an
// image or another container sharing a volume could put a link there, and the mask would open what it should
// hide (CVE-2025-31133). Read-only, since it is the host's inode: the container's root could else change its
// mode or owner through the mask. (Writing to the device works all the same.)
static int null_tree(struct error *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                              .propagation = MS_PRIVATE};
    struct stat st;
    _cleanup_fd_ int tree = open_tree(AT_FDCWD, "/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0)
        return error_errno(err, errno, "open /dev/null of the host");
    if (fstat(tree, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return error_set(err, STATUS_INTERNAL, ENODEV, "/dev/null of the host is not the null device");
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "set up a mask");
    return steal_fd(&tree);
}

// An empty directory that nothing can be put into. One file system serves all of a container's masks: *shown
// is a place where it is attached already, or -1 (a mount that is still detached can't be cloned before
// Linux 6.15).
static int empty_tree(int *shown, struct error *err)
{
    if (*shown >= 0) {
        int tree = open_tree(*shown, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        return tree < 0 ? error_errno(err, errno, "clone a mask") : tree;
    }
    int tree =
        mounts_new_fs("tmpfs", "size=4k,nr_inodes=1,mode=555", "",
                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
    if (tree >= 0)
        *shown = fcntl(tree, F_DUPFD_CLOEXEC, 3); // -1: the next one gets its own
    return tree;
}

static int mask_one(int root, const char *path, int *shown, struct error *err)
{
    struct stat st;
    _cleanup_fd_ int target = file_open_in_root(root, path, O_PATH, 0, err);

    if (target == -ENOENT || target == -ENOTDIR)
        return 0; // nothing to hide
    if (target < 0)
        return target;
    if (fstat(target, &st) < 0)
        return error_errno(err, errno, "%s", path);
    _cleanup_fd_ int tree = S_ISDIR(st.st_mode) ? empty_tree(shown, err) : null_tree(err);
    return tree < 0 ? tree : mounts_move(tree, target, path, err);
}

static int readonly_one(int root, const char *path, struct error *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY, .propagation = MS_PRIVATE};
    _cleanup_fd_ int target = file_open_in_root(root, path, O_PATH, 0, err);

    if (target == -ENOENT || target == -ENOTDIR)
        return 0;
    if (target < 0)
        return target;
    _cleanup_fd_ int tree =
        open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "%s", path);
    return mounts_move(tree, target, path, err);
}

int masks_apply(struct child *c, int root, const Pod__LaunchPlan *plan, struct error *err)
{
    _cleanup_fd_ int shown = -1;
    for (size_t i = 0; i < plan->n_masked_paths; i++) {
        child_step(c, "mask %s", plan->masked_paths[i]);
        if (mask_one(root, plan->masked_paths[i], &shown, err) < 0)
            return error_wrap(err, "mask %s", plan->masked_paths[i]);
    }
    for (size_t i = 0; i < plan->n_readonly_paths; i++) {
        child_step(c, "make %s read-only", plan->readonly_paths[i]);
        if (readonly_one(root, plan->readonly_paths[i], err) < 0)
            return error_wrap(err, "make %s read-only", plan->readonly_paths[i]);
    }
    return 0;
}
