// The life of one call: it arrives, its request is read and unpacked, a handler answers it, the answer goes
// out. Meanwhile the client may cancel it.
//
// Two things have to end before a call is freed: the wait for its close (gRPC tells exactly once, cancelled
// or not) and the sending of its status. Whoever ends last frees.
#include "cri/server_internal.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"

#define METHOD_PATH_MAX 256
#define SEND_STALL_NS   (60 * NS_PER_SEC) // a reader that takes nothing for so long is given up

struct server_call {
    struct pool_task task; // first: run_task() casts back
    struct server *server;
    struct server_call_links links;
    struct server_tag arrived, received, closed, sent, message_sent, message_came;
    atomic_int refs;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *payload, *response; // payload: what was received last
    int was_cancelled;                    // written by gRPC before `closed`
    const struct rpc_method *method;
    char path[METHOD_PATH_MAX]; // "/runtime.v1.RuntimeService/Version"
    struct rpc_call rpc;
    ProtobufCMessage *request; // in the arena; NULL: not unpacked yet
    int64_t started_mono_ns;
    char id[24];
    bool opened;    // initial metadata are out, or the first message of a stream takes them along
    sem_t went_out; // a message of a stream did, or never will
    sem_t came_in;  // the same of what a client streams
    atomic_bool went_well;
};

struct server_call_links *server_call_links(struct server_call *call)
{
    return &call->links;
}

const char *server_call_name(const struct server_call *call)
{
    return call->path;
}

static void call_free(struct server_call *c)
{
    grpc_byte_buffer_destroy(c->payload);
    grpc_byte_buffer_destroy(c->response);
    grpc_metadata_array_destroy(&c->metadata);
    grpc_call_details_destroy(&c->details);
    if (c->call)
        grpc_call_unref(c->call);
    arena_free(c->rpc.arena);
    fd_closep(&c->rpc.ctx.cancel_fd);
    sem_destroy(&c->went_out);
    sem_destroy(&c->came_in);
    free(c);
}

static void call_unref(struct server_call *c)
{
    if (atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    struct server *s = c->server;
    server_calls_remove(s, c);
    call_free(c);
}

static enum log_level level_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
    case STATUS_UNIMPLEMENTED: // the kubelet asks again and again
        return LOG_LEVEL_DEBUG;
    case STATUS_NOT_FOUND:
    case STATUS_INVALID_ARGUMENT:
    case STATUS_CANCELLED:
        return LOG_LEVEL_INFO;
    default:
        return LOG_LEVEL_WARN;
    }
}

static void log_call(const struct server_call *c, enum status status, const char *message)
{
    char ms[32];
    enum log_level level = level_of(status);
    if (!log_enabled(level))
        return;
    const char *slash = strrchr(c->path, '/');
    (void)snprintf(ms, sizeof(ms), "%.3f",
                   (double)(clock_mono_ns() - c->started_mono_ns) / (double)NS_PER_MS);
    if (status == STATUS_OK)
        log_event(level, "call", "rpc", slash ? slash + 1 : c->path, "call", c->id, "ms", ms, NULL);
    else
        log_event(level, "call failed", "rpc", slash ? slash + 1 : c->path, "call", c->id, "status",
                  error_status_name(status), "error", message, "ms", ms, NULL);
}

// Sends the status, and the response in c->response if there is one.
static void send_answer(struct server_call *c, enum status status, const char *message)
{
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t n = c->opened ? 0 : 1;
    _cleanup_free_ char *text = str_sanitize_utf8(message);
    grpc_slice details = grpc_slice_from_copied_string(text ? text : "");
    log_call(c, status, message);
    if (c->response)
        ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->response};
    ops[n] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    ops[n].data.send_status_from_server.status = (grpc_status_code)status;
    ops[n++].data.send_status_from_server.status_details = &details;
    grpc_call *call = c->call;
    server_tag_give(&c->sent); // from here on c may be freed at any time
    if (grpc_call_start_batch(call, ops, n, &c->sent, NULL) != GRPC_CALL_OK)
        call_unref(c); // `sent` will never come
    grpc_slice_unref(details);
}

