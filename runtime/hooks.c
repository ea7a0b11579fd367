// OCI hooks in the host's namespaces (prestart, createRuntime, poststart, poststop). What they are told
// by and owe: hooks_bundle.c.
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"
#include "runtime/hooks.h"
#include "runtime/plan.h"

enum hook_point { HOOK_PRESTART, HOOK_CREATE_RUNTIME, HOOK_POSTSTART, HOOK_POSTSTOP };

#define OUTPUT_MAX   ((size_t)1 << 20)
#define TOLD_MAX     400 // of what a failed hook printed
#define STOP_WAIT_NS (600 * NS_PER_SEC)

bool hooks_wanted(const struct container *c)
{
    return c->private->start && c->private->start->hold;
}

// ---- Running ----

struct hook_list {
    const char *name;
    Pod__Hook *const *v;
    size_t n;
};

static struct hook_list list_of(const Pod__Hooks *h, enum hook_point point)
{
    switch (point) {
    case HOOK_PRESTART:
        return (struct hook_list){"prestart", h->prestart, h->n_prestart};
    case HOOK_CREATE_RUNTIME:
        return (struct hook_list){"createRuntime", h->create_runtime, h->n_create_runtime};
    case HOOK_POSTSTART:
        return (struct hook_list){"poststart", h->poststart, h->n_poststart};
    case HOOK_POSTSTOP:
    default:
        return (struct hook_list){"poststop", h->poststop, h->n_poststop};
    }
}

static const char *status_of(enum hook_point point)
{
    return point == HOOK_POSTSTART ? "running" : point == HOOK_POSTSTOP ? "stopped" : "creating";
}

static char **vector(char *const *list, size_t n, const char *alone)
{
    char **out = calloc(n + 2, sizeof(*out));
    for (size_t i = 0; out && i < n; i++)
        out[i] = list[i];
    if (out && n == 0 && alone)
        out[0] = (char *)alone;
    return out;
}

static void tell(const struct spawn_result *result, struct buf *out)
{
    const struct buf *said = result->err.len > 0 ? &result->err : &result->out;
    const char *from = said->len > TOLD_MAX ? said->data + said->len - TOLD_MAX : said->data;
    _cleanup_free_ char *clean = said->len > 0 ? str_sanitize_utf8(from) : NULL;
    for (size_t len = clean ? strlen(clean) : 0; len > 0 && strchr("\n ", clean[len - 1]); len--)
        clean[len - 1] = '\0';
    if (clean && clean[0])
        (void)buf_printf(out, ": %s", clean);
}

static int run_one(const Pod__Hook *h, const char *state, const struct ctx *work, struct error *err)
{
    _cleanup_free_ char **argv = vector(h->args, h->n_args, h->path), **env = vector(h->env, h->n_env, NULL);
    struct ctx ctx =
        ctx_with_timeout(work, (h->timeout_ms ? h->timeout_ms : PLAN_HOOK_TIMEOUT_MS) * NS_PER_MS);
    if (!argv || !env)
        return error_errno(err, ENOMEM, "%s", h->path);
    const struct spawn_options o = {
        .path = h->path, .argv = argv, .envp = env, .new_session = true, .kill_rest = true};
    struct spawn_result result;
    int r = spawn_run(&o, state, strlen(state), OUTPUT_MAX, &ctx, &result, err);
    if (r == 0 && result.exit_code != 0) {
        struct buf said;
        buf_init(&said, 2 * TOLD_MAX);
        tell(&result, &said);
        r = error_set(err, STATUS_FAILED_PRECONDITION, ECHILD, "%s failed with exit code %d%s", h->path,
                      result.exit_code, said.len ? said.data : "");
        buf_done(&said);
    }
    spawn_result_done(&result);
    return r;
}

static char *state_text(const Pod__Hooks *hooks, enum hook_point point, int pid)
{
    if (point == HOOK_POSTSTOP)
        return str_printf("{\"status\":\"%s\",%s}", status_of(point), hooks->state);
    return str_printf("{\"status\":\"%s\",\"pid\":%d,%s}", status_of(point), pid, hooks->state);
}

// Runs the hooks of one point, one after the other, each within its time. The first failure ends it, but for
// poststop's, which are logged. pid: of the container's first process, as the host sees it.
static int run_hooks(const struct container *c, enum hook_point point, int pid, const struct ctx *ctx,
                     struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(HOOKS_PLAN_MAX);
    const Pod__LaunchPlan *plan = arena ? hooks_plan(c, arena) : NULL;
    if (!plan || !plan->hooks)
        return hooks_no_plan(c, err);
    const struct hook_list list = list_of(plan->hooks, point);
    _cleanup_free_ char *state = state_text(plan->hooks, point, pid);
    if (!state)
        return error_errno(err, ENOMEM, "run the hooks of container %s", c->id);
    int first = 0;
    for (size_t i = 0; i < list.n; i++) {
        struct error local = ERROR_INIT;
        int r = run_one(list.v[i], state, ctx, &local);
        if (r == 0)
            continue;
        if (local.status == STATUS_NOT_FOUND) // would be understood of the container
            error_restatus(&local, STATUS_FAILED_PRECONDITION);
        (void)error_wrap(&local, "%s hook", list.name);
        if (point != HOOK_POSTSTOP || r == -ECANCELED) {
            if (err)
                *err = local;
            return r;
        }
        // The specification: tell, and go on.
        log_warn("a hook failed", "container", c->id, "error", local.message);
        first = first ? first : r;
        if (err)
            *err = local;
    }
    return first;
}

