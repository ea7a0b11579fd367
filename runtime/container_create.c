// Making containers: their names, their plans, their records.
#include "runtime/store.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/annotation.h"
#include "runtime/cdi.h"
#include "runtime/hooks.h"
#include "runtime/plan.h"
#include "runtime/selinux.h"

#define PLAN_ARENA_MAX (16u << 20)
#define SETTINGS_MAX   32 // of a container's cgroup, beyond CRI's resources
// What crisp-pod can be sent: better refused now than at the start. execve(2) takes less anyway.
#define START_BYTES_MAX (PB_FRAME_MAX - 1024)

// ---- Claiming the name ----

static int conflict(const struct container *other, const Cri__ContainerConfig *config, struct error *err)
{
    char where[256];
    config_diff(&other->config->base, &config->base, where, sizeof(where));
    if (where[0])
        return error_set(
            err, STATUS_ALREADY_EXISTS, EEXIST,
            "container \"%s\" (attempt %u) exists in pod sandbox %s as %s, with another %s: remove it,"
            " or use the next attempt",
            config->metadata->name, config->metadata->attempt, other->pod->id, other->id, where);
    return error_set(
        err, STATUS_ALREADY_EXISTS, EEXIST,
        "container \"%s\" (attempt %u) exists in pod sandbox %s as %s, and was started already: remove"
        " it, or use the next attempt",
        config->metadata->name, config->metadata->attempt, other->pod->id, other->id);
}

static bool is_made(const void *owner)
{
    return ((const struct container_private *)owner)->state == CONTAINER_MAKING;
}

// Another call has the name. 1: that one's end was waited for, look again; 0: *out is to be used as it is.
// The lock is held, and released meanwhile.
static int adopt(struct runtime *rt, struct container *other, const Cri__ContainerConfig *config,
                 const struct ctx *ctx, struct container **out, struct error *err)
{
    struct container_private *p = other->private;
    container_ref(other);
    store_unlock(rt);
    bool same = pb_equal(&other->config->base, &config->base);
    store_lock(rt);
    const struct claim claim = {.same = same,
                                .under_way = is_made,
                                .owner = p,
                                .forgotten = &p->forgotten,
                                .failure = &p->failure,
                                .changed = &p->changed};
    int r = store_wait_claim(rt, &claim, ctx, err);
    if (r == 0 && same && p->state == CONTAINER_CREATED && !p->starting)
        *out = container_ref(other);
    else if (r == 0)
        r = conflict(other, config, err);
    store_unlock(rt); // the last reference frees: not under the lock
    container_unref(other);
    store_lock(rt);
    return r;
}

int runtime_container_claim(struct runtime *rt, struct pod *pod, const Cri__ContainerConfig *config,
                            const struct ctx *ctx, struct container **out, bool *made, struct error *err)
{
    struct error local = ERROR_INIT;
    err = err ? err : &local;
    *made = false;
    int r = policy_validate_container(rt->policy, pod->config, config, err);
    if (r < 0)
        return r;
    char id[RUNTIME_ID_LEN + 1];
    r = str_random_hex(id, RUNTIME_ID_LEN);
    if (r < 0)
        return error_errno(err, -r, "make a container id");
    struct container *c = container_new(rt, pod, id, clock_wall_unique_ns(), config, err);
    if (!c)
        return -err->errnum;

    store_lock(rt);
    do {
        struct container *other = map_get(rt->container_names, c->private->key);
        if (other) {
            r = adopt(rt, other, config, ctx, out, err);
        } else if (pod->private->state != POD_READY) {
            r = container_not_ready(pod, err);
        } else {
            r = store_add_container(rt, c);
            *made = r == 0;
            if (r < 0)
                error_errno(err, ENOMEM, "create container");
        }
    } while (r > 0);
    store_unlock(rt);
    if (*made)
        *out = steal_ptr(&c);
    container_unref(c);
    return r;
}

