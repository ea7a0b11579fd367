#include "image/endpoints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"

static const struct registry_mirror k8s_mirrors[] = {
    {.url = "http://127.0.0.1:5000", .path_prefix = "registry.k8s.io"},
    {.url = "https://registry.k8s.io/", .tls = {.ca_file = "/ca.pem"}, .no_resolve = true},
};
static const struct registry_mirror any_mirrors[] = {
    {.url = "https://mirror.example", .path_prefix = "/all/{host}/x/", .tls = {.skip_verify = true}},
};
static const struct registry_host hosts[] = {
    {.host = "registry.k8s.io", .mirrors = k8s_mirrors, .n_mirrors = 2},
    {.host = "*", .mirrors = any_mirrors, .n_mirrors = 1, .strict = true},
    {.host = "none.example", .tls = {"/own-ca.pem", "/client.pem", "/client.key", false}},
};
static const struct registry_host local_hosts[] = {
    {.host = "Tls.example:443",
     .tls = {.skip_verify = true},
     .mirrors = any_mirrors,
     .n_mirrors = 1,
     .strict = true},
    {.host = "127.0.0.1:5001", .tls = {.ca_file = "/ca.pem"}},
    {.host = "127.0.0.1:5002", .tls = {.cert_file = "/c.pem", .key_file = "/c.key"}},
    {.host = "127.0.0.1:5003", .tls = {.skip_verify = true}},
    {.host = "127.0.0.1:5004"},
    {.host = "index.docker.io", .mirrors = k8s_mirrors, .n_mirrors = 1},
    {.host = "*", .tls = {.ca_file = "/ca.pem"}},
};
static const struct registry_config local = {local_hosts, ARRAY_SIZE(local_hosts)};
static const struct registry_config config = {hosts, ARRAY_SIZE(hosts)};

// One line: each endpoint as url|prefix, with "!" for those that may see the credentials.
static void expect(const struct registry_config *c, const char *reference, const char *server,
                   const char *wanted)
{
    struct arena *arena = arena_new(1 << 20);
    Pull__PullRequest request = PULL__PULL_REQUEST__INIT;
    struct reference ref;
    _cleanup_(buf_done) struct buf text;

    buf_init(&text, 4096);
    assert_int_equal(reference_parse(reference, &ref, NULL), 0);
    assert_int_equal(endpoints_build(c, &ref, server, arena, &request, NULL), 0);
    for (size_t i = 0; i < request.n_endpoints; i++) {
        const Pull__Endpoint *e = request.endpoints[i];
        assert_int_equal(buf_printf(&text, "%s%s|%s%s%s", i ? " " : "", e->url, e->path_prefix,
                                    e->send_credentials ? "!" : "", e->origin ? "" : "m"),
                         0);
    }
    assert_string_equal(text.data, wanted);
    reference_done(&ref);
    arena_free(arena);
}

static void test_endpoints(void **state)
{
    (void)state;
    expect(NULL, "busybox", "", "https://registry-1.docker.io|!");
    expect(NULL, "r.example/x", NULL, "https://r.example|!");
    expect(NULL, "127.0.0.1:5000/x", "", "https://127.0.0.1:5000|! http://127.0.0.1:5000|!");
    expect(&config, "registry.k8s.io/pause:3.9", "",
           "http://127.0.0.1:5000|registry.k8s.iom https://registry.k8s.io|!m https://registry.k8s.io|!");
    expect(&config, "busybox", "", "https://mirror.example|all/docker.io/xm");
    expect(&config, "none.example/x", "", "https://none.example|!");
}

static void test_other_spellings(void **state)
{
    (void)state;
    expect(&local, "tls.example/x", "", "https://mirror.example|all/tls.example/xm");
    expect(&local, "TLS.example:443/x", "", "https://mirror.example|all/TLS.example:443/xm");
    expect(&local, "nginx", "", "http://127.0.0.1:5000|registry.k8s.iom https://registry-1.docker.io|!");
    expect(&config, "none.EXAMPLE:443/x", "", "https://none.EXAMPLE:443|!");
}

