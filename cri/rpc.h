// The table of all RPCs and what a handler looks like.
//
// A handler knows nothing of gRPC: it gets the unpacked request, fills a response and returns 0, or an error
// whose status becomes the call's. One file per RPC family (rpc_runtime.c, rpc_pod*.c, rpc_container*.c,
// rpc_exec*.c, rpc_stats*.c, rpc_image*.c); one row per RPC in rpc_table.c.
#ifndef CRI_RPC_H
#define CRI_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/error.h"

struct daemon;

// One call in flight. Everything in it is valid until the handler returns.
struct rpc_call {
    struct ctx ctx;      // the client's deadline, and its cancellation as an eventfd
    struct arena *arena; // the request's and the response's memory, 64 MiB at most
    struct daemon *daemon;
    const char *id; // names this call in the log
    bool may_block; // this is a worker's thread
};

// Answers one call. *response is allocated from call->arena (or is static), and is NULL on failure. Strings
// need not be valid UTF-8: the server sanitises what goes out. A failure returns -errno with *err set.
// A method whose answer is a stream sends its messages with rpc_send() and leaves *response NULL; what was
// sent before a failure has been sent.
// RPC_WORK handlers run on a thread of their own and may block within call->ctx; RPC_INLINE ones run on the
// poller and must neither block nor take longer than some microseconds for each object listed. One that finds
// that it has to (a little: no client's cancel is seen) returns RPC_DEFER, and is called again, with
// may_block, on a worker's thread.
#define RPC_DEFER 1
typedef int (*rpc_unary_fn)(struct rpc_call *call, const ProtobufCMessage *request,
                            ProtobufCMessage **response, struct error *err);

enum rpc_class {
    RPC_INLINE, // answered on the poller thread, from snapshots in memory
    RPC_WORK,   // answered on a worker thread
};

struct rpc_method {
    const char *service; // "runtime.v1.RuntimeService"
    const char *name;    // "RunPodSandbox"
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    bool stream;        // the response is a stream; then the class is RPC_WORK
    bool client_stream; // more messages follow the request: see rpc_receive(); then `stream` is set, too
    enum rpc_class class;
    rpc_unary_fn fn; // NULL: answered UNIMPLEMENTED, naming the RPC
};

extern const struct rpc_method rpc_table[];
extern const size_t rpc_table_len;

// A response of the given type in the call's arena: RPC_NEW(call, cri__version_response,
// Cri__VersionResponse). NULL when the arena is full.
#define RPC_NEW(call, prefix, type)                                                                          \
    __extension__({                                                                                          \
        type *rpc_new_ = arena_alloc((call)->arena, sizeof(type));                                           \
        if (rpc_new_)                                                                                        \
            prefix##__init(rpc_new_);                                                                        \
        rpc_new_;                                                                                            \
    })

// What a handler returns when the arena is full (RESOURCE_EXHAUSTED).
int rpc_no_memory(struct error *err);

// Sends one message of a streamed answer, and returns once gRPC has let it through: a slow reader holds up
// the handler, and nothing piles up. Only for methods with `stream`, on the thread of the handler. call is
// the very one that the handler got; arena is where strings that need it are sanitised. CANCELLED: nobody
// listens any more; DEADLINE_EXCEEDED: the reader hasn't taken anything for a minute.
int rpc_send(struct rpc_call *call, ProtobufCMessage *message, struct arena *arena, struct error *err);

// The next message of a client that streams: 1 and *message (malloc()ed, the caller frees it with
// protobuf_c_message_free_unpacked()), 0 when the client has no more to say or has gone (a protocol that
// must tell the one from the other has a message that says "this was all"), -errno. Only for methods with
// `client_stream`, on the thread of the handler. It waits as long as the call lasts.
int rpc_receive(struct rpc_call *call, ProtobufCMessage **message, struct error *err);

#define RPC_HANDLER(name)                                                                                    \
    int name(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,            \
             struct error *err)

// rpc_runtime.c
RPC_HANDLER(rpc_version);
RPC_HANDLER(rpc_status);
RPC_HANDLER(rpc_runtime_config);
RPC_HANDLER(rpc_update_runtime_config);
// rpc_pod*.c
RPC_HANDLER(rpc_run_pod_sandbox);
RPC_HANDLER(rpc_stop_pod_sandbox);
RPC_HANDLER(rpc_remove_pod_sandbox);
RPC_HANDLER(rpc_pod_sandbox_status);
RPC_HANDLER(rpc_list_pod_sandbox);
RPC_HANDLER(rpc_stream_pod_sandboxes);
// rpc_container*.c
RPC_HANDLER(rpc_create_container);
RPC_HANDLER(rpc_start_container);
RPC_HANDLER(rpc_stop_container);
RPC_HANDLER(rpc_remove_container);
RPC_HANDLER(rpc_list_containers);
RPC_HANDLER(rpc_stream_containers);
RPC_HANDLER(rpc_container_status);
RPC_HANDLER(rpc_reopen_container_log);
// rpc_resources.c
RPC_HANDLER(rpc_update_container_resources);
RPC_HANDLER(rpc_update_pod_sandbox_resources);
// rpc_exec*.c
RPC_HANDLER(rpc_exec_sync);
// rpc_stats*.c
RPC_HANDLER(rpc_container_stats);
RPC_HANDLER(rpc_list_container_stats);
RPC_HANDLER(rpc_stream_container_stats);
RPC_HANDLER(rpc_pod_sandbox_stats);
RPC_HANDLER(rpc_list_pod_sandbox_stats);
RPC_HANDLER(rpc_stream_pod_sandbox_stats);
// rpc_image*.c
RPC_HANDLER(rpc_list_images);
RPC_HANDLER(rpc_stream_images);
RPC_HANDLER(rpc_image_status);
RPC_HANDLER(rpc_pull_image);
RPC_HANDLER(rpc_remove_image);
RPC_HANDLER(rpc_image_fs_info);
// rpc_crisp*.c
RPC_HANDLER(rpc_crisp_pull);
RPC_HANDLER(rpc_crisp_list);
RPC_HANDLER(rpc_crisp_prune);
RPC_HANDLER(rpc_crisp_import);
RPC_HANDLER(rpc_crisp_export);

#endif
