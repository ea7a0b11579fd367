// The server against a real gRPC client: answers, errors, cancellation, limits, garbage, shutdown.
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
static size_t request(const char *version, uint8_t *out)
{
    Cri__VersionRequest in = CRI__VERSION_REQUEST__INIT;
    in.version = (char *)(uintptr_t)version;
    return cri__version_request__pack(&in, out);
}

static void start(struct fixture *f, struct test_call *call, const char *path, const char *version,
                  int64_t timeout_ns)
{
    uint8_t data[256];
    size_t len = request(version, data);
    test_call_start(&f->client, call, path, data, len, timeout_ns);
}

static grpc_status_code run(struct fixture *f, struct test_call *call, const char *path, const char *version)
{
    start(f, call, path, version, testing_limit(20 * NS_PER_SEC));
    assert_ptr_equal(test_client_next(&f->client), call);
    return call->status;
}

static void expect_response(struct test_call *call, const char *version, const char *name)
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

static void wait_until(atomic_int *counter, int value)
{
    int64_t until = clock_mono_ns() + testing_limit(60 * NS_PER_SEC);
    while (atomic_load(counter) < value && clock_mono_ns() < until)
        nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
    assert_int_equal(atomic_load(counter), value);
}

static void test_answers(void **state)
{
    static struct test_call call;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(run(*state, &call, PATH("Inline"), "v1"), GRPC_STATUS_OK);
        expect_response(&call, "v1", "crisp");
        test_call_done(&call);
        assert_int_equal(run(*state, &call, PATH("Work"), "v2"), GRPC_STATUS_OK);
        expect_response(&call, "v2", "crisp");
        test_call_done(&call);
    }
}

// It goes on elsewhere: the poller answers another call meanwhile.
static void test_deferred(void **state)
{
    struct fixture *f = *state;
    static struct test_call slow, quick;
    start(f, &slow, PATH("Defer"), "v3", testing_limit(20 * NS_PER_SEC));
    wait_until(&n_waiting, 1);
    start(f, &quick, PATH("Inline"), "v1", testing_limit(20 * NS_PER_SEC));
    assert_ptr_equal(test_client_next(&f->client), &quick);
    expect_response(&quick, "v1", "crisp");
    test_call_done(&quick);
    assert_ptr_equal(test_client_next(&f->client), &slow);
    assert_int_equal(slow.status, GRPC_STATUS_OK);
    expect_response(&slow, "v3", "crisp");
    test_call_done(&slow);
}

static void test_strings_are_sanitised(void **state)
{
    static struct test_call call;
    assert_int_equal(run(*state, &call, PATH("Work"), "bad"), GRPC_STATUS_OK);
    expect_response(&call, "bad",
                    "a\xef\xbf\xbd"
                    "b");
    test_call_done(&call);
}

