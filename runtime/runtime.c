// Opening and closing: reading the records, finding the crisp-pods again.
#include "runtime/update_journal.h"
#include "runtime/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/selinux.h"
#include "runtime/annotation.h"
#include "runtime/cdi.h"
#include "runtime/health.h"
#include "runtime/hooks.h"
#include "base/mount_template.h"

#define RECONNECT_TIMEOUT_NS (5 * NS_PER_SEC) // for all crisp-pods together

// ---- Finding the crisp-pods again ----

struct found {
    struct pod *pod;
    struct supervisor_question question;
    enum { FOUND_ASKED, FOUND_SILENT, FOUND_ENDED } how;
};

// The record of a half made pod was written before its cgroup was.
static void find_cgroup(struct pod *pod)
{
    struct pod_private *p = pod->private;
    struct rundir_state state;
    const Cri__LinuxPodSandboxConfig *config = pod->config->linux;
    if (p->state != POD_MAKING)
        return;
    if (rundir_read_state(pod->dir, &state, NULL) == 0)
        p->cgroup_levels = state.cgroup_levels;
    else if (!config || str_empty(config->cgroup_parent))
        p->cgroup_levels = 1;
}

static void find_supervisor(struct runtime *rt, struct pod *pod, struct found *f)
{
    struct error err = ERROR_INIT;
    f->pod = pod;
    find_cgroup(pod);
    int r = supervisor_connect(rt, pod, &err);
    if (r == -ESRCH) {
        f->how = FOUND_ENDED;
        return;
    }
    if (r == 0)
        r = supervisor_ask_begin(rt, pod, &f->question, &err);
    f->how = r == 0 ? FOUND_ASKED : FOUND_SILENT;
    if (r < 0)
        log_warn("a crisp-pod cannot be reached yet", "pod", pod->id, "error", err.message);
}

static void settle_found(struct runtime *rt, struct found *f, int64_t deadline)
{
    struct error err = ERROR_INIT;
    if (f->how == FOUND_ASKED && supervisor_ask_end(rt, f->pod, &f->question, deadline, &err) < 0) {
        log_warn("a crisp-pod does not answer yet", "pod", f->pod->id, "error", err.message);
        f->how = FOUND_SILENT;
    }
    if (f->how == FOUND_SILENT)
        supervisor_ask_later(rt, f->pod);
    if (f->how == FOUND_ENDED && exits_supervisor_lost(rt, f->pod, 0) < 0)
        exits_supervisor_lost_later(rt, f->pod);
}

// All are asked before the first answer is waited for: one that hangs costs the deadline once.
static int reconcile(struct runtime *rt, bool rebooted, struct error *err)
{
    struct pod **pods;
    size_t n;
    int r = runtime_pod_list(rt, true, &pods, &n, err);
    if (r < 0)
        return r;
    struct found *found = calloc(n + 1, sizeof(*found));
    if (!found) {
        runtime_pods_free(pods, n);
        return error_errno(err, ENOMEM, "find the crisp-pods again");
    }
    for (size_t i = 0; i < n && !rebooted; i++)
        find_supervisor(rt, pods[i], &found[i]);
    int64_t deadline = clock_mono_ns() + RECONNECT_TIMEOUT_NS;
    for (size_t i = 0; i < n; i++) {
        if (!rebooted)
            update_journal_recover(rt, pods[i]);
        if (rebooted)
            exits_rebooted(rt, pods[i]);
        else
            settle_found(rt, &found[i], deadline);
    }
    free(found);
    runtime_pods_free(pods, n);
    return 0;
}

// ---- Opening ----

static int open_paths(struct runtime *rt, const struct runtime_options *o, struct error *err)
{
    struct utsname names;
    rt->run_dir = strdup(o->run_dir);
    rt->pods_dir = str_printf("%s/pods", o->run_dir);
    rt->netns_dir = str_printf("%s/netns", o->run_dir);
    rt->crisp_pod_path = strdup(o->crisp_pod_path);
    if (!rt->run_dir || !rt->pods_dir || !rt->netns_dir || !rt->crisp_pod_path)
        return error_errno(err, ENOMEM, "open the runtime");
    (void)uname(&names); // cannot fail
    snprintf(rt->node_name, sizeof(rt->node_name), "%s", names.nodename);
    int r = clock_boot_id(rt->boot_id);
    if (r < 0)
        return error_errno(err, -r, "read the boot id");
    r = file_mkdir_p(rt->pods_dir, 0711, err);
    if (r == 0)
        r = file_mkdir_p(rt->netns_dir, 0711, err);
    return r;
}

static int set_options(struct runtime *rt, const struct runtime_options *o, struct error *err)
{
    rt->policy->device_ownership = o->device_ownership;
    rt->policy->default_sysctls = o->default_sysctls;
    rt->policy->absent_sources_denied = o->absent_sources_denied;
    rt->policy->annotations_allowed = o->annotations_allowed;
    rt->pids_limit = o->pids_limit;
    if (o->pids_limit > 0 && !cgroup_host_has(rt->cgroups, "pids"))
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         "runtime.pids_limit: this host has no pids cgroup controller");
    rt->shm_bytes = o->shm_bytes ? o->shm_bytes : (uint64_t)64 << 20;
    int r = policy_check_default_sysctls(o->default_sysctls, err);
    return r < 0 ? r : annotations_check_allowed(o->annotations_allowed, err);
}

