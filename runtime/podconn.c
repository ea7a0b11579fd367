#include "runtime/podconn.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define SEND_TIMEOUT_SEC 10 // a crisp-pod that doesn't read for so long is treated as broken
#define MONITOR_STACK    (256u << 10)

// What epoll points at; each connection has two.
struct source {
    enum { SOURCE_SOCKET, SOURCE_PROCESS } kind;
    struct podconn *conn;
};

struct podconn {
    atomic_uint refs;
    struct monitor *monitor;
    char *name;
    struct podconn_events events;
    void *data;
    int pidfd;
    struct source socket_source, process_source;

    pthread_mutex_t write_lock; // one frame at a time; taken before lock
    pthread_mutex_t lock;       // all below
    pthread_cond_t replied;     // monotonic clock
    int sock;                   // -1: broken. Only the monitor closes it
    uint64_t last_id;
    struct podconn_call *calls;

    struct pb_frame_reader reader; // the monitor's
    bool dead;                     // the monitor's: the process has ended
    struct podconn *next_dead;     // the monitor's
    struct podconn *next_watched;  // the monitor's lock
};

struct monitor {
    int epoll;
    int wake; // readable: end
    pthread_t thread;
    struct podconn *dead; // to be released once this round of events is through
    pthread_mutex_t lock;
    struct podconn *watched; // a reference of each
};

struct podconn *podconn_ref(struct podconn *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void podconn_unref(struct podconn *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    if (c->sock >= 0)
        close(c->sock);
    if (c->pidfd >= 0)
        close(c->pidfd);
    pb_frame_reader_done(&c->reader);
    pthread_cond_destroy(&c->replied);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->write_lock);
    free(c->name);
    free(c);
}

int podconn_pidfd(const struct podconn *c)
{
    return c->pidfd;
}

void podconn_reply_free(Pod__Reply **reply)
{
    if (*reply)
        pod__reply__free_unpacked(*reply, NULL);
    *reply = NULL;
}

static int watch(struct podconn *c, struct source *source, int fd, struct error *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    if (epoll_ctl(c->monitor->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_errno(err, errno, "watch crisp-pod of pod %s", c->name);
    return 0;
}

static void set_send_timeout(int sock)
{
    struct timeval limit = {.tv_sec = SEND_TIMEOUT_SEC};
    (void)setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); // cannot fail on a socket
}

static struct podconn *podconn_alloc(struct monitor *m, const char *name)
{
    struct podconn *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->name = strdup(name);
    if (!c->name) {
        free(c);
        return NULL;
    }
    atomic_init(&c->refs, 1);
    c->monitor = m;
    c->socket_source = (struct source){SOURCE_SOCKET, c};
    c->process_source = (struct source){SOURCE_PROCESS, c};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->replied, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->write_lock, NULL);
    pb_frame_reader_init(&c->reader);
    return c;
}

static void monitor_keep(struct monitor *m, struct podconn *c)
{
    podconn_ref(c);
    pthread_mutex_lock(&m->lock);
    c->next_watched = m->watched;
    m->watched = c;
    pthread_mutex_unlock(&m->lock);
}

static void monitor_release(struct monitor *m, struct podconn *c)
{
    pthread_mutex_lock(&m->lock);
    struct podconn **at = &m->watched;
    while (*at != c)
        at = &(*at)->next_watched;
    *at = c->next_watched;
    pthread_mutex_unlock(&m->lock);
    podconn_unref(c);
}

int podconn_new(struct monitor *m, const char *name, int sock, int pidfd, const struct podconn_events *events,
                void *data, struct podconn **out, struct error *err)
{
    struct podconn *c = podconn_alloc(m, name);
    if (!c) {
        close(sock);
        close(pidfd);
        return error_errno(err, ENOMEM, "connection to crisp-pod of pod %s", name);
    }
    c->sock = sock;
    c->pidfd = pidfd;
    c->events = *events;
    c->data = data;
    set_send_timeout(sock);

    monitor_keep(m, c);
    int r = watch(c, &c->socket_source, sock, err);
    if (r == 0) {
        r = watch(c, &c->process_source, pidfd, err);
        if (r < 0)
            epoll_ctl(m->epoll, EPOLL_CTL_DEL, sock, NULL);
    }
    if (r < 0) {
        monitor_release(m, c);
        podconn_unref(c);
        return r;
    }
    *out = c;
    return 0;
}

