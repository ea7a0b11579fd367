#include "cri/client/client_internal.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "api/crisp/images.pb-c.h"
#include "base/cleanup.h"
#include "base/str.h"

#define RECEIVE_MAX (64 << 20) // bytes of one answer; servers stop at 16 MiB

struct client_call {
    struct client_tag tag; // first: done_fd is readable at its end
    struct client *client;
    const ProtobufCMethodDescriptor *method;
    grpc_call *call;
    grpc_byte_buffer *request, *response;
    grpc_metadata_array initial, trailing;
    struct client_end end;
};

// Completions: the eventfd of the tag is written.
static void *poll_completions(void *data)
{
    struct client *c = data;

    for (;;) {
        grpc_event e = grpc_completion_queue_next(c->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (e.type != GRPC_OP_COMPLETE)
            continue;
        (void)pthread_mutex_lock(&c->handover);
        ((struct client_tag *)e.tag)->ok = e.success;
        int fd = ((struct client_tag *)e.tag)->done_fd;
        (void)pthread_mutex_unlock(&c->handover);
        // write(2) and not eventfd_write(): ThreadSanitizer knows that the one orders memory.
        (void)!write(fd, &(uint64_t){1}, sizeof(uint64_t));
    }
}

static int parse_endpoint(const char *endpoint, char **path, struct error *err)
{
    const char *p = str_has_prefix(endpoint, "unix://") ? endpoint + strlen("unix://") : endpoint;

    if (*p != '/')
        return error_set(
            err, STATUS_INVALID_ARGUMENT, EINVAL,
            "endpoint \"%s\": must be unix:// and an absolute path, such as " CLIENT_DEFAULT_ENDPOINT,
            endpoint);
    if (strlen(p) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return error_set(err, STATUS_INVALID_ARGUMENT, ENAMETOOLONG,
                         "endpoint \"%s\": a socket's path has at most %zu characters", endpoint,
                         sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
    *path = strdup(p);
    return *path ? 0 : error_errno(err, ENOMEM, "endpoint \"%s\"", endpoint);
}

static grpc_channel *open_channel(const char *target)
{
    // A daemon that restarts is back within a second: don't wait longer before looking again. The "minimal
    // back-off" is how long one attempt may take: a machine under load needs more than moments for the first
    // answer.
    grpc_arg args[] = {
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, {.integer = RECEIVE_MAX}},
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, {.integer = 10000}},
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, {.integer = 100}},
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, {.integer = 500}},
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_ENABLE_RETRIES, {.integer = 0}},
    };
    grpc_channel_args all = {.num_args = ARRAY_SIZE(args), .args = args};
    grpc_channel_credentials *creds = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, creds, &all);

    grpc_channel_credentials_release(creds);
    return channel;
}

int client_new(const char *endpoint, struct client **out, struct error *err)
{
    _cleanup_(client_freep) struct client *c = calloc(1, sizeof(*c));
    if (!c)
        return error_errno(err, ENOMEM, "connect to %s", endpoint);
    (void)pthread_mutex_init(&c->handover, NULL);
    grpc_init();
    int rc = parse_endpoint(endpoint, &c->path, err);
    if (rc < 0)
        return rc;

    _cleanup_free_ char *target = str_printf("unix:%s", c->path);
    if (!target)
        return error_errno(err, ENOMEM, "connect to %s", endpoint);
    c->channel = open_channel(target);
    c->cq = grpc_completion_queue_create_for_next(NULL);
    rc = pthread_create(&c->poller, NULL, poll_completions, c);
    if (rc)
        return error_errno(err, rc, "connect to %s: start a thread", endpoint);
    c->poller_runs = true;
    *out = steal_ptr(&c);
    return 0;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    if (c->channel)
        grpc_channel_destroy(c->channel);
    if (c->cq)
        grpc_completion_queue_shutdown(c->cq);
    if (c->poller_runs)
        (void)pthread_join(c->poller, NULL);
    if (c->cq)
        grpc_completion_queue_destroy(c->cq);
    grpc_shutdown_blocking();
    (void)pthread_mutex_destroy(&c->handover);
    free(c->path);
    free(c);
}

