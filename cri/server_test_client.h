// A small gRPC client for tests: calls in flight, cancel, deadlines.
#ifndef CRI_SERVER_TEST_CLIENT_H
#define CRI_SERVER_TEST_CLIENT_H

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct test_client {
    grpc_completion_queue *cq;
    grpc_channel *channel;
};

struct test_call {
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *request, *response;
    grpc_status_code status;
    grpc_slice details;
    bool ended;                // a stream's status has come
    char opened_tag, read_tag; // a stream's, only their addresses
};

void test_client_open(struct test_client *c, const char *socket_path);
void test_client_close(struct test_client *c);
// Starts a call of a path such as "/runtime.v1.RuntimeService/Version" with raw bytes.
void test_call_start(struct test_client *c, struct test_call *call, const char *path, const void *request,
                     size_t len, int64_t timeout_ns);
// Waits for the end of whichever call ends next (in this client) and returns it; NULL after 90 s, which is to
// be longer than any call's time-out: a call that is given up would write to memory that is gone.
struct test_call *test_client_next(struct test_client *c);
// The same for an answer that is a stream; one at a time in this client.
void test_stream_start(struct test_client *c, struct test_call *call, const char *path, const void *request,
                       size_t len, int64_t timeout_ns);
// Waits for the next message, the caller's to destroy; NULL: that was the last one, the status is there.
grpc_byte_buffer *test_stream_read(struct test_client *c, struct test_call *call);
// The text of the status. Static, overwritten by the next.
const char *test_call_message(const struct test_call *call);
// Frees what a call holds; it has to have ended.
void test_call_done(struct test_call *call);

#endif
