// What the tests of the server share: RPCs that answer, wait, fail or send much, and a server with a real
// gRPC client. One program includes it once.
#ifndef CRI_SERVER_TESTING_H
#define CRI_SERVER_TESTING_H

#include "cri/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "base/testing.h"
#include "cri/server_test_client.h"

#define SERVICE    "runtime.v1.RuntimeService"
#define PATH(name) "/" SERVICE "/" name

static atomic_int n_waiting, n_cancelled;
static atomic_bool released;

// Answers with the request's version string, badly encoded if it says so.
static int echo(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                struct error *err)
{
    const Cri__VersionRequest *in = (const Cri__VersionRequest *)request;
    Cri__VersionResponse *out = RPC_NEW(call, cri__version_response, Cri__VersionResponse);
    if (!out)
        return rpc_no_memory(err);
    out->version = arena_strdup(call->arena, in->version);
    out->runtime_name = arena_strdup(call->arena, strcmp(in->version, "bad") == 0 ? "a\xff"
                                                                                    "b"
                                                                                  : "crisp");
    *response = &out->base;
    return 0;
}

static int not_here(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                    struct error *err)
{
    (void)call, (void)request, (void)response;
    return error_set(err, STATUS_NOT_FOUND, ENOENT, "container x: not here (100%%, \xff)");
}

// Waits until it is called off.
static int wait_for_cancel(struct rpc_call *call, const ProtobufCMessage *request,
                           ProtobufCMessage **response, struct error *err)
{
    (void)request, (void)response;
    atomic_fetch_add(&n_waiting, 1);
    int rc = ctx_wait_fd(&call->ctx, -1, 0, err);
    atomic_fetch_add(&n_cancelled, 1);
    return rc;
}

static int sleep_a_little(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                          struct error *err)
{
    atomic_fetch_add(&n_waiting, 1);
    nanosleep(&(struct timespec){.tv_nsec = 200 * NS_PER_MS}, NULL);
    return echo(call, request, response, err);
}

// Ends only when it is told to, whoever calls it off.
static int stuck(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                 struct error *err)
{
    atomic_fetch_add(&n_waiting, 1);
    while (!atomic_load(&released))
        nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
    return echo(call, request, response, err);
}

static int too_much(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                    struct error *err)
{
    int rc = echo(call, request, response, err);
    char *big = arena_alloc(call->arena, (17 << 20) + 1);
    memset(big, 'x', 17 << 20);
    ((Cri__VersionResponse *)*response)->version = big;
    return rc;
}

// On the poller it says that it can't yet; on a worker it answers, with the thread's name for that.
static int defer(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                 struct error *err)
{
    static _Thread_local bool poller;
    if (!call->may_block) {
        poller = true;
        return RPC_DEFER;
    }
    return poller ? error_set(err, STATUS_INTERNAL, EINVAL, "called again on the poller")
                  : sleep_a_little(call, request, response, err);
}

// Sends as many messages as the request's version says, and then fails if there are exactly three.
static int count(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                 struct error *err)
{
    const Cri__VersionRequest *in = (const Cri__VersionRequest *)request;
    (void)response;
    int n = atoi(in->version);
    for (int i = 0; i < n; i++) {
        Cri__VersionResponse out = CRI__VERSION_RESPONSE__INIT;
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", i);
        out.version = text;
        int rc = rpc_send(call, &out.base, call->arena, err);
        if (rc != 0)
            return rc;
    }
    return n == 3 ? error_set(err, STATUS_NOT_FOUND, ENOENT, "no more than three") : 0;
}

enum { FLOOD_MESSAGES = 40, FLOOD_BYTES = 1 << 20 };
static atomic_int n_flooded;

static int flood(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                 struct error *err)
{
    (void)request, (void)response;
    char *big = arena_alloc(call->arena, FLOOD_BYTES + 1);
    memset(big, 'x', FLOOD_BYTES);
    for (int i = 0; i < FLOOD_MESSAGES; i++) {
        Cri__VersionResponse out = CRI__VERSION_RESPONSE__INIT;
        out.version = big;
        int rc = rpc_send(call, &out.base, call->arena, err);
        if (rc != 0) {
            atomic_fetch_add(&n_cancelled, err->status == STATUS_CANCELLED);
            return rc;
        }
        atomic_fetch_add(&n_flooded, 1);
    }
    return 0;
}

static int too_much_of_a_stream(struct rpc_call *call, const ProtobufCMessage *request,
                                ProtobufCMessage **response, struct error *err)
{
    int rc = too_much(call, request, response, err);
    return rc != 0 ? rc : rpc_send(call, steal_ptr(response), call->arena, err);
}