static void test_errors(void **state)
{
    static const struct {
        const char *path;
        grpc_status_code status;
        const char *message;
    } cases[] = {
        {PATH("Fail"), GRPC_STATUS_NOT_FOUND, "container x: not here (100%, \xef\xbf\xbd)"},
        {PATH("Later"), GRPC_STATUS_UNIMPLEMENTED, "Later is not implemented by crisp " CRISP_VERSION},
        {PATH("Nothing"), GRPC_STATUS_UNIMPLEMENTED, PATH("Nothing") " is no method of the CRI v1 API"},
        {"/v2.Runtime/Inline", GRPC_STATUS_UNIMPLEMENTED,
         "/v2.Runtime/Inline is no method of the CRI v1 API"},
        {PATH("TooMuch"), GRPC_STATUS_RESOURCE_EXHAUSTED,
         "the response has 17825804 bytes, more than 16 MiB: narrow it by a filter"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        static struct test_call call;
        assert_int_equal(run(*state, &call, cases[i].path, ""), cases[i].status);
        assert_string_equal(test_call_message(&call), cases[i].message);
        test_call_done(&call);
    }
}

static void test_malformed_request(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    test_call_start(&f->client, &call, PATH("Work"), "\x0a\xff\xff\xff", 4, testing_limit(20 * NS_PER_SEC));
    assert_ptr_equal(test_client_next(&f->client), &call);
    assert_int_equal(call.status, GRPC_STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(test_call_message(&call), "the request is no runtime.v1.VersionRequest message"));
    test_call_done(&call);
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    start(f, &call, PATH("Wait"), "", testing_limit(20 * NS_PER_SEC));
    wait_until(&n_waiting, 1);
    assert_int_equal(grpc_call_cancel(call.call, NULL), GRPC_CALL_OK);
    assert_ptr_equal(test_client_next(&f->client), &call);
    assert_int_equal(call.status, GRPC_STATUS_CANCELLED);
    test_call_done(&call);
    wait_until(&n_cancelled, 1);
}

static void test_deadline(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    int64_t before = clock_mono_ns();
    start(f, &call, PATH("Wait"), "", testing_limit(NS_PER_SEC)); // enough to get there
    assert_ptr_equal(test_client_next(&f->client), &call);
    assert_int_equal(call.status, GRPC_STATUS_DEADLINE_EXCEEDED);
    test_call_done(&call);
    wait_until(&n_cancelled, 1);
    assert_true(clock_mono_ns() - before < testing_limit(10 * NS_PER_SEC));
}

static void test_client_that_vanishes(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    struct test_client other;
    uint8_t data[16];
    test_client_open(&other, f->socket);
    test_call_start(&other, &call, PATH("Wait"), data, request("", data), testing_limit(20 * NS_PER_SEC));
    wait_until(&n_waiting, 1);
    grpc_call_cancel(call.call, NULL);
    (void)test_client_next(&other);
    test_call_done(&call);
    test_client_close(&other);
    wait_until(&n_cancelled, 1);
}

static void test_many_waits(void **state)
{
    enum { WAITS = 300 };
    struct fixture *f = *state;
    static struct test_call calls[WAITS];
    static struct test_call quick;
    for (int i = 0; i < WAITS; i++)
        start(f, &calls[i], PATH("Wait"), "", testing_limit(60 * NS_PER_SEC));
    wait_until(&n_waiting, WAITS);
    assert_int_equal(run(f, &quick, PATH("Work"), "q"), GRPC_STATUS_OK);
    test_call_done(&quick);
    for (int i = 0; i < WAITS; i++)
        grpc_call_cancel(calls[i].call, NULL);
    for (int i = 0; i < WAITS; i++)
        test_call_done(test_client_next(&f->client));
    wait_until(&n_cancelled, WAITS);
}

static void test_request_of_20_mib(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    size_t len = 20u << 20;
    _cleanup_free_ uint8_t *data = calloc(1, len);
    test_call_start(&f->client, &call, PATH("Work"), data, len, testing_limit(20 * NS_PER_SEC));
    assert_ptr_equal(test_client_next(&f->client), &call);
    assert_int_equal(call.status, GRPC_STATUS_RESOURCE_EXHAUSTED);
    test_call_done(&call);
    // The connection lives.
    assert_int_equal(run(f, &call, PATH("Work"), "after"), GRPC_STATUS_OK);
    expect_response(&call, "after", "crisp");
    test_call_done(&call);
}

// 16 MiB of empty fields that protobuf-c keeps as unknown ones: the arena's cap holds.
static void test_request_that_blows_up(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    size_t len = 15u << 20;
    _cleanup_free_ uint8_t *data = malloc(len);
    for (size_t i = 0; i + 1 < len; i += 2) {
        data[i] = 0x7a; // field 15, length-delimited
        data[i + 1] = 0;
    }
    data[len - 1] = 0;
    test_call_start(&f->client, &call, PATH("Work"), data, len & ~(size_t)1, testing_limit(20 * NS_PER_SEC));
    assert_ptr_equal(test_client_next(&f->client), &call);
    assert_int_equal(call.status, GRPC_STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(test_call_message(&call), "64 MiB"));
    test_call_done(&call);
}

static void test_garbage_closes_only_its_connection(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, f->socket, strlen(f->socket) + 1);
    assert_int_equal(run(f, &call, PATH("Work"), "before"), GRPC_STATUS_OK);
    test_call_done(&call);
    for (int i = 0; i < 30; i++) { // more than max_connections: they are counted down again
        char buffer[4096];
        _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        memset(buffer, 'G' + i, sizeof(buffer));
        (void)send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL);
        while (recv(fd, buffer, sizeof(buffer), 0) > 0)
            continue; // its GOAWAY, then the end
    }
    assert_int_equal(run(f, &call, PATH("Work"), "after"), GRPC_STATUS_OK);
    test_call_done(&call);
}

