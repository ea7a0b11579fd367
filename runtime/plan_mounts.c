// The container's mounts: what every container has, the pod's files, and the config's own, in order.
#include "runtime/plan_internal.h"

#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/cgroup.h"

#define NOSUID MOUNT_ATTR_NOSUID
#define NODEV  MOUNT_ATTR_NODEV
#define NOEXEC MOUNT_ATTR_NOEXEC

const Cri__Mount *plan_find_mount(const Cri__ContainerConfig *config, const char *destination)
{
    size_t len = strlen(destination);
    for (size_t i = 0; i < config->n_mounts; i++) {
        const char *path = config->mounts[i]->container_path;
        // Compared as written but for trailing slashes: kubelet sends clean paths.
        if (strncmp(path, destination, len) == 0 && path[len + strspn(path + len, "/")] == '\0')
            return config->mounts[i];
    }
    return NULL;
}

// Does the config mount over this default, or over the directory of defaults that it is in?
static bool is_overridden(const struct plan_builder *b, const char *destination)
{
    static const char *const whole[] = {"/dev", "/sys", "/proc"};
    if (plan_find_mount(b->in->config, destination))
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
        size_t len = strlen(whole[i]);
        if (str_has_prefix(destination, whole[i]) && destination[len] == '/' &&
            plan_find_mount(b->in->config, whole[i]))
            return true;
    }
    return str_has_prefix(destination, "/sys/fs/cgroup/") &&
           plan_find_mount(b->in->config, "/sys/fs/cgroup") != NULL;
}

static Pod__Mount *add_mount(struct plan_builder *b, const char *destination, const char *type,
                             const char *source, uint64_t flags, const char *data)
{
    Pod__Mount *m = arena_alloc(b->arena, sizeof(*m));
    if (!m || b->plan->n_mounts == PLAN_MOUNTS_MAX) {
        b->out_of_memory = true;
        return NULL;
    }
    pod__mount__init(m);
    m->destination = (char *)destination;
    m->type = (char *)type;
    m->source = (char *)source;
    m->flags = flags;
    m->data = (char *)data;
    b->plan->mounts[b->plan->n_mounts++] = m;
    return m;
}

static void add_default(struct plan_builder *b, const char *destination, const char *type, uint64_t flags,
                        const char *data)
{
    if (!is_overridden(b, destination))
        (void)add_mount(b, destination, type, type, flags, data);
}

static void add_cgroups(struct plan_builder *b, bool writable)
{
    const struct cgroup_hierarchy *hierarchies;
    size_t n = cgroup_host_hierarchies(b->policy->cgroups, &hierarchies);
    uint64_t flags = NOSUID | NODEV | NOEXEC | (writable ? 0 : MOUNT_ATTR_RDONLY);
    if (cgroup_host_is_v2(b->policy->cgroups)) {
        add_default(b, "/sys/fs/cgroup", "cgroup2", flags, "");
        return;
    }
    // As many inodes as there are directories to mount on: nothing else can be put there.
    add_default(b, "/sys/fs/cgroup", "tmpfs", NOSUID | NODEV | NOEXEC,
                arena_printf(b->arena, "mode=755,size=4k,nr_inodes=%zu", n + 1));
    for (size_t i = 0; i < n; i++) {
        char *path = arena_printf(b->arena, "/sys/fs/cgroup/%s", hierarchies[i].name);
        if (path)
            add_default(b, path, "cgroup", flags, arena_strdup(b->arena, hierarchies[i].data));
        else
            b->out_of_memory = true;
    }
}

