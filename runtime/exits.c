// How containers come to their ends, and how that is found out.
#include "runtime/hooks.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/cgroup_extra.h"
#include "runtime/health.h"

#define EXIT_RECORD_MAX 4096
// Killed processes get this many calls of exits_supervisor_lost() (0.7 s as a background job) to be gone
// before their containers are called EXITED all the same.
#define DYING_CALLS 4

struct ending {
    int32_t exit_code;
    int64_t started_at_ns, finished_at_ns; // 0: as known; 0: now
    const char *reason;
    const char *message; // "": none
};

// Once, whoever comes first. Times never run backwards, whatever the clock did.
static void end_container(struct runtime *rt, struct container *c, const struct ending *e)
{
    struct container_private *p = c->private;
    char *message = str_empty(e->message) ? NULL : strdup(e->message);

    store_lock(rt);
    bool ended = p->state != CONTAINER_EXITED && p->state != CONTAINER_MAKING;
    if (ended) {
        int64_t finished = e->finished_at_ns ? e->finished_at_ns : clock_wall_ns();
        if (p->started_at_ns == 0)
            p->started_at_ns = e->started_at_ns ? e->started_at_ns : finished;
        if (p->started_at_ns <= c->created_at_ns)
            p->started_at_ns = c->created_at_ns + 1;
        p->finished_at_ns = finished > p->started_at_ns ? finished : p->started_at_ns;
        p->exit_code = e->exit_code;
        p->reason = e->reason;
        if (!p->message)
            p->message = steal_ptr(&message);
        p->pid = 0;
        p->state = CONTAINER_EXITED;
        notify_wake(&p->changed);
    }
    store_unlock(rt);
    free(message);
    if (ended) {
        stats_cache_close(&p->stats); // or its cgroup would live on, if nobody asks any more
        cgroup_release_realtime(rt->cgroups, c->cgroup); // the next attempt may need it
        record_container_later(rt, c);
        hooks_stop_later(rt, c);
    }
}

void exits_apply(struct runtime *rt, struct container *c, const Pod__ExitRecord *exit)
{
    char message[128] = "";
    if (exit->log_bytes_lost > 0)
        snprintf(message, sizeof(message), "%llu bytes of output could not be written to the log",
                 (unsigned long long)exit->log_bytes_lost);
    const struct ending e = {
        .exit_code = exit->exit_code,
        .started_at_ns = exit->started_at_ns,
        .finished_at_ns = exit->finished_at_ns,
        .reason = exit->oom_killed       ? "OOMKilled"
                  : exit->exit_code == 0 ? "Completed"
                                         : "Error",
        .message = message,
    };
    end_container(rt, c, &e);
}

void exits_start_failed(struct runtime *rt, struct container *c, const char *message)
{
    const struct ending e = {.exit_code = 128, .reason = "StartError", .message = message};
    end_container(rt, c, &e);
}

void exits_started(struct runtime *rt, struct container *c, int pid, int64_t started_at_ns,
                   const Pod__ResolvedUser *user)
{
    struct container_private *p = c->private;
    Pod__ResolvedUser *copy = user ? (Pod__ResolvedUser *)pb_dup(&user->base, NULL) : NULL;

    store_lock(rt);
    if (!p->user)
        p->user = steal_ptr(&copy);
    // It may have ended already: then only its user is news.
    if (p->state != CONTAINER_EXITED && p->state != CONTAINER_MAKING) {
        p->state = CONTAINER_RUNNING;
        p->pid = pid;
        p->started_at_ns = started_at_ns > c->created_at_ns ? started_at_ns : c->created_at_ns + 1;
        notify_wake(&p->changed);
    }
    store_unlock(rt);
    if (copy)
        pod__resolved_user__free_unpacked(copy, NULL);
    health_started(rt, c);
}

static bool believed_running(struct runtime *rt, struct container *c)
{
    store_lock(rt);
    const struct container_private *p = c->private;
    bool running = !p->starting && (p->state == CONTAINER_RUNNING || p->state == CONTAINER_UNKNOWN);
    store_unlock(rt);
    return running;
}

static const Pod__ContainerState *state_of(const Pod__StateReply *reply, const char *id)
{
    for (size_t i = 0; i < reply->n_containers; i++) {
        if (strcmp(reply->containers[i]->container_id, id) == 0)
            return reply->containers[i];
    }
    return NULL;
}

