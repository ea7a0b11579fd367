// Device nodes in the container's /dev, and what its cgroup lets them be used for.
#include "runtime/plan_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup.h"

#define DEPTH_MAX 8 // of directories of devices

static const struct {
    const char *path;
    unsigned major, minor;
} default_nodes[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

// Calls fn for a device node, or for each one in and below a directory. container: its path inside.
typedef int (*node_fn)(void *arg, const char *container, const struct stat *st);

struct walk {
    node_fn fn;
    void *arg;
    bool host_dev; // the host's /dev itself: skip what a container has of its own, right in it
    size_t left;   // bounds the number of nodes
};

// Right in /dev these are each container's own, or no devices. Further down they are names like any others.
static bool is_own(const char *name)
{
    static const char *const own[] = {"pts",    "shm",     "fd",   "mqueue", "console",
                                      "ptmx",   ".udev",   "null", "zero",   "full",
                                      "random", "urandom", ".lxc", "tty",    ".lxd-mounts"};
    for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
        if (str_eq(name, own[i]))
            return true;
    }
    return false;
}

static int walk_dir(struct walk *w, int dir_fd, const char *container, int depth);

static int walk_entry(struct walk *w, int dir_fd, const char *name, const char *container, int depth)
{
    char inside[PATH_MAX];
    struct stat st;
    int n = snprintf(inside, sizeof(inside), "%s/%s", container, name);
    if (n < 0 || (size_t)n >= sizeof(inside) || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
        if (w->left == 0)
            return -E2BIG;
        w->left--;
        return w->fn(w->arg, inside, &st);
    }
    if (!S_ISDIR(st.st_mode) || depth == DEPTH_MAX)
        return 0;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : walk_dir(w, fd, inside, depth + 1);
}

// Takes dir_fd over.
static int walk_dir(struct walk *w, int dir_fd, const char *container, int depth)
{
    _cleanup_(dir_closep) DIR *dir = fdopendir(dir_fd);
    if (!dir) {
        (void)close(dir_fd);
        return -ENOMEM;
    }
    int r = 0;
    for (struct dirent *e;
         r == 0 && (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own stream
        bool skipped = w->host_dev && depth == 0 && is_own(e->d_name);
        if (skipped || str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        r = walk_entry(w, dirfd(dir), e->d_name, container, depth);
    }
    return r;
}

static bool is_host_dev(int fd)
{
    struct stat dev, st;
    return stat("/dev", &dev) == 0 && fstat(fd, &st) == 0 && st.st_dev == dev.st_dev &&
           st.st_ino == dev.st_ino;
}

static int each_node(const Cri__Device *d, size_t index, node_fn fn, void *arg, struct error *err)
{
    struct stat st; // of what a link leads to, as peers have it
    if (stat(d->host_path, &st) < 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, errno, "devices[%zu].host_path \"%.200s\": %s", index,
                         d->host_path, strerrordesc_np(errno));
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
        int r = fn(arg, d->container_path, &st);
        return r < 0 ? plan_no_memory(err) : 0;
    }
    if (!S_ISDIR(st.st_mode))
        return error_set(err, STATUS_INVALID_ARGUMENT, ENODEV,
                         "devices[%zu].host_path \"%.200s\" is neither a device nor a directory of devices",
                         index, d->host_path);
    int fd = open(d->host_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "devices[%zu].host_path \"%.200s\"", index, d->host_path);
    struct walk w = {.fn = fn, .arg = arg, .host_dev = is_host_dev(fd), .left = PLAN_DEVICES_MAX};
    int r = walk_dir(&w, fd, d->container_path, 0);
    if (r == -E2BIG)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "devices[%zu].host_path \"%.200s\" holds more than %d devices", index, d->host_path,
                         PLAN_DEVICES_MAX);
    return r < 0 ? plan_no_memory(err) : 0;
}

int plan_device_at(struct plan_builder *b, const char *container, Pod__Device **out)
{
    char *path = plan_clean_path(b->arena, container);
    Pod__Device *d = NULL;
    for (size_t i = 0; path && i < b->plan->n_devices && !d; i++) {
        if (str_eq(b->plan->devices[i]->path, path))
            d = b->plan->devices[i];
    }
    if (!d) {
        if (b->plan->n_devices == PLAN_DEVICES_MAX)
            return -E2BIG;
        d = arena_alloc(b->arena, sizeof(*d));
        if (!d || !path)
            return -ENOMEM;
        b->plan->devices[b->plan->n_devices++] = d;
    }
    pod__device__init(d);
    d->path = path;
    *out = d;
    return 0;
}

