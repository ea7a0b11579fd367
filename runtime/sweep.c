// At start: what belongs to nobody is removed. What is busy is tried again in the background, which is safe
// at any time: pods and containers are in the maps before anything of theirs is made.
#include "runtime/store.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/selinux.h"

static bool is_known(struct runtime *rt, const char *id)
{
    store_lock(rt);
    bool known = map_get(rt->pods, id) || map_get(rt->containers, id);
    store_unlock(rt);
    return known;
}

// The leaves in a pod's place that are this daemon's (cgroup_children() sees no others) and that nobody owns.
// Pods may share a parent, so all known ones are spared. 0, or -errno while one is busy.
static int sweep_place(struct runtime *rt, const char *place)
{
    _cleanup_strv_ char **names = NULL;
    int r = 0;
    if (cgroup_children(rt->cgroups, place, &names, NULL) < 0)
        return 0; // it isn't there
    for (char **name = names; *name; name++) {
        char leaf[CGROUP_PATH_MAX];
        if (!str_is_hex(*name, RUNTIME_ID_LEN) || is_known(rt, *name) ||
            cgroup_leaf_path(place, *name, leaf, NULL) < 0)
            continue;
        (void)cgroup_kill(rt->cgroups, leaf, NULL);
        int one = cgroup_remove(rt->cgroups, leaf, NULL);
        r = r < 0 ? r : one;
    }
    return r;
}

// ---- Pods without a record ----

struct stray {
    struct runtime *rt;
    char id[RUNTIME_ID_LEN + 1];
};

static int sweep_stray(struct runtime *rt, const char *id, struct error *err)
{
    struct rundir_state state = {0};
    char dir[PATH_MAX];
    int r = 0;
    snprintf(dir, sizeof(dir), "%s/%s", rt->pods_dir, id);
    supervisor_end_stray(rt, dir);
    if (rundir_read_state(dir, &state, NULL) == 0 && state.cgroup[0]) {
        r = sweep_place(rt, state.cgroup);
        if (r == 0 && cgroup_pod_owns(state.cgroup, id)) // its own: whatever is in it goes too
            r = cgroup_remove(rt->cgroups, state.cgroup, err);
        if (r == 0)
            r = cgroup_pod_remove(rt->cgroups, state.cgroup, state.cgroup_levels, err);
    }
    return r < 0 ? r : rundir_remove(dir, err); // last, as it tells of the rest
}

static int stray_job(void *data, unsigned attempt)
{
    struct stray *stray = data;
    struct error err = ERROR_INIT;
    int r = is_known(stray->rt, stray->id) ? 0 : sweep_stray(stray->rt, stray->id, &err);
    if (r < 0 && attempt == 6)
        log_warn("a pod that no record knows cannot be swept yet", "pod", stray->id, "error", err.message);
    return r;
}

static void sweep_run_dirs(struct runtime *rt)
{
    _cleanup_(dir_closep) DIR *dir = opendir(rt->pods_dir);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (!str_is_hex(entry->d_name, RUNTIME_ID_LEN) || is_known(rt, entry->d_name))
            continue;
        log_warn("sweeping a pod that no record knows", "pod", entry->d_name);
        struct stray *stray = calloc(1, sizeof(*stray));
        if (!stray) // the next start does it
            return;
        stray->rt = rt;
        memcpy(stray->id, entry->d_name, RUNTIME_ID_LEN);
        (void)worker_add(rt->worker, stray_job, free, stray, 0);
    }
}

// ---- Leaves without a record: a crash came between making a container's cgroup and recording it ----

static int place_job(void *data, unsigned attempt)
{
    struct pod *pod = data;
    (void)attempt;
    return sweep_place(pod->private->rt, pod->private->cgroup);
}

static void place_drop(void *data)
{
    pod_unref(data);
}

static bool has_level(void *data, const char *pod_id)
{
    return is_known(data, pod_id);
}

void runtime_sweep(struct runtime *rt)
{
    struct pod **pods;
    size_t n;
    sweep_run_dirs(rt);
    selinux_level_sweep(rt->run_dir, has_level, rt);
    if (runtime_pod_list(rt, true, &pods, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        if (sweep_place(rt, pods[i]->private->cgroup) < 0)
            (void)worker_add(rt->worker, place_job, place_drop, pod_ref(pods[i]), 20 * NS_PER_MS);
    }
    runtime_pods_free(pods, n);
}
