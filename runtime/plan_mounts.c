// The container's mounts, in order: what every container has, the pod's files, and those of its own
// (plan_volumes.c).
#include "runtime/plan_internal.h"

#include <linux/mount.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup.h"

#define NOSUID MOUNT_ATTR_NOSUID
#define NODEV  MOUNT_ATTR_NODEV
#define NOEXEC MOUNT_ATTR_NOEXEC

bool plan_is_covered(const Cri__ContainerConfig *config, const char *destination, bool parents)
{
    for (size_t i = 0; i < config->n_mounts; i++) {
        // Compared component by component: "/data/" and "//data" are /data.
        const char *at = config->mounts[i]->container_path, *to = destination;
        bool same = true;
        while (same) {
            at += strspn(at, "/");
            to += strspn(to, "/");
            size_t len = strcspn(at, "/");
            if (len == 1 && *at == '.') {
                at++;
                continue;
            }
            if (len == 0)
                break;
            same = strcspn(to, "/") == len && strncmp(at, to, len) == 0;
            at += len;
            to += same ? len : 0;
        }
        if (same && (parents || *to == '\0'))
            return true;
    }
    return false;
}

Pod__Mount *plan_new_mount(struct plan_builder *b, const char *destination, const char *type,
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
    if (!plan_is_covered(b->in->config, destination, true))
        (void)plan_new_mount(b, destination, type, type, flags, data);
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
    // In a volume at /etc they are mounted all the same, as peers do; in a host's /dev they aren't.
    if (str_empty(source) ||
        plan_is_covered(b->in->config, destination, str_has_prefix(destination, "/dev/")))
        return;
    Pod__Mount *m = plan_new_mount(b, destination, "bind", source, flags, "");
    if (!m)
        return;
    m->propagation = POD__PROPAGATION__PROPAGATION_PRIVATE;
    m->optional = true; // a read-only volume at /etc may have no place for them
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

// Parents before children: a mount on /data must not cover one on /data/cache, nor one on /etc the pod's
// /etc/hosts. Equal depths keep their order.
static int sort_mounts(struct plan_builder *b)
{
    Pod__Mount **sorted = arena_alloc(b->arena, PLAN_MOUNTS_MAX * sizeof(*sorted));
    size_t n = b->plan->n_mounts, done = 0;
    if (!sorted)
        return plan_no_memory(b->err);
    for (unsigned depth = 0; done < n; depth++) {
        for (size_t i = 0; i < n; i++) {
            if (depth_of(b->plan->mounts[i]->destination) == depth)
                sorted[done++] = b->plan->mounts[i];
        }
    }
    b->plan->mounts = sorted;
    return 0;
}

int plan_add_mounts(struct plan_builder *b)
{
    b->plan->mounts = arena_alloc(b->arena, PLAN_MOUNTS_MAX * sizeof(Pod__Mount *));
    if (!b->plan->mounts)
        return plan_no_memory(b->err);
    add_defaults(b);
    add_pod_files(b);
    int r = plan_add_config_mounts(b);
    if (r == 0)
        r = plan_add_volumes(b);
    if (r == 0)
        r = plan_add_tmpfs(b);
    return r < 0 || b->out_of_memory ? r : sort_mounts(b);
}
