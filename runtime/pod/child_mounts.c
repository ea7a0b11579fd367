// The mounts of a container, each attached by descriptor to a place that was resolved inside the root: no
// path of an image can lead one elsewhere.
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child_root.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define LINKS_MAX   16
#define FS_DATA_MAX 4096

static bool is_bind(const Pod__Mount *m)
{
    return str_eq(m->type, "bind");
}

static int open_source(const Pod__Mount *m, struct error *err)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;

    if (*m->source != '/')
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "mount source \"%s\" of %s is not absolute",
                         m->source, m->destination);
    if (m->recursive || m->recursive_readonly)
        flags |= AT_RECURSIVE;
    int rc = peers_check(m, err);
    if (rc < 0)
        return rc;
    int tree = open_tree(AT_FDCWD, m->source, flags);
    return tree < 0 ? error_errno(err, errno, "mount source %s", m->source) : tree;
}

int mounts_open_sources(struct child *c, const Pod__LaunchPlan *plan, int **trees, struct error *err)
{
    *trees = calloc(plan->n_mounts + 1, sizeof(**trees));
    if (!*trees)
        return error_errno(err, ENOMEM, "mounts");
    for (size_t i = 0; i < plan->n_mounts; i++) {
        const Pod__Mount *m = plan->mounts[i];
        (*trees)[i] = -1;
        if (!is_bind(m))
            continue;
        child_step(c, "mount %s", m->destination);
        int emptied = m->copy_content ? volumes_empty(m, err) : 0;
        if (emptied < 0)
            return emptied;
        int tree = open_source(m, err);
        if (tree < 0 && !(m->optional && tree == -ENOENT))
            return tree;
        (*trees)[i] = tree < 0 ? -1 : tree;
    }
    return 0;
}

// Says what the kernel says in the file system context's log ("e tmpfs: Bad value for 'size'").
static int fs_error(int fs, int errnum, const char *type, const char *what, struct error *err)
{
    char text[256];
    ssize_t n = read(fs, text, sizeof(text) - 1);

    if (n > 2 && text[1] == ' ') {
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
        return error_set(err, STATUS_INVALID_ARGUMENT, errnum, "file system %s: %s: %s", type, what,
                         text + 2);
    }
    return error_errno(err, errnum, "file system %s: %s", type, what);
}

static int set_options(int fs, const char *type, const char *data, struct error *err)
{
    _cleanup_free_ char *copy = strdup(data);

    if (!copy)
        return error_errno(err, ENOMEM, "file system %s", type);
    for (char *option = copy, *next; option && *option; option = next) {
        next = strchr(option, ',');
        if (next)
            *next++ = '\0';
        char *value = strchr(option, '=');
        if (value)
            *value++ = '\0';
        if (fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, option, value, 0) < 0)
            return fs_error(fs, errno, type, option, err);
    }
    return 0;
}

int mounts_configure_fs(const char *type, const char *data, const char *label, struct error *err)
{
    _cleanup_fd_ int fs = fsopen(type, FSOPEN_CLOEXEC);

    if (fs < 0)
        return error_errno(err, errno, "file system %s", type);
    int rc = set_options(fs, type, data, err);
    if (rc == 0)
        rc = labels_set_new_fs(fs, type, label, err);
    if (rc < 0)
        return rc;
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fs_error(fs, errno, type, "create", err);
    return steal_fd(&fs);
}

int mounts_mount_fs(int fs, const char *type, const char *label, uint64_t attrs, struct error *err)
{
    _cleanup_fd_ int tree = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
    if (tree < 0)
        return fs_error(fs, errno, type, "mount", err);
    int rc = labels_set_new_root(tree, type, label, err);
    return rc < 0 ? rc : steal_fd(&tree);
}

int mounts_new_fs(const char *type, const char *data, const char *label, uint64_t attrs, struct error *err)
{
    _cleanup_fd_ int fs = mounts_configure_fs(type, data, label, err);
    return fs < 0 ? fs : mounts_mount_fs(fs, type, label, attrs, err);
}

// The kinds that a plan may ask for. An empty `data` of a cgroup mount is the unified hierarchy.
static const char *fs_type(const Pod__Mount *m)
{
    static const char *const types[] = {"proc", "sysfs", "devpts", "tmpfs", "mqueue", "cgroup2"};

    if (str_eq(m->type, "cgroup"))
        return *m->data ? "cgroup" : "cgroup2";
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (str_eq(m->type, types[i]))
            return types[i];
    return NULL;
}

