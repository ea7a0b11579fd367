// Execs: processes that join a running container. Each has a cgroup of its own below the container's, by
// which its whole tree is killed.
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/child.h"
#include "runtime/pod/container.h"
#include "runtime/pod/sys.h"

#define KILL_MAX_NS      NS_PER_SEC
#define KILL_REPEAT_NS   NS_PER_MS
#define RETRY_FIRST_NS   (10 * NS_PER_MS)
#define RETRY_LONGEST_NS (10 * NS_PER_SEC)

struct exec {
    struct exec *next;
    struct pod *pod;
    struct container *container;
    char *id;
    struct launch launch;
    struct waiter waiter;        // for the reply, and whose connection gets the event
    struct waiter killer;        // who waits for the tree's death
    char *cgroup;                // to be removed; NULL: none
    bool launched, reaped, told; // told: the event was sent (or there is nothing to tell)
    int wait_status;
    struct timer kill_timer; // repeats the kill until the tree is dead
    int64_t kill_deadline_mono_ns;
    struct timer remove_timer; // retries the removal while background processes live
    int64_t remove_delay_ns;
};

static struct exec *exec_find(struct pod *p, const char *container, const char *id)
{
    for (struct exec *e = p->execs; e; e = e->next)
        if (str_eq(e->id, id) && str_eq(e->container->id, container))
            return e;
    return NULL;
}

static void exec_free(struct exec *e)
{
    struct pod *p = e->pod;

    for (struct exec **at = &p->execs; *at; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            p->n_execs--;
            break;
        }
    }
    loop_disarm(&p->loop, &e->kill_timer);
    loop_disarm(&p->loop, &e->remove_timer);
    launch_done(&e->launch);
    if (e->cgroup)
        (void)rmdir(e->cgroup);
    free(e->cgroup);
    free(e->id);
    free(e);
}

// Once the first process is gone: the record lives on only as long as the cgroup can't be removed.
static void exec_settle(struct exec *e)
{
    if (!e->reaped || !e->told || e->kill_timer.armed)
        return;
    if (e->cgroup && rmdir(e->cgroup) < 0 && errno == EBUSY) {
        e->remove_delay_ns = e->remove_delay_ns ? e->remove_delay_ns * 2 : RETRY_FIRST_NS;
        if (e->remove_delay_ns > RETRY_LONGEST_NS)
            e->remove_delay_ns = RETRY_LONGEST_NS;
        loop_arm(&e->pod->loop, &e->remove_timer, e->remove_delay_ns);
        return;
    }
    free(e->cgroup);
    e->cgroup = NULL;
    exec_free(e);
}

static void remove_fired(struct timer *t)
{
    exec_settle(container_of(t, struct exec, remove_timer));
}

static void tell_failure(struct exec *e)
{
    if (!e->launch.failed || e->told)
        return;
    e->told = true;
    (void)error_wrap(&e->launch.error, "exec in container %s", e->container->id);
    conn_reply_error(e->pod, e->waiter, &e->launch.error, e->launch.failed_step);
}

static void kill_pass(struct exec *e)
{
    size_t alive = 0;

    if (!e->reaped)
        (void)pidfd_send_signal(e->launch.pidfd, SIGKILL, NULL, 0);
    if (e->cgroup)
        alive = cgroups_kill(e->cgroup, e->container->place->v2);
    else if (!e->reaped && e->launch.pid > 0)
        (void)kill(-e->launch.pid, SIGKILL); // no freezer on this host: its session's first group at least
    if ((alive || !e->reaped) && clock_mono_ns() < e->kill_deadline_mono_ns) {
        loop_arm(&e->pod->loop, &e->kill_timer, KILL_REPEAT_NS);
        return;
    }
    tell_failure(e);
    if (e->killer.conn)
        conn_reply_ok(e->pod, e->killer);
    e->killer = (struct waiter){0};
    exec_settle(e);
}

static void kill_fired(struct timer *t)
{
    kill_pass(container_of(t, struct exec, kill_timer));
}

static void begin_kill(struct exec *e)
{
    e->kill_timer.fired = kill_fired;
    e->kill_deadline_mono_ns = clock_mono_ns() + KILL_MAX_NS;
    kill_pass(e);
}

// Was this one of the OOM killer's? Only SIGKILL is its, and each of its kills counts for one end.
static bool oom_killed(const struct exec *e)
{
    struct container *c = e->container;

    if (!WIFSIGNALED(e->wait_status) || WTERMSIG(e->wait_status) != SIGKILL || !c->place)
        return false;
    unsigned long kills = cgroups_oom_kills(c->place);
    bool more = kills > c->oom_kills_seen;
    c->oom_kills_seen = kills;
    return more;
}

