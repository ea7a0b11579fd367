// Calls that stream messages.
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/client_internal.h"

struct client_stream {
    struct client *client;
    const ProtobufCMethodDescriptor *method;
    grpc_call *call;
    struct client_tag sent, received, ended;
    bool began;    // initial metadata were sent
    bool answered; // and their answer is being waited for
    bool over;     // the status was taken
    grpc_byte_buffer *message;
    grpc_metadata_array initial, trailing;
    struct client_end end;
};

static int start_batch(struct client_stream *s, const grpc_op *ops, size_t n, struct client_tag *tag,
                       struct error *err)
{
    (void)pthread_mutex_lock(&s->client->handover);
    grpc_call_error code = grpc_call_start_batch(s->call, ops, n, tag, NULL);
    (void)pthread_mutex_unlock(&s->client->handover);
    if (code == GRPC_CALL_OK)
        return 0;
    return error_set(err, STATUS_INTERNAL, EIO, "%s: %s", s->method->name, grpc_call_error_to_string(code));
}

// Waits for an operation; one that ctx calls off is cancelled with the whole call, and waited for all the
// same, for gRPC uses its memory till then.
static int wait_for(struct client_stream *s, struct client_tag *tag, const struct ctx *ctx, struct error *err)
{
    uint64_t count;
    int rc = ctx_wait_fd(ctx, tag->done_fd, POLLIN, err);

    if (rc < 0)
        (void)grpc_call_cancel(s->call, NULL);
    while (read(tag->done_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        continue;
    // What the poller wrote before is seen after.
    (void)pthread_mutex_lock(&s->client->handover);
    int ok = tag->ok;
    (void)pthread_mutex_unlock(&s->client->handover);
    return rc < 0 ? error_wrap(err, "%s", s->method->name) : ok;
}

static int start_status(struct client_stream *s, struct error *err)
{
    grpc_op op = {0};

    client_end_ask(&s->end, &s->trailing, &op);
    return start_batch(s, &op, 1, &s->ended, err);
}

int client_stream_open(struct client *c, const char *rpc, int64_t timeout_ns, struct client_stream **out,
                       struct error *err)
{
    const char *service = NULL;
    const ProtobufCMethodDescriptor *method = client_find_method(rpc, &service);
    struct client_stream *s = method ? calloc(1, sizeof(*s)) : NULL;
    _cleanup_free_ char *path = method ? str_printf("/%s/%s", service, rpc) : NULL;

    if (!s || !path) {
        free(s);
        return error_errno(err, method ? ENOMEM : EINVAL, "%s", rpc);
    }
    s->client = c;
    s->method = method;
    s->end.details = grpc_empty_slice();
    grpc_metadata_array_init(&s->initial);
    grpc_metadata_array_init(&s->trailing);
    s->sent.done_fd = eventfd(0, EFD_CLOEXEC);
    s->received.done_fd = eventfd(0, EFD_CLOEXEC);
    s->ended.done_fd = eventfd(0, EFD_CLOEXEC);
    int rc = 0;
    if (s->sent.done_fd < 0 || s->received.done_fd < 0 || s->ended.done_fd < 0)
        rc = error_errno(err, errno, "%s", rpc);
    if (rc == 0) {
        s->call = client_create_call(c, path, timeout_ns);
        rc = start_status(s, err);
        s->over = rc < 0;
    } else {
        s->over = true;
    }
    if (rc < 0)
        client_stream_freep(&s);
    *out = s;
    return rc;
}

int client_stream_send(struct client_stream *s, const struct ctx *ctx, const ProtobufCMessage *message,
                       bool last, struct error *err)
{
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t n = s->began ? 0 : 1;
    grpc_byte_buffer *packed = client_pack(message);

    ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = packed};
    if (last)
        ops[n++] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    s->began = true;
    int rc = start_batch(s, ops, n, &s->sent, err);
    if (rc == 0)
        rc = wait_for(s, &s->sent, ctx, err);
    grpc_byte_buffer_destroy(packed);
    if (rc == 0)
        return error_set(err, STATUS_UNAVAILABLE, EPIPE, "%s: the runtime has ended the call",
                         s->method->name);
    return rc < 0 ? rc : 0;
}

static int take_status(struct client_stream *s, const struct ctx *ctx, struct error *err)
{
    int rc = wait_for(s, &s->ended, ctx, err);

    s->over = true;
    if (rc < 0)
        return rc;
    return s->end.status == GRPC_STATUS_OK ? 0 : client_failure(s->client, s->method->name, &s->end, err);
}

int client_stream_receive(struct client_stream *s, const struct ctx *ctx, ProtobufCMessage **message,
                          struct error *err)
{
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_MESSAGE}};
    size_t n = 1;

    ops[0].data.recv_message.recv_message = &s->message;
    if (!s->answered) {
        ops[n] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA};
        ops[n++].data.recv_initial_metadata.recv_initial_metadata = &s->initial;
    }
    s->answered = true;
    int rc = start_batch(s, ops, n, &s->received, err);
    if (rc == 0)
        rc = wait_for(s, &s->received, ctx, err);
    if (rc < 0)
        return rc;
    if (!s->message)
        return take_status(s, ctx, err);
    rc = client_unpack(s->message, s->method, message, err);
    grpc_byte_buffer_destroy(steal_ptr(&s->message));
    return rc < 0 ? rc : 1;
}

void client_stream_free(struct client_stream *s)
{
    uint64_t count;

    if (!s)
        return;
    if (!s->over) {
        (void)grpc_call_cancel(s->call, NULL);
        while (read(s->ended.done_fd, &count, sizeof(count)) < 0 && errno == EINTR)
            continue;
    }
    if (s->call)
        grpc_call_unref(s->call);
    if (s->message)
        grpc_byte_buffer_destroy(s->message);
    grpc_metadata_array_destroy(&s->initial);
    grpc_metadata_array_destroy(&s->trailing);
    client_end_done(&s->end);
    fd_closep(&s->sent.done_fd);
    fd_closep(&s->received.done_fd);
    fd_closep(&s->ended.done_fd);
    free(s);
}

void client_stream_freep(struct client_stream **s)
{
    client_stream_free(*s);
    *s = NULL;
}
