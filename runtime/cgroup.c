// Places of pods and containers: made, filled with limits, removed.
#include "runtime/cgroup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_bus.h"
#include "runtime/cgroup_extra.h"
#include "runtime/cgroup_internal.h"

_Static_assert(CGROUP_HIERARCHIES_MAX <= 32, "make_level() counts them in bits");

#define MAKE_TRIES 4 // against somebody who removes an empty parent at the same time

int cgroup_host_open(const struct cgroup_options *o, struct cgroup_host **out, struct error *err)
{
    struct cgroup_host *h = calloc(1, sizeof(*h));
    if (!h)
        return error_errno(err, ENOMEM, "open the cgroups");
    (void)pthread_rwlock_init(&h->slice_lock, NULL);
    h->manager = str_eq(o->driver, "systemd") ? &cgroup_manager_systemd : &cgroup_manager_cgroupfs;
    int r = cgroup_detect(h, o->mountinfo ? o->mountinfo : "/proc/self/mountinfo", err);
    if (r == 0) {
        h->driver = h->v2 ? &cgroup_driver_v2 : &cgroup_driver_v1;
        h->owner = strndup(o->owner ? o->owner : "crisp", CGROUP_OWNER_MAX - 1);
        r = h->owner ? h->manager->open(h, o, err) : error_errno(err, ENOMEM, "open the cgroups");
    }
    if (r < 0) {
        cgroup_host_close(h);
        return r;
    }
    *out = h;
    return 0;
}

void cgroup_host_close(struct cgroup_host *h)
{
    if (!h)
        return;
    h->manager->close(h);
    cgroup_bus_close(h->bus);
    for (size_t i = 0; i < h->n; i++) {
        fd_closep(&h->fds[i].fd);
        free((char *)h->hierarchies[i].name);
        free((char *)h->hierarchies[i].data);
        free((char *)h->hierarchies[i].mount_point);
    }
    cgroup_bpf_cache_free(h->bpf);
    (void)pthread_rwlock_destroy(&h->slice_lock);
    free(h->parent);
    free(h->owner);
    free(h);
}

bool cgroup_host_is_v2(const struct cgroup_host *h)
{
    return h->v2;
}

size_t cgroup_host_hierarchies(const struct cgroup_host *h, const struct cgroup_hierarchy **out)
{
    *out = h->hierarchies;
    return h->n;
}

const struct cgroup_hierarchy_fd *cgroup_root_of(const struct cgroup_host *h, enum cgroup_controller c)
{
    for (size_t i = 0; i < h->n; i++) {
        if (h->controllers[i] & (1u << c))
            return &h->fds[i];
    }
    return NULL;
}

bool cgroup_host_has(const struct cgroup_host *h, const char *controller)
{
    int c = cgroup_controller_parse(controller);
    return c >= 0 && cgroup_root_of(h, (enum cgroup_controller)c) != NULL;
}

static void unmake_level(const struct cgroup_host *h, const char *path, uint32_t made)
{
    for (size_t i = 0; i < h->n; i++) {
        if (made & (1u << i))
            (void)unlinkat(h->fds[i].fd, path + 1, AT_REMOVEDIR);
    }
}

// Makes one level in every hierarchy, or in none. *existed: it was there in at least one of them.
static int make_level(struct cgroup_host *h, const char *path, bool *existed, bool *missing_parent,
                      struct error *err)
{
    uint32_t made = 0;
    *existed = *missing_parent = false;
    for (size_t i = 0; i < h->n; i++) {
        if (mkdirat(h->fds[i].fd, path + 1, 0755) == 0) {
            made |= 1u << i;
            continue;
        }
        int errnum = errno;
        if (errnum == EEXIST) {
            *existed = true;
            continue;
        }
        unmake_level(h, path, made);
        *missing_parent = errnum == ENOENT;
        bool ours = errnum != EROFS && errnum != EACCES && errnum != EPERM;
        return *missing_parent
                   ? 0
                   : error_errno(err, errnum, "make the cgroup %s%s%s", h->hierarchies[i].mount_point, path,
                                 ours ? ""
                                      : " (a crispd in a container needs a writable cgroup file system and a "
                                        "cgroup of its own: run that container privileged)");
    }
    return 0;
}