static int bind_attributes(const struct child *c, int tree, const Pod__Mount *m, struct error *err)
{
    struct mount_attr all = {0}, top = {.attr_set = m->flags};

    if (m->flags & MOUNT_ATTR__ATIME)
        top.attr_clr = MOUNT_ATTR__ATIME;
    if (m->propagation == POD__PROPAGATION__PROPAGATION_PRIVATE)
        all.propagation = MS_PRIVATE;
    else if (m->propagation == POD__PROPAGATION__PROPAGATION_SLAVE)
        all.propagation = MS_SLAVE;
    if (m->recursive_readonly)
        all.attr_set = MOUNT_ATTR_RDONLY;
    if ((all.propagation || all.attr_set) &&
        mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &all, sizeof(all)) < 0)
        return error_errno(err, errno, "set the propagation of the mount");
    if (top.attr_set && mount_setattr(tree, "", AT_EMPTY_PATH, &top, sizeof(top)) < 0)
        return error_errno(err, errno, "set the flags of the mount");
    return m->idmap ? userns_idmap(c, tree, m->source, err) : 0;
}

// A link in the image whose target is missing (/etc/resolv.conf -> ../run/…): the path that it stands for.
// 1: path was replaced; 0: the last component is no link.
static int follow_dangling(int parent, char path[PATH_MAX])
{
    char target[PATH_MAX], joined[PATH_MAX];
    char *name = strrchr(path, '/') + 1;
    ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);

    if (n < 0)
        return errno == EINVAL || errno == ENOENT ? 0 : -errno;
    target[n] = '\0';
    *name = '\0';
    int len = snprintf(joined, sizeof(joined), "%s%s", *target == '/' ? "" : path, target);
    if (len < 0 || len >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(path, joined, (size_t)len + 1);
    return 1;
}

// An empty file at a path whose parent directories are made too.
static int make_file(int root, const char *wanted, struct error *err)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "/%s", wanted) >= PATH_MAX)
        return error_errno(err, ENAMETOOLONG, "make %s inside the root", wanted);
    for (int i = 0; i < LINKS_MAX; i++) {
        char *slash = strrchr(path, '/');
        *slash = '\0';
        _cleanup_fd_ int parent = file_mkdir_p_in_root(root, path, 0755, err);
        *slash = '/';
        if (parent < 0)
            return parent;
        int rc = follow_dangling(parent, path);
        if (rc < 0)
            return error_errno(err, rc, "make %s inside the root", wanted);
        if (rc > 0)
            continue;
        int fd = openat(parent, slash + 1, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
            return error_errno(err, errno, "make %s inside the root", wanted);
        (void)close(fd);
        return file_open_in_root(root, path, O_PATH, 0, err);
    }
    return error_errno(err, ELOOP, "make %s inside the root", wanted);
}

// Says what is in the way if a path can't be a target: the first of its directories that is none, or a link
// that doesn't lead to one.
static int explain_target(int root, const char *path, int rc, struct error *err)
{
    char prefix[PATH_MAX];
    struct stat st;
    size_t len = strlen(path);

    if ((rc != -ENOTDIR && rc != -ELOOP && rc != -ENOENT) || len >= sizeof(prefix))
        return rc;
    memcpy(prefix, path, len + 1);
    for (char *slash = strchr(prefix + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = '\0';
        _cleanup_fd_ int whole =
            file_open_in_root(root, prefix, slash ? O_PATH | O_DIRECTORY : O_PATH, 0, NULL);
        _cleanup_fd_ int fd = whole < 0 ? file_open_in_root(root, prefix, O_PATH | O_NOFOLLOW, 0, NULL) : -1;
        if (fd >= 0 && fstat(fd, &st) == 0)
            return error_set(err, STATUS_INVALID_ARGUMENT, -rc, "%s in the container is %s", prefix,
                             !S_ISLNK(st.st_mode) ? "no directory"
                             : whole == -ENOENT   ? "a link to what isn't there"
                             : whole == -ELOOP
                                 ? "a link that can't be followed: it leads in circles or through /proc"
                                 : "a link through what is no directory");
        if (whole < 0 || !slash)
            return rc;
        *slash = '/';
    }
}

int mounts_open_target(int root, const char *path, bool directory, struct error *err)
{
    struct stat st;

    if (*path != '/' || !path[strspn(path, "/")])
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "\"%s\" can't be mounted on", path);
    _cleanup_fd_ int fd = file_open_in_root(root, path, O_PATH, 0, err);
    if (fd == -ENOENT)
        fd = directory ? file_mkdir_p_in_root(root, path, 0755, err) : make_file(root, path, err);
    if (fd < 0)
        return explain_target(root, path, fd, err);
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "%s", path);
    if (directory != S_ISDIR(st.st_mode))
        return error_set(err, STATUS_INVALID_ARGUMENT, directory ? ENOTDIR : EISDIR,
                         directory ? "%s is no directory in the container, but what is mounted is one"
                                   : "%s is a directory in the container, but what is mounted is none",
                         path);
    return steal_fd(&fd);
}

