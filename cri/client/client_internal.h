// What client.c (one message each way) and client_stream.c share.
#ifndef CRI_CLIENT_CLIENT_INTERNAL_H
#define CRI_CLIENT_CLIENT_INTERNAL_H

#include <grpc/grpc.h>
#include <pthread.h>

#include "cri/client/client.h"

struct client {
    char *path; // of the socket
    grpc_channel *channel;
    grpc_completion_queue *cq;
    pthread_t poller;
    bool poller_runs;
    // Hands a call over to the poller. gRPC's queue orders memory, too, but nobody can check that it does.
    pthread_mutex_t handover;
};

// What gRPC gives back when an operation is over: the poller writes its eventfd.
struct client_tag {
    int done_fd;
    int ok; // what the operation was about did happen; under the client's handover
};

// NULL: no service here has a method of that name.
const ProtobufCMethodDescriptor *client_find_method(const char *rpc, const char **service);
grpc_call *client_create_call(struct client *c, const char *path, int64_t timeout_ns);
grpc_byte_buffer *client_pack(const ProtobufCMessage *request);
int client_unpack(grpc_byte_buffer *buffer, const ProtobufCMethodDescriptor *method, ProtobufCMessage **out,
                  struct error *err);
// How a call ended.
struct client_end {
    grpc_status_code status;
    grpc_slice details;
    const char *debug; // what gRPC tells itself of a failure; gpr_free()
};
// Where the operation for it puts this.
void client_end_ask(struct client_end *end, grpc_metadata_array *trailing, grpc_op *op);
void client_end_done(struct client_end *end);
// What a call that ended with a status other than OK says.
int client_failure(const struct client *c, const char *rpc, const struct client_end *end, struct error *err);

#endif
