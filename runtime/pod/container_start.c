// Starting containers: the child that is prepared or made for it, its orders, what it answers.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pb.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/child.h"
#include "runtime/pod/container.h"
#include "runtime/pod/sys.h"

#define FAILING_MAX_NS NS_PER_SEC // how long a failed launch's killed child is waited for

struct container *container_alloc(struct pod *p, Pod__PidMode mode)
{
    struct container *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->pod = p;
    c->stdin_fd = c->log.fd = c->plan_fd = -1;
    c->launch = (struct launch){.pod = p, .source = {.fd = -1}, .pidfd = -1, .tty = -1};
    for (int i = 0; i < CRILOG_STREAMS; i++)
        c->outputs[i] =
            (struct output){.source = {.fd = -1}, .container = c, .stream = (enum crilog_stream)i};
    c->pid_mode = mode;
    return c;
}

int container_enlist(struct container *c, const char *id, const Pod__CgroupPlace *place, struct error *err)
{
    struct pod *p = c->pod;

    if (!pod_id_valid(id))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "\"%s\" is no container id", id);
    if (p->n_containers >= POD_CONTAINERS_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EMFILE,
                         "pod %s has %d containers already: remove some", p->id, POD_CONTAINERS_MAX);
    c->id = strdup(id);
    c->place = place ? (Pod__CgroupPlace *)pb_dup(&place->base, NULL) : NULL;
    if (!c->id || (place && !c->place))
        return error_errno(err, ENOMEM, "container %s", id);
    c->next = p->containers;
    p->containers = c;
    p->n_containers++;
    return 0;
}

static struct container *container_new(struct pod *p, const char *id, const Pod__CgroupPlace *place,
                                       Pod__PidMode mode, struct error *err)
{
    struct container *c = container_alloc(p, mode);

    if (!c)
        (void)error_errno(err, ENOMEM, "container %s", id);
    else if (container_enlist(c, id, place, err) < 0) {
        container_free(c);
        c = NULL;
    }
    return c;
}

static void start_in_child(void *arg, int sock, char *step)
{
    child_start(arg, sock, step);
}

// Which pid namespace the container is to be in, if it is not its own one.
static int choose_pid_ns(const struct container *c, const char *target, struct child_start *start,
                         struct error *err)
{
    struct pod *p = c->pod;
    const struct container *t = NULL;

    if (c->pid_mode == POD__PID_MODE__PID_POD) {
        if (p->ns[POD_NS_PID] < 0)
            return error_set(err, STATUS_FAILED_PRECONDITION, EINVAL, "pod %s has no shared pid namespace",
                             p->id);
        start->join_pid = p->ns[POD_NS_PID];
        start->join_proc = p->ns[POD_NS_PROC];
    } else if (c->pid_mode == POD__PID_MODE__PID_TARGET) {
        t = container_find(p, target);
        if (!t || t->phase != CONTAINER_RUNNING)
            return error_set(err, STATUS_FAILED_PRECONDITION, ESRCH,
                             "container %s, whose pid namespace is to be joined, does not run in this pod",
                             target);
        start->join_pid = start->join_proc = t->launch.pidfd;
        start->target = t->launch.pid;
    }
    return 0;
}

int container_park(struct container *c, const char *target, bool hold, bool place_later, struct error *err)
{
    struct pod *p = c->pod;
    bool v2 = c->place && c->place->v2 && c->place->n_dirs;
    // The pid namespace belongs to the user namespace if it is made in there (child_inside.c). Not with
    // hooks, which need one process that is both outside, with the host's files in sight, and the container's
    // first.
    bool inside = p->uids.length && c->pid_mode == POD__PID_MODE__PID_PRIVATE && !hold;
    struct child_start start = {.pod = p,
                                .place = c->place,
                                .in_cgroup = v2,
                                .place_later = place_later,
                                .spare = !c->id,
                                .split = inside,
                                .join_pid = -1,
                                .join_proc = -1};
    struct launch_options o = {.pid_ns_pidfd = -1,
                               .pid_ns_fd = -1,
                               .cgroup_v2 = v2 ? c->place->dirs[0] : NULL,
                               .child = start_in_child,
                               .arg = &start};

    if (!p->ready)
        return error_set(err, STATUS_FAILED_PRECONDITION, EAGAIN, "pod %s is not set up", p->id);
    int rc = choose_pid_ns(c, target, &start, err);
    if (rc < 0)
        return rc;
    o.new_pid_ns = c->pid_mode == POD__PID_MODE__PID_PRIVATE && !inside;
    // Others may be there already, and one that may trace takes over what is launched: it goes in when it has
    // nothing left to be taken (child_stage.c). With a user namespace they can't: it comes from outside.
    bool stages = start.join_pid >= 0 && !p->uids.length;
    if (!stages && start.target)
        o.pid_ns_pidfd = start.join_pid;
    else if (!stages)
        o.pid_ns_fd = start.join_pid;
    if (!stages)
        start.join_pid = start.join_proc = -1;
    c->launch.two_stages = inside || stages;
    c->launch.only_first = stages;
    return launch_clone(&c->launch, p, &o, err);
}

