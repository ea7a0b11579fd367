#include "cri/server_internal.h"

#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define POOL_THREADS_MAX 4096
#define POOL_IDLE_NS     (10 * NS_PER_SEC)
#define CALLS_EXPECTED   8    // calls that gRPC may hand over before we ask again
#define STREAMS_MAX      2048 // calls in flight on one connection; further ones wait in the client

// gRPC's own log lines: what a peer can cause (garbage on the socket) is for debugging only.
static void grpc_log(gpr_log_func_args *args)
{
    log_debug("grpc", "severity", gpr_log_severity_string(args->severity), "text", args->message);
}

static void bring_up_grpc(void)
{
    // No thread of ours runs yet, so the environment may be changed. epoll1 is the poller that needs no
    // thread of its own; fork handlers are for programs that fork.
    (void)setenv("GRPC_POLL_STRATEGY", "epoll1", 1);
    (void)setenv("GRPC_ENABLE_FORK_SUPPORT", "0", 1);
    gpr_set_log_function(grpc_log);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    grpc_init();
}

static grpc_arg int_arg(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_server *make_grpc_server(void)
{
    grpc_arg args[] = {
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, SERVER_RECEIVE_MAX),
        int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1), // we check it ourselves, with a better text
        int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
        int_arg(GRPC_ARG_ENABLE_CHANNELZ, 0), // a history of every call that nobody reads
        int_arg(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0),
        // Clients on the same machine may ping as they like.
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        int_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0), // a Unix socket has no bandwidth-delay product to find
    };
    grpc_channel_args all = {.num_args = ARRAY_SIZE(args), .args = args};
    return grpc_server_create(&all, NULL);
}

// On the listener's thread.
static void accepted(int fd, void *data)
{
    struct server *s = data;
    grpc_server_add_channel_from_fd(s->grpc, fd, s->creds);
}

static void shut_down_done(struct server_tag *tag, bool ok)
{
    (void)ok;
    struct server *s = tag->server;
    pthread_mutex_lock(&s->lock);
    s->shut_down = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void server_calls_add(struct server *s, struct server_call *call)
{
    struct server_call_links *links = server_call_links(call);
    pthread_mutex_lock(&s->lock);
    links->next = s->calls;
    links->at = &s->calls;
    if (s->calls)
        server_call_links(s->calls)->at = &links->next;
    s->calls = call;
    pthread_mutex_unlock(&s->lock);
}

void server_calls_remove(struct server *s, struct server_call *call)
{
    struct server_call_links *links = server_call_links(call);
    pthread_mutex_lock(&s->lock);
    *links->at = links->next;
    if (links->next)
        server_call_links(links->next)->at = links->at;
    if (!s->calls)
        pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

int server_new(const struct server_options *options, struct server **out, struct error *err)
{
    struct pool_options pool = {.max_threads = POOL_THREADS_MAX, .idle_ns = POOL_IDLE_NS};
    struct server *s = calloc(1, sizeof(*s));
    if (!s)
        return error_errno(err, ENOMEM, "make the server");
    s->options = *options;
    s->shutdown_tag = (struct server_tag){.done = shut_down_done, .server = s};
    pthread_condattr_t cond;
    pthread_condattr_init(&cond);
    pthread_condattr_setclock(&cond, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, &cond);
    pthread_condattr_destroy(&cond);
    bring_up_grpc();
    struct listener_options listener = {.path = options->socket_path,
                                        .max_connections = options->max_connections,
                                        .accepted = accepted,
                                        .data = s};
    int rc = listener_open(&listener, &s->listener, err);
    if (rc == 0)
        rc = pool_new(&pool, &s->pool, err);
    if (rc != 0) {
        server_free(s);
        return rc;
    }
    s->cq = grpc_completion_queue_create_for_next(NULL);
    s->grpc = make_grpc_server();
    s->creds = grpc_insecure_server_credentials_create();
    grpc_server_register_completion_queue(s->grpc, s->cq, NULL);
    *out = s;
    return 0;
}

static void *poller_main(void *arg)
{
    struct server *s = arg;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(s->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.type == GRPC_OP_COMPLETE) {
            struct server_tag *tag = event.tag;
            server_tag_take(tag);
            tag->done(tag, event.success);
        }
    }
}

int server_start(struct server *s, struct error *err)
{
    grpc_server_start(s->grpc);
    int rc = pthread_create(&s->poller, NULL, poller_main, s);
    if (rc != 0)
        return error_errno(err, rc, "start the thread that polls for calls");
    s->polling = true;
    for (int i = 0; i < CALLS_EXPECTED; i++) {
        if (!server_call_expect(s))
            return error_errno(err, ENOMEM, "wait for calls");
    }
    return listener_start(s->listener, err);
}

// Waits until no call is in flight (and gRPC has shut down, if asked). False at the deadline.
static bool wait_idle(struct server *s, bool and_shut_down, int64_t timeout_ns)
{
    int64_t until = clock_mono_ns() + timeout_ns;
    struct timespec at = {.tv_sec = until / NS_PER_SEC, .tv_nsec = until % NS_PER_SEC};
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    while ((s->calls || (and_shut_down && !s->shut_down)) && rc == 0)
        rc = pthread_cond_timedwait(&s->changed, &s->lock, &at);
    bool idle = !s->calls && (!and_shut_down || s->shut_down);
    pthread_mutex_unlock(&s->lock);
    return idle;
}

static int stuck(struct server *s, struct error *err)
{
    pthread_mutex_lock(&s->lock);
    const char *name = s->calls ? server_call_name(s->calls) : "a connection";
    int rc = error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "stop the server: %s does not end", name);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int server_stop(struct server *s, int64_t grace_ns, int64_t limit_ns, void (*on_cancel)(void *), void *data,
                struct error *err)
{
    s->stopping = true;
    listener_close(steal_ptr(&s->listener));
    server_tag_give(&s->shutdown_tag);
    grpc_server_shutdown_and_notify(s->grpc, s->cq, &s->shutdown_tag);
    (void)wait_idle(s, false, grace_ns);
    grpc_server_cancel_all_calls(s->grpc);
    if (on_cancel)
        on_cancel(data);
    return wait_idle(s, true, limit_ns) ? 0 : stuck(s, err);
}

void server_free(struct server *s)
{
    if (!s)
        return;
    listener_close(s->listener);
    pool_free(s->pool);
    if (s->grpc && !s->stopping) { // never started
        server_tag_give(&s->shutdown_tag);
        grpc_server_shutdown_and_notify(s->grpc, s->cq, &s->shutdown_tag);
        grpc_server_cancel_all_calls(s->grpc);
    }
    if (s->cq)
        grpc_completion_queue_shutdown(s->cq);
    // Whoever polls drains the queue, which gRPC wants before anything is destroyed.
    if (s->polling)
        (void)pthread_join(s->poller, NULL);
    else if (s->cq)
        (void)poller_main(s);
    if (s->grpc)
        grpc_server_destroy(s->grpc);
    if (s->cq)
        grpc_completion_queue_destroy(s->cq);
    if (s->creds)
        grpc_server_credentials_release(s->creds);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
    grpc_shutdown_blocking();
}