static void send_error(struct server_call *c, const struct error *err)
{
    enum status status = err->status == STATUS_OK ? STATUS_INTERNAL : err->status;
    send_answer(c, status, err->message);
}

// The packed response as a byte buffer in c->response.
static int pack_response(struct server_call *c, ProtobufCMessage *response, struct arena *arena,
                         struct error *err)
{
    if (pb_sanitize(response, arena) != 0)
        return rpc_no_memory(err);
    size_t len = protobuf_c_message_get_packed_size(response);
    if (len > SERVER_SEND_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EMSGSIZE,
                         "the response has %zu bytes, more than 16 MiB: narrow it by a filter", len);
    grpc_slice slice = grpc_slice_malloc(len);
    protobuf_c_message_pack(response, GRPC_SLICE_START_PTR(slice));
    c->response = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return 0;
}

static void on_message_sent(struct server_tag *tag, bool ok)
{
    struct server_call *c = tag->call;
    atomic_store(&c->went_well, ok);
    (void)sem_post(&c->went_out);
}

static bool wait_sent(struct server_call *c, int64_t timeout_ns)
{
    int64_t until = clock_mono_ns() + timeout_ns;
    struct timespec at = {.tv_sec = until / NS_PER_SEC, .tv_nsec = until % NS_PER_SEC};
    int rc;
    do {
        rc = sem_clockwait(&c->went_out, CLOCK_MONOTONIC, &at);
    } while (rc != 0 && errno == EINTR);
    return rc == 0;
}

// The message comes back when it was written to the socket, or when the call has ended.
static int send_message(struct server_call *c, struct error *err)
{
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t n = c->opened ? 0 : 1;
    ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->response};
    server_tag_give(&c->message_sent);
    if (grpc_call_start_batch(c->call, ops, n, &c->message_sent, NULL) != GRPC_CALL_OK)
        return error_set(err, STATUS_INTERNAL, EIO, "%s: gRPC does not take a message", c->method->name);
    c->opened = true;
    bool stalled = !wait_sent(c, SEND_STALL_NS);
    if (stalled) {
        grpc_call_cancel_with_status(c->call, GRPC_STATUS_DEADLINE_EXCEEDED,
                                     "the answer was not read for a minute", NULL);
        (void)wait_sent(c, INT64_MAX / 2); // cancelled calls give back what they have
    }
    if (stalled)
        return error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "%s: the client does not read",
                         c->method->name);
    return atomic_load(&c->went_well)
               ? 0
               : error_set(err, STATUS_CANCELLED, ECANCELED, "%s: the client has gone", c->method->name);
}

int rpc_send(struct rpc_call *rpc, ProtobufCMessage *message, struct arena *arena, struct error *err)
{
    struct server_call *c = (struct server_call *)((char *)rpc - offsetof(struct server_call, rpc));
    int r = pack_response(c, message, arena, err);
    if (r == 0)
        r = send_message(c, err);
    grpc_byte_buffer_destroy(steal_ptr(&c->response));
    return r;
}

// The message in c->payload, which is freed; NULL when it is none.
static ProtobufCMessage *unpack_payload(struct server_call *c, ProtobufCAllocator *allocator,
                                        struct error *err)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, c->payload)) {
        error_set(err, STATUS_INVALID_ARGUMENT, EBADMSG, "the request can't be decompressed");
        return NULL;
    }
    grpc_slice whole = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    ProtobufCMessage *request = protobuf_c_message_unpack(
        c->method->request, allocator, GRPC_SLICE_LENGTH(whole), GRPC_SLICE_START_PTR(whole));
    grpc_slice_unref(whole);
    grpc_byte_buffer_destroy(steal_ptr(&c->payload));
    if (!request)
        error_set(err, STATUS_INVALID_ARGUMENT, EBADMSG,
                  "the request is no %s message, or takes more than 64 MiB of memory",
                  c->method->request->name);
    return request;
}