int podconn_reattach(struct podconn *c, int sock, struct error *err)
{
    set_send_timeout(sock);
    pthread_mutex_lock(&c->lock);
    int r = -EALREADY;
    if (c->sock < 0) {
        c->sock = sock; // before an event of it can come
        r = watch(c, &c->socket_source, sock, err);
        if (r == 0)
            sock = -1;
        else
            c->sock = -1;
    } else {
        error_set(err, STATUS_INTERNAL, EALREADY, "crisp-pod of pod %s is connected already", c->name);
    }
    pthread_mutex_unlock(&c->lock);
    fd_closep(&sock);
    return r;
}

// ---- Calls ----

static void call_unlink(struct podconn *c, struct podconn_call *call)
{
    for (struct podconn_call **at = &c->calls; *at; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            return;
        }
    }
}

static int no_connection(struct podconn *c, struct error *err)
{
    return error_set(err, STATUS_UNAVAILABLE, ENOTCONN,
                     "crisp-pod of pod %s is not connected (it ended, or is being reconnected)", c->name);
}

// Sends under both locks' rules; call NULL: the reply will be thrown away.
static int send_request(struct podconn *c, Pod__Request *request, const int *fds, size_t n_fds,
                        struct podconn_call *call, struct error *err)
{
    pthread_mutex_lock(&c->write_lock);
    pthread_mutex_lock(&c->lock);
    int sock = c->sock;
    request->id = ++c->last_id;
    if (sock >= 0 && call) {
        call->id = request->id;
        call->next = c->calls;
        c->calls = call;
    }
    pthread_mutex_unlock(&c->lock);

    int r = sock < 0 ? no_connection(c, err) : pb_frame_send(sock, &request->base, fds, n_fds, err);
    // Too big a frame was never begun; anything else may have left half of one: the stream is of no use now.
    if (r < 0 && sock >= 0 && r != -EMSGSIZE && r != -ENOMEM)
        shutdown(sock, SHUT_RDWR); // the monitor sees the end and cleans up
    pthread_mutex_unlock(&c->write_lock);
    if (r < 0 && sock >= 0) {
        if (call) {
            pthread_mutex_lock(&c->lock);
            call_unlink(c, call);
            pthread_mutex_unlock(&c->lock);
        }
        if (r != -EMSGSIZE)
            error_restatus(err, STATUS_UNAVAILABLE);
        return error_wrap(err, "ask crisp-pod of pod %s", c->name);
    }
    return r;
}

int podconn_send(struct podconn *c, Pod__Request *request, const int *fds, size_t n_fds,
                 struct podconn_call *call, struct error *err)
{
    *call = (struct podconn_call){0};
    return send_request(c, request, fds, n_fds, call, err);
}

int podconn_post(struct podconn *c, Pod__Request *request, struct error *err)
{
    return send_request(c, request, NULL, 0, NULL, err);
}

void podconn_drop(struct podconn *c, struct podconn_call *call)
{
    pthread_mutex_lock(&c->lock);
    call_unlink(c, call);
    pthread_mutex_unlock(&c->lock);
    podconn_reply_free(&call->reply);
    while (call->n_fds > 0)
        close(call->fds[--call->n_fds]);
}

static int reply_error(const Pod__Error *e, struct error *err)
{
    enum status status = e->status > STATUS_OK && e->status <= STATUS_UNAUTHENTICATED ? (enum status)e->status
                                                                                      : STATUS_INTERNAL;
    return error_set(err, status, e->errnum > 0 ? e->errnum : EIO, "%s", e->message);
}