void exits_apply_state(struct runtime *rt, struct pod *pod, const Pod__StateReply *reply)
{
    struct container **all;
    size_t n;
    if (runtime_container_list(rt, pod, false, &all, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const Pod__ContainerState *s = state_of(reply, all[i]->id);
        if (s && s->running) {
            exits_started(rt, all[i], s->pid, s->started_at_ns, s->user);
            record_container_later(rt, all[i]);
        } else if (s && s->exit) {
            if (s->user)
                exits_started(rt, all[i], 0, s->exit->started_at_ns, s->user);
            exits_apply(rt, all[i], s->exit);
        } else if (believed_running(rt, all[i])) {
            const struct ending e = {.exit_code = 255,
                                     .reason = "Unknown",
                                     .message = "the pod's crisp-pod knows nothing of this container"};
            end_container(rt, all[i], &e);
        }
    }
    runtime_containers_free(all, n);
}

// ---- Without crisp-pod ----

// The record that crisp-pod wrote before it told anybody. false: there is none, or it can't be read.
static bool apply_exit_file(struct runtime *rt, struct container *c)
{
    char path[PATH_MAX];
    _cleanup_free_ char *data = NULL;
    size_t len;
    snprintf(path, sizeof(path), "%s/exits/%s", c->pod->dir, c->id);
    if (file_read(path, EXIT_RECORD_MAX, &data, &len, NULL) < 0)
        return false;
    Pod__ExitRecord *exit = pod__exit_record__unpack(NULL, len, (const uint8_t *)data);
    if (!exit)
        return false;
    exits_apply(rt, c, exit);
    pod__exit_record__free_unpacked(exit, NULL);
    return true;
}

// true: it was until now.
static bool pod_not_ready(struct runtime *rt, struct pod *pod)
{
    struct pod_private *p = pod->private;
    struct error err = ERROR_INIT;
    store_lock(rt);
    bool was_ready = p->state == POD_READY;
    if (was_ready)
        p->state = POD_NOTREADY;
    store_unlock(rt);
    if (was_ready && record_pod_state(rt, pod, POD_NOTREADY, &err) < 0)
        log_error("pod sandbox's end not recorded", "pod", pod->id, "error", err.message);
    return was_ready;
}

// One that may be running: killed; EXITED once its processes are gone, or when patience is at its end.
static int settle_lost(struct runtime *rt, struct container *c, bool patient)
{
    struct error err = ERROR_INIT;
    if (cgroup_kill(rt->cgroups, c->cgroup, &err) < 0)
        log_error("a container without its crisp-pod could not be killed", "container", c->id, "error",
                  err.message);
    if (patient && cgroup_populated(rt->cgroups, c->cgroup))
        return -EAGAIN;
    if (apply_exit_file(rt, c))
        return 0;
    const struct ending e = {.exit_code = 137,
                             .reason = "SupervisorDied",
                             .message =
                                 "the pod's crisp-pod ended unexpectedly, and the container was killed"};
    end_container(rt, c, &e);
    return 0;
}

int exits_supervisor_lost(struct runtime *rt, struct pod *pod, unsigned attempt)
{
    struct container **all;
    size_t n;
    if (pod_not_ready(rt, pod))
        log_error("crisp-pod has ended unexpectedly: its containers are killed", "pod", pod->id);
    // If it isn't dead but lost to us (somebody emptied the run directory), then it ends now.
    (void)cgroup_kill(rt->cgroups, pod->private->supervisor_leaf, NULL);
    int r = runtime_container_list(rt, pod, false, &all, &n, NULL);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        struct container_view v;
        runtime_container_view(rt, all[i], &v);
        // A start that was under way was never acknowledged: it is as if it hadn't been, but for what runs.
        if (v.state == CONTAINER_CREATED && !apply_exit_file(rt, all[i]))
            (void)cgroup_kill(rt->cgroups, all[i]->cgroup, NULL);
        bool running = v.state == CONTAINER_RUNNING || v.state == CONTAINER_UNKNOWN;
        if (running && settle_lost(rt, all[i], attempt + 1 < DYING_CALLS) < 0)
            r = -EAGAIN;
    }
    runtime_containers_free(all, n);
    return r;
}

static int lost_job(void *data, unsigned attempt)
{
    struct pod *pod = data;
    return exits_supervisor_lost(pod->private->rt, pod, attempt);
}

static void lost_job_drop(void *data)
{
    pod_unref(data);
}

void exits_supervisor_lost_later(struct runtime *rt, struct pod *pod)
{
    (void)worker_add(rt->worker, lost_job, lost_job_drop, pod_ref(pod), 0);
}

static int64_t booted_at_ns(void)
{
    struct timespec since;
    clock_gettime(CLOCK_BOOTTIME, &since);
    return clock_wall_ns() - (since.tv_sec * NS_PER_SEC + since.tv_nsec);
}

void exits_rebooted(struct runtime *rt, struct pod *pod)
{
    struct container **all;
    size_t n;
    pod_not_ready(rt, pod);
    if (runtime_container_list(rt, pod, false, &all, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        if (!believed_running(rt, all[i]))
            continue;
        // It cannot have ended later than that. 255: what peers say when nobody knows.
        const struct ending e = {.exit_code = 255,
                                 .finished_at_ns = booted_at_ns(),
                                 .reason = "Unknown",
                                 .message = "the node was restarted while the container ran"};
        end_container(rt, all[i], &e);
    }
    runtime_containers_free(all, n);
}
