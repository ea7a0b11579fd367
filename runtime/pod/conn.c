// Connections of crispd: frames in, replies and events out through bounded queues.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "runtime/pod/pod.h"
#include "runtime/pod/sys.h"

#define REQUEST_MEMORY_MAX ((size_t)16 << 20)
#define QUEUE_MAX          ((size_t)1 << 20) // bytes; a client that reads so slowly is dropped
#define FRAMES_PER_WAKEUP  16
#define FRAME_HEAD         4

struct frame {
    struct frame *next;
    size_t len, sent;
    int fds[PB_FRAME_FDS_MAX]; // our own duplicates
    size_t n_fds;
    uint8_t data[];
};

struct conn {
    struct conn *next;
    struct pod *pod;
    uint64_t serial;
    struct source source;
    struct pb_frame_reader reader;
    struct frame *queue, **queue_end;
    size_t queued;
    bool dead; // closed; freed when the loop comes round: nobody holds a pointer to it any more
};

static void frame_free(struct frame *f)
{
    for (size_t i = 0; i < f->n_fds; i++)
        (void)close(f->fds[i]);
    free(f);
}

static void conn_free(struct conn *c)
{
    for (struct conn **at = &c->pod->conns; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    int fd = c->source.fd;
    loop_remove(&c->pod->loop, &c->source);
    fd_closep(&fd);
    while (c->queue) {
        struct frame *f = c->queue;
        c->queue = f->next;
        frame_free(f);
    }
    pb_frame_reader_done(&c->reader);
    free(c);
}

static void sweep_fired(struct timer *t)
{
    struct pod *p = container_of(t, struct pod, conn_timer);

    for (struct conn *c = p->conns, *next; c; c = next) {
        next = c->next;
        if (c->dead)
            conn_free(c);
    }
    pod_end_if_unused(p);
}

// Everything that hangs on the connection ends. Not freed at once: this may be deep within a loop over all of
// them, and ending execs may send, and so drop, others.
static void conn_drop(struct conn *c)
{
    int fd = c->source.fd;

    if (c->dead)
        return;
    c->dead = true;
    loop_remove(&c->pod->loop, &c->source);
    fd_closep(&fd);
    c->pod->conn_timer.fired = sweep_fired;
    loop_arm(&c->pod->loop, &c->pod->conn_timer, 0);
    exec_drop_conn(c->pod, c->serial);
    container_drop_conn(c->pod, c->serial);
}

static ssize_t frame_send(int sock, struct frame *f)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * PB_FRAME_FDS_MAX)];
    } control = {0};
    struct iovec iov = {.iov_base = f->data + f->sent, .iov_len = f->len - f->sent};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (f->n_fds) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * f->n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * f->n_fds);
        memcpy(CMSG_DATA(c), f->fds, sizeof(int) * f->n_fds);
    }
    return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void conn_flush(struct conn *c)
{
    while (c->queue && !c->dead) {
        struct frame *f = c->queue;
        ssize_t n = frame_send(c->source.fd, f);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            conn_drop(c);
            return;
        }
        while (f->n_fds) // they went with the first byte
            (void)close(f->fds[--f->n_fds]);
        f->sent += (size_t)n;
        if (f->sent < f->len)
            continue;
        c->queued -= f->len;
        c->queue = f->next;
        if (!c->queue)
            c->queue_end = &c->queue;
        frame_free(f);
    }
    if (!c->dead)
        loop_change(&c->pod->loop, &c->source, EPOLLIN | (c->queue ? EPOLLOUT : 0));
}