static void tell_exit(struct exec *e)
{
    Pod__Event event = POD__EVENT__INIT;
    Pod__ExecExit exit = POD__EXEC_EXIT__INIT;

    if (!e->launched || !e->reaped || e->told || e->launch.failed)
        return;
    e->told = true;
    exit.container_id = e->container->id;
    exit.exec_id = e->id;
    exit.exit_code =
        WIFSIGNALED(e->wait_status) ? 128 + WTERMSIG(e->wait_status) : WEXITSTATUS(e->wait_status);
    exit.oom_killed = oom_killed(e);
    event.exec_exit = &exit;
    if (e->waiter.conn)
        conn_event(e->pod, e->waiter.conn, &event);
}

static void launched(struct launch *l)
{
    struct exec *e = container_of(l, struct exec, launch);

    e->launched = true;
    if (l->failed) {
        if (e->reaped)
            tell_failure(e);
        else
            begin_kill(e); // told when it is gone, or can't be killed
    } else {
        Pod__Reply reply = POD__REPLY__INIT;
        Pod__ExecReply r = POD__EXEC_REPLY__INIT;
        r.pid = (int32_t)l->pid;
        reply.result_case = POD__REPLY__RESULT_EXEC;
        reply.exec = &r;
        conn_reply(e->pod, e->waiter, &reply, NULL, 0);
    }
}

static void exec_in_child(void *arg, int sock, char *step)
{
    child_exec(arg, sock, step);
}

static int exec_clone(struct exec *e, const Pod__ExecRequest *request, const int stdio[3], struct error *err)
{
    struct container *c = e->container;
    bool v2 = c->place && c->place->v2, join_pid = c->pid_mode != POD__PID_MODE__PID_HOST;
    struct child_exec child = {.pod = e->pod,
                               .place = c->place,
                               .exec_id = e->cgroup ? e->id : NULL,
                               .process = request->process,
                               .in_cgroup = v2 && e->cgroup,
                               .init_pidfd = c->launch.pidfd,
                               .two_stages = e->launch.two_stages,
                               .join_pid = join_pid,
                               .stdio = {stdio[0], stdio[1], stdio[2]}};
    struct launch_options o = {.pid_ns_pidfd = join_pid && !e->launch.two_stages ? c->launch.pidfd : -1,
                               .pid_ns_fd = -1,
                               .cgroup_v2 = v2 ? e->cgroup : NULL,
                               .child = exec_in_child,
                               .arg = &child};

    int rc = launch_clone(&e->launch, e->pod, &o, err);
    return rc < 0 ? rc : launch_watch(&e->launch, request->deadline_ms, err);
}

// The child is undumpable until its exec, and so out of reach of all but those with CAP_SYS_PTRACE. Where
// there may be one of those, it must not be seen before it is harmless (child_stage.c); which costs a second
// clone.
static bool needs_two_stages(const struct container *c, const Pod__Process *process)
{
    const Pod__Capabilities *caps = process->capabilities;

    if (c->pod->ns[POD_NS_USER] >= 0) // all that they have is for inside of the user namespace
        return false;
    if (caps && (caps->bounding >> CAP_SYS_PTRACE & 1))
        return true;
    for (const struct container *other = c->pod->containers; other; other = other->next) {
        bool shares =
            other->pid_mode == POD__PID_MODE__PID_POD || other->pid_mode == POD__PID_MODE__PID_TARGET;
        if (other == c ? other->launch.may_trace
                       : shares && (other->phase < CONTAINER_RUNNING || other->launch.may_trace))
            return true;
    }
    return false;
}

static struct exec *exec_new(struct container *c, const Pod__ExecRequest *request, struct waiter w,
                             struct error *err)
{
    struct pod *p = c->pod;

    if (!pod_id_valid(request->exec_id)) {
        (void)error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "\"%s\" is no exec id", request->exec_id);
        return NULL;
    }
    if (exec_find(p, c->id, request->exec_id)) {
        (void)error_set(err, STATUS_ALREADY_EXISTS, EEXIST, "exec %s is there already", request->exec_id);
        return NULL;
    }
    struct exec *e = p->n_execs < POD_EXECS_MAX ? calloc(1, sizeof(*e)) : NULL;
    if (!e) {
        (void)error_set(err, STATUS_RESOURCE_EXHAUSTED, EAGAIN, "pod %s: too many execs at once", p->id);
        return NULL;
    }
    *e = (struct exec){.pod = p, .container = c, .waiter = w, .id = strdup(request->exec_id)};
    bool stages = needs_two_stages(c, request->process);
    e->launch = (struct launch){.pod = p,
                                .source = {.fd = -1},
                                .pidfd = -1,
                                .tty = -1,
                                .two_stages = stages,
                                .only_first = stages,
                                .done = launched};
    e->remove_timer.fired = remove_fired;
    e->next = p->execs;
    p->execs = e;
    p->n_execs++;
    if (!e->id) {
        (void)error_errno(err, ENOMEM, "exec");
        exec_free(e);
        return NULL;
    }
    return e;
}

