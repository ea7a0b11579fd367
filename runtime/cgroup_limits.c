// Limits of a place that is there: changing them, and telling what they are.
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define CPUSET_FIELD "linux.resources.cpuset_"

struct cgroup_undo {
    struct cgroup_writes ws;
    char path[CGROUP_PATH_MAX];
};

void cgroup_undo_free(struct cgroup_undo *undo)
{
    if (undo)
        cgroup_writes_done(&undo->ws);
    free(undo);
}

static void undo_freep(struct cgroup_undo **undo)
{
    cgroup_undo_free(*undo);
}

int cgroup_update(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                  struct cgroup_undo **undo, struct error *err)
{
    return cgroup_update_pod(h, path, resources, NULL, 0, undo, err);
}

int cgroup_update_pod(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                      const struct cgroup_leaf *leaves, size_t n_leaves, struct cgroup_undo **undo,
                      struct error *err)
{
    struct cgroup_undo *u __attribute__((cleanup(undo_freep))) = calloc(1, sizeof(*u));
    const struct cgroup_hierarchy_fd *cpuset = h->v2 ? NULL : cgroup_root_of(h, CGROUP_CPUSET);
    Cri__LinuxContainerResources rest = *resources;
    if (!u || strlen(path) >= sizeof(u->path))
        return error_errno(err, u ? ENAMETOOLONG : ENOMEM, "change the limits of cgroup %.300s", path);
    memcpy(u->path, path, strlen(path) + 1);
    if (cpuset)
        rest.cpuset_cpus = rest.cpuset_mems = (char *)"";
    int r = h->driver->compile(h, path, &rest, false, &u->ws, err);
    if (r == 0 && cpuset)
        r = cgroup_cpuset_add(cpuset, path, CPUSET_FIELD "cpus", "cpuset.cpus", resources->cpuset_cpus,
                              leaves, n_leaves, &u->ws, err);
    if (r == 0 && cpuset)
        r = cgroup_cpuset_add(cpuset, path, CPUSET_FIELD "mems", "cpuset.mems", resources->cpuset_mems,
                              leaves, n_leaves, &u->ws, err);
    if (r == 0)
        r = cgroup_writes_run(path, &u->ws, true, err);
    if (r == 0 && undo)
        *undo = steal_ptr(&u);
    return r;
}

int cgroup_undo_update(struct cgroup_host *h, const struct cgroup_undo *undo, struct error *err)
{
    (void)h;
    return cgroup_writes_undo(undo->path, &undo->ws, err);
}

int cgroup_read_resources(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *asked,
                          struct arena *arena, Cri__LinuxContainerResources **out, struct error *err)
{
    Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    Cri__LinuxContainerResources *r =
        (Cri__LinuxContainerResources *)pb_dup(asked ? &asked->base : &none.base, arena);
    if (!r)
        return error_errno(err, ENOMEM, "read the resources of %s", path);
    int n = h->driver->read(h, path, arena, r);
    if (n < 0)
        return error_errno(err, -n, "read the resources of cgroup %s", path);
    *out = r;
    return 0;
}
