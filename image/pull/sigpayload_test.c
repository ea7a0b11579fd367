#include "image/pull/sigpayload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#define A     "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B     "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define TYPE  "\"type\":\"cosign container image signature\""
#define IMAGE "\"image\":{\"docker-manifest-digest\":\"" A "\"}"
#define ID    "\"identity\":{\"docker-reference\":\"r.io/app\"}"
#define LAYER "application/vnd.dev.cosign.simplesigning.v1+json"

#define PAYLOAD(identity)                                                                                    \
    "{\"critical\":{\"identity\":{\"docker-reference\":\"" identity "\"}," IMAGE "," TYPE "}}"

static void test_payload(void **state)
{
    static const struct {
        const char *text, *error; // NULL: it is fine
    } cases[] = {
        {PAYLOAD("r.io/app"), NULL},
        {"{\"critical\":{" ID "," IMAGE "," TYPE "},\"optional\":null}", NULL},
        {"{\"critical\":{" ID "," IMAGE "," TYPE "},\"optional\":{\"a\":[1]}}", NULL},
        {PAYLOAD("r.io/app:v1"), NULL},
        {PAYLOAD("r.io/app@" A), NULL},
        {PAYLOAD("r.io/app:v2"), "for tag \"v2\", not for \"v1\""},
        {PAYLOAD("r.io/other"), "for repository r.io/other, not for r.io/app"},
        {PAYLOAD("r.io/app/x"), "for repository"},
        {PAYLOAD("evil.io/app"), "for repository"},
        {PAYLOAD("r.io/APP"), "no image"},
        {PAYLOAD(""), "no image"},
        {"", "not a JSON object"},
        {"[]", "not a JSON object"},
        {"{}", "no object \"critical\""},
        {"{\"critical\":[]}", "no object \"critical\""},
        {"{\"critical\":{" ID "," IMAGE "}}", "no \"type\""},
        {"{\"critical\":{" ID "," TYPE "}}", "no \"image\""},
        {"{\"critical\":{" IMAGE "," TYPE "}}", "no \"identity\""},
        {"{\"critical\":{" ID "," IMAGE "," TYPE ",\"expires\":1}}", "\"expires\", which is not understood"},
        {"{\"critical\":{" ID "," IMAGE ",\"type\":\"atomic container signature\"}}", "atomic container"},
        {"{\"critical\":{" ID "," IMAGE ",\"type\":7}}", "what is signed"},
        {"{\"critical\":{" ID ",\"image\":{\"docker-manifest-digest\":\"" B "\"}," TYPE "}}",
         "for " B ", not for " A},
        {"{\"critical\":{" ID ",\"image\":{\"docker-manifest-digest\":7}," TYPE "}}", "not for " A},
        {"{\"critical\":{" ID ",\"image\":{\"docker-manifest-digest\":\"" A "\",\"x\":1}," TYPE "}}",
         "\"x\""},
        // One reader's first is another's last.
        {"{\"critical\":{" ID "," IMAGE "," IMAGE "," TYPE "}}", "not a JSON object"},
        {"{\"critical\":{},\"critical\":{" ID "," IMAGE "," TYPE "}}", "not a JSON object"},
        {"{\"critical\":{" ID "," IMAGE "," TYPE "}} {}", "not a JSON object"},
    };
    const struct sigpayload_wanted wanted = {A, "r.io/app", "v1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = ERROR_INIT;
        int r = sigpayload_check(cases[i].text, strlen(cases[i].text), &wanted, &err);

        if (!cases[i].error && r < 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        if (cases[i].error && (r == 0 || !strstr(err.message, cases[i].error)))
            fail_msg("%s: \"%s\" says nothing of \"%s\"", cases[i].text, err.message, cases[i].error);
    }
}

static void test_payload_of_any_name(void **state)
{
    const struct sigpayload_wanted any = {A, "", "v1"}, by_digest = {A, "r.io/app", ""},
                                   hub = {A, "docker.io/library/app", "v1"};
    const char *elsewhere = PAYLOAD("evil.io/x:9"), *tagged = PAYLOAD("r.io/app:v2"),
               *short_name = PAYLOAD("app"), *old_name = PAYLOAD("index.docker.io/library/app");
    _cleanup_free_ char *large = malloc(SIGPAYLOAD_MAX + 2);

    (void)state;
    assert_int_equal(sigpayload_check(elsewhere, strlen(elsewhere), &any, NULL), 0);
    assert_int_equal(sigpayload_check(tagged, strlen(tagged), &by_digest, NULL), 0);
    assert_int_equal(sigpayload_check(short_name, strlen(short_name), &hub, NULL), 0);
    assert_int_equal(sigpayload_check(old_name, strlen(old_name), &hub, NULL), 0);
    memset(large, ' ', SIGPAYLOAD_MAX + 1);
    memcpy(large, tagged, strlen(tagged));
    assert_int_equal(sigpayload_check(large, SIGPAYLOAD_MAX, &by_digest, NULL), 0);
    assert_true(sigpayload_check(large, SIGPAYLOAD_MAX + 1, &by_digest, NULL) < 0);
}

#define ENTRY(type, digest, signature)                                                                       \
    "{\"mediaType\":\"" type "\",\"digest\":\"" digest "\",\"size\":1,\"annotations\":{"                     \
    "\"dev.cosignproject.cosign/signature\":\"" signature "\"}}"

static void test_manifest(void **state)
{
    static const struct {
        const char *layers;
        size_t n;
    } cases[] = {
        {"", 0},
        {ENTRY(LAYER, A, "QUJD"), 1},
        {ENTRY(LAYER, A, "QUI=") "," ENTRY(LAYER, B, "QQ=="), 2},
        {ENTRY("text/plain", A, "QUJD"), 0},
        {ENTRY(LAYER, "sha256:short", "QUJD"), 0},
        {ENTRY(LAYER, A, "") "," ENTRY(LAYER, A, "QUJ") "," ENTRY(LAYER, A, "Q===") "," ENTRY(LAYER, A,
                                                                                              "QU=D"),
         0},
        {ENTRY(LAYER, A, "QU D") "," ENTRY(LAYER, A, "QU_-") "," ENTRY(LAYER, A, "QUJD\\n"), 0},
        {"7,null,[],{\"mediaType\":\"" LAYER "\",\"digest\":\"" A "\",\"annotations\":7}", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena *arena = arena_new(1 << 20);
        _cleanup_free_ char *text = str_printf("{\"layers\":[%s]}", cases[i].layers);
        struct sigpayload_entry *entries;
        size_t n;

        assert_int_equal(sigpayload_parse_manifest(text, strlen(text), arena, &entries, &n, NULL), 0);
        assert_int_equal(n, cases[i].n);
        if (i == 1) {
            assert_int_equal(entries[0].signature_len, 3);
            assert_memory_equal(entries[0].signature, "ABC", 3);
        }
        if (i == 2)
            assert_int_equal(entries[0].signature_len + entries[1].signature_len, 3);
        arena_free(arena);
    }
}

static void test_many(void **state)
{
    struct arena *arena = arena_new(1 << 20);
    _cleanup_(buf_done) struct buf text;
    struct sigpayload_entry *entries;
    struct error err = ERROR_INIT;
    size_t n;

    (void)state;
    buf_init(&text, 1 << 20);
    (void)buf_append_str(&text, "{\"layers\":[" ENTRY(LAYER, A, "QUJD"));
    for (int i = 0; i < 1000; i++)
        (void)buf_append_str(&text, "," ENTRY(LAYER, A, "QUJD"));
    assert_true(sigpayload_parse_manifest(text.data, text.len, arena, &entries, &n, &err) < 0);
    (void)buf_append_str(&text, "]}");
    assert_int_equal(sigpayload_parse_manifest(text.data, text.len, arena, &entries, &n, &err), 0);
    assert_int_equal(n, SIGPAYLOAD_N_MAX);
    assert_true(sigpayload_parse_manifest("{\"layers\":7}", 12, arena, &entries, &n, &err) < 0);
    arena_free(arena);
}

static void test_referrers(void **state)
{
    static const char text[] = "{\"manifests\":[{\"digest\":\"" A "\",\"artifactType\":\"" SIGPAYLOAD_ARTIFACT
                               "\"},{\"digest\":\"" B "\",\"artifactType\":\"application/spdx+json\"},"
                               "{\"digest\":\"bad\",\"artifactType\":\"" SIGPAYLOAD_ARTIFACT "\"},null,"
                               "{\"digest\":\"" B "\",\"artifactType\":\"" SIGPAYLOAD_ARTIFACT "\"}]}";
    struct arena *arena = arena_new(1 << 16);
    const char *digests[2];
    size_t n;

    (void)state;
    assert_int_equal(sigpayload_parse_referrers(text, strlen(text), arena, digests, 2, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_string_equal(digests[0], A);
    assert_string_equal(digests[1], B);
    assert_int_equal(sigpayload_parse_referrers(text, strlen(text), arena, digests, 1, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(sigpayload_parse_referrers("{}", 2, arena, digests, 1, &n, NULL), 0);
    assert_int_equal(n, 0);
    assert_true(sigpayload_parse_referrers("x", 1, arena, digests, 1, &n, NULL) < 0);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_payload), cmocka_unit_test(test_payload_of_any_name),
        cmocka_unit_test(test_manifest), cmocka_unit_test(test_many), cmocka_unit_test(test_referrers)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