static void on_message_came(struct server_tag *tag, bool ok)
{
    (void)ok; // tells no more than payload does
    (void)sem_post(&tag->call->came_in);
}

int rpc_receive(struct rpc_call *rpc, ProtobufCMessage **message, struct error *err)
{
    struct server_call *c = (struct server_call *)((char *)rpc - offsetof(struct server_call, rpc));
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->payload};

    server_tag_give(&c->message_came);
    if (grpc_call_start_batch(c->call, &op, 1, &c->message_came, NULL) != GRPC_CALL_OK)
        return error_set(err, STATUS_INTERNAL, EIO, "%s: gRPC does not take a message", c->method->name);
    // A call that is cancelled, by the client's end too, gives back what it has.
    while (sem_wait(&c->came_in) != 0 && errno == EINTR)
        continue;
    if (!c->payload)
        return 0;
    *message = unpack_payload(c, NULL, err);
    return *message ? 1 : -EBADMSG;
}

static int answer(struct server_call *c, struct error *err)
{
    ProtobufCMessage *response = NULL;
    if (!c->rpc.arena)
        c->rpc.arena = arena_new(SERVER_ARENA_MAX);
    if (!c->rpc.arena)
        return rpc_no_memory(err);
    if (!c->request)
        c->request = unpack_payload(c, arena_pb(c->rpc.arena), err);
    if (!c->request)
        return -err->errnum;
    int rc = c->method->fn(&c->rpc, c->request, &response, err);
    if (rc == RPC_DEFER && !c->rpc.may_block)
        return rc;
    if (rc == 0 && !response != c->method->stream)
        rc = error_set(err, STATUS_INTERNAL, EPROTO, "%s gave no response, or one too many", c->method->name);
    return rc || c->method->stream ? rc : pack_response(c, response, c->rpc.arena, err);
}

static void run_task(struct pool_task *task);

static int submit(struct server_call *c, struct error *err)
{
    c->rpc.may_block = true;
    c->task.run = run_task;
    return pool_submit(c->server->pool, &c->task, err);
}

static void run_call(struct server_call *c)
{
    struct error err = ERROR_INIT;
    int rc = answer(c, &err);
    if (rc == RPC_DEFER && !c->rpc.may_block) {
        rc = submit(c, &err);
        if (rc == 0)
            return; // it is the worker's now
    }
    // The messages are packed by now: their memory need not wait for a slow reader.
    arena_freep(&c->rpc.arena);
    if (rc == 0)
        send_answer(c, STATUS_OK, "");
    else
        send_error(c, &err);
}

static void run_task(struct pool_task *task)
{
    run_call((struct server_call *)task);
}

static const struct rpc_method *find_method(const struct server *s, const char *path)
{
    const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
    if (!slash)
        return NULL;
    size_t service_len = (size_t)(slash - path - 1);
    for (size_t i = 0; i < s->options.table_len; i++) {
        const struct rpc_method *m = &s->options.table[i];
        if (strcmp(m->name, slash + 1) == 0 && strlen(m->service) == service_len &&
            memcmp(m->service, path + 1, service_len) == 0)
            return m;
    }
    return NULL;
}

static int dispatch(struct server_call *c, struct error *err)
{
    if (!c->method)
        return error_set(err, STATUS_UNIMPLEMENTED, ENOSYS, "%s is no method of the CRI v1 API", c->path);
    if (!c->method->fn)
        return error_set(err, STATUS_UNIMPLEMENTED, ENOSYS, "%s is not implemented by crisp %s",
                         c->method->name, CRISP_VERSION);
    // gRPC itself has cancelled a call whose message is too long; this status is what the client gets if
    // it gets any from us.
    if (!c->payload)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EMSGSIZE,
                         "%s came without a request message, or with one over 16 MiB", c->method->name);
    if (c->method->class == RPC_INLINE) {
        run_call(c);
        return 0;
    }
    return submit(c, err);
}