// ---- Starting ----

// What ends the hooks of a start: the daemon's end, or hooks_call_off().
struct calling_off {
    int event;
    int either; // an epoll descriptor, which is readable when one of the two is
};

static int add_cause(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void calling_off_done(struct runtime *rt, struct container *c, struct calling_off *o)
{
    store_lock(rt);
    c->private->hooks_event = NULL;
    store_unlock(rt);
    fd_closep(&o->event);
    fd_closep(&o->either);
}

static int calling_off_init(struct runtime *rt, struct container *c, struct calling_off *o, struct error *err)
{
    o->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    o->either = epoll_create1(EPOLL_CLOEXEC);
    if (o->event < 0 || o->either < 0 || add_cause(o->either, o->event) < 0 ||
        add_cause(o->either, rt->shutdown_fd) < 0) {
        int r = error_errno(err, errno, "run the hooks of container %s", c->id);
        calling_off_done(rt, c, o);
        return r;
    }
    store_lock(rt);
    c->private->hooks_event = &o->event;
    if (c->private->called_off)
        (void)eventfd_write(o->event, 1);
    store_unlock(rt);
    return 0;
}

// Why a start's hook was ended, in words for its caller.
static void tell_why(struct runtime *rt, const struct container *c, enum hook_point point, struct error *err)
{
    static const Pod__Hooks none = POD__HOOKS__INIT;
    const char *name = list_of(&none, point).name;
    store_lock(rt);
    bool off = c->private->called_off;
    store_unlock(rt);
    (void)(off ? error_set(err, STATUS_ABORTED, ECANCELED,
                           "%s hook: it was ended, as the container is being stopped or removed", name)
               : error_set(err, STATUS_UNAVAILABLE, ECANCELED,
                           "%s hook: it was ended, as the daemon is ending", name));
}

// The hooks of a start.
static int run_start_hooks(struct runtime *rt, struct container *c, enum hook_point point, int pid,
                           struct error *err)
{
    struct calling_off o;
    int r = calling_off_init(rt, c, &o, err);
    if (r < 0)
        return r;
    const struct ctx ctx = {.deadline_mono_ns = INT64_MAX, .cancel_fd = o.either};
    r = run_hooks(c, point, pid, &ctx, err);
    calling_off_done(rt, c, &o);
    if (r == -ECANCELED)
        tell_why(rt, c, point, err);
    return r;
}

void hooks_call_off(struct runtime *rt, struct container *c)
{
    struct container_private *p = c->private;
    if (!hooks_wanted(c))
        return;
    store_lock(rt);
    bool starting = p->starting;
    p->called_off = p->called_off || starting || p->gate.held; // a start may be about to begin
    if (p->hooks_event)
        (void)eventfd_write(*p->hooks_event, 1);
    store_unlock(rt);
    if (starting) // it may be crisp-pod that waits for a hook
        (void)container_kill(rt, c, SIGKILL, true, NULL);
}

bool hooks_start_over(struct container *c)
{
    c->private->called_off = false;
    return c->private->state == CONTAINER_EXITED && hooks_wanted(c);
}

static int ask(struct podconn *conn, const struct container *c, Pod__Request *request, Pod__Reply **reply,
               struct error *err)
{
    podconn_reply_free(reply);
    return podconn_request(conn, request, c->private->start->deadline_ms * NS_PER_MS + ANSWER_TIMEOUT_NS,
                           reply, err);
}

// It is held before pivot_root. Goes on, or kills it.
static int proceed(struct podconn *conn, const struct container *c, bool abort, Pod__Reply **reply,
                   struct error *err)
{
    Pod__ProceedRequest proceed = POD__PROCEED_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    proceed.container_id = (char *)c->id;
    proceed.abort = abort;
    request.op_case = POD__REQUEST__OP_PROCEED;
    request.proceed = &proceed;
    return ask(conn, c, &request, reply, err);
}

int hooks_start(struct runtime *rt, struct container *c, struct podconn *conn, Pod__Reply **reply, bool *told,
                struct error *err)
{
    Pod__Request request = POD__REQUEST__INIT;
    request.op_case = POD__REQUEST__OP_START;
    request.start = c->private->start;
    int r = hooks_bundle_make(rt, c, err);
    if (r < 0) {
        *told = true;
        return r;
    }
    r = ask(conn, c, &request, reply, err);
    if (r < 0 || (*reply)->result_case != POD__REPLY__RESULT_START || !(*reply)->start->held)
        return r;
    int pid = (*reply)->start->pid;
    r = run_start_hooks(rt, c, HOOK_PRESTART, pid, err);
    if (r == 0)
        r = run_start_hooks(rt, c, HOOK_CREATE_RUNTIME, pid, err);
    if (r == 0)
        r = hooks_owe_poststart(c, err); // from the next moment on it may run
    if (r == 0) {
        r = proceed(conn, c, false, reply, err);
        if (r < 0 && *reply) // it says that nothing runs
            hooks_settle_poststart(c);
        return r;
    }
    (void)proceed(conn, c, true, reply, NULL);
    *told = true;
    return error_wrap(err, "start container %s", c->id);
}

int hooks_after_start(struct runtime *rt, struct container *c, int pid, struct error *err)
{
    int r = run_start_hooks(rt, c, HOOK_POSTSTART, pid, err);
    if (r == -ECANCELED && err->status == STATUS_UNAVAILABLE)
        return error_wrap(err, "start container %s", c->id);
    hooks_settle_poststart(c);
    if (r == 0)
        return 0;
    (void)container_kill(rt, c, SIGKILL, true, NULL);
    (void)container_wait_killed(rt, c, NULL);
    return error_wrap(err, "start container %s", c->id);
}

// ---- After the end ----

static int not_run(const struct container *c, int r, struct error *err)
{
    return error_set(err, STATUS_UNAVAILABLE, -r,
                     "container %s: its poststop hooks have not run%s: try again", c->id,
                     r == -ECANCELED ? ", as the daemon is ending" : " yet");
}

int hooks_stop(struct runtime *rt, struct container *c, struct error *err)
{
    struct container_private *p = c->private;
    char bundle[PATH_MAX];
    int r = 0;
    if (!hooks_wanted(c) || hooks_bundle_path(c->pod->dir, c->id, bundle) < 0 || access(bundle, F_OK) < 0)
        return 0;
    const struct ctx work = runtime_work_ctx(rt);
    const struct ctx bounded = ctx_with_timeout(&work, STOP_WAIT_NS);
    store_lock(rt);
    while ((p->in_poststop || p->starting) && r == 0) // after its poststart hooks, however short it lived
        r = notify_wait(&rt->lock, &p->changed, &bounded, NULL);
    if (r == 0)
        p->in_poststop = true;
    store_unlock(rt);
    if (r < 0)
        return not_run(c, r, err);
    bool owed = access(bundle, F_OK) == 0;
    if (owed && hooks_poststart_owed(c))
        log_warn("a container's poststart hooks have not run: it ended before", "container", c->id);
    if (owed && run_hooks(c, HOOK_POSTSTOP, 0, &work, NULL) == -ECANCELED) {
        r = -ECANCELED; // the next daemon runs them
    } else if (owed) {
        struct error local = ERROR_INIT;
        if (file_remove_tree(bundle, &local) < 0)
            log_warn("a bundle cannot be removed", "container", c->id, "error", local.message);
    }
    store_lock(rt);
    p->in_poststop = false;
    notify_wake(&p->changed);
    store_unlock(rt);
    return r < 0 ? not_run(c, r, err) : 0;
}

static int stop_job(void *data, unsigned attempt)
{
    struct container *c = data;
    struct container_private *p = c->private;
    store_lock(p->rt);
    bool others = p->starting || p->in_poststop; // they see to it: no thread waits for them
    store_unlock(p->rt);
    if (!others)
        (void)hooks_stop(p->rt, c, NULL);
    (void)attempt;
    return 0; // what went wrong is told; another try comes with the container's removal
}

static void stop_drop(void *data)
{
    container_unref(data);
}

void hooks_stop_later(struct runtime *rt, struct container *c)
{
    if (hooks_wanted(c))
        (void)worker_add(rt->hook_worker, stop_job, stop_drop, container_ref(c), 0);
}

// An earlier daemon ended between the container's start and the end of its poststart hooks.
static int poststart_job(void *data, unsigned attempt)
{
    struct container *c = data;
    struct runtime *rt = c->private->rt;
    struct error err = ERROR_INIT;
    store_lock(rt);
    enum container_state state = c->private->state;
    int pid = c->private->pid;
    bool mine = state == CONTAINER_RUNNING && !c->private->starting;
    if (mine)
        c->private->starting = true; // its poststop hooks wait, and a stop calls these off
    store_unlock(rt);
    (void)attempt;
    if (!mine)
        return state == CONTAINER_UNKNOWN ? -EAGAIN : 0;
    if (hooks_after_start(rt, c, pid, &err) < 0)
        log_warn("hooks of a container that an earlier daemon started failed", "container", c->id, "error",
                 err.message);
    container_start_over(rt, c);
    return 0;
}

void hooks_recover(struct runtime *rt)
{
    struct container **all;
    size_t n;
    if (runtime_container_list(rt, NULL, false, &all, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        struct container_view v;
        runtime_container_view(rt, all[i], &v);
        if (v.state == CONTAINER_EXITED)
            hooks_stop_later(rt, all[i]);
        else if (v.state != CONTAINER_CREATED && hooks_poststart_owed(all[i]))
            (void)worker_add(rt->hook_worker, poststart_job, stop_drop, container_ref(all[i]), 0);
    }
    runtime_containers_free(all, n);
}