// Mounts often come as siblings (/mnt/1, /mnt/2; the hierarchies below /sys/fs/cgroup): their directory is
// resolved once, as long as each of them was a plain entry of it. After a link nothing is known: what was
// mounted by it may cover the way to the directory.
struct siblings {
    const char *path; // of which the first dir_len bytes are the directory's; NULL: nothing is known
    size_t dir_len;
    int dir; // -1: not opened yet
};

static void siblings_forget(struct siblings *s)
{
    fd_closep(&s->dir);
    s->path = NULL;
}

// The entry `name` of the directory; made if it is to be one itself and is missing. -1: to be found the long
// way.
static int open_entry(int dir, const char *name, bool directory)
{
    struct stat st;

    if (!*name || str_eq(name, ".") || str_eq(name, ".."))
        return -1;
    if (directory) // mostly it is missing; else this costs nothing
        (void)mkdirat(dir, name, 0755);
    _cleanup_fd_ int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && fstat(fd, &st) == 0 && !S_ISLNK(st.st_mode) && directory == S_ISDIR(st.st_mode)
               ? steal_fd(&fd)
               : -1;
}

static int open_sibling(struct siblings *s, int root, const char *path, bool directory, struct error *err)
{
    const char *slash = strrchr(path, '/');
    size_t dir_len = slash ? (size_t)(slash - path) : 0;

    if (s->path && dir_len > 0 && s->dir_len == dir_len && strncmp(s->path, path, dir_len) == 0) {
        _cleanup_free_ char *dir = s->dir < 0 ? strndup(path, dir_len) : NULL;
        if (dir)
            s->dir = file_open_in_root(root, dir, O_PATH | O_DIRECTORY, 0, NULL);
        int fd = s->dir < 0 ? -1 : open_entry(s->dir, slash + 1, directory);
        if (fd >= 0)
            return fd;
    }
    siblings_forget(s);
    int fd = mounts_open_target(root, path, directory, err);
    if (fd >= 0 && dir_len > 0) {
        s->path = path;
        s->dir_len = dir_len;
    }
    return fd;
}

int mounts_move(int tree, int target, const char *what, struct error *err)
{
    if (move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return error_errno(err, errno, "attach the mount at %s", what);
    return 0;
}

// Where /proc, /sys and /dev go must be no link: it could lead to a place that a later volume covers or
// another container changes, and the masks and devices would be put elsewhere (CVE-2019-19921,
// CVE-2023-27561).
static int check_no_link(int root, const Pod__Mount *m, struct error *err)
{
    struct stat st;

    if (!str_eq(m->type, "proc") && !str_eq(m->type, "sysfs") && !str_eq(m->destination, "/dev"))
        return 0;
    _cleanup_fd_ int fd = file_open_in_root(root, m->destination, O_PATH | O_NOFOLLOW, 0, NULL);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISLNK(st.st_mode))
        return 0; // what is wrong with it otherwise is told when it is mounted on
    return error_set(err, STATUS_INVALID_ARGUMENT, ENOTDIR, "%s is a link in the image", m->destination);
}

// At /proc only a procfs: anything else could tell lies to whoever looks there.
static int check_proc(int source, const Pod__Mount *m, struct error *err)
{
    struct statfs fs;

    if (!str_eq(m->destination, "/proc"))
        return 0;
    if (fstatfs(source, &fs) < 0)
        return error_errno(err, errno, "mount source %s", m->source);
    return fs.f_type == PROC_SUPER_MAGIC ? 0
                                         : error_set(err, STATUS_INVALID_ARGUMENT, EPERM,
                                                     "%s is no procfs: it can't be /proc", m->source);
}

