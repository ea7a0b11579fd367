// Devices, the usual links in /dev, and a terminal.
#include <fcntl.h>
#include <linux/magic.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

static const struct {
    const char *name, *target;
} dev_links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"},      {"ptmx", "pts/ptmx"},
};

// Where nodes and links may be made.
struct place {
    int root;
    const Pod__LaunchPlan *plan;
    const int *trees; // the container's own file systems, as mounts_attach() left them; else -1
};

static bool is_on_mount(int fd, uint64_t mount)
{
    struct statx st;

    return fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 && st.stx_mnt_id == mount;
}

// Is it in the root, or in a file system that was made for this container? All else is the host's, or other
// containers' too: what is made there would stay. By mounts, not by paths: there are links in images.
static bool is_own(const struct place *at, int dir)
{
    struct statx st;

    if (statx(dir, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
        return false;
    bool own = is_on_mount(at->root, st.stx_mnt_id);
    for (size_t i = 0; !own && i < at->plan->n_mounts; i++)
        own = is_on_mount(at->trees[i], st.stx_mnt_id);
    return own;
}

static int make_links(const struct place *at, struct error *err)
{
    _cleanup_fd_ int dev = file_open_in_root(at->root, "/dev", O_PATH | O_DIRECTORY, 0, NULL);

    if (dev < 0 || !is_own(at, dev)) // a root without /dev is the plan's business
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(dev_links); i++)
        if (symlinkat(dev_links[i].target, dev, dev_links[i].name) < 0 && errno != EEXIST && errno != EROFS)
            return error_errno(err, errno, "make /dev/%s", dev_links[i].name);
    return 0;
}

static bool is_node(int parent, const char *name, mode_t type, dev_t rdev)
{
    struct stat st;

    return fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type &&
           st.st_rdev == rdev;
}

// The directory for a node, made if it is missing and may be made. *own: a node may be made there.
static int open_parent(const struct place *at, const char *path, bool *own, struct error *err)
{
    char dir[PATH_MAX];

    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
    for (char *end = dir + strlen(dir);; *end = '\0') {
        _cleanup_fd_ int there = file_open_in_root(at->root, *dir ? dir : "/", O_PATH | O_DIRECTORY, 0, err);
        if (there >= 0) {
            *own = is_own(at, there);
            if (strlen(dir) == (size_t)(strrchr(path, '/') - path))
                return steal_fd(&there);
            break;
        }
        end = strrchr(dir, '/');
        if (there != -ENOENT || !end)
            return there;
    }
    if (!*own)
        return -ENOENT;
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
    int fd = file_mkdir_p_in_root(at->root, dir, 0755, err);
    *own = fd < 0 || is_own(at, fd);
    return fd;
}

// The directory of the node before: mostly it is /dev again.
struct parent {
    const char *path; // of which the first len bytes are the directory's; NULL: none yet
    size_t len;
    int fd;
    bool own;
};

static void parent_done(struct parent *p)
{
    fd_closep(&p->fd);
}

static int take_parent(const struct place *at, const char *path, struct parent *p, struct error *err)
{
    size_t len = (size_t)(strrchr(path, '/') - path);

    if (p->path && p->len == len && strncmp(p->path, path, len) == 0)
        return 0;
    fd_closep(&p->fd);
    p->own = true;
    p->fd = open_parent(at, path, &p->own, err);
    p->path = p->fd >= 0 ? path : NULL;
    p->len = len;
    return p->fd < 0 ? p->fd : 0;
}

static int make_device(const struct child *c, const struct place *at, struct parent *p, const Pod__Device *d,
                       struct error *err)
{
    const char *name = strrchr(d->path, '/');
    dev_t rdev = makedev(d->major, d->minor);
    mode_t type = d->type & S_IFMT;

    if (*d->path != '/' || !name[1] || strlen(d->path) >= PATH_MAX ||
        (type != S_IFCHR && type != S_IFBLK && type != S_IFIFO))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "device \"%s\"", d->path);
    int rc = take_parent(at, d->path, p, err), parent = p->fd;
    name++;
    if (!p->own && parent >= 0 && is_node(parent, name, type, rdev))
        return 0; // e.g. in a mounted /dev of the host: not ours to change
    if (!p->own)
        return error_set(err, STATUS_INVALID_ARGUMENT, EROFS,
                         "device %s would be made in a volume, where it would stay: mount the volume"
                         " elsewhere, or let it have that device",
                         d->path);
    if (rc < 0)
        return rc;
    if (mknodat(parent, name, type | (d->mode & 07777), rdev) < 0)
        return errno == EEXIST && is_node(parent, name, type, rdev)
                   ? 0
                   : error_errno(err, errno, "make device %s", d->path);
    if ((d->uid || d->gid) && fchownat(parent, name, userns_host_uid(c, d->uid), userns_host_gid(c, d->gid),
                                       AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, errno, "set the owner of device %s", d->path);
    return 0;
}

int devices_make(struct child *c, int root, const Pod__LaunchPlan *plan, const int *trees, struct error *err)
{
    const struct place at = {root, plan, trees};
    struct parent parent __attribute__((cleanup(parent_done))) = {.fd = -1};

    for (size_t i = 0; i < plan->n_devices; i++) {
        int rc = make_device(c, &at, &parent, plan->devices[i], err);
        if (rc < 0)
            return rc;
    }
    return make_links(&at, err);
}

// Opens a node that was first looked at: opening whatever an image put in its place might do anything.
static int open_ptmx(const struct child *c, int root, struct error *err)
{
    _cleanup_fd_ int path = file_open_in_root(root, "/dev/pts/ptmx", O_PATH | O_NOFOLLOW, 0, err);
    struct statfs fs;
    struct stat st;
    char self[32];

    if (path < 0)
        return path;
    if (fstat(path, &st) < 0 || fstatfs(path, &fs) < 0)
        return error_errno(err, errno, "look at /dev/pts/ptmx");
    if (fs.f_type != DEVPTS_SUPER_MAGIC || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
        return error_set(err, STATUS_INVALID_ARGUMENT, ENOTTY,
                         "/dev/pts/ptmx in the container makes no terminals");
    (void)snprintf(self, sizeof(self), "fd/%d", path);
    int fd = openat(c->proc_self, self, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? error_errno(err, errno, "open /dev/pts/ptmx") : fd;
}

// /dev/console is the terminal. Bound by descriptors, onto a file that is no link (CVE-2025-52565).
static int bind_console(int root, int slave, struct error *err)
{
    struct stat st;
    int made = file_open_in_root(root, "/dev/console", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, NULL);

    if (made >= 0)
        (void)close(made);
    _cleanup_fd_ int target = file_open_in_root(root, "/dev/console", O_PATH | O_NOFOLLOW, 0, err);
    if (target < 0)
        return target;
    if (fstat(target, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "/dev/console in the container is no file");
    _cleanup_fd_ int tree = open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return tree < 0 ? error_errno(err, errno, "bind /dev/console")
                    : mounts_move(tree, target, "/dev/console", err);
}

int devices_make_tty(struct child *c, int root, struct error *err)
{
    struct report r = {.kind = REPORT_TTY};
    int unlock = 0;

    child_step(c, "make a terminal");
    _cleanup_fd_ int master = open_ptmx(c, root, err);
    if (master < 0)
        return master;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return error_errno(err, errno, "unlock the terminal");
    c->tty = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->tty < 0)
        return error_errno(err, errno, "open the terminal");
    int rc = bind_console(root, c->tty, err);
    if (rc < 0)
        return rc;
    long sent = launch_send(c->sock, &r, offsetof(struct report, groups), &master, 1);
    return sent < 0 ? error_errno(err, (int)sent, "hand over the terminal") : 0;
}
