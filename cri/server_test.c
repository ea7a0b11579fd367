// The server against a real gRPC client: answers, errors, cancellation, limits, garbage.
#include "cri/server_testing.h"

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

int main(void)
{
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
    };
    return server_tests_run(tests, ARRAY_SIZE(tests));
}
