// Return values are not to be trusted: before Linux 5.19 overlay refuses idmapped layers or, worse, mounts
// them without their mapping. What counts is the owner that is seen through the mount.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define PROBE_ID 65536 // any will do: nothing is made

static int attach_mapped(int ns, const char *dir, struct error *err)
{
    struct child c = {.proc_fs = -1, .ns = {[POD_NS_USER] = ns}};
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    _cleanup_fd_ int tree = open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "open %s", dir);
    int rc = userns_idmap(&c, tree, dir, err);
    if (rc < 0)
        return rc;
    if (move_mount(tree, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH) < 0 || chdir(dir) < 0)
        return error_errno(err, errno, "attach a mapped %s", dir);
    return 0;
}

int userns_probe(const char *image_dir, struct error *err)
{
    const struct id_range range = {.host_id = PROBE_ID, .length = PROBE_ID};
    _cleanup_fd_ int ns = userns_new(range, range, err);
    struct stat st;

    if (ns < 0)
        return ns;
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return error_errno(err, errno, "make a mount namespace");
    int rc = attach_mapped(ns, image_dir, err);
    if (rc < 0)
        return rc;
    if (mount("overlay", "layers", "overlay", MS_RDONLY, "lowerdir=layers:containers") < 0 ||
        stat("layers", &st) < 0)
        return error_errno(err, errno, "mount an overlay of mapped layers (needs Linux 5.19)");
    if (st.st_uid < PROBE_ID)
        return error_set(err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
                         "the kernel's overlay does not map its layers' ids (needs Linux 5.19)");
    return 0;
}
