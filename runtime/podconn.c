#include "runtime/podconn_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define SEND_TIMEOUT_SEC 10 // a crisp-pod that doesn't read for so long is treated as broken

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
