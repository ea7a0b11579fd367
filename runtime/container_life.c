// Starting and removing containers. Making them: container_create.c.
#include "runtime/store.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/cdi.h"
#include "runtime/health.h"
#include "runtime/hooks.h"
#include "runtime/plan.h"
#include "runtime/resources.h"
#include "runtime/selinux.h"

// ---- What making and ending share ----

int container_not_ready(const struct pod *pod, struct error *err)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, ESHUTDOWN,
                     "pod sandbox %s is not ready (it was stopped, or its crisp-pod died)", pod->id);
}

static int remove_cgroup_job(void *data, unsigned attempt)
{
    struct container *c = data;
    struct error err = ERROR_INIT;
    struct runtime *rt = c->private->rt;
    // Whatever is in there is nobody's any more: a prepared process, say, whose crisp-pod could not be told.
    (void)cgroup_kill(rt->cgroups, c->cgroup, NULL);
    int r = cgroup_remove(rt->cgroups, c->cgroup, &err);
    if (r < 0 && attempt == 6)
        log_warn("a container's cgroup cannot be removed yet", "container", c->id, "error", err.message);
    return r;
}

static void remove_cgroup_drop(void *data)
{
    container_unref(data);
}

void container_remove_cgroup(struct runtime *rt, struct container *c)
{
    // Killed processes take a moment to leave.
    if (cgroup_remove(rt->cgroups, c->cgroup, NULL) < 0)
        (void)worker_add(rt->worker, remove_cgroup_job, remove_cgroup_drop, container_ref(c), 20 * NS_PER_MS);
}

void container_forget_in_pod(struct runtime *rt, struct container *c)
{
    Pod__ForgetRequest forget = POD__FORGET_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    forget.container_id = c->id;
    request.op_case = POD__REQUEST__OP_FORGET;
    request.forget = &forget;
    struct podconn *conn = store_pod_conn(rt, c->pod);
    // Waited for: a parked process must have left the cgroup.
    if (conn)
        (void)podconn_request(conn, &request, ANSWER_TIMEOUT_NS, NULL, NULL);
    podconn_unref(conn);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/exits/%s", c->pod->dir, c->id);
    (void)unlink(path);
    health_forget(rt, c);
}

// ---- Starting ----

// May it be started? 1: yes, and `starting` is set; 0: the call that this one joined has started it. The gate
// is held.
static int start_check(struct runtime *rt, struct container *c, bool joined, struct error *err)
{
    struct container_private *p = c->private;
    int r = 1;
    store_lock(rt);
    if (p->forgotten)
        r = error_set(err, STATUS_NOT_FOUND, ENOENT, "container \"%s\" does not exist", c->id);
    else if (p->state == CONTAINER_RUNNING || p->state == CONTAINER_UNKNOWN)
        r = joined ? 0
                   : error_set(err, STATUS_FAILED_PRECONDITION, EALREADY, "container %s is running already",
                               c->id);
    else if (p->state == CONTAINER_EXITED)
        r = error_set(err, STATUS_FAILED_PRECONDITION, EINVAL,
                      "container %s has exited (%s%s%s): a container is started once", c->id, p->reason,
                      p->message ? ": " : "", p->message ? p->message : "");
    else if (c->pod->private->state != POD_READY)
        r = container_not_ready(c->pod, err);
    else
        p->starting = true;
    store_unlock(rt);
    return r;
}

void container_start_over(struct runtime *rt, struct container *c)
{
    store_lock(rt);
    c->private->starting = false;
    bool hooks_owed = hooks_start_over(c);
    notify_wake(&c->private->changed);
    store_unlock(rt);
    if (hooks_owed)
        hooks_stop_later(rt, c);
}

