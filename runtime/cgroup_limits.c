// Limits of a place that is there: changing them, and telling what they are.
#include <jansson.h>
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

// ---- As text: {"cgroup": PATH, "files": [[MOUNT_POINT, FILE, VALUE]…]} ----

static char *undo_text(const struct cgroup_host *h, const struct cgroup_undo *u)
{
    json_t *files = json_array(), *all = json_pack("{s:s, s:o}", "cgroup", u->path, "files", files);
    bool whole = all != NULL;
    for (size_t i = 0; whole && i < u->ws.n; i++) {
        const struct cgroup_write *w = &u->ws.w[i];
        json_t *one = json_pack("[sss]", h->hierarchies[w->root - h->fds].mount_point, w->file, w->before);
        whole = one && json_array_append_new(files, one) == 0;
    }
    char *text = whole ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    return text;
}

static int add_parsed(struct cgroup_host *h, json_t *one, struct cgroup_writes *ws)
{
    const char *mount_point, *file, *before;
    if (json_unpack(one, "[sss!]", &mount_point, &file, &before) < 0 || ws->n == CGROUP_WRITES_MAX)
        return -EINVAL;
    for (size_t i = 0; i < h->n; i++) {
        if (!str_eq(h->hierarchies[i].mount_point, mount_point))
            continue;
        struct cgroup_write *w = &ws->w[ws->n++];
        *w = (struct cgroup_write){
            .root = &h->fds[i], .field = "", .file = strdup(file), .before = strdup(before)};
        return w->file && w->before ? 0 : -ENOMEM;
    }
    return -ENODEV;
}

int cgroup_undo_parse(struct cgroup_host *h, const char *text, struct cgroup_undo **out, struct error *err)
{
    struct cgroup_undo *u __attribute__((cleanup(undo_freep))) = calloc(1, sizeof(*u));
    json_t *all = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *files = NULL;
    const char *path = NULL;
    int r = u ? 0 : -ENOMEM;
    if (r == 0 && (json_unpack(all, "{s:s, s:o}", "cgroup", &path, "files", &files) < 0 ||
                   !json_is_array(files) || !cgroup_path_is_sane(path) || strlen(path) >= sizeof(u->path)))
        r = -EINVAL;
    if (r == 0)
        memcpy(u->path, path, strlen(path) + 1);
    for (size_t i = 0; r == 0 && i < json_array_size(files); i++)
        r = add_parsed(h, json_array_get(files, i), &u->ws);
    json_decref(all);
    if (r < 0)
        return error_errno(err, -r, "read what the limits of a cgroup were");
    *out = steal_ptr(&u);
    return 0;
}

// ---- Changing ----

int cgroup_update(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                  struct cgroup_undo **undo, struct error *err)
{
    static const struct cgroup_update_more nothing;
    return cgroup_update_with(h, path, resources, &nothing, undo, err);
}

// v1's cpusets have to be changed level by level.
static int compile(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                   const struct cgroup_update_more *more, struct cgroup_writes *ws, struct error *err)
{
    const struct cgroup_hierarchy_fd *cpuset = h->v2 ? NULL : cgroup_root_of(h, CGROUP_CPUSET);
    Cri__LinuxContainerResources rest = *resources;
    if (!cpuset)
        return h->driver->compile(h, path, resources, false, ws, err);
    rest.cpuset_cpus = rest.cpuset_mems = (char *)"";
    int r = h->driver->compile(h, path, &rest, false, ws, err);
    if (r == 0)
        r = cgroup_cpuset_add(cpuset, path, CPUSET_FIELD "cpus", "cpuset.cpus", resources->cpuset_cpus,
                              more->leaves, more->n_leaves, ws, err);
    if (r == 0)
        r = cgroup_cpuset_add(cpuset, path, CPUSET_FIELD "mems", "cpuset.mems", resources->cpuset_mems,
                              more->leaves, more->n_leaves, ws, err);
    return r;
}

static int tell_journal(const struct cgroup_host *h, const struct cgroup_undo *u,
                        const struct cgroup_update_more *more, struct error *err)
{
    _cleanup_free_ char *text = more->journal ? undo_text(h, u) : NULL;
    if (!more->journal)
        return 0;
    return text ? more->journal(more->arg, text, err)
                : error_errno(err, ENOMEM, "note what the limits of cgroup %s are", u->path);
}

int cgroup_update_with(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                       const struct cgroup_update_more *more, struct cgroup_undo **undo, struct error *err)
{
    struct cgroup_undo *u __attribute__((cleanup(undo_freep))) = calloc(1, sizeof(*u));
    if (!u || strlen(path) >= sizeof(u->path))
        return error_errno(err, u ? ENAMETOOLONG : ENOMEM, "change the limits of cgroup %.300s", path);
    memcpy(u->path, path, strlen(path) + 1);
    int r = compile(h, path, resources, more, &u->ws, err);
    if (r == 0)
        r = cgroup_writes_note(path, &u->ws, err);
    if (r == 0)
        r = tell_journal(h, u, more, err);
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