int podconn_wait(struct podconn *c, struct podconn_call *call, int64_t deadline_mono_ns, Pod__Reply **reply,
                 struct error *err)
{
    struct timespec at = {.tv_sec = deadline_mono_ns / NS_PER_SEC, .tv_nsec = deadline_mono_ns % NS_PER_SEC};
    int waited = 0;

    pthread_mutex_lock(&c->lock);
    while (!call->done && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&c->replied, &c->lock, &at);
    call_unlink(c, call);
    pthread_mutex_unlock(&c->lock);

    if (!call->done)
        return error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "crisp-pod of pod %s does not answer",
                         c->name);
    if (call->errnum)
        return error_set(err, STATUS_UNAVAILABLE, call->errnum,
                         "crisp-pod of pod %s ended, or broke the connection, before it answered", c->name);
    int r = call->reply->error ? reply_error(call->reply->error, err) : 0;
    if (reply)
        *reply = steal_ptr(&call->reply);
    else
        podconn_reply_free(&call->reply);
    return r;
}

int podconn_request(struct podconn *c, Pod__Request *request, int64_t timeout_ns, Pod__Reply **reply,
                    struct error *err)
{
    struct podconn_call call;
    int r = podconn_send(c, request, NULL, 0, &call, err);
    if (r < 0)
        return r;
    r = podconn_wait(c, &call, clock_mono_ns() + timeout_ns, reply, err);
    podconn_drop(c, &call);
    return r;
}

// ---- The monitor's thread ----

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

// Gives a reply to whom it belongs, or throws it away (nobody waits any more).
static void give_reply(struct podconn *c, Pod__Reply *reply, const int *fds, size_t n_fds)
{
    pthread_mutex_lock(&c->lock);
    struct podconn_call *call = c->calls;
    while (call && (call->id != reply->id || call->done))
        call = call->next;
    if (call) {
        call->reply = steal_ptr(&reply);
        memcpy(call->fds, fds, n_fds * sizeof(*fds));
        call->n_fds = n_fds;
        call->done = true;
        pthread_cond_broadcast(&c->replied);
    }
    pthread_mutex_unlock(&c->lock);
    if (reply) {
        int copy[PB_FRAME_FDS_MAX];
        memcpy(copy, fds, n_fds * sizeof(*fds));
        close_all(copy, n_fds);
        podconn_reply_free(&reply);
    }
}

static void give_event(struct podconn *c, Pod__Reply *reply)
{
    const Pod__Event *event = reply->result_case == POD__REPLY__RESULT_EVENT ? reply->event : NULL;
    if (event && event->exit)
        c->events.exited(c->data, event->exit);
    if (event && event->exec_exit)
        c->events.exec_exited(c->data, event->exec_exit);
}

// All whole frames that have been read: 0 or -EPROTO.
static int take_frames(struct podconn *c)
{
    for (;;) {
        ProtobufCMessage *m = NULL;
        int fds[PB_FRAME_FDS_MAX];
        size_t n_fds = PB_FRAME_FDS_MAX;
        int r = pb_frame_reader_take(&c->reader, &pod__reply__descriptor, NULL, &m, fds, &n_fds);
        if (r <= 0)
            return r;
        Pod__Reply *reply = (Pod__Reply *)m;
        if (reply->id != 0) {
            give_reply(c, reply, fds, n_fds);
            continue;
        }
        close_all(fds, n_fds); // events carry none
        give_event(c, reply);
        podconn_reply_free(&reply);
    }
}

static int current_sock(struct podconn *c)
{
    pthread_mutex_lock(&c->lock);
    int sock = c->sock;
    pthread_mutex_unlock(&c->lock);
    return sock;
}

