#include "runtime/cgroup_bus.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/cgroup_sdbus.h"

#define SERVICE   "org.freedesktop.systemd1"
#define MANAGER   "/org/freedesktop/systemd1"
#define INTERFACE "org.freedesktop.systemd1.Manager"
// systemd's own socket needs no bus daemon, and is where systemctl as root goes, too.
#define PRIVATE_SOCKET "/run/systemd/private"

#define STACK_BYTES    (256u << 10) // sd-bus keeps its messages on the heap
#define FIRST_TALK_NS  (5 * NS_PER_SEC)
#define RECONNECT_NS   (100 * NS_PER_MS)
#define IDLE_NS        (30 * NS_PER_SEC) // systemd tells every peer of everything: not for nothing
#define UNHEARD_NS     (10 * NS_PER_SEC) // for calls that nobody waits for
#define PROCESS_ROUNDS 1000

enum call_kind { CALL_START_SCOPE, CALL_STOP_UNIT, CALL_RESET_FAILED, CALL_PING };

struct call {
    struct call *next;
    struct cgroup_bus *bus;
    enum call_kind kind;
    char unit[256], slice[256], description[128];
    pid_t pid;
    int64_t deadline_mono_ns;
    sd_bus_slot *slot; // the answer's
    bool sent, unheard;
    char job[128]; // object path; "": none yet
    bool done;     // under the lock
    struct error err;
};

struct cgroup_bus {
    const struct cgroup_sdbus *sd;
    char *address;
    int wake_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct call *queued; // under the lock, newest first
    bool ending;         // under the lock
    int64_t ending_at;   // under the lock; no call has longer
    // The thread's own:
    sd_bus *bus;
    sd_bus_slot *match;
    bool on_bus;        // through a bus daemon
    bool lost, over;    // over: nothing more is to be waited for
    struct call *calls; // oldest first
    int64_t reconnect_at, idle_since;
    char trouble[128]; // why there is no connection
};

// ---- Ends of calls ----