static void add_defaults(struct plan_builder *b)
{
    bool privileged = plan_security(b->in->config)->privileged;
    add_default(b, "/proc", "proc", NOSUID | NODEV | NOEXEC, "");
    add_default(b, "/dev", "tmpfs", NOSUID | MOUNT_ATTR_STRICTATIME, "mode=755,size=65536k");
    add_default(b, "/dev/pts", "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    add_default(b, "/dev/mqueue", "mqueue", NOSUID | NODEV | NOEXEC, "");
    add_default(b, "/sys", "sysfs", NOSUID | NODEV | NOEXEC | (privileged ? 0 : MOUNT_ATTR_RDONLY), "");
    add_cgroups(b, privileged);
}

static void add_pod_file(struct plan_builder *b, const char *destination, const char *source, uint64_t flags)
{
    if (str_empty(source) || is_overridden(b, destination))
        return;
    Pod__Mount *m = add_mount(b, destination, "bind", source, flags, "");
    if (m)
        m->propagation = POD__PROPAGATION__PROPAGATION_PRIVATE;
}

static void add_pod_files(struct plan_builder *b)
{
    const struct plan_input *in = b->in;
    uint64_t readonly = plan_security(in->config)->readonly_rootfs ? MOUNT_ATTR_RDONLY : 0;
    add_pod_file(b, "/dev/shm", in->shm_path, NOSUID | NODEV | NOEXEC);
    add_pod_file(b, "/etc/hosts", in->hosts_path, readonly);
    add_pod_file(b, "/etc/hostname", in->hostname_path, readonly);
    add_pod_file(b, "/etc/resolv.conf", in->resolv_conf_path, readonly);
}

static unsigned depth_of(const char *clean)
{
    unsigned n = 0;
    for (const char *p = clean; *p; p++)
        n += *p == '/';
    return n;
}

static Pod__Propagation propagation_of(Cri__MountPropagation p)
{
    switch (p) {
    case CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER:
        return POD__PROPAGATION__PROPAGATION_SLAVE;
    case CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL:
        return POD__PROPAGATION__PROPAGATION_SHARED;
    default:
        return POD__PROPAGATION__PROPAGATION_PRIVATE;
    }
}

// A path that can't be is the client's mistake; a full or failing disk isn't.
static int bad_source(struct error *err, int errnum)
{
    static const int mistakes[] = {ENOENT, ENOTDIR, EEXIST, ELOOP, ENAMETOOLONG, EACCES, EPERM, EROFS};
    for (size_t i = 0; err && i < ARRAY_SIZE(mistakes); i++) {
        if (errnum == mistakes[i])
            error_restatus(err, STATUS_INVALID_ARGUMENT);
    }
    return -errnum;
}

// Peers make what is missing, and kubelet's hostPath type "" relies on it.
static int ensure_source(const Cri__Mount *config, size_t index, struct error *err)
{
    struct stat st;
    if (stat(config->host_path, &st) == 0)
        return 0;
    int errnum = errno;
    if (errnum != ENOENT) {
        (void)error_errno(err, errnum, "mounts[%zu].host_path \"%.200s\"", index, config->host_path);
        return bad_source(err, errnum);
    }
    int r = file_mkdir_p(config->host_path, 0755, err);
    if (r == 0)
        return 0;
    (void)error_wrap(err, "mounts[%zu].host_path \"%.200s\" is missing and can't be made", index,
                     config->host_path);
    return bad_source(err, -r);
}

static int add_config_mount(struct plan_builder *b, const Cri__Mount *config, size_t index, char *destination)
{
    int r = ensure_source(config, index, b->err);
    if (r < 0)
        return r;
    Pod__Mount *m =
        add_mount(b, destination, "bind", config->host_path, config->readonly ? MOUNT_ATTR_RDONLY : 0, "");
    if (!m)
        return plan_no_memory(b->err);
    m->recursive = true;
    m->recursive_readonly = config->recursive_read_only;
    m->propagation = propagation_of(config->propagation);
    return 0;
}

// Parents before children: a mount on /data must not cover one on /data/cache. Equal depths keep their order.
static int add_config_mounts(struct plan_builder *b)
{
    const Cri__ContainerConfig *c = b->in->config;
    char **destinations = arena_alloc(b->arena, (c->n_mounts + 1) * sizeof(*destinations));
    unsigned *depths = arena_alloc(b->arena, (c->n_mounts + 1) * sizeof(*depths)), deepest = 0;
    if (!destinations || !depths)
        return plan_no_memory(b->err);
    for (size_t i = 0; i < c->n_mounts; i++) {
        destinations[i] = plan_clean_path(b->arena, c->mounts[i]->container_path);
        if (!destinations[i])
            return plan_no_memory(b->err);
        depths[i] = depth_of(destinations[i]);
        deepest = depths[i] > deepest ? depths[i] : deepest;
    }
    for (unsigned depth = 1; depth <= deepest; depth++) {
        for (size_t i = 0; i < c->n_mounts; i++) {
            if (depths[i] != depth)
                continue;
            int r = add_config_mount(b, c->mounts[i], i, destinations[i]);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int plan_add_mounts(struct plan_builder *b)
{
    b->plan->mounts = arena_alloc(b->arena, PLAN_MOUNTS_MAX * sizeof(Pod__Mount *));
    if (!b->plan->mounts)
        return plan_no_memory(b->err);
    add_defaults(b);
    add_pod_files(b);
    return add_config_mounts(b);
}
