// The thread that reads from all crisp-pods, and sees their ends.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/podconn_internal.h"

#define MONITOR_STACK (256u << 10)

void monitor_keep(struct monitor *m, struct podconn *c)
{
    podconn_ref(c);
    pthread_mutex_lock(&m->lock);
    c->next_watched = m->watched;
    m->watched = c;
    pthread_mutex_unlock(&m->lock);
}

void monitor_release(struct monitor *m, struct podconn *c)
{
    pthread_mutex_lock(&m->lock);
    struct podconn **at = &m->watched;
    while (*at != c)
        at = &(*at)->next_watched;
    *at = c->next_watched;
    pthread_mutex_unlock(&m->lock);
    podconn_unref(c);
}

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
