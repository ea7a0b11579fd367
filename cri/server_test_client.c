#include "cri/server_test_client.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/testing.h"

void test_client_open(struct test_client *c, const char *socket_path)
{
    char target[256];
    grpc_arg args[] = {
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
         .value.integer = -1},
        // A channel of its own per client rather than one shared by the process.
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)(uintptr_t)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
         .value.integer = 1},
    };
    grpc_channel_args all = {.num_args = 2, .args = args};
    (void)snprintf(target, sizeof(target), "unix:%s", socket_path);
    grpc_channel_credentials *creds = grpc_insecure_credentials_create();
    grpc_init();
    c->cq = grpc_completion_queue_create_for_next(NULL);
    c->channel = grpc_channel_create(target, creds, &all);
    grpc_channel_credentials_release(creds);
}

void test_client_close(struct test_client *c)
{
    grpc_channel_destroy(c->channel);
    grpc_completion_queue_shutdown(c->cq);
    while (grpc_completion_queue_next(c->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        continue;
    grpc_completion_queue_destroy(c->cq);
    grpc_shutdown_blocking();
}

static void open_call(struct test_client *c, struct test_call *call, const char *path, const void *request,
                      size_t len, int64_t timeout_ns)
{
    memset(call, 0, sizeof(*call));
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(timeout_ns, GPR_TIMESPAN));
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_slice body = grpc_slice_from_copied_buffer(request, len);
    call->request = grpc_raw_byte_buffer_create(&body, 1);
    call->call = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->cq, method, NULL,
                                          deadline, NULL);
    grpc_slice_unref(method);
    grpc_slice_unref(body);
}

void test_call_start(struct test_client *c, struct test_call *call, const char *path, const void *request,
                     size_t len, int64_t timeout_ns)
{
    open_call(c, call, path, request, len, timeout_ns);
    grpc_op ops[6] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},  {.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
                      {.op = GRPC_OP_RECV_MESSAGE},           {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};
    ops[1].data.send_message.send_message = call->request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].data.recv_message.recv_message = &call->response;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[5].data.recv_status_on_client.status = &call->status;
    ops[5].data.recv_status_on_client.status_details = &call->details;
    if (grpc_call_start_batch(call->call, ops, 6, call, NULL) != GRPC_CALL_OK)
        abort();
}

void test_stream_start(struct test_client *c, struct test_call *call, const char *path, const void *request,
                       size_t len, int64_t timeout_ns)
{
    open_call(c, call, path, request, len, timeout_ns);
    grpc_op opening[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                          {.op = GRPC_OP_SEND_MESSAGE},
                          {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                          {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    opening[1].data.send_message.send_message = call->request;
    opening[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    end.data.recv_status_on_client.trailing_metadata = &call->trailing;
    end.data.recv_status_on_client.status = &call->status;
    end.data.recv_status_on_client.status_details = &call->details;
    if (grpc_call_start_batch(call->call, opening, 4, &call->opened_tag, NULL) != GRPC_CALL_OK ||
        grpc_call_start_batch(call->call, &end, 1, call, NULL) != GRPC_CALL_OK)
        abort();
}

// Takes what comes until it is that tag.
static void wait_for_tag(struct test_client *c, struct test_call *call, const void *tag)
{
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(90, GPR_TIMESPAN));
    grpc_event event;
    do {
        event = grpc_completion_queue_next(c->cq, deadline, NULL);
        if (event.type != GRPC_OP_COMPLETE)
            abort();
        if (event.tag == call)
            call->ended = true;
    } while (event.tag != tag);
}

grpc_byte_buffer *test_stream_read(struct test_client *c, struct test_call *call)
{
    grpc_byte_buffer *message = NULL;
    grpc_op read = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &message};
    if (grpc_call_start_batch(call->call, &read, 1, &call->read_tag, NULL) != GRPC_CALL_OK)
        abort();
    wait_for_tag(c, call, &call->read_tag);
    if (!message && !call->ended)
        wait_for_tag(c, call, call);
    return message;
}

struct test_call *test_client_next(struct test_client *c)
{
    gpr_timespec deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                         gpr_time_from_nanos(testing_limit(90 * NS_PER_SEC), GPR_TIMESPAN));
    grpc_event event = grpc_completion_queue_next(c->cq, deadline, NULL);
    return event.type == GRPC_OP_COMPLETE ? event.tag : NULL;
}

const char *test_call_message(const struct test_call *call)
{
    static char text[2048];
    size_t len = GRPC_SLICE_LENGTH(call->details);
    len = len < sizeof(text) ? len : sizeof(text) - 1;
    memcpy(text, GRPC_SLICE_START_PTR(call->details), len);
    text[len] = '\0';
    return text;
}

void test_call_done(struct test_call *call)
{
    grpc_byte_buffer_destroy(call->request);
    grpc_byte_buffer_destroy(call->response);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->details);
    grpc_call_unref(call->call);
}
