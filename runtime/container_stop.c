// Ending containers: signals, grace, SIGKILL, and waiting until the exit is visible.
#include "runtime/store.h"

#include <signal.h>

#include "runtime/hooks.h"

int container_kill(struct runtime *rt, struct container *c, int signal, bool all, struct error *err)
{
    Pod__KillRequest kill_request = POD__KILL_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    kill_request.container_id = c->id;
    kill_request.signal = signal;
    kill_request.all = all;
    request.op_case = POD__REQUEST__OP_KILL;
    request.kill = &kill_request;

    struct error local = ERROR_INIT;
    struct podconn *conn = store_pod_conn(rt, c->pod);
    int r = conn ? podconn_request(conn, &request, ANSWER_TIMEOUT_NS, NULL, &local)
                 : error_set(&local, STATUS_UNAVAILABLE, ENOTCONN, "its crisp-pod has ended");
    podconn_unref(conn);
    if (r == 0 || local.status == STATUS_NOT_FOUND || local.errnum == ESRCH)
        return 0; // or it has just ended by itself
    // A crisp-pod that can't do it mustn't keep a container alive.
    if (signal == SIGKILL && all)
        return cgroup_kill(rt->cgroups, c->cgroup, err);
    return error_set(err, local.status, local.errnum, "send signal %d to container %s: %s", signal, c->id,
                     local.message);
}

bool container_is_running(struct runtime *rt, struct container *c)
{
    store_lock(rt);
    bool running = c->private->state == CONTAINER_RUNNING || c->private->state == CONTAINER_UNKNOWN;
    store_unlock(rt);
    return running;
}

static int not_dying(struct runtime *rt, const struct container *c, struct error *err)
{
    char frozen[CGROUP_PATH_MAX];
    if (cgroup_frozen_above(rt->cgroups, c->cgroup, frozen))
        return error_set(
            err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
            "container %s has not ended within %lld s of SIGKILL: somebody keeps the cgroup %.300s "
            "frozen; write THAWED to its freezer.state",
            c->id, (long long)(KILL_TIMEOUT_NS / NS_PER_SEC), frozen);
    return error_set(
        err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
        "container %s has not ended within %lld s of SIGKILL: a process of it hangs in the kernel"
        " (see /proc/PID/stack)",
        c->id, (long long)(KILL_TIMEOUT_NS / NS_PER_SEC));
}

static bool running_locked(const struct container_private *p)
{
    return p->state == CONTAINER_RUNNING || p->state == CONTAINER_UNKNOWN;
}

int container_wait_killed(struct runtime *rt, struct container *c, struct error *err)
{
    const struct ctx none = CTX_NONE;
    struct ctx ctx = ctx_with_timeout(&none, KILL_TIMEOUT_NS);
    int r = 0;
    store_lock(rt);
    while (running_locked(c->private) && r == 0)
        r = notify_wait(&rt->lock, &c->private->changed, &ctx, NULL);
    store_unlock(rt);
    return r < 0 ? not_dying(rt, c, err) : 0;
}

// Joins the stops under way; the earliest kill time counts for all. The lock is held. false: nothing to stop.
static bool stop_enter(struct container_private *p, int64_t timeout_s, bool *first)
{
    if (!running_locked(p))
        return false;
    int64_t now = clock_mono_ns();
    int64_t kill_at = timeout_s <= 0                           ? now
                      : timeout_s > INT64_MAX / NS_PER_SEC / 2 ? INT64_MAX
                                                               : now + timeout_s * NS_PER_SEC;
    *first = p->n_stops++ == 0;
    if (kill_at < p->kill_at_mono_ns) {
        p->kill_at_mono_ns = kill_at;
        notify_wake(&p->changed);
    }
    return true;
}

static void stop_leave(struct container_private *p)
{
    if (--p->n_stops > 0)
        return;
    p->kill_at_mono_ns = INT64_MAX;
    p->killed_mono_ns = 0;
}

// Until it has ended; the lock is held, and released while waiting and killing.
static int stop_wait(struct runtime *rt, struct container *c, const struct ctx *ctx, struct error *err)
{
    struct container_private *p = c->private;
    while (running_locked(p)) {
        int64_t now = clock_mono_ns();
        if (!p->killed_mono_ns && now >= p->kill_at_mono_ns) {
            p->killed_mono_ns = now;
            store_unlock(rt);
            int r = container_kill(rt, c, SIGKILL, true, err);
            store_lock(rt);
            if (r < 0)
                return r;
            continue;
        }
        int64_t until = p->killed_mono_ns ? p->killed_mono_ns + KILL_TIMEOUT_NS : p->kill_at_mono_ns;
        if (p->killed_mono_ns && now >= until)
            return not_dying(rt, c, err);
        struct ctx step = *ctx;
        if (until < step.deadline_mono_ns)
            step.deadline_mono_ns = until;
        // A bound of the step's own is no failure: the loop sees to it. The caller's is.
        if (notify_wait(&rt->lock, &p->changed, &step, NULL) < 0 && ctx_check(ctx, err) < 0)
            return error_wrap(err, "stop container %s", c->id);
    }
    return 0;
}

// A start under way: then there will be something to stop. One with hooks gets the grace period, and is
// called off then. The lock is held, and released meanwhile.
static int wait_for_start(struct runtime *rt, struct container *c, int64_t timeout_s, const struct ctx *ctx,
                          struct error *err)
{
    struct container_private *p = c->private;
    int64_t grace_s = timeout_s < 0                            ? 0
                      : timeout_s > INT64_MAX / NS_PER_SEC / 2 ? INT64_MAX / NS_PER_SEC / 2
                                                               : timeout_s;
    const struct ctx grace = ctx_with_timeout(ctx, grace_s * NS_PER_SEC);
    int r = 0;
    while (hooks_wanted(c) && p->starting && r == 0)
        r = notify_wait(&rt->lock, &p->changed, &grace, NULL);
    if (p->starting && r == -ETIMEDOUT) {
        store_unlock(rt);
        hooks_call_off(rt, c);
        store_lock(rt);
    }
    r = 0;
    while (p->starting && r == 0)
        r = notify_wait(&rt->lock, &p->changed, ctx, err);
    return r;
}

int runtime_container_stop(struct runtime *rt, struct container *c, int64_t timeout_s, const struct ctx *ctx,
                           struct error *err)
{
    struct container_private *p = c->private;
    bool first = false;

    store_lock(rt);
    int r = wait_for_start(rt, c, timeout_s, ctx, err);
    bool running = r == 0 && stop_enter(p, timeout_s, &first);
    store_unlock(rt);
    if (!running)
        return r;

    // A signal that can't be sent is no reason to stop stopping: SIGKILL comes, and its failure counts.
    if (first && timeout_s > 0)
        (void)container_kill(rt, c, c->stop_signal, false, NULL);
    store_lock(rt);
    r = stop_wait(rt, c, ctx, err);
    stop_leave(p);
    store_unlock(rt);
    return r;
}