void client_freep(struct client **c)
{
    client_free(*c);
    *c = NULL;
}

const ProtobufCMethodDescriptor *client_find_method(const char *rpc, const char **service)
{
    static const ProtobufCServiceDescriptor *const services[] = {
        &cri__runtime_service__descriptor, &cri__image_service__descriptor, &crisp__images__descriptor};

    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        const ProtobufCMethodDescriptor *m =
            protobuf_c_service_descriptor_get_method_by_name(services[i], rpc);
        if (m) {
            *service = services[i]->name;
            return m;
        }
    }
    return NULL;
}

static void call_free(struct client_call *call)
{
    if (call->call)
        grpc_call_unref(call->call);
    if (call->request)
        grpc_byte_buffer_destroy(call->request);
    if (call->response)
        grpc_byte_buffer_destroy(call->response);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    client_end_done(&call->end);
    fd_closep(&call->tag.done_fd);
    free(call);
}

grpc_byte_buffer *client_pack(const ProtobufCMessage *request)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(request));

    (void)protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

static grpc_call_error start_batch(struct client_call *call)
{
    grpc_op ops[6] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                      {.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA},
                      {.op = GRPC_OP_RECV_MESSAGE}};

    ops[1].data.send_message.send_message = call->request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].data.recv_message.recv_message = &call->response;
    client_end_ask(&call->end, &call->trailing, &ops[5]);
    (void)pthread_mutex_lock(&call->client->handover);
    grpc_call_error code = grpc_call_start_batch(call->call, ops, ARRAY_SIZE(ops), call, NULL);
    (void)pthread_mutex_unlock(&call->client->handover);
    return code;
}

grpc_call *client_create_call(struct client *c, const char *path, int64_t timeout_ns)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (timeout_ns > 0)
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(timeout_ns, GPR_TIMESPAN));
    grpc_slice slice = grpc_slice_from_copied_string(path);
    grpc_call *call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->cq, slice, NULL,
                                               deadline, NULL);
    grpc_slice_unref(slice);
    return call;
}

int client_call_start(struct client *c, const char *rpc, const ProtobufCMessage *request, int64_t timeout_ns,
                      struct client_call **out, struct error *err)
{
    const char *service = NULL;
    const ProtobufCMethodDescriptor *method = client_find_method(rpc, &service);
    if (!method || method->input != request->descriptor)
        return error_set(err, STATUS_INTERNAL, EINVAL, "%s isn't called with a %s", rpc,
                         request->descriptor->name);
    struct client_call *call = calloc(1, sizeof(*call));
    if (!call)
        return error_errno(err, ENOMEM, "%s", rpc);
    call->client = c;
    call->method = method;
    call->end.details = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    call->tag.done_fd = eventfd(0, EFD_CLOEXEC);
    _cleanup_free_ char *path = str_printf("/%s/%s", service, rpc);
    if (call->tag.done_fd < 0 || !path) {
        int rc = error_errno(err, errno, "%s", rpc);
        call_free(call);
        return rc;
    }

    call->request = client_pack(request);
    call->call = client_create_call(c, path, timeout_ns);
    grpc_call_error code = start_batch(call);
    if (code != GRPC_CALL_OK) {
        call_free(call);
        return error_set(err, STATUS_INTERNAL, EIO, "%s: %s", rpc, grpc_call_error_to_string(code));
    }
    *out = call;
    return 0;
}

int client_call_fd(const struct client_call *call)
{
    return call->tag.done_fd;
}

void client_call_cancel(struct client_call *call)
{
    (void)grpc_call_cancel(call->call, NULL);
}

// What is wrong with the socket: gRPC's own words ("failed to connect to all addresses") don't help anybody.
static int explain_unreachable(const struct client *c, struct error *err, const char *details)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, c->path, strlen(c->path));
    _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int errnum = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
    const char *hint = "";

    switch (errnum) {
    case 0:
        return error_set(err, STATUS_UNAVAILABLE, ECONNRESET,
                         "the runtime at %s accepts connections but doesn't answer: %s", c->path, details);
    case ENOENT:
        hint = "there is no such socket; is the runtime running, and is this its --endpoint?";
        break;
    case ECONNREFUSED:
        hint = "nobody listens on this socket; the runtime isn't running (systemctl status crispd)";
        break;
    case EACCES:
    case EPERM:
        hint = "permission denied; run this as root or as a member of the socket's group";
        break;
    default:
        hint = strerrordesc_np(errnum);
    }
    return error_set(err, STATUS_UNAVAILABLE, errnum, "can't reach a CRI runtime at %s: %s", c->path,
                     hint ? hint : details);
}