// Only a registry that nobody said has TLS is asked without.
static void test_plain(void **state)
{
    (void)state;
    expect(&local, "127.0.0.1:5001/x", "", "https://127.0.0.1:5001|!");
    expect(&local, "127.0.0.1:5002/x", "", "https://127.0.0.1:5002|!");
    expect(&local, "127.0.0.1:5003/x", "", "https://127.0.0.1:5003|!");
    expect(&local, "127.0.0.1:5004/x", "", "https://127.0.0.1:5004|! http://127.0.0.1:5004|!");
    expect(&local, "127.0.0.1:5005/x", "", "https://127.0.0.1:5005|! http://127.0.0.1:5005|!");
}

static void test_tls(void **state)
{
    struct arena *arena = arena_new(1 << 20);
    Pull__PullRequest request = PULL__PULL_REQUEST__INIT;
    struct reference ref;

    (void)state;
    assert_int_equal(reference_parse("none.example/x", &ref, NULL), 0);
    assert_int_equal(endpoints_build(&config, &ref, "", arena, &request, NULL), 0);
    assert_string_equal(request.endpoints[0]->ca_file, "/own-ca.pem");
    assert_string_equal(request.endpoints[0]->cert_file, "/client.pem");
    assert_string_equal(request.endpoints[0]->key_file, "/client.key");
    assert_false(request.endpoints[0]->skip_verify);
    reference_done(&ref);
    assert_int_equal(reference_parse("registry.k8s.io/x", &ref, NULL), 0);
    assert_int_equal(endpoints_build(&config, &ref, "", arena, &request, NULL), 0);
    assert_false(request.endpoints[0]->no_resolve);
    assert_true(request.endpoints[1]->no_resolve);
    assert_string_equal(request.endpoints[1]->ca_file, "/ca.pem");
    assert_string_equal(request.endpoints[2]->ca_file, "");
    reference_done(&ref);
    arena_free(arena);
}

static void expect_preferring_plain(const char *reference, const char *wanted)
{
    struct arena *arena = arena_new(1 << 20);
    Pull__PullRequest request = PULL__PULL_REQUEST__INIT;
    struct reference ref;

    assert_int_equal(reference_parse(reference, &ref, NULL), 0);
    assert_int_equal(endpoints_build(&config, &ref, "", arena, &request, NULL), 0);
    endpoints_prefer_plain(&request);
    assert_string_equal(request.endpoints[0]->url, wanted);
    reference_done(&ref);
    arena_free(arena);
}

static void test_prefer_plain(void **state)
{
    (void)state;
    expect_preferring_plain("none.example/x", "https://none.example");
    expect_preferring_plain("busybox", "https://mirror.example");
    // Three: a mirror by http, one by https, and the registry itself, by https only.
    expect_preferring_plain("registry.k8s.io/pause:3.9", "http://127.0.0.1:5000");
    expect_preferring_plain("127.0.0.1:5000/x", "https://mirror.example"); // strict
}

static void test_prefer_plain_loopback(void **state)
{
    struct arena *arena = arena_new(1 << 20);
    Pull__PullRequest request = PULL__PULL_REQUEST__INIT;
    struct reference ref;

    (void)state;
    assert_int_equal(reference_parse("127.0.0.1:5000/x", &ref, NULL), 0);
    assert_int_equal(endpoints_build(NULL, &ref, "", arena, &request, NULL), 0);
    endpoints_prefer_plain(&request);
    assert_int_equal(request.n_endpoints, 2);
    assert_string_equal(request.endpoints[0]->url, "http://127.0.0.1:5000");
    assert_string_equal(request.endpoints[1]->url, "https://127.0.0.1:5000");
    reference_done(&ref);
    arena_free(arena);
}

static void test_credentials(void **state)
{
    (void)state;
    expect(NULL, "busybox", "https://index.docker.io/v1/", "https://registry-1.docker.io|!");
    expect(NULL, "busybox", "ghcr.io", "https://registry-1.docker.io|");
    expect(NULL, "ghcr.io/x", "https://ghcr.io", "https://ghcr.io|!");
    expect(NULL, "ghcr.io/x", "https://GHCR.io:443/v2/", "https://ghcr.io|!");
    expect(NULL, "ghcr.io/x", "https://ghcr.io.evil", "https://ghcr.io|");
    expect(&config, "busybox", "mirror.example", "https://mirror.example|all/docker.io/x!m");
    expect(&config, "busybox", "https://mirror.example.evil", "https://mirror.example|all/docker.io/xm");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints),    cmocka_unit_test(test_other_spellings),
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_prefer_plain), cmocka_unit_test(test_prefer_plain_loopback),
        cmocka_unit_test(test_credentials),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
