// Containers: find, kill, forget, list. The start of one is in container_start.c, its end in container_end.c.
#include "runtime/pod/container.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/sys.h"

struct container *container_find(struct pod *p, const char *id)
{
    for (struct container *c = p->containers; c; c = c->next)
        if (str_eq(c->id, id))
            return c;
    return NULL;
}

void container_free(struct container *c)
{
    struct pod *p = c->pod;

    for (struct container **at = &p->containers; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            p->n_containers--;
            break;
        }
    }
    loop_disarm(&p->loop, &c->end_timer);
    loop_disarm(&p->loop, &c->signal_timer);
    oom_watch_done(&c->oom);
    launch_done(&c->launch);
    container_close_output(c);
    fd_closep(&c->stdin_fd);
    fd_closep(&c->plan_fd);
    crilog_done(&c->log);
    if (c->place)
        pod__cgroup_place__free_unpacked(c->place, NULL);
    free(c->user);
    free(c->id);
    free(c);
}

void container_kill(struct container *c)
{
    const char *dir = c->place ? cgroups_kill_dir(c->place) : NULL;

    oom_watch_signal(&c->oom);
    if (c->launch.pidfd >= 0 && !c->reaped)
        (void)pidfd_send_signal(c->launch.pidfd, SIGKILL, NULL, 0);
    // Also in a private pid namespace, of which the kernel would take care: a frozen process dies only once
    // it is thawed, and this does that too.
    if (dir)
        (void)cgroups_kill(dir, c->place->v2);
}

void container_forget(struct pod *p, struct waiter w, const Pod__ForgetRequest *request)
{
    struct container *c = container_find(p, request->container_id);
    struct error err;

    if (c && c->phase != CONTAINER_EXITED && c->phase != CONTAINER_PARKED) {
        (void)error_set(&err, STATUS_FAILED_PRECONDITION, EBUSY, "container %s still runs", c->id);
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    if (pod_id_valid(request->container_id)) {
        _cleanup_free_ char *path = str_printf("%s/exits/%s", p->dir, request->container_id);
        if (path)
            (void)unlink(path);
    }
    if (c && c->phase == CONTAINER_PARKED)
        container_kill(c);
    if (c)
        container_free(c);
    conn_reply_ok(p, w);
}

void container_reopen_log(struct pod *p, struct waiter w, const Pod__ReopenLogRequest *request)
{
    struct container *c = container_find(p, request->container_id);
    struct error err;

    if (!c || c->phase != CONTAINER_RUNNING) {
        (void)error_set(&err, STATUS_FAILED_PRECONDITION, ESRCH,
                        "reopen the log of container %s: it does not run", request->container_id);
        conn_reply_error(p, w, &err, NULL);
    } else if (crilog_open(&c->log, &err) < 0) {
        (void)error_wrap(&err, "reopen the log of container %s", c->id);
        conn_reply_error(p, w, &err, NULL);
    } else {
        conn_reply_ok(p, w);
    }
}

void container_fill_exit(const struct container *c, Pod__ExitRecord *r)
{
    r->container_id = c->id;
    r->exit_code = c->exit_code;
    r->signal = c->exit_signal;
    r->started_at_ns = c->started_at_ns;
    r->finished_at_ns = c->finished_at_ns;
    r->oom_killed = c->oom_killed;
    r->log_bytes_lost = c->log.bytes_lost;
}

struct state_item {
    Pod__ContainerState state;
    Pod__ExitRecord exit;
    Pod__ResolvedUser user;
};

static void fill_state(const struct container *c, struct state_item *item)
{
    pod__container_state__init(&item->state);
    pod__exit_record__init(&item->exit);
    pod__resolved_user__init(&item->user);
    item->state.container_id = c->id;
    item->state.running = c->phase == CONTAINER_RUNNING || c->phase == CONTAINER_ENDING;
    item->state.pid = (int32_t)c->launch.pid;
    item->state.started_at_ns = c->started_at_ns;
    if (c->user) {
        item->user.uid = c->user->uid;
        item->user.gid = c->user->gid;
        item->user.groups = c->user->groups;
        item->user.n_groups = c->user->n_groups;
        item->user.home = c->user->home;
        item->state.user = &item->user;
    }
    if (c->phase == CONTAINER_EXITED) {
        container_fill_exit(c, &item->exit);
        item->state.exit = &item->exit;
    }
}

void container_list(struct pod *p, struct waiter w)
{
    Pod__Reply reply = POD__REPLY__INIT;
    Pod__StateReply r = POD__STATE_REPLY__INIT;
    _cleanup_free_ struct state_item *items = calloc(p->n_containers + 1, sizeof(*items));
    _cleanup_free_ Pod__ContainerState **states = calloc(p->n_containers + 1, sizeof(Pod__ContainerState *));

    if (!items || !states) {
        struct error err;
        (void)error_errno(&err, ENOMEM, "list the containers of pod %s", p->id);
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    for (const struct container *c = p->containers; c; c = c->next) {
        if (c->phase == CONTAINER_PARKED)
            continue;
        fill_state(c, &items[r.n_containers]);
        states[r.n_containers] = &items[r.n_containers].state;
        r.n_containers++;
    }
    r.containers = states;
    reply.result_case = POD__REPLY__RESULT_STATE;
    reply.state = &r;
    conn_reply(p, w, &reply, NULL, 0);
}