// The socket is of no use any more: whoever waits for a reply is told.
static void drop_socket(struct podconn *c)
{
    int sock = current_sock(c);
    if (sock < 0)
        return;
    shutdown(sock, SHUT_RDWR); // a writer that is blocked gives up, and releases the lock we need
    pthread_mutex_lock(&c->write_lock);
    pthread_mutex_lock(&c->lock);
    epoll_ctl(c->monitor->epoll, EPOLL_CTL_DEL, sock, NULL);
    close(sock);
    c->sock = -1;
    for (struct podconn_call *call = c->calls; call; call = call->next) {
        if (!call->done)
            call->errnum = ECONNRESET;
        call->done = true;
    }
    pthread_cond_broadcast(&c->replied);
    pthread_mutex_unlock(&c->lock);
    pthread_mutex_unlock(&c->write_lock);
    pb_frame_reader_done(&c->reader);
    pb_frame_reader_init(&c->reader);
}

// Reads what is there. 1: something; 0: nothing now; negative: the end, or an error.
static int read_socket(struct podconn *c, int sock)
{
    long n = pb_frame_reader_feed(&c->reader, sock);
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n == 0)
        return -ENOTCONN;
    if (n < 0)
        return (int)n;
    int r = take_frames(c);
    return r < 0 ? r : 1;
}

static void socket_ready(struct podconn *c)
{
    int sock = current_sock(c);
    if (c->dead || sock < 0 || read_socket(c, sock) >= 0)
        return;
    drop_socket(c);
    c->events.broken(c->data);
}

static void process_ended(struct podconn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    int sock = current_sock(c);
    // What it said last is still in the socket. A child that it was just making may hold the other end open,
    // so that there is no end of file to wait for.
    struct pollfd ready = {.fd = sock, .events = POLLIN};
    while (sock >= 0 && poll(&ready, 1, 0) > 0 && read_socket(c, sock) > 0)
        ;
    drop_socket(c);
    epoll_ctl(c->monitor->epoll, EPOLL_CTL_DEL, c->pidfd, NULL);
    siginfo_t info;
    (void)waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG); // ECHILD: an earlier crispd's child
    c->events.gone(c->data);
    c->next_dead = c->monitor->dead;
    c->monitor->dead = c;
}

static void *monitor_main(void *data)
{
    struct monitor *m = data;
    struct epoll_event events[32];

    for (;;) {
        int n = epoll_wait(m->epoll, events, ARRAY_SIZE(events), -1);
        for (int i = 0; i < n; i++) {
            struct source *source = events[i].data.ptr;
            if (!source)
                return NULL;
            if (source->kind == SOURCE_SOCKET)
                socket_ready(source->conn);
            else
                process_ended(source->conn);
        }
        while (m->dead) { // only now: a later event of the same round may have pointed at it
            struct podconn *c = m->dead;
            m->dead = c->next_dead;
            monitor_release(m, c);
        }
    }
}

int monitor_new(struct monitor **out, struct error *err)
{
    struct monitor *m = calloc(1, sizeof(*m));
    if (!m)
        return error_errno(err, ENOMEM, "monitor");
    m->epoll = epoll_create1(EPOLL_CLOEXEC);
    m->wake = eventfd(0, EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    pthread_mutex_init(&m->lock, NULL);
    int r =
        m->epoll < 0 || m->wake < 0 || epoll_ctl(m->epoll, EPOLL_CTL_ADD, m->wake, &event) < 0 ? errno : 0;
    if (r == 0) {
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, MONITOR_STACK);
        r = pthread_create(&m->thread, &attr, monitor_main, m);
        pthread_attr_destroy(&attr);
    }
    if (r != 0) {
        fd_closep(&m->epoll);
        fd_closep(&m->wake);
        pthread_mutex_destroy(&m->lock);
        free(m);
        return error_errno(err, r, "start the monitor of crisp-pods");
    }
    *out = m;
    return 0;
}

void monitor_free(struct monitor *m)
{
    if (!m)
        return;
    uint64_t one = 1;
    ssize_t n = write(m->wake, &one, sizeof(one));
    (void)n;
    pthread_join(m->thread, NULL);
    while (m->watched)
        monitor_release(m, m->watched);
    close(m->epoll);
    close(m->wake);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