// Nothing is mounted into a procfs but what the plan itself puts there: a link in the image must not lead a
// volume over files that the kernel's users (and the next steps here) trust (CVE-2019-16884, CVE-2025-52881).
static int check_not_proc(int target, const Pod__Mount *m, struct error *err)
{
    struct statfs fs;

    if (str_has_prefix(m->destination, "/proc/"))
        return 0;
    if (fstatfs(target, &fs) < 0)
        return error_errno(err, errno, "%s", m->destination);
    return fs.f_type != PROC_SUPER_MAGIC ? 0
                                         : error_set(err, STATUS_INVALID_ARGUMENT, EPERM,
                                                     "%s is a link to a place in /proc", m->destination);
}

// *tree: the source, or -1; then what was made, afterwards.
static int attach_one(struct child *c, int root, const Pod__Mount *m, struct siblings *s, int *tree,
                      const char *label, struct error *err)
{
    const char *type = fs_type(m);
    struct stat st = {.st_mode = S_IFDIR};
    int source = *tree;

    if (source >= 0) {
        int rc = check_proc(source, m, err);
        if (rc == 0)
            rc = bind_attributes(c, source, m, err);
        if (rc < 0)
            return rc;
        if (fstat(source, &st) < 0)
            return error_errno(err, errno, "mount source %s", m->source);
    } else if (type) {
        int rc = check_no_link(root, m, err);
        if (rc < 0)
            return rc;
        _cleanup_free_ char *options = userns_host_options(c, m->data);
        if (!options)
            return error_errno(err, ENOMEM, "file system %s", type);
        if (c->proc_tree >= 0 && str_eq(type, "proc"))
            *tree = proc_use(c, m->flags, err);
        else if (c->proc_fs >= 0 && str_eq(type, "proc"))
            *tree = mounts_mount_fs(c->proc_fs, type, label, m->flags, err);
        else
            *tree = mounts_new_fs(type, options, label, m->flags, err);
        if (*tree < 0)
            return *tree;
        if (userns_wanted(c) && str_eq(type, "devpts") && // its root is always the host's root's
            fchownat(*tree, "", userns_host_uid(c, 0), userns_host_gid(c, 0), AT_EMPTY_PATH) < 0)
            return error_errno(err, errno, "set the owner of the file system %s", type);
    } else {
        return error_set(err, STATUS_INVALID_ARGUMENT, ENODEV, "mount type \"%s\" is not known", m->type);
    }
    _cleanup_fd_ int target = open_sibling(s, root, m->destination, S_ISDIR(st.st_mode), err);
    if (target < 0)
        return target;
    int rc = check_not_proc(target, m, err);
    return rc < 0 ? rc : mounts_move(*tree, target, m->destination, err);
}

static bool is_below_another(const Pod__LaunchPlan *plan, size_t which)
{
    const char *path = plan->mounts[which]->destination;

    for (size_t i = 0; i < plan->n_mounts; i++) {
        const char *other = plan->mounts[i]->destination;
        size_t len = strlen(other);
        if (i != which && strncmp(path, other, len) == 0 && (path[len] == '/' || !path[len]))
            return true;
    }
    return false;
}

void mounts_make_places(int root, const Pod__LaunchPlan *plan, const int *trees)
{
    struct stat st;

    for (size_t i = 0; i < plan->n_mounts; i++) {
        const char *path = plan->mounts[i]->destination;
        if (trees[i] < 0 || *path != '/' || fstat(trees[i], &st) < 0 || !S_ISDIR(st.st_mode) ||
            is_below_another(plan, i))
            continue;
        int fd = file_mkdir_p_in_root(root, path, 0755, NULL);
        fd_closep(&fd);
    }
}

int mounts_attach(struct child *c, int root, const Pod__LaunchPlan *plan, int *trees, struct error *err)
{
    struct siblings siblings __attribute__((cleanup(siblings_forget))) = {.dir = -1};

    for (size_t i = 0; i < plan->n_mounts; i++) {
        const Pod__Mount *m = plan->mounts[i];
        if (is_bind(m) && trees[i] < 0)
            continue; // optional, and missing
        // A cgroup file system shows what is below the cgroup namespace of whoever mounts it.
        if (str_has_prefix(m->type, "cgroup") && place_join(c, err) < 0)
            return -err->errnum;
        child_step(c, "mount %s", m->destination);
        bool own = trees[i] < 0;
        int rc = attach_one(c, root, m, &siblings, &trees[i], plan->root->mount_label, err);
        if (!own || rc < 0)
            fd_closep(&trees[i]);
        if (rc < 0 && !(m->optional && (rc == -EROFS || (!is_bind(m) && rc == -ENODEV))))
            return error_wrap(err, "mount %s", m->destination);
    }
    return place_join(c, err);
}
