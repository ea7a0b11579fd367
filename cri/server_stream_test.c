// Streams of the server, and its end, against a real gRPC client.
#include "cri/server_testing.h"

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
    const struct CMUnitTest tests[] = {
        TEST(test_stream),
        TEST(test_stream_flow_control),
        TEST(test_stream_cancel),
        TEST(test_stream_of_too_much),
        TEST(test_stop_ends_streams),
        TEST(test_drain_lets_calls_end),
        TEST(test_stop_cancels_waits),
        TEST(test_stop_tells_what_is_stuck),
    };
    return server_tests_run(tests, ARRAY_SIZE(tests));
}