static void on_received(struct server_tag *tag, bool ok)
{
    struct server_call *c = tag->call;
    struct error err = ERROR_INIT;
    (void)ok; // tells no more than payload does
    if (dispatch(c, &err) != 0)
        send_error(c, &err);
}

static void on_sent(struct server_tag *tag, bool ok)
{
    (void)ok; // a client that went away
    call_unref(tag->call);
}

static void on_closed(struct server_tag *tag, bool ok)
{
    struct server_call *c = tag->call;
    uint64_t one = 1;
    if ((!ok || c->was_cancelled) && c->rpc.ctx.cancel_fd >= 0)
        (void)!write(c->rpc.ctx.cancel_fd, &one, sizeof(one));
    call_unref(c);
}

// The client's deadline as a monotonic time.
static int64_t deadline_of(gpr_timespec deadline)
{
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    int64_t now = clock_mono_ns();
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0 || left.tv_sec > INT64_C(1000000000))
        return INT64_MAX;
    return now + left.tv_sec * NS_PER_SEC + left.tv_nsec;
}

static void fill(struct server_call *c)
{
    size_t len = GRPC_SLICE_LENGTH(c->details.method);
    len = len < sizeof(c->path) ? len : sizeof(c->path) - 1;
    memcpy(c->path, GRPC_SLICE_START_PTR(c->details.method), len);
    c->path[len] = '\0';
    c->method = find_method(c->server, c->path);
    c->started_mono_ns = clock_mono_ns();
    (void)snprintf(c->id, sizeof(c->id), "%llu",
                   (unsigned long long)atomic_fetch_add(&c->server->last_id, 1) + 1);
    c->rpc.id = c->id;
    c->rpc.daemon = c->server->options.daemon;
    c->rpc.ctx.deadline_mono_ns = deadline_of(c->details.deadline);
    if (c->method && c->method->class == RPC_WORK && c->method->fn)
        c->rpc.ctx.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void on_arrived(struct server_tag *tag, bool ok)
{
    struct server_call *c = tag->call;
    if (!ok) { // the server is shutting down
        call_free(c);
        return;
    }
    (void)server_call_expect(c->server);
    fill(c);
    atomic_init(&c->refs, 2);
    server_calls_add(c->server, c);
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                     .data.recv_close_on_server.cancelled = &c->was_cancelled};
    grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->payload};
    server_tag_give(&c->closed);
    server_tag_give(&c->received);
    if (grpc_call_start_batch(c->call, &close, 1, &c->closed, NULL) != GRPC_CALL_OK)
        call_unref(c); // can't be, but must not leak if it can
    if (grpc_call_start_batch(c->call, &receive, 1, &c->received, NULL) != GRPC_CALL_OK)
        call_unref(c);
}

bool server_call_expect(struct server *s)
{
    struct server_call *c = calloc(1, sizeof(*c));
    if (!c)
        return false;
    c->server = s;
    c->rpc.ctx = CTX_NONE;
    c->arrived = (struct server_tag){.done = on_arrived, .call = c, .server = s};
    c->received = (struct server_tag){.done = on_received, .call = c, .server = s};
    c->closed = (struct server_tag){.done = on_closed, .call = c, .server = s};
    c->sent = (struct server_tag){.done = on_sent, .call = c, .server = s};
    c->message_sent = (struct server_tag){.done = on_message_sent, .call = c, .server = s};
    c->message_came = (struct server_tag){.done = on_message_came, .call = c, .server = s};
    (void)sem_init(&c->went_out, 0, 0);
    (void)sem_init(&c->came_in, 0, 0);
    grpc_call_details_init(&c->details);
    grpc_metadata_array_init(&c->metadata);
    server_tag_give(&c->arrived);
    // After a failed request (the server shuts down) the tag comes back with ok = false all the same.
    if (grpc_server_request_call(s->grpc, &c->call, &c->details, &c->metadata, s->cq, s->cq, &c->arrived) ==
        GRPC_CALL_OK)
        return true;
    call_free(c);
    return false;
}