void client_end_ask(struct client_end *end, grpc_metadata_array *trailing, grpc_op *op)
{
    op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op->data.recv_status_on_client.trailing_metadata = trailing;
    op->data.recv_status_on_client.status = &end->status;
    op->data.recv_status_on_client.status_details = &end->details;
    op->data.recv_status_on_client.error_string = &end->debug;
}

void client_end_done(struct client_end *end)
{
    grpc_slice_unref(end->details);
    gpr_free((void *)(uintptr_t)end->debug);
    *end = (struct client_end){.details = grpc_empty_slice()};
}

// Did the runtime say it? A call that didn't reach it has the same status: what tells them apart is that
// gRPC's core notes these words with each status that came over the wire.
static bool is_from_runtime(const struct client_end *end)
{
    return end->debug && strstr(end->debug, "Error received from peer");
}

int client_failure(const struct client *c, const char *rpc, const struct client_end *end, struct error *err)
{
    char details[ERROR_MESSAGE_MAX];
    grpc_status_code status = end->status;
    grpc_slice text = end->details;
    size_t len = GRPC_SLICE_LENGTH(text);

    if (len > sizeof(details) - 1)
        len = sizeof(details) - 1;
    memcpy(details, GRPC_SLICE_START_PTR(text), len);
    details[len] = '\0';
    if (status == GRPC_STATUS_UNAVAILABLE && !is_from_runtime(end))
        return explain_unreachable(c, err, details);
    int errnum = status == GRPC_STATUS_NOT_FOUND           ? ENOENT
                 : status == GRPC_STATUS_ALREADY_EXISTS    ? EEXIST
                 : status == GRPC_STATUS_CANCELLED         ? ECANCELED
                 : status == GRPC_STATUS_DEADLINE_EXCEEDED ? ETIMEDOUT
                 : status == GRPC_STATUS_UNIMPLEMENTED     ? ENOSYS
                                                           : EREMOTEIO;
    return error_set(err, (enum status)status, errnum, "%s: %s (%s)", rpc, details,
                     error_status_name((enum status)status));
}

int client_unpack(grpc_byte_buffer *buffer, const ProtobufCMethodDescriptor *method, ProtobufCMessage **out,
                  struct error *err)
{
    grpc_byte_buffer_reader reader;

    if (!buffer || !grpc_byte_buffer_reader_init(&reader, buffer))
        return error_set(err, STATUS_INTERNAL, EPROTO, "%s: an answer without a message", method->name);
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    *out = protobuf_c_message_unpack(method->output, NULL, GRPC_SLICE_LENGTH(all), GRPC_SLICE_START_PTR(all));
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    if (!*out)
        return error_set(err, STATUS_INTERNAL, EPROTO, "%s: the answer isn't a %s", method->name,
                         method->output->name);
    return 0;
}

int client_call_finish(struct client_call *call, ProtobufCMessage **response, struct error *err)
{
    uint64_t count;
    int rc = 0;

    while (read(call->tag.done_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        continue;
    if (call->end.status != GRPC_STATUS_OK)
        rc = client_failure(call->client, call->method->name, &call->end, err);
    else if (response)
        rc = client_unpack(call->response, call->method, response, err);
    call_free(call);
    return rc;
}

int client_call(struct client *c, const struct ctx *ctx, const char *rpc, const ProtobufCMessage *request,
                int64_t timeout_ns, ProtobufCMessage **response, struct error *err)
{
    struct client_call *call = NULL;
    int rc = client_call_start(c, rpc, request, timeout_ns, &call, err);
    if (rc < 0)
        return rc;
    if (ctx_wait_fd(ctx, client_call_fd(call), POLLIN, NULL) < 0)
        client_call_cancel(call);
    return client_call_finish(call, response, err);
}
