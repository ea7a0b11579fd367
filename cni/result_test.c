#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/str.h"
#include "cni/json.h"
#include "cni/result.h"

static const char good[] = "{\"cniVersion\": \"0.4.0\", \"interfaces\": [{\"name\": \"br0\"}, {\"name\": "
                           "\"eth0\", \"sandbox\": \"/n\"},"
                           " {\"name\": \"net1\", \"sandbox\": \"/n\"}], \"ips\": [{\"version\": \"4\", "
                           "\"address\": \"10.0.0.5/16\","
                           " \"interface\": 1}, {\"version\": \"6\", \"address\": \"FD00:0:0::5/64\"}, "
                           "{\"address\": \"10.0.0.1/16\","
                           " \"interface\": 0}, {\"address\": \"10.1.0.5/16\", \"interface\": 2}], \"x\": 1}";

static void test_addresses(void **state)
{
    (void)state;
    _cleanup_json_ json_t *result = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(cni_result_parse(good, strlen(good), "bridge", "1.0.0", &result, &err), 0);
    _cleanup_strv_ char **ips = cni_result_addresses(result, "eth0");
    assert_int_equal(strv_len(ips), 2); // neither the host's end nor another interface's
    assert_string_equal(ips[0], "10.0.0.5");
    assert_string_equal(ips[1], "fd00::5");
}

static void test_conversion(void **state)
{
    (void)state;
    _cleanup_json_ json_t *up = NULL, *down = NULL;
    assert_int_equal(cni_result_parse(good, strlen(good), "bridge", "1.0.0", &up, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(up, "cniVersion")), "1.0.0");
    assert_null(json_object_get(json_array_get(json_object_get(up, "ips"), 0), "version"));
    assert_int_equal(json_integer_value(json_object_get(up, "x")), 1); // unknown fields are kept
    assert_int_equal(cni_result_parse(good, strlen(good), "bridge", "0.3.1", &down, NULL), 0);
    const json_t *ip = json_array_get(json_object_get(down, "ips"), 2);
    assert_string_equal(json_string_value(json_object_get(ip, "version")), "4");
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"", "it printed nothing"},
        {"hello", "not valid JSON"},
        {"\xff\xfe", "not valid JSON"},
        {"[]", "not a JSON object"},
        {"{\"ip4\": {}}", "CNI 0.2.0"},
        {"{\"cniVersion\": \"2.0.0\"}", "cniVersion is not one of"},
        {"{\"ips\": {}}", "ips must be an array"},
        {"{\"ips\": [1]}", "ips must be an array"},
        {"{\"ips\": [{}]}", "not ADDRESS/PREFIX"},
        {"{\"ips\": [{\"address\": \"10.0.0.1\"}]}", "not ADDRESS/PREFIX"},
        {"{\"ips\": [{\"address\": \"10.0.0.1/33\"}]}", "not ADDRESS/PREFIX"},
        {"{\"ips\": [{\"address\": \"evil; rm/24\"}]}", "not ADDRESS/PREFIX"},
        {"{\"ips\": [{\"address\": \"10.0.0.1/24\", \"interface\": 0}]}", "points at no interface"},
        {"{\"ips\": [{\"address\": \"10.0.0.1/24\", \"interface\": \"x\"}], \"interfaces\": [{}]}",
         "no interface"},
        {"{\"interfaces\": \"x\"}", "interfaces must be an array"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        json_t *result = NULL;
        struct error err = ERROR_INIT;
        int r = cni_result_parse(bad[i].text, strlen(bad[i].text), "p", "1.0.0", &result, &err);
        assert_int_equal(r, -EPROTO);
        assert_null(result);
        if (!strstr(err.message, bad[i].error) || !strstr(err.message, "CNI plugin p gave a bad result"))
            fail_msg("case %zu: %s", i, err.message);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(good); len++) {
        _cleanup_free_ char *text = malloc(len ? len : 1);
        _cleanup_json_ json_t *result = NULL;
        memcpy(text, good, len);
        assert_int_not_equal(cni_result_parse(text, len, "p", "1.0.0", &result, NULL), 0);
    }
}

// Bytes changed at random (fixed seed): an error or a result, never a crash.
static void test_mutated(void **state)
{
    (void)state;
    unsigned seed = 4711;
    for (int round = 0; round < 3000; round++) {
        char text[sizeof(good)];
        memcpy(text, good, sizeof(good));
        for (int i = 0; i < 4; i++)
            text[(unsigned)rand_r(&seed) % (sizeof(good) - 1)] = (char)rand_r(&seed);
        _cleanup_json_ json_t *result = NULL;
        if (cni_result_parse(text, sizeof(good) - 1, "p", "1.1.0", &result, NULL) < 0)
            continue;
        _cleanup_strv_ char **ips = cni_result_addresses(result, "eth0");
        assert_non_null(ips);
    }
}

static void test_too_many(void **state)
{
    (void)state;
    _cleanup_json_ json_t *json = json_pack("{s:[]}", "routes"), *result = NULL;
    for (int i = 0; i <= CNI_RESULT_MAX_ITEMS; i++)
        assert_int_equal(json_array_append_new(json_object_get(json, "routes"), json_object()), 0);
    _cleanup_free_ char *text = json_dumps(json, 0);
    assert_int_equal(cni_result_parse(text, strlen(text), "p", "1.0.0", &result, NULL), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_conversion), cmocka_unit_test(test_bad),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_mutated),    cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