void runtime_container_abandon(struct runtime *rt, struct container *c, const struct error *why)
{
    struct error *failure = malloc(sizeof(*failure));
    if (failure)
        *failure = *why;
    container_ref(c);
    store_lock(rt);
    free(c->private->failure);
    c->private->failure = failure;
    store_drop_container(rt, c);
    notify_wake(&c->private->changed);
    store_unlock(rt);
    container_unref(c);
}

// ---- Creating ----

struct pod_files { // paths for the plan
    char hosts[PATH_MAX], hostname[PATH_MAX], resolv_conf[PATH_MAX], shm[PATH_MAX], bundle[PATH_MAX];
};

static void pod_file_paths(const struct pod *pod, struct pod_files *f)
{
    snprintf(f->hosts, sizeof(f->hosts), "%s/hosts", pod->dir);
    snprintf(f->hostname, sizeof(f->hostname), "%s/hostname", pod->dir);
    snprintf(f->resolv_conf, sizeof(f->resolv_conf), "%s/resolv.conf", pod->dir);
    if (policy_host_ipc(pod->config))
        snprintf(f->shm, sizeof(f->shm), "/dev/shm");
    else
        snprintf(f->shm, sizeof(f->shm), "%s/shm", pod->dir);
}

// In the plan's words.
static int fill_images(const struct container_rootfs *rootfs, struct arena *arena, struct plan_input *in,
                       struct error *err)
{
    struct plan_image *images = arena_alloc(arena, (rootfs->n_mounts + 1) * sizeof(*images));
    if (!images)
        return error_errno(err, ENOMEM, "build the launch plan");
    for (size_t i = 0; i < rootfs->n_mounts; i++) {
        const struct container_image_mount *m = &rootfs->mounts[i];
        images[i] = (struct plan_image){.mount = m->mount,
                                        .image_id = m->image_id,
                                        .lowers = (const char *const *)m->lowers,
                                        .n_lowers = m->n_lowers};
    }
    in->images = images;
    in->n_images = rootfs->n_mounts;
    return 0;
}

static void plan_input_fill(struct runtime *rt, const struct container *c,
                            const struct container_rootfs *rootfs, const struct pod_files *files,
                            struct plan_input *in)
{
    *in = (struct plan_input){
        .config = c->config,
        .pod = c->pod->config,
        .image = rootfs->image_config,
        .rootfs = {.layers_dir = rootfs->layers_dir,
                   .lowers = (const char *const *)rootfs->lowers,
                   .n_lowers = rootfs->n_lowers,
                   .upper = rootfs->upper,
                   .work = rootfs->work,
                   .volumes = rootfs->volumes},
        .id = c->id,
        .bundle = files->bundle,
        .hostname = rundir_hostname(rt, c->pod),
        .hosts_path = files->hosts,
        .hostname_path = files->hostname,
        .resolv_conf_path = files->resolv_conf,
        .shm_path = files->shm,
    };
}

// For containers whose options name no level: that of the pod's options, else the pod's own categories. room
// is for those.
static int find_level(struct runtime *rt, const struct pod *pod, char room[SELINUX_LEVEL_MAX],
                      const char **level, struct error *err)
{
    const Cri__LinuxPodSandboxConfig *l = pod->config->linux;
    const Cri__SELinuxOption *o = l && l->security_context ? l->security_context->selinux_options : NULL;
    *level = "";
    if (!rt->policy->selinux || !selinux_has_levels(rt->policy->selinux))
        return 0;
    *level = o && !str_empty(o->level) ? o->level : room;
    return *level == room ? selinux_level_claim(rt->run_dir, pod->id, room, err) : 0;
}

