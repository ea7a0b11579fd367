// Calls to a CRI endpoint over gRPC core. One thread of the client's own waits for completions and wakes the
// caller by an eventfd, so that a call can be waited for together with signals and files.
#ifndef CRI_CLIENT_CLIENT_H
#define CRI_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <protobuf-c/protobuf-c.h>

#include "base/ctx.h"
#include "base/error.h"

#define CLIENT_DEFAULT_ENDPOINT "unix:///run/crisp/crisp.sock"

struct client;
struct client_call;

// endpoint: "unix:///path" or "/path". Nothing is sent yet; only the form is checked (INVALID_ARGUMENT).
int client_new(const char *endpoint, struct client **out, struct error *err);
void client_free(struct client *c); // calls must be over
void client_freep(struct client **c);

// Starts the RPC of that name. timeout_ns 0: none. Its end makes client_call_fd() readable.
int client_call_start(struct client *c, const char *rpc, const ProtobufCMessage *request, int64_t timeout_ns,
                      struct client_call **out, struct error *err);
int client_call_fd(const struct client_call *call);
// Waits for the end and frees the call. *response (if wanted) is malloc()ed: free it with
// protobuf_c_message_free_unpacked(). A failure says "RPC: message" and carries the server's status; when
// nobody answers it says what to look at.
int client_call_finish(struct client_call *call, ProtobufCMessage **response, struct error *err);
void client_call_cancel(struct client_call *call);

// All of it: start, wait within ctx (cancelled with it), finish.
int client_call(struct client *c, const struct ctx *ctx, const char *rpc, const ProtobufCMessage *request,
                int64_t timeout_ns, ProtobufCMessage **response, struct error *err);

// A call whose sides stream messages, one after the other: what the client sends, then what it receives.
struct client_stream;
int client_stream_open(struct client *c, const char *rpc, int64_t timeout_ns, struct client_stream **out,
                       struct error *err);
// Returns when gRPC has let it through; last: nothing more will be sent. A server that has ended the call
// makes it fail with -EPIPE: client_stream_receive() then tells why.
int client_stream_send(struct client_stream *s, const struct ctx *ctx, const ProtobufCMessage *message,
                       bool last, struct error *err);
// 1 and *message (as client_call_finish()), 0 at a good end, else the call's failure, or the ctx's.
int client_stream_receive(struct client_stream *s, const struct ctx *ctx, ProtobufCMessage **message,
                          struct error *err);
void client_stream_free(struct client_stream *s); // cancels it if it isn't over; NULL is fine
void client_stream_freep(struct client_stream **s);

#endif