static struct frame *frame_new(const ProtobufCMessage *m, const int *fds, size_t n_fds)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    struct frame *f = size <= PB_FRAME_MAX ? calloc(1, sizeof(*f) + FRAME_HEAD + size) : NULL;

    if (!f)
        return NULL;
    f->len = FRAME_HEAD + size;
    for (int i = 0; i < FRAME_HEAD; i++)
        f->data[i] = (uint8_t)(size >> 8 * i);
    (void)protobuf_c_message_pack(m, f->data + FRAME_HEAD);
    for (; f->n_fds < n_fds && f->n_fds < PB_FRAME_FDS_MAX; f->n_fds++) {
        int fd = fcntl(fds[f->n_fds], F_DUPFD_CLOEXEC, 3);
        if (fd < 0) {
            frame_free(f);
            return NULL;
        }
        f->fds[f->n_fds] = fd;
    }
    return f;
}

static void conn_send(struct conn *c, const ProtobufCMessage *m, const int *fds, size_t n_fds)
{
    struct frame *f = frame_new(m, fds, n_fds);

    if (!f || c->queued + f->len > QUEUE_MAX) {
        log_warn("crispd's connection is dropped: it does not read, or memory is short", "pod", c->pod->id);
        if (f)
            frame_free(f);
        conn_drop(c);
        return;
    }
    *c->queue_end = f;
    c->queue_end = &f->next;
    c->queued += f->len;
    conn_flush(c);
}

static struct conn *conn_find(struct pod *p, uint64_t serial)
{
    for (struct conn *c = p->conns; c; c = c->next)
        if (c->serial == serial && !c->dead)
            return c;
    return NULL;
}

void conn_reply(struct pod *p, struct waiter w, Pod__Reply *reply, const int *fds, size_t n_fds)
{
    struct conn *c = w.conn ? conn_find(p, w.conn) : NULL;

    reply->id = w.request;
    if (c)
        conn_send(c, &reply->base, fds, n_fds);
}

void conn_reply_ok(struct pod *p, struct waiter w)
{
    Pod__Reply reply = POD__REPLY__INIT;

    conn_reply(p, w, &reply, NULL, 0);
}

void conn_reply_error(struct pod *p, struct waiter w, const struct error *e, const char *step)
{
    Pod__Error error = POD__ERROR__INIT;
    Pod__Reply reply = POD__REPLY__INIT;

    error.status = e->status ? e->status : STATUS_INTERNAL;
    error.errnum = e->errnum;
    error.message = (char *)e->message;
    error.step = (char *)(step ? step : "");
    reply.error = &error;
    conn_reply(p, w, &reply, NULL, 0);
}

void conn_event(struct pod *p, uint64_t conn, Pod__Event *event)
{
    Pod__Reply reply = POD__REPLY__INIT;

    reply.result_case = POD__REPLY__RESULT_EVENT;
    reply.event = event;
    for (struct conn *c = p->conns, *next; c; c = next) {
        next = c->next;
        if (!c->dead && (conn == 0 || c->serial == conn))
            conn_send(c, &reply.base, NULL, 0);
    }
}

static void wipe_strings(char **strings, size_t n)
{
    for (size_t i = 0; i < n; i++)
        explicit_bzero(strings[i], strlen(strings[i]));
}

// What holds a container's secrets must not be there for a later child to inherit, which may be another's.
static void wipe_secrets(const Pod__Request *request)
{
    if (request->op_case == POD__REQUEST__OP_START && request->start->plan.data) {
        explicit_bzero(request->start->plan.data, request->start->plan.len);
    } else if (request->op_case == POD__REQUEST__OP_PREPARE && request->prepare->plan.data) {
        explicit_bzero(request->prepare->plan.data, request->prepare->plan.len);
    } else if (request->op_case == POD__REQUEST__OP_EXEC && request->exec->process) {
        wipe_strings(request->exec->process->env, request->exec->process->n_env);
        wipe_strings(request->exec->process->args, request->exec->process->n_args);
    }
}

