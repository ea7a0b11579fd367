// A container's namespaces and root: overlay, mounts, devices, masks, pivot_root. All of it inside a mount
// namespace of its own, so that nothing can be left behind on the host.
#include "runtime/pod/child_root.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define OPTIONS_MAX 4095 // mount(2) takes one page

// Of the host, as detached mounts; -1: none.
struct host_dirs {
    int layers, container;
};

static int join_namespaces(struct child *c, const Pod__LaunchPlan *plan, struct error *err)
{
    const struct {
        int ns, flag;
        bool host;
        const char *name;
    } joins[] = {
        {POD_NS_NET, CLONE_NEWNET, plan->host_network, "network"},
        {POD_NS_IPC, CLONE_NEWIPC, plan->host_ipc, "IPC"},
        {POD_NS_UTS, CLONE_NEWUTS, plan->host_uts, "UTS"},
    };

    child_step(c, "join namespaces");
    for (size_t i = 0; i < ARRAY_SIZE(joins); i++) {
        int fd = c->ns[joins[i].ns];
        if (fd < 0)
            continue;
        if (!joins[i].host && setns(fd, joins[i].flag) < 0)
            return error_errno(err, errno, "join the pod's %s namespace", joins[i].name);
        (void)close(fd);
    }
    return child_write_sysctls(plan->sysctls, plan->n_sysctls, err);
}

// Overlay splits its options at commas, and the lower directories at colons.
static int add_escaped(struct buf *b, const char *s)
{
    int rc = 0;

    for (; rc == 0 && *s; s++) {
        if (strchr(",:\\", *s))
            rc = buf_append(b, "\\", 1);
        if (rc == 0)
            rc = buf_append(b, s, 1);
    }
    return rc;
}

// upper and work are below the same directory, which is mounted at /container.
static int overlay_options(const Pod__Root *root, struct buf *b, struct error *err)
{
    // index=off: a kernel may have it on by default, and then refuses upper directories that were copied or
    // are mounted a second time.
    int rc = buf_append_str(b, "index=off,lowerdir=");

    for (size_t i = 0; rc == 0 && i < root->n_lowers; i++) {
        if (i)
            rc = buf_append(b, ":", 1);
        if (rc == 0)
            rc = add_escaped(b, root->lowers[i]);
    }
    if (rc == 0 && *root->upper)
        rc = buf_append_str(b, ",upperdir=/container");
    if (rc == 0 && *root->upper)
        rc = add_escaped(b, strrchr(root->upper, '/'));
    if (rc == 0 && *root->upper)
        rc = buf_append_str(b, ",workdir=/container");
    if (rc == 0 && *root->upper)
        rc = add_escaped(b, strrchr(root->work, '/'));
    if (rc == 0)
        rc = labels_add_option(b, root->mount_label);
    if (rc == -E2BIG)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "the image's %zu layers don't fit into mount options of %d bytes", root->n_lowers,
                         OPTIONS_MAX);
    return rc < 0 ? error_errno(err, rc, "mount the root") : 0;
}

// A directory of the host as a detached mount.
static int open_host_dir(const char *path, struct error *err)
{
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    _cleanup_fd_ int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_NO_AUTOMOUNT);

    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "open %s", path);
    return steal_fd(&tree);
}

