// What server.c (the server's life) and server_call.c (a call's life) share.
#ifndef CRI_SERVER_INTERNAL_H
#define CRI_SERVER_INTERNAL_H

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cri/listener.h"
#include "cri/pool.h"
#include "cri/server.h"

struct server_call;

// What comes back from the completion queue: done() runs on the poller. ok is false when the operation
// failed (the peer went away) or, for a wait for a new call, when the server shuts down.
struct server_tag {
    void (*done)(struct server_tag *tag, bool ok);
    struct server_call *call; // NULL for the server's own
    struct server *server;
    atomic_int given;
};

// Before a tag goes to gRPC, and when it has come back: what one thread wrote before the one is seen by the
// other after the other. gRPC's own synchronisation sees to that already, but ThreadSanitizer can't know, as
// the library isn't built with it.
static inline void server_tag_give(struct server_tag *tag)
{
    atomic_store_explicit(&tag->given, 1, memory_order_release);
}

static inline void server_tag_take(struct server_tag *tag)
{
    (void)atomic_load_explicit(&tag->given, memory_order_acquire);
}

struct server {
    struct server_options options;
    struct listener *listener;
    struct pool *pool;
    grpc_server *grpc;
    grpc_completion_queue *cq;
    grpc_server_credentials *creds;
    struct server_tag shutdown_tag;
    pthread_t poller;
    bool polling, stopping; // the owner's
    atomic_uint_fast64_t last_id;

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t changed;
    struct server_call *calls; // in flight, newest first
    bool shut_down;            // gRPC says so
};

// Has gRPC hand over the next call that comes. False when the server is shutting down.
bool server_call_expect(struct server *s);
// The RPC that a call is for, or NULL while it hasn't arrived.
const char *server_call_name(const struct server_call *call);
void server_calls_add(struct server *s, struct server_call *call);
void server_calls_remove(struct server *s, struct server_call *call);

// Links of the list of calls in flight; only for server.c.
struct server_call_links {
    struct server_call *next, **at;
};
struct server_call_links *server_call_links(struct server_call *call);

#endif