#define STREAM(name_, fn_)                                                                                   \
    {                                                                                                        \
        .service = SERVICE, .name = name_, .request = &cri__version_request__descriptor,                     \
        .response = &cri__version_response__descriptor, .stream = true, .class = RPC_WORK, .fn = fn_         \
    }
#define ROW(name_, class_, fn_)                                                                              \
    {                                                                                                        \
        .service = SERVICE, .name = name_, .request = &cri__version_request__descriptor,                     \
        .response = &cri__version_response__descriptor, .class = class_, .fn = fn_                           \
    }
static const struct rpc_method table[] = {
    ROW("Inline", RPC_INLINE, echo),
    ROW("Work", RPC_WORK, echo),
    ROW("Fail", RPC_WORK, not_here),
    ROW("Wait", RPC_WORK, wait_for_cancel),
    ROW("Sleep", RPC_WORK, sleep_a_little),
    ROW("TooMuch", RPC_WORK, too_much),
    ROW("Stuck", RPC_WORK, stuck),
    ROW("Later", RPC_WORK, NULL),
    ROW("Defer", RPC_INLINE, defer),
    STREAM("Count", count),
    STREAM("Flood", flood),
    STREAM("TooMuchStream", too_much_of_a_stream),
};

struct fixture {
    char dir[64];
    char *socket;
    struct server *server;
    struct test_client client;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/crisp-server-test.XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    f->socket = str_printf("%s/s", f->dir);
    struct server_options options = {
        .socket_path = f->socket, .max_connections = 8, .table = table, .table_len = ARRAY_SIZE(table)};
    *state = f;
    n_waiting = n_cancelled = n_flooded = 0;
    if (server_new(&options, &f->server, NULL) != 0 || server_start(f->server, NULL) != 0)
        return -1;
    test_client_open(&f->client, f->socket);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    test_client_close(&f->client);
    if (f->server) {
        if (server_stop(f->server, 0, testing_limit(10 * NS_PER_SEC), NULL, NULL, NULL) != 0)
            return -1;
        server_free(f->server);
    }
    int rc = access(f->socket, F_OK) == 0 ? -1 : file_remove_tree(f->dir, NULL);
    free(f->socket);
    free(f);
    return rc;
}

// Calls are static everywhere below: when an assertion leaves a test, gRPC still writes to the one under way.

// A packed VersionRequest.
static inline size_t request(const char *version, uint8_t *out)
{
    Cri__VersionRequest in = CRI__VERSION_REQUEST__INIT;
    in.version = (char *)(uintptr_t)version;
    return cri__version_request__pack(&in, out);
}

static inline void start(struct fixture *f, struct test_call *call, const char *path, const char *version,
                         int64_t timeout_ns)
{
    uint8_t data[256];
    size_t len = request(version, data);
    test_call_start(&f->client, call, path, data, len, timeout_ns);
}

static inline grpc_status_code run(struct fixture *f, struct test_call *call, const char *path,
                                   const char *version)
{
    start(f, call, path, version, testing_limit(20 * NS_PER_SEC));
    assert_ptr_equal(test_client_next(&f->client), call);
    return call->status;
}

static inline void expect_response(struct test_call *call, const char *version, const char *name)
{
    grpc_byte_buffer_reader reader;
    assert_int_equal(call->status, GRPC_STATUS_OK);
    assert_non_null(call->response);
    assert_int_equal(grpc_byte_buffer_reader_init(&reader, call->response), 1);
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    Cri__VersionResponse *r =
        cri__version_response__unpack(NULL, GRPC_SLICE_LENGTH(all), GRPC_SLICE_START_PTR(all));
    assert_non_null(r);
    assert_string_equal(r->version, version);
    assert_string_equal(r->runtime_name, name);
    cri__version_response__free_unpacked(r, NULL);
    grpc_slice_unref(all);
}

static inline void wait_until(atomic_int *counter, int value)
{
    int64_t until = clock_mono_ns() + testing_limit(60 * NS_PER_SEC);
    while (atomic_load(counter) < value && clock_mono_ns() < until)
        nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
    assert_int_equal(atomic_load(counter), value);
}

static inline int server_tests_run(const struct CMUnitTest *tests, size_t n)
{
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT); // failed calls are the tests' business
    // One gRPC for all tests: no program brings it down and up again.
    grpc_init();
    int rc = _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
    grpc_shutdown_blocking();
    return rc;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
