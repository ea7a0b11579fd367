// Frames of protobuf messages over Unix stream sockets, with descriptors (SCM_RIGHTS) attached.
#include "base/pb.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_HEAD 4
#define FEED_CHUNK ((size_t)16 << 10)
#define IDLE_MAX   ((size_t)64 << 10) // a bigger receive buffer is given back once it is empty

static uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < FRAME_HEAD; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * PB_FRAME_FDS_MAX)];
};

// After an EAGAIN of a send that was promised to block: waits if the socket is non-blocking. A blocking one
// says it when its SO_SNDTIMEO is over.
static int wait_for_room(int sock)
{
    struct pollfd p = {.fd = sock, .events = POLLOUT};
    int flags = fcntl(sock, F_GETFL);

    if (flags < 0)
        return -errno;
    if (!(flags & O_NONBLOCK))
        return -ETIMEDOUT;
    return poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

static int send_all(int sock, const uint8_t *data, size_t len, const int *fds, size_t n_fds)
{
    size_t sent = 0;

    while (sent < len) {
        struct iovec iov = {.iov_base = (void *)(data + sent), .iov_len = len - sent};
        union fd_control control;
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (sent == 0 && n_fds > 0) { // they ride on the first byte, once
            memset(&control, 0, sizeof(control));
            msg.msg_control = control.bytes;
            msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
            memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            int rc = wait_for_room(sock);
            if (rc < 0)
                return rc;
            continue;
        }
        if (n < 0)
            return -errno;
        sent += (size_t)n;
    }
    return 0;
}

int pb_frame_send(int sock, const ProtobufCMessage *m, const int *fds, size_t n_fds, struct error *err)
{
    const char *name = m->descriptor->name;
    size_t size = protobuf_c_message_get_packed_size(m);

    if (size > PB_FRAME_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EMSGSIZE,
                         "send %s: %zu bytes, more than the %u that a frame may hold", name, size,
                         PB_FRAME_MAX);
    if (n_fds > PB_FRAME_FDS_MAX)
        return error_set(err, STATUS_INTERNAL, EINVAL, "send %s: %zu descriptors, more than %d", name, n_fds,
                         PB_FRAME_FDS_MAX);
    uint8_t *frame = malloc(FRAME_HEAD + size);
    if (!frame)
        return error_errno(err, ENOMEM, "send %s", name);

    store_le32(frame, (uint32_t)size);
    (void)protobuf_c_message_pack(m, frame + FRAME_HEAD);
    int rc = send_all(sock, frame, FRAME_HEAD + size, fds, n_fds);
    free(frame);
    return rc < 0 ? error_errno(err, rc, "send %s", name) : 0;
}

void pb_frame_reader_init(struct pb_frame_reader *r)
{
    *r = (struct pb_frame_reader){0};
}

void pb_frame_reader_done(struct pb_frame_reader *r)
{
    for (size_t i = 0; i < r->n_fds; i++)
        (void)close(r->fds[i]);
    free(r->data);
    *r = (struct pb_frame_reader){0};
}

// How much the reader may hold: the head and what it announces. -EPROTO when that is too much.
static long frame_want(const struct pb_frame_reader *r)
{
    if (r->len < FRAME_HEAD)
        return FRAME_HEAD;
    uint32_t size = load_le32(r->data);
    return size > PB_FRAME_MAX ? -EPROTO : (long)size + FRAME_HEAD;
}

static int reader_reserve(struct pb_frame_reader *r, size_t room)
{
    if (r->alloc - r->len >= room)
        return 0;
    uint8_t *grown = realloc(r->data, r->len + room);
    if (!grown)
        return -ENOMEM;
    r->data = grown;
    r->alloc = r->len + room;
    return 0;
}

// Keeps the descriptors that came; too many (never sent by ours) are closed and reported.
static int take_control(struct pb_frame_reader *r, struct msghdr *msg)
{
    int rc = msg->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (r->n_fds < PB_FRAME_FDS_MAX) {
                r->fds[r->n_fds++] = fd;
            } else {
                (void)close(fd);
                rc = -EPROTO;
            }
        }
    }
    return rc;
}

long pb_frame_reader_feed(struct pb_frame_reader *r, int sock)
{
    // Never past the end of the frame under way: descriptors that come with the next one then stay with it.
    long want = frame_want(r);
    if (want < 0)
        return want;
    size_t room = (size_t)want > r->len ? (size_t)want - r->len : 0;
    if (room == 0)
        return -EAGAIN;      // take it first
    if (room > FEED_CHUNK) { // grow with what really comes, not with what is announced
        size_t grow = r->len > FEED_CHUNK ? r->len : FEED_CHUNK;
        room = room < grow ? room : grow;
    }
    int rc = reader_reserve(r, room);
    if (rc < 0)
        return rc;

    union fd_control control;
    struct iovec iov = {.iov_base = r->data + r->len, .iov_len = room};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    msg.msg_control = control.bytes;
    msg.msg_controllen = sizeof(control.bytes);
    ssize_t n;
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    rc = take_control(r, &msg);
    if (rc < 0)
        return rc;
    r->len += (size_t)n;
    return frame_want(r) < 0 ? -EPROTO : n;
}

int pb_frame_reader_take(struct pb_frame_reader *r, const ProtobufCMessageDescriptor *desc,
                         ProtobufCAllocator *alloc, ProtobufCMessage **m, int *fds, size_t *n_fds)
{
    long want = frame_want(r);
    size_t room = n_fds ? *n_fds : 0;

    if (want < 0)
        return -EPROTO;
    if (r->len < FRAME_HEAD || r->len < (size_t)want)
        return 0;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(desc, alloc, (size_t)want - FRAME_HEAD, r->data + FRAME_HEAD);
    if (!message)
        return -EPROTO;

    for (size_t i = 0; i < r->n_fds; i++) {
        if (i < room)
            fds[i] = r->fds[i];
        else
            (void)close(r->fds[i]); // nobody expects it
    }
    if (n_fds)
        *n_fds = r->n_fds < room ? r->n_fds : room;
    r->n_fds = 0;
    r->len -= (size_t)want;
    if (r->len)
        memmove(r->data, r->data + want, r->len);
    if (r->len == 0 && r->alloc > IDLE_MAX) {
        free(r->data);
        r->data = NULL;
        r->alloc = 0;
    }
    *m = message;
    return 1;
}