static void call_done(struct call *c)
{
    struct cgroup_bus *b = c->bus;
    for (struct call **at = &b->calls; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    if (c->slot)
        b->sd->slot_unref(c->slot);
    c->slot = NULL;
    if (c->unheard) {
        if (c->err.errnum)
            log_warn("systemd has not done what nobody waits for", "unit", c->unit, "error", c->err.message);
        free(c);
        return;
    }
    (void)pthread_mutex_lock(&b->lock);
    c->done = true;
    (void)pthread_cond_broadcast(&b->changed);
    (void)pthread_mutex_unlock(&b->lock);
}

static const char *verb(const struct call *c)
{
    static const char *const verbs[] = {[CALL_START_SCOPE] = "start",
                                        [CALL_STOP_UNIT] = "stop",
                                        [CALL_RESET_FAILED] = "reset",
                                        [CALL_PING] = "talk to"};
    return verbs[c->kind];
}

static void call_failed(struct call *c, enum status status, int errnum, const char *why)
{
    (void)error_set(&c->err, status, errnum, "%s %s: systemd: %.300s", verb(c), c->unit, why);
    call_done(c);
}

static void answer_failed(struct call *c, const sd_bus_error *e)
{
    const char *name = e->name ? e->name : "", *text = e->message ? e->message : name;
    if (str_has_suffix(name, ".NoReply") || str_has_suffix(name, ".Disconnected") ||
        str_has_suffix(name, ".NameHasNoOwner") || str_has_suffix(name, ".ServiceUnknown")) {
        c->bus->lost = true; // systemd or the bus is being restarted: the call is sent again
        c->sent = false;
    } else if (str_has_suffix(name, ".NoSuchUnit") && c->kind != CALL_START_SCOPE) {
        call_done(c);
    } else if (str_has_suffix(name, ".UnitExists")) {
        call_failed(c, STATUS_ALREADY_EXISTS, EEXIST, text);
    } else if (str_has_suffix(name, ".AccessDenied") ||
               str_has_suffix(name, ".InteractiveAuthorizationRequired")) {
        call_failed(c, STATUS_PERMISSION_DENIED, EPERM, text);
    } else {
        call_failed(c, STATUS_INTERNAL, EIO, text);
    }
}

static int on_answer(sd_bus_message *m, void *data, sd_bus_error *unused)
{
    struct call *c = data;
    const struct cgroup_sdbus *sd = c->bus->sd;
    const char *job = "";
    (void)unused;
    c->slot = sd->slot_unref(c->slot);
    const sd_bus_error *e = sd->message_get_error(m);
    if (e)
        answer_failed(c, e);
    else if (c->kind == CALL_RESET_FAILED || c->kind == CALL_PING)
        call_done(c);
    else if (sd->message_read(m, "o", &job) < 0 || strlen(job) >= sizeof(c->job))
        call_failed(c, STATUS_INTERNAL, EPROTO, "an answer that makes no sense");
    else
        (void)snprintf(c->job, sizeof(c->job), "%s", job);
    return 1;
}

// Always comes after the answer that names the job.
static int on_job_removed(sd_bus_message *m, void *data, sd_bus_error *unused)
{
    struct cgroup_bus *b = data;
    uint32_t id;
    const char *job, *unit, *result;
    (void)unused;
    if (b->sd->message_read(m, "uoss", &id, &job, &unit, &result) < 0)
        return 0;
    for (struct call *c = b->calls; c; c = c->next) {
        if (!c->job[0] || !str_eq(c->job, job))
            continue;
        if (str_eq(result, "done") || (c->kind == CALL_STOP_UNIT && str_eq(result, "skipped"))) {
            call_done(c);
        } else {
            char why[64];
            (void)snprintf(why, sizeof(why), "the job ended with \"%.40s\"", result);
            call_failed(c, STATUS_INTERNAL, EIO, why);
        }
        break;
    }
    return 0;
}

// ---- The connection ----

static void disconnect(struct cgroup_bus *b)
{
    for (struct call *c = b->calls; c; c = c->next) {
        if (c->slot)
            b->sd->slot_unref(c->slot);
        c->slot = NULL;
        c->sent = false;
        c->job[0] = '\0';
    }
    if (b->match)
        b->sd->slot_unref(b->match);
    b->match = NULL;
    if (b->bus)
        b->sd->close_unref(b->bus);
    b->bus = NULL;
    b->lost = false;
}

static int dial(struct cgroup_bus *b, const char *address)
{
    int r = b->sd->new (&b->bus);
    if (r >= 0)
        r = b->sd->set_address(b->bus, address);
    if (r >= 0)
        r = b->sd->start(b->bus);
    b->on_bus = false;
    if (r < 0)
        disconnect(b);
    return r;
}

static int subscribe(struct cgroup_bus *b)
{
    sd_bus_message *m = NULL;
    int r = b->sd->match_signal_async(b->bus, &b->match, b->on_bus ? SERVICE : NULL, MANAGER, INTERFACE,
                                      "JobRemoved", on_job_removed, NULL, b);
    if (r >= 0)
        r = b->sd->message_new_method_call(b->bus, &m, SERVICE, MANAGER, INTERFACE, "Subscribe");
    if (r >= 0) // without it systemd tells a bus daemon nothing; the order of messages is kept
        r = b->sd->call_async(b->bus, NULL, m, NULL, NULL, 0);
    if (m)
        b->sd->message_unref(m);
    return r;
}

static void connect_bus(struct cgroup_bus *b)
{
    int r = dial(b, b->address ? b->address : "unix:path=" PRIVATE_SOCKET);
    if (r < 0 && !b->address) {
        r = b->sd->open_system(&b->bus);
        b->on_bus = r >= 0;
    }
    if (r >= 0)
        r = subscribe(b);
    if (r >= 0)
        return;
    (void)snprintf(b->trouble, sizeof(b->trouble), "no connection: %s", strerror(-r));
    disconnect(b);
    b->reconnect_at = clock_mono_ns() + RECONNECT_NS;
}

// ---- Sending ----

// Limits are the pod's place's and the containers'; what systemd would set by itself (TasksMax) is undone. It
// is not stopped with the first units at shutdown: kubelet may want to end pods in its own order. Delegated:
// nothing in it is systemd's to change.
static int append_scope(const struct cgroup_sdbus *sd, sd_bus_message *m, const struct call *c)
{
    int r = sd->message_append(m, "ss", c->unit, "fail");
    if (r >= 0)
        r = sd->message_open_container(m, 'a', "(sv)");
    if (r >= 0)
        r = sd->message_append(m, "(sv)(sv)(sv)", "Description", "s", c->description, "Slice", "s", c->slice,
                               "PIDs", "au", 1, (uint32_t)c->pid);
    if (r >= 0)
        r = sd->message_append(m, "(sv)(sv)(sv)", "Delegate", "b", 1, "DefaultDependencies", "b", 0,
                               "CollectMode", "s", "inactive-or-failed");
    if (r >= 0)
        r = sd->message_append(m, "(sv)(sv)(sv)(sv)(sv)", "TasksMax", "t", UINT64_MAX, "TasksAccounting", "b",
                               1, "CPUAccounting", "b", 1, "MemoryAccounting", "b", 1, "IOAccounting", "b",
                               1);
    if (r >= 0)
        r = sd->message_close_container(m);
    return r < 0 ? r : sd->message_append(m, "a(sa(sv))", 0);
}

static int call_send(struct cgroup_bus *b, struct call *c)
{
    static const char *const methods[] = {[CALL_START_SCOPE] = "StartTransientUnit",
                                          [CALL_STOP_UNIT] = "StopUnit",
                                          [CALL_RESET_FAILED] = "ResetFailedUnit",
                                          [CALL_PING] = "Ping"};
    const char *interface = c->kind == CALL_PING ? "org.freedesktop.DBus.Peer" : INTERFACE;
    sd_bus_message *m = NULL;
    int r = b->sd->message_new_method_call(b->bus, &m, SERVICE, MANAGER, interface, methods[c->kind]);
    if (r >= 0 && c->kind == CALL_START_SCOPE)
        r = append_scope(b->sd, m, c);
    else if (r >= 0 && c->kind == CALL_STOP_UNIT)
        r = b->sd->message_append(m, "ss", c->unit, "replace");
    else if (r >= 0 && c->kind == CALL_RESET_FAILED)
        r = b->sd->message_append(m, "s", c->unit);
    if (r >= 0) // the deadline is ours
        r = b->sd->call_async(b->bus, &c->slot, m, on_answer, c, UINT64_MAX);
    if (m)
        b->sd->message_unref(m);
    c->sent = r >= 0;
    return r;
}

// Whatever nobody has answered, oldest first.
static void send_all(struct cgroup_bus *b)
{
    for (struct call *c = b->calls, *next; c && !b->lost; c = next) {
        next = c->next;
        int r = c->sent ? 0 : call_send(b, c);
        if (r == -ENOTCONN || r == -ECONNRESET || r == -EPIPE)
            b->lost = true;
        else if (r < 0)
            call_failed(c, STATUS_INTERNAL, -r, strerror(-r));
    }
}

// ---- The thread ----

// New calls behind the old ones. false: the end.
static bool take_queued(struct cgroup_bus *b)
{
    (void)pthread_mutex_lock(&b->lock);
    struct call *list = b->queued;
    bool ending = b->ending;
    int64_t ending_at = b->ending_at;
    b->queued = NULL;
    (void)pthread_mutex_unlock(&b->lock);
    struct call *oldest = NULL;
    while (list) {
        struct call *next = list->next;
        list->next = oldest;
        oldest = list;
        list = next;
    }
    struct call **at = &b->calls;
    while (*at)
        at = &(*at)->next;
    *at = oldest;
    for (struct call *c = b->calls; ending && c; c = c->next)
        c->deadline_mono_ns = c->deadline_mono_ns < ending_at ? c->deadline_mono_ns : ending_at;
    b->over = ending;
    return !ending || b->calls;
}

static void expire(struct cgroup_bus *b, int64_t now)
{
    for (struct call *c = b->calls, *next; c; c = next) {
        next = c->next;
        if (c->deadline_mono_ns > now)
            continue;
        if (!b->bus)
            call_failed(c, STATUS_UNAVAILABLE, ENOTCONN, b->trouble);
        else
            call_failed(c, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "no answer in time (systemctl list-jobs)");
    }
}

static void process(struct cgroup_bus *b)
{
    int r = 1;
    for (int i = 0; i < PROCESS_ROUNDS && r > 0 && !b->lost; i++)
        r = b->sd->process(b->bus, NULL);
    if (r >= 0 && !b->lost)
        return;
    (void)snprintf(b->trouble, sizeof(b->trouble), "the connection was lost: %s",
                   r < 0 ? strerror(-r) : "systemd or the bus is being restarted");
    disconnect(b);
    b->reconnect_at = clock_mono_ns() + RECONNECT_NS;
}

static void wait_for_news(struct cgroup_bus *b)
{
    struct pollfd fds[2] = {{.fd = b->wake_fd, .events = POLLIN}, {.fd = -1}};
    int64_t now = clock_mono_ns(), until = INT64_MAX;
    for (const struct call *c = b->calls; c; c = c->next)
        until = c->deadline_mono_ns < until ? c->deadline_mono_ns : until;
    if (b->bus) {
        uint64_t usec = UINT64_MAX;
        int events = b->sd->get_events(b->bus);
        fds[1].fd = b->sd->get_fd(b->bus);
        fds[1].events = (short)(events > 0 ? events : 0);
        if (b->sd->get_timeout(b->bus, &usec) >= 0 && usec < (uint64_t)(INT64_MAX / 1000) &&
            (int64_t)usec * 1000 < until)
            until = (int64_t)usec * 1000; // on the monotonic clock, as ours
        if (!b->calls && b->idle_since + IDLE_NS < until)
            until = b->idle_since + IDLE_NS;
    } else if (b->calls && b->reconnect_at < until) {
        until = b->reconnect_at;
    }
    if (b->over && !b->calls)
        return;
    int64_t ms = until <= now ? 0 : (until - now) / NS_PER_MS + 1;
    (void)poll(fds, 2, until == INT64_MAX ? -1 : ms > 60000 ? 60000 : (int)ms);
    uint64_t count;
    (void)!read(b->wake_fd, &count, sizeof(count));
}

static void *bus_main(void *data)
{
    struct cgroup_bus *b = data;
    while (take_queued(b)) {
        int64_t now = clock_mono_ns();
        if (b->calls)
            b->idle_since = now;
        if (b->calls && !b->bus && now >= b->reconnect_at)
            connect_bus(b);
        if (b->bus)
            send_all(b);
        if (b->bus)
            process(b);
        expire(b, clock_mono_ns());
        if (b->bus && !b->calls && clock_mono_ns() - b->idle_since >= IDLE_NS)
            disconnect(b);
        wait_for_news(b);
    }
    disconnect(b);
    return NULL;
}

static void wake(struct cgroup_bus *b)
{
    uint64_t one = 1;
    (void)!write(b->wake_fd, &one, sizeof(one));
}

// ---- Callers ----

static struct call *call_new(struct cgroup_bus *b, enum call_kind kind, const char *unit, int64_t timeout_ns,
                             struct error *err)
{
    struct call *c = calloc(1, sizeof(*c));
    if (!c) {
        (void)error_errno(err, ENOMEM, "ask systemd for %s", unit);
        return NULL;
    }
    c->bus = b;
    c->kind = kind;
    c->unheard = timeout_ns == 0;
    c->deadline_mono_ns = clock_mono_ns() + (timeout_ns ? timeout_ns : UNHEARD_NS);
    (void)snprintf(c->unit, sizeof(c->unit), "%s", unit);
    return c;
}

static int call_run(struct call *c, struct error *err)
{
    struct cgroup_bus *b = c->bus;
    bool unheard = c->unheard;
    (void)pthread_mutex_lock(&b->lock);
    c->next = b->queued;
    b->queued = c;
    wake(b);
    while (!unheard && !c->done)
        (void)pthread_cond_wait(&b->changed, &b->lock);
    (void)pthread_mutex_unlock(&b->lock);
    if (unheard)
        return 0; // the thread's to free
    int r = -c->err.errnum;
    if (r < 0 && err)
        *err = c->err;
    free(c);
    return r;
}

int cgroup_bus_start_scope(struct cgroup_bus *b, const struct cgroup_bus_scope *s, int64_t timeout_ns,
                           struct error *err)
{
    struct call *c = call_new(b, CALL_START_SCOPE, s->name, timeout_ns, err);
    if (!c)
        return -ENOMEM;
    (void)snprintf(c->slice, sizeof(c->slice), "%s", s->slice);
    (void)snprintf(c->description, sizeof(c->description), "%s", s->description);
    c->pid = s->pid;
    return call_run(c, err);
}

int cgroup_bus_stop_unit(struct cgroup_bus *b, const char *unit, int64_t timeout_ns, struct error *err)
{
    struct call *c = call_new(b, CALL_STOP_UNIT, unit, timeout_ns, err);
    return c ? call_run(c, err) : -ENOMEM;
}

int cgroup_bus_reset_failed(struct cgroup_bus *b, const char *unit, int64_t timeout_ns, struct error *err)
{
    struct call *c = call_new(b, CALL_RESET_FAILED, unit, timeout_ns, err);
    return c ? call_run(c, err) : -ENOMEM;
}

static int start_thread(struct cgroup_bus *b)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int r = -pthread_create(&b->thread, &attr, bus_main, b);
    pthread_attr_destroy(&attr);
    return r;
}