// While the host's mounts are in sight: the directory of all layers, and the container's own one.
static int open_layers(struct child *c, const Pod__Root *root, struct host_dirs *dirs, struct error *err)
{
    char path[PATH_MAX];
    const char *upper = strrchr(root->upper, '/'), *work = strrchr(root->work, '/');

    child_step(c, "mount the root");
    *dirs = (struct host_dirs){-1, -1};
    if (root->n_lowers == 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the root has no layers");
    dirs->layers = open_host_dir(root->layers_dir, err);
    if (dirs->layers < 0)
        return error_wrap(err, "the layers' directory");
    // One mapping for all layers. The upper directory stays as it is: what overlay itself makes there (its
    // work directory, whiteouts) belongs to the host's root, who does not exist in the mapping.
    if (userns_wanted(c) && userns_idmap(c, dirs->layers, root->layers_dir, err) < 0)
        return -err->errnum;
    if (!*root->upper)
        return 0;
    if (!upper || !work || upper - root->upper != work - root->work ||
        strncmp(root->upper, root->work, (size_t)(upper - root->upper)) != 0 ||
        snprintf(path, sizeof(path), "%.*s", (int)(upper - root->upper), root->upper) >= PATH_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s and %s are not in one directory",
                         root->upper, root->work);
    dirs->container = open_host_dir(path, err);
    return dirs->container < 0 ? error_wrap(err, "the container's directory") : 0;
}

static int attach_at(int *tree, const char *path, struct error *err)
{
    if (*tree >= 0 && move_mount(*tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_errno(err, errno, "attach a directory of the host");
    fd_closep(tree);
    return 0;
}

// The merged root is the upper directory, which the host's root made: with a user namespace it gets the owner
// that the top layer has through the mapping.
static int own_upper(const struct child *c, const Pod__Root *root, struct error *err)
{
    char path[PATH_MAX];
    struct stat st;

    if (!userns_wanted(c) || !*root->upper)
        return 0;
    if (snprintf(path, sizeof(path), "/container%s", strrchr(root->upper, '/')) >= PATH_MAX)
        return error_errno(err, ENAMETOOLONG, "mount the root");
    if (stat(root->lowers[0], &st) < 0 || lchown(path, st.st_uid, st.st_gid) < 0)
        return error_errno(err, errno, "set the owner of the root directory");
    return 0;
}

// Relative lower directories, from the layers' directory: mount(2)'s one page holds hundreds of them. Not
// fsconfig(2): its strings end at 255 bytes, and "lowerdir+" does nothing before Linux 6.5. The directories
// are attached first: overlay refuses layers on detached mounts (Linux 6.1).
static int mount_root(struct child *c, const Pod__Root *root, struct host_dirs *dirs, int *fd,
                      struct error *err)
{
    struct buf options;

    child_step(c, "mount the root");
    int rc = attach_at(&dirs->layers, "/layers", err);
    if (rc == 0)
        rc = attach_at(&dirs->container, "/container", err);
    if (rc < 0)
        return rc;
    if (chdir("/layers") < 0)
        return error_errno(err, errno, "enter the layers' directory");
    rc = own_upper(c, root, err);
    if (rc < 0)
        return rc;
    if (root->n_lowers == 1 && !*root->upper) { // overlay wants two
        if (mount(root->lowers[0], "/root", NULL, MS_BIND, NULL) < 0)
            return error_errno(err, errno, "mount the root layer %s", root->lowers[0]);
    } else {
        buf_init(&options, OPTIONS_MAX);
        rc = overlay_options(root, &options, err);
        if (rc == 0 && mount("overlay", "/root", "overlay", 0, options.data) < 0)
            rc = error_errno(err, errno, "mount overlay of %s/%s", root->layers_dir, options.data);
        buf_done(&options);
        if (rc < 0)
            return rc;
    }
    *fd = open("/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? error_errno(err, errno, "open the root") : 0;
}

// From an overlay that is attached while it is copied: Linux 6.1 copies no detached mounts.
static int open_image(struct child *c, const Pod__Root *root, struct host_dirs *dirs, const Pod__Mount *m,
                      int *tree, struct error *err)
{
    Pod__Root image = *root;
    _cleanup_fd_ int top = -1, at = -1;

    image.lowers = m->lowers;
    image.n_lowers = m->n_lowers;
    image.upper = image.work = (char *)(uintptr_t) "";
    int rc = mount_root(c, &image, dirs, &top, err);
    child_step(c, "mount %s", m->destination);
    if (rc < 0)
        return rc;
    const char *sub = *m->sub_path ? m->sub_path : ".";
    at = file_open_in_root(top, sub, O_PATH, 0, err);
    if (at >= 0)
        *tree = open_tree(at, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (at < 0) {
        error_restatus(err, STATUS_INVALID_ARGUMENT); // the path is to blame, or the image
        rc = error_wrap(err, "ImageVolumeMountFailed: path \"%s\" in image %s", m->sub_path, m->source);
    } else if (*tree < 0) {
        rc = error_errno(err, errno, "ImageVolumeMountFailed: image %s", m->source);
    }
    if (umount2("/root", MNT_DETACH) < 0 && rc == 0)
        rc = error_errno(err, errno, "unmount image %s", m->source);
    return rc;
}

// On the place of the root, which is still free.
static int open_images(struct child *c, const Pod__LaunchPlan *plan, struct host_dirs *dirs, int *trees,
                       struct error *err)
{
    for (size_t i = 0; i < plan->n_mounts; i++) {
        const Pod__Mount *m = plan->mounts[i];
        if (!str_eq(m->type, "image"))
            continue;
        // One layer alone would be bound, and could be made writable by a privileged container.
        int rc = m->n_lowers < 2 ? error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                                             "image volume %s has no two layers", m->destination)
                                 : open_image(c, plan->root, dirs, m, &trees[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int finish_root(struct child *c, int root, const Pod__Root *plan, struct error *err)
{
    struct mount_attr attr = {0};

    child_step(c, "finish the root");
    if (plan->readonly || !*plan->upper)
        attr.attr_set = MOUNT_ATTR_RDONLY;
    if (str_eq(plan->propagation, "rshared"))
        attr.propagation = MS_SHARED;
    else if (*plan->propagation && !str_eq(plan->propagation, "rslave") &&
             !str_eq(plan->propagation, "rprivate"))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "propagation \"%s\" of the root is not known",
                         plan->propagation);
    // Not recursive: the mounts inside have their own.
    if ((attr.attr_set || attr.propagation) &&
        mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return error_errno(err, errno, "set up the root's mount");
    return 0;
}

static int pivot(struct child *c, int root, struct error *err)
{
    child_step(c, "pivot_root");
    _cleanup_fd_ int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (old < 0 || fchdir(root) < 0)
        return error_errno(err, errno, "enter the root");
    if (sys_pivot_root(".", ".") < 0)
        return error_errno(err, errno, "pivot_root");
    // The old root now lies over the new one. What it holds of the host is private: the host keeps its
    // mounts.
    if (fchdir(old) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return error_errno(err, errno, "leave the old root");
    return 0;
}

static int build_root(struct child *c, const Pod__LaunchPlan *plan, struct host_dirs *dirs, int *trees,
                      struct error *err)
{
    _cleanup_fd_ int root = -1;
    int rc = open_images(c, plan, dirs, trees, err);

    if (rc == 0)
        rc = mount_root(c, plan->root, dirs, &root, err);
    if (rc == 0)
        rc = userns_own_files(c, err);
    if (rc == 0)
        rc = volumes_fill(c, root, plan, trees, err);
    if (rc == 0 && c->built >= 0) // while the container's first process gets going
        mounts_make_places(root, plan, trees);
    if (rc == 0)
        rc = inside_take_proc(c, err);
    if (rc == 0)
        rc = mounts_attach(c, root, plan, trees, err);
    child_step(c, "devices");
    if (rc == 0)
        rc = devices_make(c, root, plan, trees, err);
    for (size_t i = 0; i < plan->n_mounts; i++)
        fd_closep(&trees[i]);
    if (rc == 0 && plan->process->tty)
        rc = devices_make_tty(c, root, err);
    if (rc == 0)
        rc = hooks_before_pivot(c, err); // which may change the root: it is made read-only later
    if (rc == 0)
        rc = masks_apply(c, root, plan, err);
    if (rc == 0)
        rc = finish_root(c, root, plan->root, err);
    if (rc == 0)
        rc = hooks_leave_host(c, err);
    return rc == 0 ? pivot(c, root, err) : rc;
}

// A copy of the template: the cost of copying the host's would grow with its mounts.
static int enter_mount_ns(struct child *c, const Pod__LaunchPlan *plan, struct error *err)
{
    child_step(c, "make a mount namespace");
    c->copied_ns = CLONE_NEWNS | (plan->own_cgroup_ns ? CLONE_NEWCGROUP : 0);
    if (c->hooks) // their programs are the host's: for them it is a copy of the host's after all
        return hooks_enter_host(c, plan->own_cgroup_ns, err);
    if (setns(c->mount_template, CLONE_NEWNS) < 0)
        return error_errno(err, errno, "enter the containers' mount namespace");
    (void)close(c->mount_template);
    // A cgroup namespace begins where its maker is: not before it has joined its cgroups.
    c->cgroup_ns = c->place && plan->own_cgroup_ns;
    if (unshare(c->cgroup_ns ? CLONE_NEWNS : c->copied_ns) < 0)
        return error_errno(err, errno, "make a mount namespace");
    return 0;
}

int child_enter_root(struct child *c, const Pod__LaunchPlan *plan, struct error *err)
{
    struct host_dirs dirs;
    int *trees = NULL;

    (void)umask(0);
    int rc = join_namespaces(c, plan, err);
    if (rc == 0)
        rc = mounts_open_sources(c, plan, &trees, err);
    if (rc == 0)
        rc = open_layers(c, plan->root, &dirs, err);
    if (rc == 0)
        rc = proc_take(c, plan, err);
    if (rc == 0)
        rc = place_join_at_last(c, err);
    if (rc == 0)
        rc = enter_mount_ns(c, plan, err);
    if (rc == 0 && c->split)
        rc = inside_make(c, plan, err);
    if (c->inside)
        return rc;
    rc = rc == 0 ? build_root(c, plan, &dirs, trees, err) : rc;
    if (c->built >= 0)
        return inside_hand_over(c, rc, err);
    if (rc < 0 || !userns_wanted(c))
        return rc;
    rc = userns_enter(c, err);
    return rc == 0 ? userns_copy(c, err) : rc;
}