static int make_cgroup(struct runtime *rt, struct container *c, const struct plan_input *in,
                       struct arena *arena, struct error *err)
{
    const Cri__LinuxContainerConfig *l = c->config->linux;
    struct cgroup_devices devices;
    struct cgroup_setting settings[SETTINGS_MAX];
    struct cgroup_limits limits = {.resources = l ? l->resources : NULL, .settings = settings};
    char pids[24];
    if (rt->pids_limit > 0) { // an asker's own, by `unified`, is written after it
        (void)snprintf(pids, sizeof(pids), "%lld", (long long)rt->pids_limit);
        settings[limits.n_settings++] =
            (struct cgroup_setting){"runtime.pids_limit", "pids", "pids.max", pids};
    }
    int r = plan_device_rules(in, arena, &devices, err);
    if (r == 0)
        r = cgroup_create(rt->cgroups, c->cgroup, &limits, &devices, err);
    if (r < 0 || !in->annotations || !in->annotations->has_cgroup)
        return r;
    r = cgroup_apply_extra(rt->cgroups, c->cgroup, &in->annotations->cgroup, err);
    if (r < 0)
        container_remove_cgroup(rt, c);
    return r;
}

static int resolve_cdi(struct runtime *rt, const struct container *c, struct arena *arena,
                       struct cdi_set *set, struct error *err)
{
    char **names;
    size_t n;
    int r = cdi_list_requests(c->config, arena, &names, &n, err);
    return r < 0 ? r : cdi_resolve(rt->cdi, names, n, arena, set, err);
}

// A head start: crisp-pod may have a process build the root already. Nothing depends on it. Not in the host's
// pid namespace, where it would wait in sight of everybody, and not in one that may be another by then. Hooks
// run in a start, and before pivot_root.
static void post_prepare(struct runtime *rt, struct container *c, bool cgroup_later)
{
    Pod__PidMode mode = c->private->start->pid_mode;
    if ((mode != POD__PID_MODE__PID_PRIVATE && mode != POD__PID_MODE__PID_POD) || hooks_wanted(c))
        return;
    struct podconn *conn = store_pod_conn(rt, c->pod);
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    prepare.container_id = c->id;
    prepare.cgroup = c->private->start->cgroup;
    prepare.pid_mode = c->private->start->pid_mode;
    prepare.plan = c->private->start->plan;
    prepare.cgroup_later = cgroup_later;
    request.op_case = POD__REQUEST__OP_PREPARE;
    request.prepare = &prepare;
    if (conn)
        (void)podconn_post(conn, &request, NULL);
    podconn_unref(conn);
}

static void post_placed(struct runtime *rt, struct container *c)
{
    struct podconn *conn = store_pod_conn(rt, c->pod);
    Pod__PlacedRequest placed = POD__PLACED_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    placed.container_id = c->id;
    request.op_case = POD__REQUEST__OP_PLACED;
    request.placed = &placed;
    if (conn)
        (void)podconn_post(conn, &request, NULL);
    podconn_unref(conn);
}

// Packs the StartRequest.
static int make_start(struct runtime *rt, struct container *c, const struct plan_input *in,
                      const Pod__LaunchPlan *plan, struct arena *arena, struct error *err)
{
    Pod__CgroupPlace *place;
    Pod__StartRequest *start;
    int r = cgroup_place(rt->cgroups, c->cgroup, arena, &place, err);
    if (r == 0)
        r = plan_build_start(in, c->id, plan, place, (uint32_t)(LAUNCH_TIMEOUT_NS / NS_PER_MS), arena, &start,
                             err);
    if (r < 0)
        return r;
    if (pod__start_request__get_packed_size(start) > START_BYTES_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "arguments, environment and mounts take more than %u bytes together",
                         START_BYTES_MAX);
    c->private->start = (Pod__StartRequest *)pb_dup(&start->base, NULL);
    return c->private->start ? 0 : error_errno(err, ENOMEM, "keep the launch plan");
}

// On v1 a cgroup is one in each of ten hierarchies, half a millisecond: a prepared child works meanwhile. On
// v2 it is cloned into the one that there is.
static int make_cgroup_and_child(struct runtime *rt, struct container *c, const struct plan_input *in,
                                 struct arena *arena, struct error *err)
{
    bool later = !cgroup_host_is_v2(rt->cgroups);
    if (later)
        post_prepare(rt, c, true);
    int r = make_cgroup(rt, c, in, arena, err);
    if (r < 0 && later)
        container_forget_in_pod(rt, c);
    else if (r == 0 && later)
        post_placed(rt, c);
    else if (r == 0)
        post_prepare(rt, c, false);
    return r;
}