// ---- Streams ----

static void start_stream(struct fixture *f, struct test_call *call, const char *path, const char *version)
{
    uint8_t data[256];
    size_t len = request(version, data);
    test_stream_start(&f->client, call, path, data, len, testing_limit(80 * NS_PER_SEC));
}

// Each message once and in order, then the status.
static void test_stream(void **state)
{
    static const char *const counts[] = {"0", "1", "3", "500"};
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        static struct test_call call;
        char text[16];
        int n = 0;
        start_stream(f, &call, PATH("Count"), counts[i]);
        for (grpc_byte_buffer *m; (m = test_stream_read(&f->client, &call)); n++) {
            grpc_byte_buffer_reader reader;
            assert_int_equal(grpc_byte_buffer_reader_init(&reader, m), 1);
            grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
            grpc_byte_buffer_reader_destroy(&reader);
            Cri__VersionResponse *r =
                cri__version_response__unpack(NULL, GRPC_SLICE_LENGTH(all), GRPC_SLICE_START_PTR(all));
            assert_non_null(r);
            (void)snprintf(text, sizeof(text), "%d", n);
            assert_string_equal(r->version, text);
            cri__version_response__free_unpacked(r, NULL);
            grpc_slice_unref(all);
            grpc_byte_buffer_destroy(m);
        }
        assert_int_equal(n, atoi(counts[i]));
        assert_int_equal(call.status, n == 3 ? GRPC_STATUS_NOT_FOUND : GRPC_STATUS_OK);
        assert_string_equal(test_call_message(&call), n == 3 ? "no more than three" : "");
        test_call_done(&call);
    }
}

// Who doesn't read holds up the sender, not the daemon's memory.
static void test_stream_flow_control(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    int n = 0;
    start_stream(f, &call, PATH("Flood"), "");
    nanosleep(&(struct timespec){.tv_nsec = 500 * NS_PER_MS}, NULL);
    assert_true(atomic_load(&n_flooded) < FLOOD_MESSAGES / 2);
    for (grpc_byte_buffer *m; (m = test_stream_read(&f->client, &call)); n++) {
        assert_true(grpc_byte_buffer_length(m) > FLOOD_BYTES);
        grpc_byte_buffer_destroy(m);
    }
    assert_int_equal(n, FLOOD_MESSAGES);
    assert_int_equal(call.status, GRPC_STATUS_OK);
    test_call_done(&call);
}

static void test_stream_cancel(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    start_stream(f, &call, PATH("Flood"), "");
    grpc_byte_buffer *m = test_stream_read(&f->client, &call);
    assert_non_null(m);
    grpc_byte_buffer_destroy(m);
    grpc_call_cancel(call.call, NULL);
    while ((m = test_stream_read(&f->client, &call)))
        grpc_byte_buffer_destroy(m);
    assert_int_equal(call.status, GRPC_STATUS_CANCELLED);
    test_call_done(&call);
    wait_until(&n_cancelled, 1);
    assert_true(atomic_load(&n_flooded) < FLOOD_MESSAGES);
}