static int make_path(struct cgroup_host *h, const char *path, bool leaf, uint32_t *made, struct error *err)
{
    unsigned levels = cgroup_path_levels(path);
    *made = 0;
    for (unsigned n = 1; n <= levels; n++) {
        char step[CGROUP_PATH_MAX];
        bool existed, missing;
        cgroup_path_prefix(path, n, step);
        int r = make_level(h, step, &existed, &missing, err);
        if (r < 0)
            return r;
        if (missing)
            return -EAGAIN; // somebody removed the level above just now
        *made = existed ? 0 : *made + 1;
        r = h->driver->made(h, step, leaf && n == levels, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int cgroup_make_path(struct cgroup_host *h, const char *path, bool leaf, uint32_t *made, struct error *err)
{
    for (int i = 0; i < MAKE_TRIES; i++) {
        (void)pthread_rwlock_rdlock(&h->slice_lock);
        int r = make_path(h, path, leaf, made, err);
        (void)pthread_rwlock_unlock(&h->slice_lock);
        if (r != -EAGAIN)
            return r;
    }
    return error_set(err, STATUS_UNAVAILABLE, EAGAIN, "make the cgroup %s: its parent keeps being removed",
                     path);
}

// ---- Levels above pods' places ----

static int level_dir(const struct cgroup_host *h, size_t i, const char *path, char dir[PATH_MAX])
{
    int n = snprintf(dir, PATH_MAX, "%s%s", h->hierarchies[i].mount_point, path);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

// In every hierarchy: systemd may drop the level from some.
void cgroup_hand_over(struct cgroup_host *h, const char *pod_path, unsigned gone, uint32_t made_levels)
{
    unsigned levels = cgroup_path_levels(pod_path);
    for (unsigned end = made_levels > gone ? made_levels : gone + 1; gone < end && gone < levels; gone++) {
        char step[CGROUP_PATH_MAX], dir[PATH_MAX];
        cgroup_path_prefix(pod_path, levels - gone, step);
        if (str_eq(step, h->parent))
            return;
        for (size_t i = 0; i < h->n; i++) {
            if (level_dir(h, i, step, dir) == 0)
                (void)setxattr(dir, CGROUP_LEVEL_XATTR, h->owner, strlen(h->owner), 0);
        }
    }
}

bool cgroup_is_handed_over(struct cgroup_host *h, const char *path)
{
    bool marked = false;
    (void)pthread_rwlock_rdlock(&h->slice_lock);
    for (size_t i = 0; i < h->n && !marked; i++) {
        char dir[PATH_MAX], mark[CGROUP_OWNER_MAX];
        ssize_t n = -1;
        if (level_dir(h, i, path, dir) == 0)
            n = getxattr(dir, CGROUP_LEVEL_XATTR, mark, sizeof(mark));
        marked = n >= 0 && (size_t)n == strlen(h->owner) && memcmp(mark, h->owner, (size_t)n) == 0;
    }
    (void)pthread_rwlock_unlock(&h->slice_lock);
    return marked;
}

// A pod that was made while the other driver was configured is removed by the one that made it, where that
// can be.
static const struct cgroup_manager *manager_of(struct cgroup_host *h, const char *pod_path)
{
    if (!cgroup_path_is_scope(pod_path))
        return &cgroup_manager_cgroupfs;
    if (h->manager == &cgroup_manager_systemd)
        return h->manager;
    (void)pthread_rwlock_wrlock(&h->slice_lock);
    if (!h->bus && !h->bus_tried && access(CGROUP_SYSTEMD_BOOTED, F_OK) == 0)
        (void)cgroup_bus_open(NULL, &h->bus, NULL);
    h->bus_tried = true;
    bool there = h->bus != NULL;
    (void)pthread_rwlock_unlock(&h->slice_lock);
    return there ? &cgroup_manager_systemd : &cgroup_manager_cgroupfs;
}

int cgroup_pod_create(struct cgroup_host *h, const char *pod_path, uint32_t *made_levels, struct error *err)
{
    return h->manager->pod_create(h, pod_path, made_levels, err);
}

int cgroup_pod_enter(struct cgroup_host *h, const char *pod_path, const char *leaf, pid_t pid,
                     struct error *err)
{
    return h->manager->pod_enter(h, pod_path, leaf, pid, err);
}

int cgroup_pod_remove(struct cgroup_host *h, const char *pod_path, uint32_t made_levels, struct error *err)
{
    return manager_of(h, pod_path)->pod_remove(h, pod_path, made_levels, err);
}

static int apply(struct cgroup_host *h, const char *path, const struct cgroup_limits *limits,
                 const struct cgroup_devices *devices, struct error *err)
{
    struct cgroup_writes ws = {.n = 0};
    int r = limits ? cgroup_writes_add_settings(h, path, limits, &ws, err) : 0;
    if (r == 0 && limits && limits->resources)
        r = h->driver->compile(h, path, limits->resources, true, &ws, err);
    if (r == 0)
        r = cgroup_writes_run(path, &ws, false, err);
    cgroup_writes_done(&ws);
    return r < 0 || !devices ? r : h->driver->devices(h, path, devices, err);
}

// Where marks can't be set, no sweep will ever find the leaf: the safe side.
static void mark(const struct cgroup_host *h, const char *path)
{
    char dir[PATH_MAX];
    int n = snprintf(dir, sizeof(dir), "%s%s", h->hierarchies[0].mount_point, path);
    if (n > 0 && (size_t)n < sizeof(dir))
        (void)setxattr(dir, CGROUP_OWNER_XATTR, h->owner, strlen(h->owner), 0);
}

int cgroup_create(struct cgroup_host *h, const char *path, const struct cgroup_limits *limits,
                  const struct cgroup_devices *devices, struct error *err)
{
    bool existed, missing;
    int r = make_level(h, path, &existed, &missing, err);
    if (r == 0 && missing) { // the pod's place is gone, or the leaf needs more than one level
        uint32_t made;
        r = cgroup_make_path(h, path, true, &made, err);
    } else if (r == 0) {
        r = h->driver->made(h, path, true, err);
    }
    if (r == 0) {
        mark(h, path);
        r = apply(h, path, limits, devices, err);
    }
    if (r < 0)
        (void)cgroup_remove(h, path, NULL);
    return r;
}

static char *place_dir(const struct cgroup_host *h, const struct cgroup_hierarchy_fd *root, const char *path,
                       struct arena *arena)
{
    return root ? arena_printf(arena, "%s%s", h->hierarchies[root - h->fds].mount_point, path)
                : arena_strdup(arena, "");
}

int cgroup_place(const struct cgroup_host *h, const char *path, struct arena *arena, Pod__CgroupPlace **place,
                 struct error *err)
{
    Pod__CgroupPlace *p = arena_alloc(arena, sizeof(*p));
    char **dirs = arena_alloc(arena, h->n * sizeof(*dirs));
    if (!p || !dirs)
        return error_errno(err, ENOMEM, "describe the cgroup %s", path);
    pod__cgroup_place__init(p);
    p->dirs = dirs;
    p->v2 = h->v2;
    bool whole = true;
    for (size_t i = 0; i < h->n; i++) {
        dirs[p->n_dirs] = place_dir(h, &h->fds[i], path, arena);
        whole = whole && dirs[p->n_dirs++];
    }
    p->freezer_dir = place_dir(h, h->v2 ? NULL : cgroup_root_of(h, CGROUP_FREEZER), path, arena);
    p->memory_dir = place_dir(h, h->v2 ? &h->fds[0] : cgroup_root_of(h, CGROUP_MEMORY), path, arena);
    if (!p->freezer_dir || !p->memory_dir || !whole)
        return error_errno(err, ENOMEM, "describe the cgroup %s", path);
    *place = p;
    return 0;
}

// A damaged record must never make "the place and all below it" the whole host.
static int check_place(const char *path, struct error *err)
{
    return cgroup_path_is_sane(path)
               ? 0
               : error_set(err, STATUS_INTERNAL, EINVAL, "\"%.300s\" is not the path of a cgroup", path);
}

int cgroup_kill(struct cgroup_host *h, const char *path, struct error *err)
{
    int r = check_place(path, err);
    if (r < 0)
        return r;
    return h->driver->kill(h, path, err);
}

static void count_pid(pid_t pid, void *arg)
{
    (void)pid;
    (void)arg;
}

bool cgroup_frozen_above(struct cgroup_host *h, const char *path, char out[CGROUP_PATH_MAX])
{
    const struct cgroup_hierarchy_fd *freezer = h->v2 ? NULL : cgroup_root_of(h, CGROUP_FREEZER);
    for (unsigned levels = cgroup_path_levels(path); freezer && levels > 0; levels--) {
        int64_t frozen = 0;
        cgroup_path_prefix(path, levels, out);
        if (cgroup_file_read_i64(freezer, out, "freezer.self_freezing", &frozen) == 0 && frozen == 1)
            return true;
    }
    return false;
}

bool cgroup_populated(struct cgroup_host *h, const char *path)
{
    if (h->v2) {
        int64_t populated = 0;
        return cgroup_file_read_key(&h->fds[0], path, "cgroup.events", "populated", &populated) == 0 &&
               populated != 0;
    }
    for (size_t i = 0; i < h->n; i++) {
        if (cgroup_each_pid(&h->fds[i], path, count_pid, NULL) > 0)
            return true;
    }
    return false;
}

int cgroup_remove(struct cgroup_host *h, const char *path, struct error *err)
{
    int result = check_place(path, err);
    size_t where = 0;
    if (result < 0)
        return result;
    cgroup_release_realtime(h, path);   // the kernel would count it until it has freed what is removed
    for (size_t i = 0; i < h->n; i++) { // all of them, also when one is busy
        int r = cgroup_rmdir_tree(&h->fds[i], path);
        if (r < 0 && result == 0) {
            result = r;
            where = i;
        }
    }
    return result < 0
               ? error_errno(err, -result, "remove the cgroup %s%s", h->hierarchies[where].mount_point, path)
               : 0;
}

int64_t cgroup_oom_kills(struct cgroup_host *h, const char *path)
{
    return h->driver->oom_kills(h, path);
}