static void reply_started(const struct container *c, struct waiter w)
{
    Pod__Reply reply = POD__REPLY__INIT;
    Pod__StartReply r = POD__START_REPLY__INIT;
    Pod__ResolvedUser user = POD__RESOLVED_USER__INIT;

    r.pid = (int32_t)c->launch.pid;
    r.started_at_ns = c->started_at_ns;
    if (c->user) {
        user.uid = c->user->uid;
        user.gid = c->user->gid;
        user.groups = c->user->groups;
        user.n_groups = c->user->n_groups;
        user.home = c->user->home;
        r.user = &user;
    }
    reply.result_case = POD__REPLY__RESULT_START;
    reply.start = &r;
    conn_reply(c->pod, w, &reply, NULL, 0);
}

// In a memfd: the socket could not take it all without blocking.
static int make_plan(struct container *c, const ProtobufCBinaryData *plan, struct error *err)
{
    c->plan_len = plan->len;
    c->plan_fd = memfd_create("plan", MFD_CLOEXEC);
    if (c->plan_fd < 0 || file_write_all(c->plan_fd, plan->data, plan->len) < 0)
        return error_errno(err, errno, "hand over the launch plan");
    return 0;
}

// Behind the plan, for a child that was made before its place was known.
static int add_place(struct container *c, struct error *err)
{
    size_t len = pod__cgroup_place__get_packed_size(c->place);
    _cleanup_free_ uint8_t *packed = malloc(len + 1);

    if (!packed)
        return error_errno(err, ENOMEM, "hand over the launch plan");
    (void)pod__cgroup_place__pack(c->place, packed);
    if (file_write_all(c->plan_fd, packed, len) < 0)
        return error_errno(err, errno, "hand over the launch plan");
    c->place_len = len;
    return 0;
}

static int order_plan(struct container *c, bool hold, struct error *err)
{
    struct launch_plan_order order = {.plan_len = c->plan_len, .place_len = c->place_len, .hold = hold};
    long sent = launch_send(c->launch.source.fd, &order, sizeof(order), &c->plan_fd, 1);

    if (!c->prepared)
        fd_closep(&c->plan_fd);
    if (sent < 0)
        return error_errno(err, (int)sent, "hand over the launch plan");
    c->planned = true;
    return 0;
}

static int send_go(const struct container *c, const int stdio[3], struct error *err)
{
    struct launch_go_order order = {.tty = c->tty};
    int fds[3];
    size_t n = 0;

    for (int i = 0; i < 3; i++) {
        if (stdio[i] < 0)
            continue;
        order.stdio_mask |= 1u << i;
        fds[n++] = stdio[i];
    }
    long sent = launch_send(c->launch.source.fd, &order, sizeof(order), fds, n);
    return sent < 0 ? error_errno(err, (int)sent, "order the launch") : 0;
}

static void launched(struct launch *l);
static void held(struct launch *l);

// To go on to exec, with new streams.
static int order_go(struct container *c, bool hold, struct error *err)
{
    int64_t left_ms = c->launch_end_mono_ns ? (c->launch_end_mono_ns - clock_mono_ns()) / NS_PER_MS : 0;
    int stdio[3] = {-1, -1, -1};
    int rc = container_open_stdio(c, stdio, err);

    if (rc == 0)
        rc = send_go(c, stdio, err);
    for (int i = 0; i < 3; i++)
        fd_closep(&stdio[i]);
    if (rc < 0)
        return rc;
    c->phase = CONTAINER_LAUNCHING;
    c->launch.done = launched;
    c->launch.on_held = hold ? held : NULL;
    if (c->launch_end_mono_ns && left_ms < 1)
        left_ms = 1;
    return launch_watch(&c->launch, (uint32_t)left_ms, err);
}

// What a prepared child said is of the time before the start: what was missing may be there by now, and
// somebody may have killed it.
static bool may_try_again(const struct container *c)
{
    return c->prepared && c->plan_fd >= 0 && c->reaped && c->n_waiters > 0 && !c->pod->shutting_down &&
           !c->launch.timed_out;
}

static int try_again(struct container *c, struct error *err)
{
    loop_disarm(&c->pod->loop, &c->end_timer);
    launch_done(&c->launch);
    container_close_output(c);
    fd_closep(&c->stdin_fd);
    c->launch = (struct launch){.pod = c->pod, .source = {.fd = -1}, .pidfd = -1, .tty = -1};
    c->prepared = c->reaped = false;
    c->place_len = 0; // this one is made with it
    int rc = container_park(c, "", false, false, err);
    if (rc == 0)
        rc = order_plan(c, false, err);
    return rc < 0 ? rc : order_go(c, false, err);
}

