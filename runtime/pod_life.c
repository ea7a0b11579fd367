// Making and stopping pods: runtime/'s parts of it. cri/ puts images and networks in between.
#include "runtime/hooks.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/resources.h"
#include "runtime/selinux.h"

// ---- Claiming the name ----

static bool same_pod(const struct pod *pod, const Cri__PodSandboxConfig *config, const char *handler)
{
    return strcmp(pod->handler, handler) == 0 && pb_equal(&pod->config->base, &config->base);
}

static int conflict(const struct pod *other, const Cri__PodSandboxConfig *config, const char *handler,
                    struct error *err)
{
    char where[256];
    config_diff(&other->config->base, &config->base, where, sizeof(where));
    const char *differs = where[0] ? where : strcmp(other->handler, handler) != 0 ? "runtime_handler" : "";
    const Cri__PodSandboxMetadata *m = config->metadata;
    if (differs[0])
        return error_set(
            err, STATUS_ALREADY_EXISTS, EEXIST,
            "pod sandbox %s/%s (uid %s, attempt %u) exists as %s, with another %s: remove it, or use"
            " the next attempt",
            m->namespace_, m->name, m->uid, m->attempt, other->id, differs);
    return error_set(
        err, STATUS_ALREADY_EXISTS, EEXIST,
        "pod sandbox %s/%s (uid %s, attempt %u) exists as %s and is not ready any more: remove it, or"
        " use the next attempt",
        m->namespace_, m->name, m->uid, m->attempt, other->id);
}

static bool is_claimed(const void *owner)
{
    return ((const struct pod_private *)owner)->claimed;
}

// Another call has the name. 1: that one's end was waited for, look again; 0: *out is to be used as it is.
// The lock is held, and released meanwhile.
static int adopt(struct runtime *rt, struct pod *other, const Cri__PodSandboxConfig *config,
                 const char *handler, const struct ctx *ctx, struct pod **out, struct error *err)
{
    struct pod_private *p = other->private;
    pod_ref(other);
    store_unlock(rt);
    bool same = same_pod(other, config, handler);
    store_lock(rt);
    const struct claim claim = {.same = same,
                                .under_way = is_claimed,
                                .owner = p,
                                .forgotten = &p->forgotten,
                                .failure = &p->failure,
                                .changed = &p->changed};
    int r = store_wait_claim(rt, &claim, ctx, err);
    if (r == 0 && same && p->state == POD_READY)
        *out = pod_ref(other);
    else if (r == 0)
        r = conflict(other, config, handler, err);
    store_unlock(rt); // the last reference frees: not under the lock
    pod_unref(other);
    store_lock(rt);
    return r;
}

int runtime_pod_claim(struct runtime *rt, const Cri__PodSandboxConfig *config, const char *handler,
                      const struct ctx *ctx, struct pod **out, bool *made, struct error *err)
{
    struct error local = ERROR_INIT;
    err = err ? err : &local;
    *made = false;
    int r = policy_validate_pod(rt->policy, config, err);
    if (r < 0)
        return r;
    char id[RUNTIME_ID_LEN + 1];
    r = str_random_hex(id, RUNTIME_ID_LEN);
    if (r < 0)
        return error_errno(err, -r, "make a pod sandbox id");
    struct pod *pod = pod_new(rt, id, clock_wall_unique_ns(), config, handler, err);
    if (!pod)
        return -err->errnum;

    store_lock(rt);
    do {
        struct pod *other = map_get(rt->pod_names, pod->private->key);
        if (other) {
            r = adopt(rt, other, config, handler, ctx, out, err);
        } else {
            r = store_add_pod(rt, pod);
            *made = pod->private->claimed = r == 0;
            if (r < 0)
                error_errno(err, ENOMEM, "create pod sandbox");
        }
    } while (r > 0);
    store_unlock(rt);
    if (*made && (r = record_pod_insert(rt, pod, err)) < 0) {
        runtime_pod_abandon(rt, pod, err);
        *made = false;
    }
    if (*made)
        *out = steal_ptr(&pod);
    pod_unref(pod);
    return r;
}

void runtime_pod_abandon(struct runtime *rt, struct pod *pod, const struct error *why)
{
    struct error err = ERROR_INIT;
    struct error *failure = why ? malloc(sizeof(*failure)) : NULL;
    if (failure)
        *failure = *why;
    // A record that stays behind is found at the next start, as the intent that it is.
    if (record_pod_delete(rt, pod, &err) < 0)
        log_error("the record of a failed creation could not be dropped", "pod", pod->id, "error",
                  err.message);
    pod_ref(pod);
    store_lock(rt);
    free(pod->private->failure);
    pod->private->failure = failure;
    pod->private->claimed = false;
    store_drop_pod(rt, pod);
    notify_wake(&pod->private->changed);
    store_unlock(rt);
    pod_unref(pod);
}

void runtime_pod_reclaim(struct runtime *rt, struct pod *pod)
{
    store_lock(rt);
    pod->private->claimed = true;
    store_unlock(rt);
}

// ---- Making ----