// One whole request, if there is one: 1, 0 for "more bytes are needed", negative to drop the connection.
static int take_request(struct conn *c)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new_apart(REQUEST_MEMORY_MAX);
    ProtobufCMessage *m;
    int fds[PB_FRAME_FDS_MAX];
    size_t n_fds = PB_FRAME_FDS_MAX;

    if (!arena)
        return -ENOMEM;
    int rc = pb_frame_reader_take(&c->reader, &pod__request__descriptor, arena_pb(arena), &m, fds, &n_fds);
    if (rc <= 0)
        return rc;
    const Pod__Request *request = (const Pod__Request *)m;
    struct waiter w = {c->serial, request->id};
    pod_dispatch(c->pod, w, request, fds, n_fds);
    for (size_t i = 0; i < n_fds; i++)
        fd_closep(&fds[i]);
    wipe_secrets(request);
    return 1;
}

// Frames come with secrets in them: nothing stays in a buffer that a later child would inherit.
static void reader_reset(struct pb_frame_reader *r)
{
    if (r->len || r->n_fds || !r->data)
        return;
    explicit_bzero(r->data, r->alloc);
    pb_frame_reader_done(r);
    pb_frame_reader_init(r);
}

static void conn_ready(struct source *s, uint32_t events)
{
    struct conn *c = container_of(s, struct conn, source);
    bool drop = false;

    if (events & EPOLLOUT)
        conn_flush(c);
    for (int i = 0; (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && i < FRAMES_PER_WAKEUP && !c->dead; i++) {
        long n = pb_frame_reader_feed(&c->reader, s->fd);
        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            drop = true;
            break;
        }
        int rc = take_request(c);
        if (rc < 0) {
            log_warn("a connection is dropped: its frame is no request", "pod", c->pod->id);
            drop = true;
            break;
        }
        if (rc > 0)
            reader_reset(&c->reader);
    }
    if (drop)
        conn_drop(c);
}

int conn_add(struct pod *p, int fd, struct error *err)
{
    struct conn *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)close(fd);
        return error_errno(err, ENOMEM, "accept crispd's connection");
    }
    c->pod = p;
    c->serial = ++p->last_conn;
    c->queue_end = &c->queue;
    c->source = (struct source){.fd = -1, .ready = conn_ready};
    pb_frame_reader_init(&c->reader);
    int flags = fcntl(fd, F_GETFL);
    int rc = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0
                 ? error_errno(err, errno, "accept crispd's connection on descriptor %d", fd)
                 : loop_add(&p->loop, &c->source, fd, EPOLLIN, err);
    if (rc < 0) {
        (void)close(fd);
        free(c);
        return rc;
    }
    c->next = p->conns;
    p->conns = c;
    return 0;
}

static void listener_ready(struct source *s, uint32_t events)
{
    struct pod *p = container_of(s, struct pod, listener);
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    size_t n = 0;

    (void)events;
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (const struct conn *c = p->conns; c; c = c->next)
        n++;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != 0 || n >= POD_CONNS_MAX) {
        (void)close(fd);
        return;
    }
    struct error err;
    if (conn_add(p, fd, &err) < 0)
        log_warn("a connection was not taken", "pod", p->id, "error", err.message);
}

int conn_listen(struct pod *p, struct error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    // The pod's directory may have a longer name than a socket's address can hold: bind in it, by a short
    // one.
    _cleanup_fd_ int dir = open(p->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_errno(err, errno, "open the pod's directory %s", p->dir);
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/sock", dir);
    _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "create the pod's socket");
    (void)unlinkat(dir, "sock", 0);
    mode_t mask = umask(0177);
    p->listener.ready = listener_ready;
    int rc = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
    (void)umask(mask);
    if (rc < 0 || listen(fd, POD_CONNS_MAX) < 0)
        return error_errno(err, errno, "listen on %s/sock", p->dir);
    rc = loop_add(&p->loop, &p->listener, fd, EPOLLIN, err);
    if (rc == 0)
        (void)steal_fd(&fd);
    return rc;
}

void conn_close_all(struct pod *p)
{
    while (p->conns) {
        conn_flush(p->conns);
        conn_free(p->conns);
    }
}