static int add_node(void *arg, const char *container, const struct stat *st)
{
    Pod__Device *d;
    int r = plan_device_at(arg, container, &d);
    if (r < 0)
        return r;
    d->type = st->st_mode & S_IFMT;
    d->major = major(st->st_rdev);
    d->minor = minor(st->st_rdev);
    d->mode = st->st_mode & 07777;
    d->uid = st->st_uid;
    d->gid = st->st_gid;
    return 0;
}

// A device that the config names; its owner may be the container's user (configuration
// runtime.device_ownership_from_security_context, as containerd has it).
static int add_config_node(void *arg, const char *container, const struct stat *st)
{
    struct plan_builder *b = arg;
    const Cri__LinuxContainerSecurityContext *sc = plan_security(b->in->config);
    struct stat own = *st;
    if (b->policy->device_ownership && sc->run_as_user)
        own.st_uid = (uid_t)sc->run_as_user->value;
    if (b->policy->device_ownership && sc->run_as_group)
        own.st_gid = (gid_t)sc->run_as_group->value;
    return add_node(b, container, &own);
}

// One of all the host's, which a privileged container has. In a pod with a user namespace it stays the
// host's: "privileged" is meant there for what is inside, not for the node's disks.
static int add_host_node(void *arg, const char *container, const struct stat *st)
{
    struct plan_builder *b = arg;
    struct stat own = *st;
    if (plan_is_covered(b->in->config, container, true))
        return 0; // that place is a volume's
    if (policy_userns(b->in->pod))
        own.st_uid = own.st_gid = UINT32_MAX; // is mapped nowhere
    return add_node(b, container, &own);
}

int plan_add_devices(struct plan_builder *b)
{
    const Cri__ContainerConfig *c = b->in->config;
    b->plan->devices = arena_alloc(b->arena, PLAN_DEVICES_MAX * sizeof(Pod__Device *));
    if (!b->plan->devices)
        return plan_no_memory(b->err);
    // A /dev that the config mounts is the host's own: nodes made there would be made on the host.
    bool own_dev = !plan_is_covered(c, "/dev", false);
    for (size_t i = 0; own_dev && i < ARRAY_SIZE(default_nodes); i++) {
        struct stat st = {.st_mode = S_IFCHR | 0666,
                          .st_rdev = makedev(default_nodes[i].major, default_nodes[i].minor)};
        if (add_node(b, default_nodes[i].path, &st) < 0)
            return plan_no_memory(b->err);
    }
    if (own_dev && plan_security(c)->privileged) {
        struct walk w = {.fn = add_host_node, .arg = b, .host_dev = true, .left = PLAN_DEVICES_MAX};
        int fd = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = fd < 0 ? -errno : walk_dir(&w, fd, "/dev", 0);
        if (r < 0)
            return error_errno(b->err, -r, "read the host's /dev for a privileged container");
    }
    for (size_t i = 0; i < c->n_devices; i++) {
        int r = each_node(c->devices[i], i, add_config_node, b, b->err);
        if (r < 0)
            return r;
    }
    return 0;
}

struct rule_list {
    struct cgroup_device_rule *rules;
    size_t n;
    const char *access;
};

static int add_rule(void *arg, const char *container, const struct stat *st)
{
    (void)container;
    struct rule_list *l = arg;
    if (l->n == PLAN_DEVICES_MAX)
        return -E2BIG;
    l->rules[l->n++] = (struct cgroup_device_rule){.type = S_ISBLK(st->st_mode) ? 'b' : 'c',
                                                   .major = major(st->st_rdev),
                                                   .minor = minor(st->st_rdev),
                                                   .access = l->access};
    return 0;
}

int plan_device_rules(const struct plan_input *in, struct arena *arena, struct cgroup_devices *out,
                      struct error *err)
{
    const Cri__ContainerConfig *config = in->config;
    struct rule_list l = {0};
    *out = (struct cgroup_devices){.allow_all = plan_security(config)->privileged};
    if (out->allow_all || (config->n_devices == 0 && !in->cdi))
        return 0;
    l.rules = arena_alloc(arena, PLAN_DEVICES_MAX * sizeof(*l.rules));
    if (!l.rules)
        return plan_no_memory(err);
    for (size_t i = 0; i < config->n_devices; i++) {
        const char *permissions = config->devices[i]->permissions;
        l.access = str_empty(permissions) ? "rwm" : permissions;
        int r = each_node(config->devices[i], i, add_rule, &l, err);
        if (r < 0)
            return r;
    }
    int r = in->cdi ? plan_add_cdi_rules(in->cdi, l.rules, PLAN_DEVICES_MAX, &l.n, err) : 0;
    if (r < 0)
        return r;
    out->rules = l.rules;
    out->n_rules = l.n;
    return 0;
}