static int open_parts(struct runtime *rt, const struct runtime_options *o, struct error *err)
{
    const struct cgroup_options cgroup_options = {
        .driver = o->cgroup_driver, .parent = o->cgroup_parent, .owner = o->run_dir};
    rt->db = o->db;
    rt->shutdown_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rt->pods = map_new();
    rt->pod_names = map_new();
    rt->containers = map_new();
    rt->container_names = map_new();
    rt->execs = map_new();
    rt->worker = worker_new();
    rt->hook_worker = worker_new();
    rt->health_worker = worker_new_sized(HEALTH_THREADS);
    rt->health_turns = calloc(1, sizeof(*rt->health_turns));
    if (rt->shutdown_fd < 0 || !rt->pods || !rt->pod_names || !rt->containers || !rt->container_names ||
        !rt->execs || !rt->worker || !rt->hook_worker || !rt->health_worker || !rt->health_turns)
        return error_errno(err, ENOMEM, "open the runtime");
    int r = open_paths(rt, o, err);
    if (r == 0)
        r = supervisor_load_program(o->crisp_pod_path, &rt->crisp_pod_fd, err);
    if (r == 0)
        r = mount_template_new(&rt->mount_template, err);
    if (r == 0)
        r = cgroup_host_open(&cgroup_options, &rt->cgroups, err);
    if (r == 0)
        r = policy_open(rt->cgroups, &rt->policy, err);
    if (r == 0)
        r = cdi_open(o->cdi_dirs, &rt->cdi, err);
    if (r == 0)
        r = set_options(rt, o, err);
    if (r == 0)
        r = rt->policy->selinux ? selinux_level_prepare(rt->run_dir, err) : 0;
    if (r == 0)
        r = rlimit_parse_list(o->rlimits, &rt->policy->rlimits, err);
    if (r == 0)
        policy_log_limits(rt->policy);
    if (r == 0)
        supervisor_probe_userns(rt->crisp_pod_fd, o->image_dir, rt->policy);
    if (r == 0)
        r = monitor_new(&rt->monitor, err);
    return r;
}

int runtime_open(const struct runtime_options *options, struct runtime **out, struct error *err)
{
    struct runtime *rt = calloc(1, sizeof(*rt));
    if (!rt)
        return error_errno(err, ENOMEM, "open the runtime");
    pthread_mutex_init(&rt->lock, NULL);
    rt->crisp_pod_fd = rt->mount_template = rt->shutdown_fd = -1;
    bool rebooted = false;
    int r = open_parts(rt, options, err);
    if (r == 0)
        r = record_load(rt, err);
    if (r == 0)
        r = record_check_boot(rt, &rebooted, err);
    if (r == 0)
        r = reconcile(rt, rebooted, err);
    if (r == 0)
        hooks_recover(rt);
    if (r < 0) {
        runtime_close(rt);
        return r;
    }
    *out = rt;
    return 0;
}

// ---- Closing ----

static void close_objects(struct runtime *rt)
{
    // A connection's reference to its pod would have been dropped when crisp-pod ends: it doesn't.
    for (struct map_iter it = {0}; rt->containers && map_next(rt->containers, &it);)
        container_unref(it.value);
    for (struct map_iter it = {0}; rt->pods && map_next(rt->pods, &it);) {
        struct pod *pod = it.value;
        bool attached = pod->private->attached;
        pod->private->attached = false;
        if (attached)
            pod_unref(pod);
        pod_unref(pod);
    }
}

void runtime_close(struct runtime *rt)
{
    if (!rt)
        return;
    worker_stop(rt->health_worker);
    worker_stop(rt->hook_worker);
    worker_stop(rt->worker); // while answers still come in that its jobs wait for
    monitor_free(rt->monitor);
    worker_free(rt->health_worker);
    free(rt->health_turns);
    worker_free(rt->hook_worker);
    worker_free(rt->worker);
    if (rt->containers)
        record_flush(rt);
    close_objects(rt);
    policy_close(rt->policy);
    cdi_close(rt->cdi);
    cgroup_host_close(rt->cgroups);
    map_free(rt->pods);
    map_free(rt->pod_names);
    map_free(rt->containers);
    map_free(rt->container_names);
    map_free(rt->execs);
    fd_closep(&rt->crisp_pod_fd);
    fd_closep(&rt->mount_template);
    fd_closep(&rt->shutdown_fd);
    pthread_mutex_destroy(&rt->lock);
    free(rt->run_dir);
    free(rt->pods_dir);
    free(rt->netns_dir);
    free(rt->crisp_pod_path);
    free(rt);
}

void runtime_shutdown(struct runtime *rt)
{
    uint64_t one = 1;
    ssize_t n = write(rt->shutdown_fd, &one, sizeof(one));
    (void)n;
}

struct ctx runtime_work_ctx(struct runtime *rt)
{
    return (struct ctx){.deadline_mono_ns = INT64_MAX, .cancel_fd = rt->shutdown_fd};
}

struct worker *runtime_worker(struct runtime *rt)
{
    return rt->worker;
}

void runtime_get_features(const struct runtime *rt, struct runtime_features *out)
{
    *out = (struct runtime_features){.recursive_read_only_mounts = rt->policy->recursive_readonly,
                                     .user_namespaces = rt->policy->userns};
}

char *runtime_cdi_describe(struct runtime *rt)
{
    return cdi_describe(rt->cdi);
}

char *runtime_host_json(struct runtime *rt)
{
    return policy_host_json(rt->policy);
}

int runtime_check(struct runtime *rt, struct error *err)
{
    if (access(rt->pods_dir, W_OK | X_OK) < 0)
        return error_errno(err, errno, "the run directory %s cannot be written to", rt->pods_dir);
    if (access(rt->crisp_pod_path, X_OK) < 0)
        return error_errno(err, errno, "the program %s cannot be executed", rt->crisp_pod_path);
    return 0;
}