// The pod's place, and crisp-pod's own leaf in it. crisp-pod runs: systemd's scopes begin with a process.
static int make_cgroups(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct pod_private *p = pod->private;
    store_lock(rt);
    int pid = p->pid; // 0 once it has ended
    store_unlock(rt);
    int r = cgroup_pod_create(rt->cgroups, p->cgroup, &p->cgroup_levels, err);
    if (r == 0 && p->cgroup_levels > 0)
        r = rundir_note_levels(pod->dir, p->cgroup_levels, err);
    if (r == 0)
        r = cgroup_pod_enter(rt->cgroups, p->cgroup, p->supervisor_leaf, pid, err);
    if (r == 0)
        r = pod_apply_resources(rt, pod, err);
    return r < 0 ? r : cgroup_create(rt->cgroups, p->supervisor_leaf, NULL, NULL, err);
}

// crisp-pod makes the namespaces while we make cgroups and files. Cgroups come first where the first process
// of a shared pid namespace is to be born in them.
int runtime_pod_launch(struct runtime *rt, struct pod *pod, int *netns_fd, struct error *err)
{
    struct supervisor_setup setup;
    bool shared_pid = policy_pod_pid(pod->config);
    *netns_fd = -1;
    store_lock(rt);
    pod->private->launched = true;
    store_unlock(rt);
    int r = rundir_make(rt, pod, err);
    if (r == 0)
        r = supervisor_spawn(rt, pod, err);
    if (r == 0 && shared_pid)
        r = make_cgroups(rt, pod, err);
    if (r == 0)
        r = supervisor_setup_begin(rt, pod, &setup, err);
    if (r < 0)
        return r;
    int made = shared_pid ? 0 : make_cgroups(rt, pod, err);
    if (made == 0)
        made = rundir_fill(rt, pod, err);
    r = supervisor_setup_end(pod, &setup, netns_fd, made < 0 ? NULL : err);
    if (made < 0)
        r = made;
    if (r == 0 && !shared_pid)
        r = supervisor_enter(rt, pod, err);
    if (r < 0)
        fd_closep(netns_fd);
    return r;
}

// Kubelet creates a container next: a child that waits for it. On v2 it would have to be cloned into a cgroup
// that nobody knows yet. Nothing depends on it.
static void post_spare(struct runtime *rt, struct pod *pod)
{
    if (cgroup_host_is_v2(rt->cgroups) || policy_pod_pid(pod->config) || policy_host_pid(pod->config))
        return;
    struct podconn *conn = store_pod_conn(rt, pod);
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    request.op_case = POD__REQUEST__OP_PREPARE;
    request.prepare = &prepare;
    if (conn)
        (void)podconn_post(conn, &request, NULL);
    podconn_unref(conn);
}

int runtime_pod_ready(struct runtime *rt, struct pod *pod, char *const *ips, int64_t plugin_ns,
                      struct error *err)
{
    struct pod_private *p = pod->private;
    int r = rundir_write_hosts(rt, pod, ips, err);
    if (r < 0)
        return r;
    p->network_storage.plugin_ns = plugin_ns;
    p->network_storage.ips = strv_new(0);
    bool whole = p->network_storage.ips != NULL;
    for (char *const *ip = ips; whole && ip && *ip; ip++)
        whole = strv_append(&p->network_storage.ips, *ip) == 0;
    if (!whole)
        return error_errno(err, ENOMEM, "keep the pod's addresses");
    r = record_pod_state(rt, pod, POD_READY, err);
    if (r < 0)
        return r;
    store_lock(rt);
    bool alive = p->conn != NULL;
    if (alive) {
        p->network = &p->network_storage;
        p->state = POD_READY;
        p->claimed = false;
        notify_wake(&p->changed);
    }
    store_unlock(rt);
    if (!alive)
        return error_set(err, STATUS_UNAVAILABLE, ECONNRESET, "crisp-pod ended while the pod was being made");
    post_spare(rt, pod);
    return 0;
}

// ---- Stopping ----

int runtime_pod_enter(struct runtime *rt, struct pod *pod, const struct ctx *ctx, struct error *err)
{
    struct pod_private *p = pod->private;
    int r = 0;
    store_lock(rt);
    while (p->claimed && r == 0) // being made: then there will be something to stop
        r = notify_wait(&rt->lock, &p->changed, ctx, err);
    if (r == 0)
        r = gate_enter(&rt->lock, &p->gate, ctx, err);
    store_unlock(rt);
    return r;
}

void runtime_pod_leave(struct runtime *rt, struct pod *pod)
{
    store_lock(rt);
    gate_leave(&pod->private->gate);
    store_unlock(rt);
}

static int kill_all(struct runtime *rt, struct container **all, size_t n, struct error *err)
{
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        if (container_is_running(rt, all[i]))
            r = container_kill(rt, all[i], SIGKILL, true, err);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        if (container_is_running(rt, all[i]))
            r = container_wait_killed(rt, all[i], err);
    }
    return r;
}