void container_end_failed(struct container *c)
{
    struct pod *p = c->pod;

    if (may_try_again(c)) {
        struct error err;
        if (try_again(c, &err) == 0)
            return;
        if (c->launch.pid > 0)
            container_kill(c);
        c->launch.error = err;
        c->launch.failed_step[0] = '\0';
    }

    (void)error_wrap(&c->launch.error, "start container %s", c->id);
    for (size_t i = 0; i < c->n_waiters; i++)
        conn_reply_error(p, c->waiters[i], &c->launch.error, c->launch.failed_step);
    container_free(c);
    pod_container_gone(p);
}

static void failing_fired(struct timer *t)
{
    container_end_failed(
        container_of(t, struct container, end_timer)); // stuck in the kernel: not our problem
}

// The launch has come to its end, one way or the other.
static void launched(struct launch *l)
{
    struct container *c = container_of(l, struct container, launch);
    struct error err;

    if (!l->failed && container_watch_output(c, &err) < 0) {
        l->failed = true;
        l->error = err;
    }
    if (l->failed) {
        // The reply waits for the child's end, so that its cgroup can be removed once it is told.
        c->phase = CONTAINER_FAILING;
        c->end_timer.fired = failing_fired;
        container_kill(c);
        if (c->reaped)
            container_end_failed(c);
        else
            loop_arm(&c->pod->loop, &c->end_timer, FAILING_MAX_NS);
        return;
    }
    fd_closep(&c->plan_fd);
    c->user = l->user;
    l->user = NULL;
    c->started_at_ns = clock_wall_unique_ns();
    c->phase = CONTAINER_RUNNING;
    oom_watch_begin(&c->oom, &c->pod->loop, c->place, c->reaped ? 0 : c->launch.pid);
    for (size_t i = 0; i < c->n_waiters; i++)
        reply_started(c, c->waiters[i]);
    c->n_waiters = 0;
    if (c->reaped)
        container_begin_end(c);
}

static void reply_held(const struct container *c, struct waiter w)
{
    Pod__Reply reply = POD__REPLY__INIT;
    Pod__StartReply r = POD__START_REPLY__INIT;

    r.pid = (int32_t)c->launch.pid;
    r.held = true;
    reply.result_case = POD__REPLY__RESULT_START;
    reply.start = &r;
    conn_reply(c->pod, w, &reply, NULL, 0);
}

// Its namespaces and root are made: crispd runs hooks now.
static void held(struct launch *l)
{
    struct container *c = container_of(l, struct container, launch);

    for (size_t i = 0; i < c->n_waiters; i++)
        reply_held(c, c->waiters[i]);
    c->n_waiters = 0;
}

void container_prepare(struct pod *p, struct waiter w, const Pod__PrepareRequest *request)
{
    struct error err;

    // Only a head start: where it can't be had, the start makes its own child, and tells what is wrong.
    conn_reply_ok(p, w);
    if (!*request->container_id) {
        spare_make(p, request->pid_mode);
        return;
    }
    if (request->pid_mode == POD__PID_MODE__PID_TARGET || p->shutting_down ||
        container_find(p, request->container_id))
        return;
    if (request->cgroup_later && (!request->cgroup || request->cgroup->v2 || request->plan.len == 0))
        return; // it would have to be cloned into what isn't there
    struct container *spare = spare_take(p, request);
    struct container *c =
        spare ? spare : container_new(p, request->container_id, request->cgroup, request->pid_mode, &err);
    if (!c)
        return;
    c->prepared = true;
    int rc = spare ? 0 : container_park(c, "", false, request->cgroup_later, &err);
    if (rc == 0 && request->plan.len > 0)
        rc = make_plan(c, &request->plan, &err);
    if (rc == 0 && spare)
        rc = add_place(c, &err);
    if (rc == 0 && request->plan.len > 0)
        rc = order_plan(c, false, &err);
    if (rc < 0) {
        if (c->launch.pid > 0)
            container_kill(c);
        container_free(c);
        return;
    }
    c->placer = request->cgroup_later ? w.conn : 0;
}

void container_placed(struct pod *p, struct waiter w, const Pod__PlacedRequest *request)
{
    const struct launch_go_order order = {.placed = 1};
    struct container *c = container_find(p, request->container_id);

    conn_reply_ok(p, w);
    if (!c || c->phase != CONTAINER_PARKED) // the start has told it already, or it is gone
        return;
    c->placer = 0;
    (void)launch_send(c->launch.source.fd, &order, sizeof(order), NULL, 0);
}