static int start_in_pod(struct runtime *rt, struct container *c, struct error *err)
{
    Pod__Request request = POD__REQUEST__INIT;
    _cleanup_reply_ Pod__Reply *reply = NULL;
    request.op_case = POD__REQUEST__OP_START;
    request.start = c->private->start;
    struct podconn *conn = store_pod_conn(rt, c->pod);
    if (!conn)
        return error_set(err, STATUS_UNAVAILABLE, ENOTCONN,
                         "start container %s: the pod's crisp-pod has ended", c->id);
    bool told = false;
    int r = hooks_wanted(c)
                ? hooks_start(rt, c, conn, &reply, &told, err)
                : podconn_request(conn, &request, LAUNCH_TIMEOUT_NS + ANSWER_TIMEOUT_NS, &reply, err);
    podconn_unref(conn);
    if (r < 0 && !reply) // crisp-pod's own words name the container
        error_wrap(err, "start container %s", c->id);
    if (r == 0 && reply->result_case != POD__REPLY__RESULT_START)
        r = error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pod answered something else");
    if (r == 0) {
        exits_started(rt, c, reply->start->pid, reply->start->started_at_ns, reply->start->user);
        record_container_later(rt, c); // crisp-pod can tell it again
        container_settle_oom_score(rt, c, reply->start->pid);
        if (hooks_wanted(c))
            r = hooks_after_start(rt, c, reply->start->pid, err);
    } else if (reply || told || err->status == STATUS_DEADLINE_EXCEEDED) {
        // NOT_FOUND would be taken for a missing container; what is missing is something the config names.
        if (err->status == STATUS_NOT_FOUND)
            error_restatus(err, STATUS_INVALID_ARGUMENT);
        if (!reply && !told)
            (void)container_kill(rt, c, SIGKILL, true, NULL);
        exits_start_failed(rt, c, err->message);
    }
    // Else the connection broke: whether it runs is found out by whoever finds crisp-pod again, or dead.
    return r;
}

int runtime_container_start(struct runtime *rt, struct container *c, const struct ctx *ctx, struct error *err)
{
    struct error local = ERROR_INIT;
    err = err ? err : &local;
    store_lock(rt);
    bool joined = c->private->starting;
    int r = gate_enter(&rt->lock, &c->private->gate, ctx, err);
    store_unlock(rt);
    if (r < 0)
        return error_wrap(err, "start container %s", c->id);
    r = start_check(rt, c, joined, err);
    if (r == 1) {
        r = start_in_pod(rt, c, err);
        container_start_over(rt, c);
    }
    store_lock(rt);
    gate_leave(&c->private->gate);
    store_unlock(rt);
    return r;
}

// ---- Removing ----

static void leave_gate(struct runtime *rt, struct container *c)
{
    store_lock(rt);
    gate_leave(&c->private->gate);
    store_unlock(rt);
}

int runtime_container_remove_begin(struct runtime *rt, struct container *c, const struct ctx *ctx, bool *gone,
                                   struct error *err)
{
    store_lock(rt);
    while (c->private->state == CONTAINER_MAKING && !c->private->forgotten) {
        int waited = notify_wait(&rt->lock, &c->private->changed, ctx, err);
        if (waited < 0) {
            store_unlock(rt);
            return waited;
        }
    }
    store_unlock(rt);
    hooks_call_off(rt, c); // a start has the gate for as long as its hooks take
    store_lock(rt);
    int r = gate_enter(&rt->lock, &c->private->gate, ctx, err);
    *gone = r == 0 && c->private->forgotten;
    if (r == 0)
        c->private->called_off = false;
    if (*gone)
        gate_leave(&c->private->gate);
    store_unlock(rt);
    if (r < 0 || *gone)
        return r;

    if (container_is_running(rt, c)) {
        r = container_kill(rt, c, SIGKILL, true, err);
        if (r == 0)
            r = container_wait_killed(rt, c, err);
    }
    if (r == 0)
        r = hooks_stop(rt, c, err);
    if (r < 0) {
        leave_gate(rt, c);
        return error_wrap(err, "remove container %s", c->id);
    }
    container_forget_in_pod(rt, c);
    container_remove_cgroup(rt, c);
    return 0;
}

int runtime_container_remove_end(struct runtime *rt, struct container *c, bool done, struct error *err)
{
    int r = done ? record_container_delete(rt, c, err) : 0;
    store_lock(rt);
    if (done && r == 0) {
        store_drop_container(rt, c);
        notify_wake(&c->private->changed);
    }
    gate_leave(&c->private->gate);
    store_unlock(rt);
    return r;
}

int runtime_container_reopen_log(struct runtime *rt, struct container *c, struct error *err)
{
    struct container_view v;
    runtime_container_view(rt, c, &v);
    struct podconn *conn = v.state == CONTAINER_RUNNING ? store_pod_conn(rt, c->pod) : NULL;
    if (!conn)
        return error_set(err, STATUS_FAILED_PRECONDITION, ESRCH,
                         "reopen the log of container %s: it is not running", c->id);
    Pod__ReopenLogRequest reopen = POD__REOPEN_LOG_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    reopen.container_id = c->id;
    request.op_case = POD__REQUEST__OP_REOPEN_LOG;
    request.reopen_log = &reopen;
    int r = podconn_request(conn, &request, ANSWER_TIMEOUT_NS, NULL, err);
    podconn_unref(conn);
    return r < 0 ? error_wrap(err, "reopen the log of container %s", c->id) : 0;
}