// Compiles the plan and makes the cgroup. On success the container has its StartRequest.
static int build(struct runtime *rt, struct container *c, const struct container_rootfs *rootfs,
                 struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(PLAN_ARENA_MAX);
    struct cdi_set cdi
        __attribute__((cleanup(cdi_set_done))) = {0}; // the plan points into it until it is packed
    struct pod_files *files = arena ? arena_alloc(arena, sizeof(*files)) : NULL;
    char level[SELINUX_LEVEL_MAX];
    struct plan_input in;
    struct annotations *annotations;
    Pod__LaunchPlan *plan;
    if (!files)
        return error_errno(err, ENOMEM, "build the launch plan");
    pod_file_paths(c->pod, files);
    if (hooks_bundle_path(c->pod->dir, c->id, files->bundle) < 0)
        return error_errno(err, ENAMETOOLONG, "name the bundle of container %s", c->id);
    plan_input_fill(rt, c, rootfs, files, &in);
    int r = annotations_read(c->pod->config, c->config, arena, &annotations, err);
    in.annotations = annotations;
    if (r == 0)
        r = find_level(rt, c->pod, level, &in.selinux_level, err);
    if (r == 0 && cdi_is_requested(c->config)) {
        r = resolve_cdi(rt, c, arena, &cdi, err);
        in.cdi = &cdi;
    }
    if (r == 0)
        r = fill_images(rootfs, arena, &in, err);
    if (r == 0)
        r = plan_build(rt->policy, &in, arena, &plan, err);
    if (r == 0)
        r = make_start(rt, c, &in, plan, arena, err);
    return r < 0 ? r : make_cgroup_and_child(rt, c, &in, arena, err);
}

int runtime_container_create(struct runtime *rt, struct container *c, const struct container_rootfs *rootfs,
                             struct error *err)
{
    struct container_private *p = c->private;
    p->image_id = strdup(rootfs->image_id);
    p->mounted_images = strv_new(0);
    if (!p->image_id || !p->mounted_images)
        return error_errno(err, ENOMEM, "create container %s", c->id);
    for (size_t i = 0; i < rootfs->n_mounts; i++)
        if (strv_append(&p->mounted_images, rootfs->mounts[i].image_id) < 0)
            return error_errno(err, ENOMEM, "create container %s", c->id);
    c->image_id = p->image_id;
    c->mounted_images = p->mounted_images;
    c->stop_signal = policy_stop_signal(c->config, rootfs->image_config->stop_signal);
    int r = build(rt, c, rootfs, err);
    if (r < 0)
        return r;
    r = record_container_insert(rt, c, err);
    if (r < 0) {
        container_forget_in_pod(rt, c);
        container_remove_cgroup(rt, c);
        return r;
    }
    store_lock(rt);
    bool ready = c->pod->private->state == POD_READY;
    if (ready) {
        p->state = CONTAINER_CREATED;
        notify_wake(&p->changed);
    }
    store_unlock(rt);
    if (!ready) { // stopped meanwhile: it could never be started
        (void)record_container_delete(rt, c, NULL);
        container_forget_in_pod(rt, c);
        container_remove_cgroup(rt, c);
        return container_not_ready(c->pod, err);
    }
    return 0;
}

const Pod__LaunchPlan *runtime_container_plan(struct runtime *rt, struct container *c, struct arena *arena)
{
    store_lock(rt);
    bool made = c->private->state != CONTAINER_MAKING;
    store_unlock(rt);
    const Pod__StartRequest *start = made ? c->private->start : NULL;
    return start ? pod__launch_plan__unpack(arena_pb(arena), start->plan.len, start->plan.data) : NULL;
}