int cgroup_bus_open(const char *address, struct cgroup_bus **out, struct error *err)
{
    const struct cgroup_sdbus *sd;
    int r = cgroup_sdbus_load(&sd, err);
    if (r < 0)
        return r;
    struct cgroup_bus *b = calloc(1, sizeof(*b));
    if (!b)
        return error_errno(err, ENOMEM, "talk to systemd");
    b->sd = sd;
    b->address = address ? strdup(address) : NULL;
    b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->changed, NULL);
    r = b->wake_fd < 0 || (address && !b->address) ? -ENOMEM : start_thread(b);
    if (r < 0) {
        fd_closep(&b->wake_fd);
        free(b->address);
        free(b);
        return error_errno(err, -r, "talk to systemd");
    }
    struct call *c = call_new(b, CALL_PING, "systemd", FIRST_TALK_NS, err);
    r = c ? call_run(c, err) : -ENOMEM;
    if (r < 0) {
        cgroup_bus_close(b);
        return r;
    }
    *out = b;
    return 0;
}

void cgroup_bus_close(struct cgroup_bus *b)
{
    if (!b)
        return;
    (void)pthread_mutex_lock(&b->lock);
    b->ending = true;
    b->ending_at = clock_mono_ns() + NS_PER_SEC;
    wake(b);
    (void)pthread_mutex_unlock(&b->lock);
    (void)pthread_join(b->thread, NULL);
    fd_closep(&b->wake_fd);
    (void)pthread_mutex_destroy(&b->lock);
    (void)pthread_cond_destroy(&b->changed);
    free(b->address);
    free(b);
}