int runtime_pod_kill(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct pod_private *p = pod->private;
    struct container **all;
    size_t n;
    store_lock(rt);
    bool was_ready = p->state == POD_READY;
    bool launched = p->launched;
    if (was_ready)
        p->state = POD_NOTREADY;
    store_unlock(rt);
    stats_cache_close(&p->stats); // or the network namespace would live on
    if (!launched)
        return 0;
    int r = was_ready ? record_pod_state(rt, pod, POD_NOTREADY, err) : 0;
    if (r == 0)
        r = runtime_container_list(rt, pod, false, &all, &n, err);
    if (r < 0)
        return r;
    r = kill_all(rt, all, n, err);
    runtime_containers_free(all, n);
    return r < 0 ? error_wrap(err, "kill the containers of pod sandbox %s", pod->id) : 0;
}

// The pod's place in the cgroups. One that bears its id has nothing but its own in it, also what a crash left
// there before it was recorded; any other is kubelet's, or shared with other pods.
static int remove_place(struct runtime *rt, const struct pod *pod, struct error *err)
{
    const struct pod_private *p = pod->private;
    int r = cgroup_pod_owns(p->cgroup, pod->id) ? cgroup_remove(rt->cgroups, p->cgroup, err) : 0;
    return r < 0 ? r : cgroup_pod_remove(rt->cgroups, p->cgroup, p->cgroup_levels, err);
}

// Everything that is left on the host: 0, or -errno when something is busy still.
static int remove_remains(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct pod_private *p = pod->private;
    struct container **all;
    size_t n;
    int r = runtime_container_list(rt, pod, false, &all, &n, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        int one = cgroup_remove(rt->cgroups, all[i]->cgroup, err);
        r = r < 0 ? r : one;
    }
    runtime_containers_free(all, n);
    if (r == 0)
        r = cgroup_remove(rt->cgroups, p->supervisor_leaf, err);
    if (r == 0)
        r = remove_place(rt, pod, err);
    // Last: if the daemon ends before the cgroups are gone, the run directory tells the next one of them.
    if (r < 0)
        return r;
    selinux_level_release(rt->run_dir, pod->id);
    return rundir_remove(pod->dir, err);
}

static int remains_job(void *data, unsigned attempt)
{
    struct pod *pod = data;
    struct error err = ERROR_INIT;
    int r = remove_remains(pod->private->rt, pod, &err);
    if (r < 0 && attempt == 6)
        log_warn("something of a stopped pod cannot be removed yet", "pod", pod->id, "error", err.message);
    return r;
}

static void remains_drop(void *data)
{
    pod_unref(data);
}

// All of a pod's, until one fails.
static int each_container(struct runtime *rt, struct pod *pod,
                          int (*apply)(struct runtime *rt, struct container *c, struct error *err),
                          struct error *err)
{
    struct container **all;
    size_t n;
    int r = runtime_container_list(rt, pod, false, &all, &n, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n && r == 0; i++)
        r = apply(rt, all[i], err);
    runtime_containers_free(all, n);
    return r;
}

// The run directory, with the exit records in it, goes next: until now they could be read again from there.
static int save_exits(struct runtime *rt, struct pod *pod, struct error *err)
{
    return each_container(rt, pod, record_container_state, err);
}

static int call_off(struct runtime *rt, struct container *c, struct error *err)
{
    (void)err;
    hooks_call_off(rt, c);
    return 0;
}

static int call_off_hooks(struct runtime *rt, struct pod *pod, struct error *err)
{
    return each_container(rt, pod, call_off, err);
}

// The bundles are in the run directory: what they are owed is paid before that goes.
static int stop_hooks(struct runtime *rt, struct pod *pod, struct error *err)
{
    return each_container(rt, pod, hooks_stop, err);
}

int runtime_pod_stop(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct pod_private *p = pod->private;
    store_lock(rt);
    bool launched = p->launched;
    store_unlock(rt);
    if (!launched)
        return 0;
    int r = call_off_hooks(rt, pod, err);
    if (r == 0)
        r = supervisor_shutdown(rt, pod, err);
    if (r < 0)
        return error_wrap(err, "stop pod sandbox %s", pod->id);
    // Whoever is still thought to run (a start that was under way, a crisp-pod that had died) is settled now.
    while ((r = exits_supervisor_lost(rt, pod, UINT_MAX / 2)) == -EAGAIN)
        ;
    if (r == 0)
        r = save_exits(rt, pod, err);
    if (r == 0)
        r = stop_hooks(rt, pod, err);
    if (r < 0)
        return error_wrap(err, "stop pod sandbox %s", pod->id);
    store_lock(rt);
    p->launched = false;
    store_unlock(rt);
    if (remove_remains(rt, pod, NULL) < 0)
        (void)worker_add(rt->worker, remains_job, remains_drop, pod_ref(pod), 20 * NS_PER_MS);
    return 0;
}

int runtime_pod_forget(struct runtime *rt, struct pod *pod, struct error *err)
{
    store_lock(rt);
    bool gone = pod->private->forgotten;
    store_unlock(rt);
    if (gone)
        return 0;
    int r = record_pod_delete(rt, pod, err);
    if (r < 0)
        return r;
    pod_ref(pod);
    store_lock(rt);
    store_drop_pod(rt, pod);
    notify_wake(&pod->private->changed);
    store_unlock(rt);
    pod_unref(pod);
    return 0;
}