static void test_stream_of_too_much(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    start_stream(f, &call, PATH("TooMuchStream"), "");
    assert_null(test_stream_read(&f->client, &call));
    assert_int_equal(call.status, GRPC_STATUS_RESOURCE_EXHAUSTED);
    test_call_done(&call);
}

static void test_stop_ends_streams(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    start_stream(f, &call, PATH("Flood"), "");
    nanosleep(&(struct timespec){.tv_nsec = 100 * NS_PER_MS}, NULL);
    assert_int_equal(server_stop(f->server, 50 * NS_PER_MS, testing_limit(10 * NS_PER_SEC), NULL, NULL, NULL),
                     0);
    server_free(steal_ptr(&f->server));
    assert_int_equal(n_cancelled, 1);
    for (grpc_byte_buffer *m; (m = test_stream_read(&f->client, &call));)
        grpc_byte_buffer_destroy(m);
    assert_int_not_equal(call.status, GRPC_STATUS_OK);
    test_call_done(&call);
}

static void test_drain_lets_calls_end(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    start(f, &call, PATH("Sleep"), "s", testing_limit(20 * NS_PER_SEC));
    wait_until(&n_waiting, 1);
    assert_int_equal(server_stop(f->server, testing_limit(10 * NS_PER_SEC), testing_limit(10 * NS_PER_SEC),
                                 NULL, NULL, NULL),
                     0);
    server_free(steal_ptr(&f->server));
    assert_ptr_equal(test_client_next(&f->client), &call);
    expect_response(&call, "s", "crisp");
    test_call_done(&call);
}

static void count_call(void *data)
{
    ++*(int *)data;
}

static void test_stop_cancels_waits(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    int called = 0;
    start(f, &call, PATH("Wait"), "", testing_limit(60 * NS_PER_SEC));
    wait_until(&n_waiting, 1);
    assert_int_equal(
        server_stop(f->server, 50 * NS_PER_MS, testing_limit(10 * NS_PER_SEC), count_call, &called, NULL), 0);
    server_free(steal_ptr(&f->server));
    assert_int_equal(called, 1);
    assert_int_equal(n_cancelled, 1);
    assert_ptr_equal(test_client_next(&f->client), &call);
    assert_int_not_equal(call.status, GRPC_STATUS_OK);
    test_call_done(&call);
}

static void test_stop_tells_what_is_stuck(void **state)
{
    struct fixture *f = *state;
    static struct test_call call;
    struct error err = ERROR_INIT;
    atomic_store(&released, false);
    start(f, &call, PATH("Stuck"), "s", testing_limit(20 * NS_PER_SEC));
    wait_until(&n_waiting, 1);
    assert_int_equal(server_stop(f->server, 0, NS_PER_MS, NULL, NULL, &err), -ETIMEDOUT);
    assert_string_equal(err.message, "stop the server: " PATH("Stuck") " does not end");
    atomic_store(&released, true);
    test_call_done(test_client_next(&f->client));
    server_free(steal_ptr(&f->server));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_deferred),
        TEST(test_deferred),
        TEST(test_strings_are_sanitised),
        TEST(test_errors),
        TEST(test_malformed_request),
        TEST(test_cancel),
        TEST(test_deadline),
        TEST(test_client_that_vanishes),
        TEST(test_many_waits),
        TEST(test_request_of_20_mib),
        TEST(test_request_that_blows_up),
        TEST(test_garbage_closes_only_its_connection),
        TEST(test_stream),
        TEST(test_stream_flow_control),
        TEST(test_stream_cancel),
        TEST(test_stream_of_too_much),
        TEST(test_stop_ends_streams),
        TEST(test_drain_lets_calls_end),
        TEST(test_stop_cancels_waits),
        TEST(test_stop_tells_what_is_stuck),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT); // failed calls are the tests' business
    // One gRPC for all tests: no program brings it down and up again.
    grpc_init();
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    grpc_shutdown_blocking();
    return rc;
}