void exec_start(struct pod *p, struct waiter w, const Pod__ExecRequest *request, int *fds, size_t n_fds)
{
    struct container *c = container_find(p, request->container_id);
    const bool has[3] = {request->has_stdin, request->has_stdout, request->has_stderr};
    int stdio[3] = {-1, -1, -1};
    size_t used = 0;
    struct error err;

    for (int i = 0; i < 3; i++)
        if (has[i])
            stdio[i] = used < n_fds ? fds[used++] : -1;
    struct exec *e = NULL;
    int rc = -EINVAL;
    if (!c || c->phase != CONTAINER_RUNNING)
        rc = error_set(&err, STATUS_FAILED_PRECONDITION, ESRCH, "container %s does not run",
                       request->container_id);
    else if (!request->process || used != (size_t)(has[0] + has[1] + has[2]))
        rc = error_set(&err, STATUS_INVALID_ARGUMENT, EINVAL,
                       "exec without a process, or descriptors are missing");
    else
        e = exec_new(c, request, w, &err);
    if (e && c->place)
        rc = cgroups_exec_create(c->place, e->id, &e->cgroup, &err);
    else if (e)
        rc = 0;
    if (e && rc == 0)
        rc = exec_clone(e, request, stdio, &err);
    if (e && rc == 0)
        return;
    if (c)
        (void)error_wrap(&err, "exec in container %s", c->id);
    conn_reply_error(p, w, &err, NULL);
    if (!e)
        return;
    if (e->launch.pidfd >= 0)
        (void)pidfd_send_signal(e->launch.pidfd, SIGKILL, NULL, 0);
    exec_free(e);
}

void exec_signal(struct pod *p, struct waiter w, const Pod__ExecKillRequest *request)
{
    struct exec *e = exec_find(p, request->container_id, request->exec_id);

    if (!e || e->killer.conn) { // gone: that is what was wanted
        conn_reply_ok(p, w);
        return;
    }
    e->killer = w;
    begin_kill(e);
}

static struct exec *exec_by_pid(struct pod *p, pid_t pid)
{
    struct exec *e = p->execs;

    while (e && (e->launch.pid != pid || e->reaped))
        e = e->next;
    return e;
}

bool exec_reap(struct pod *p, pid_t pid, int status)
{
    struct exec *e = exec_by_pid(p, pid);

    // Unknown: maybe a second stage, of which the first has told already.
    for (struct exec *other = e ? NULL : p->execs; other && !e; other = other->next)
        if (launch_goes_on(&other->launch, pid))
            e = exec_by_pid(p, pid);
    if (!e)
        return false;
    if (launch_goes_on(&e->launch, pid)) // it was the first stage
        return true;
    e->reaped = true;
    e->wait_status = status;
    launch_child_gone(&e->launch, status);
    tell_failure(e);
    tell_exit(e);
    if (e->kill_timer.armed)
        kill_pass(e);
    else
        exec_settle(e);
    return true;
}

void exec_drop_conn(struct pod *p, uint64_t conn)
{
    for (struct exec *e = p->execs, *next; e; e = next) {
        next = e->next;
        if (e->killer.conn == conn)
            e->killer = (struct waiter){0};
        if (e->waiter.conn != conn)
            continue;
        e->waiter = (struct waiter){0};
        // Nobody is left who could bound it or read its output; what it has left in the background stays.
        if (!e->reaped)
            begin_kill(e);
    }
}

void exec_end_container(struct container *c)
{
    for (struct exec *e = c->pod->execs, *next; e; e = next) {
        next = e->next;
        if (e->container != c)
            continue;
        if (e->cgroup)
            (void)cgroups_kill(e->cgroup, c->place->v2);
        if (!e->reaped && e->launch.pid > 0) { // in no cgroup of ours: at least itself
            (void)pidfd_send_signal(e->launch.pidfd, SIGKILL, NULL, 0);
            e->wait_status = SIGKILL; // as a wait status: killed by signal 9
            e->reaped = true;         // its pid is only waited for from here on
            launch_child_gone(&e->launch, SIGKILL);
            tell_failure(e);
            tell_exit(e);
        }
        if (e->killer.conn)
            conn_reply_ok(e->pod, e->killer);
        exec_free(e);
    }
}