static int launch(struct container *c, const Pod__StartRequest *request, struct error *err)
{
    const Pod__Stdio *io = request->stdio;

    c->tty = io && io->tty;
    c->has_stdin = io && io->stdin;
    c->launch_end_mono_ns = request->deadline_ms ? clock_mono_ns() + request->deadline_ms * NS_PER_MS : 0;
    int rc = c->planned ? 0 : make_plan(c, &request->plan, err);
    if (rc == 0 && !c->planned)
        rc = order_plan(c, request->hold, err);
    if (rc == 0)
        rc = crilog_init(&c->log, io ? io->log_path : "", err);
    if (rc < 0)
        return rc;
    struct error log_err;
    if (crilog_open(&c->log, &log_err) < 0) // never a reason not to run; each later write tries again
        log_warn("a container's log can't be opened", "container", c->id, "error", log_err.message);
    return order_go(c, request->hold, err);
}

// A start of a container that is known: joins the launch, or tells what became of it.
static void start_again(struct container *c, struct waiter w)
{
    struct error err;

    if (c->phase == CONTAINER_RUNNING) {
        reply_started(c, w);
    } else if (c->phase == CONTAINER_LAUNCHING && c->launch.held && c->holder) {
        c->holder = w.conn;
        reply_held(c, w);
    } else if (c->phase < CONTAINER_RUNNING && c->n_waiters < CONTAINER_WAITERS_MAX) {
        c->waiters[c->n_waiters++] = w;
    } else {
        (void)error_set(&err, STATUS_FAILED_PRECONDITION, EALREADY, "start container %s: it %s", c->id,
                        c->phase < CONTAINER_RUNNING ? "is being started"
                                                     : "has been started and has exited");
        conn_reply_error(c->pod, w, &err, NULL);
    }
}

static bool parked_fits(const struct container *c, const Pod__StartRequest *request)
{
    if (c->planned && request->hold) // it doesn't know that it is to be held
        return false;
    return c->phase == CONTAINER_PARKED && c->pid_mode == request->pid_mode && c->place && request->cgroup &&
           pb_equal(&c->place->base, &request->cgroup->base);
}

// A container with a child that has its orders; NULL: not.
static struct container *start_one(struct pod *p, struct container *c, const Pod__StartRequest *request,
                                   struct error *err)
{
    if (!c && p->shutting_down)
        (void)error_set(err, STATUS_FAILED_PRECONDITION, ESHUTDOWN, "pod %s is being stopped", p->id);
    else if (!c)
        c = container_new(p, request->container_id, request->cgroup, request->pid_mode, err);
    if (!c)
        return NULL;
    int rc = c->launch.pid > 0 ? 0 : container_park(c, request->pid_target, request->hold, false, err);
    if (rc == 0)
        rc = launch(c, request, err);
    if (rc == 0)
        return c;
    bool gone = c->prepared && (rc == -EPIPE || rc == -ECONNRESET);
    (void)error_wrap(err, "start container %s", c->id);
    if (c->launch.pid > 0)
        container_kill(c);
    container_free(c);
    return gone ? start_one(p, NULL, request, err) : NULL; // somebody has killed it: once more, with its own
}

void container_start(struct pod *p, struct waiter w, const Pod__StartRequest *request)
{
    struct container *c = container_find(p, request->container_id);
    struct error err = ERROR_INIT;

    if (c && c->phase != CONTAINER_PARKED) {
        start_again(c, w);
        return;
    }
    if (c && !parked_fits(c, request)) {
        container_kill(c);
        container_free(c);
        c = NULL;
    }
    c = start_one(p, c, request, &err);
    if (!c) {
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    c->holder = request->hold ? w.conn : 0;
    c->waiters[c->n_waiters++] = w;
}

void container_proceed(struct pod *p, struct waiter w, const Pod__ProceedRequest *request)
{
    struct container *c = container_find(p, request->container_id);
    struct error err;

    if (!c || c->phase != CONTAINER_LAUNCHING || !c->launch.held || c->n_waiters == CONTAINER_WAITERS_MAX) {
        (void)error_set(&err, STATUS_FAILED_PRECONDITION, ESRCH, "start container %s: it is not held",
                        request->container_id);
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    c->holder = 0;
    c->waiters[c->n_waiters++] = w; // the launch's end answers, whatever it is
    char go = 1;
    if (request->abort || launch_send(c->launch.source.fd, &go, sizeof(go), NULL, 0) < 0)
        container_kill(c);
}

void container_drop_conn(struct pod *p, uint64_t conn)
{
    for (struct container *c = p->containers, *next; c; c = next) {
        next = c->next;
        if (c->holder == conn && c->phase == CONTAINER_LAUNCHING) {
            container_kill(c); // its end comes by the reaper: nothing is freed here
        } else if (c->placer == conn && c->phase == CONTAINER_PARKED) {
            container_kill(c); // no cgroup leads to it yet
            container_free(c);
        }
    }
}
