// The gRPC server: gRPC core's C API with one completion queue and one poller thread; inline calls are
// answered there, the others on the threads of a pool (cri/pool.h).
#ifndef CRI_SERVER_H
#define CRI_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cri/rpc.h"

#define SERVER_RECEIVE_MAX (16u << 20) // bytes of one request; more is RESOURCE_EXHAUSTED
#define SERVER_SEND_MAX    (16u << 20) // bytes of one response: what clients take
#define SERVER_ARENA_MAX   (64u << 20) // bytes that one call's messages may take unpacked

struct server;

struct server_options {
    const char *socket_path;
    size_t max_connections;
    const struct rpc_method *table;
    size_t table_len;
    struct daemon *daemon; // handed to the handlers
};

// Binds the socket; calls are taken from server_start() on. The process's first server brings gRPC up.
int server_new(const struct server_options *options, struct server **out, struct error *err);
int server_start(struct server *s, struct error *err);

// Removes the socket, refuses new calls, lets those under way go on for grace_ns, then cancels them, calls
// on_cancel (so that waits which outlive their client end too; may be NULL) and waits limit_ns more.
// 0 when all calls have ended; -ETIMEDOUT (DEADLINE_EXCEEDED, naming a call) when some have not: the
// server can't be freed then, and the process had better exit.
int server_stop(struct server *s, int64_t grace_ns, int64_t limit_ns, void (*on_cancel)(void *), void *data,
                struct error *err);
// After a server_stop() that returned 0, or a server_new() without start. NULL is fine.
void server_free(struct server *s);

#endif
