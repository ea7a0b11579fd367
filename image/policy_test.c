#include "image/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char *const keys[] = {"/k"};
static const struct policy_entry entries[] = {
    {.prefix = "*", .action = POLICY_REJECT},
    {.prefix = "r.io", .action = POLICY_ACCEPT},
    {.prefix = "r.io/team", .action = POLICY_REQUIRE, .keys = keys, .n_keys = 1},
    {.prefix = "r.io/team/open", .action = POLICY_ACCEPT},
    {.prefix = "docker.io/library", .action = POLICY_REQUIRE, .keys = keys, .n_keys = 1, .signed_as = "*"},
    {.prefix = "local:5000/k8s", .action = POLICY_REQUIRE, .keys = keys, .n_keys = 1, .signed_as = "k8s.io"},
    {.prefix = "[::1]:5000", .action = POLICY_ACCEPT},
    {.prefix = "whole.io", .action = POLICY_REQUIRE, .keys = keys, .n_keys = 1, .signed_as = "other.io/x"},
};
static const struct policy_config config = {entries, ARRAY_SIZE(entries)};

static void parse(const char *text, struct reference *ref)
{
    if (reference_parse(text, ref, NULL) < 0)
        fail_msg("%s is no reference", text);
}

static void test_find(void **state)
{
    static const struct {
        const char *ref, *prefix;
    } cases[] = {
        {"r.io/x", "r.io"},
        {"r.io/team", "r.io/team"},
        {"r.io/team/app:1", "r.io/team"},
        {"r.io/teammates/app", "r.io"},
        {"r.io/team/open/app", "r.io/team/open"},
        {"r.io/team/openly", "r.io/team"},
        {"R.IO/team/app", "r.io/team"}, // the same registry by another spelling
        {"r.io:443/team/app", "r.io/team"},
        {"R.io:443/team/app", "r.io/team"},
        {"r.io:444/team/app", "*"},
        {"r.io.evil.com/team/app", "*"},
        {"evil.r.io/team/app", "*"},
        {"nginx", "docker.io/library"},
        {"index.docker.io/nginx", "docker.io/library"},
        {"registry-1.docker.io/library/nginx", "docker.io/library"},
        {"REGISTRY-1.docker.io:443/nginx", "docker.io/library"},
        {"user/app", "*"},
        {"localhost:5000/k8s/pause", "*"},
        {"local:5000/k8s/pause@sha256:" HEX64, "local:5000/k8s"},
        {"local/k8s/pause", "*"}, // a user of docker.io
        {"[::1]:5000/x", "[::1]:5000"},
        {"[0:0::1]:5000/x", "[::1]:5000"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct reference ref;

        parse(cases[i].ref, &ref);
        const struct policy_entry *entry = policy_find(&config, &ref);
        if (!entry || !str_eq(entry->prefix, cases[i].prefix))
            fail_msg("%s: %s, not %s", cases[i].ref, entry ? entry->prefix : "none", cases[i].prefix);
        assert_null(policy_find(NULL, &ref));
        reference_done(&ref);
    }
}

static void test_check(void **state)
{
    static const struct {
        const char *ref, *error;
        bool require;
    } cases[] = {
        {"r.io/x", NULL, false},
        {"r.io/team/app", NULL, true},
        {"r.io/team/open", NULL, false},
        {"nginx", NULL, true},
        {"quay.io/x", "SignatureValidationFailed: policy \"*\" rejects", false},
        {"other.io/x", "not among the registries", false},
    };
    char *const allowed[] = {(char *)"r.io", (char *)"docker.io/library", (char *)"quay.io", NULL};
    char *const nothing[] = {NULL};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct policy_entry *require;
        struct error err = ERROR_INIT;
        struct reference ref;

        parse(cases[i].ref, &ref);
        int r = policy_check_pull(&config, allowed, &ref, &require, &err);
        assert_int_equal(r < 0, cases[i].error != NULL);
        assert_int_equal(require != NULL, cases[i].require);
        if (r < 0) {
            assert_int_equal(err.status, STATUS_PERMISSION_DENIED);
            assert_non_null(strstr(err.message, cases[i].error));
        }
        assert_int_equal(policy_check_pull(NULL, NULL, &ref, &require, NULL), 0);
        assert_null(require);
        assert_int_equal(policy_check_pull(NULL, nothing, &ref, &require, NULL), 0);
        reference_done(&ref);
    }
}

static void test_import(void **state)
{
    const struct policy_config open = {entries + 1, ARRAY_SIZE(entries) - 1};
    char *const allowed[] = {(char *)"r.io", NULL};
    struct error err = ERROR_INIT;
    struct reference ref;

    (void)state;
    parse("r.io/x:1", &ref);
    assert_int_equal(policy_check_import(&config, allowed, &ref, &err), 0);
    reference_done(&ref);
    parse("r.io/team/x:1", &ref);
    assert_int_equal(policy_check_import(&config, NULL, &ref, &err), -EPERM);
    assert_non_null(
        strstr(err.message, "SignatureValidationFailed: policy \"r.io/team\" requires a signature"));
    reference_done(&ref);
    assert_int_equal(policy_check_import(&config, NULL, NULL, &err), -EPERM); // "*" rejects
    assert_int_equal(policy_check_import(&open, NULL, NULL, &err), 0);
    assert_int_equal(policy_check_import(&open, allowed, NULL, &err), -EPERM);
    assert_non_null(strstr(err.message, "without a name"));
}

static void test_signature(void **state)
{
    static const struct {
        const char *ref, *repository, *tag;
    } cases[] = {
        {"r.io/team/app:1", "r.io/team/app", "1"},
        {"r.io/team", "r.io/team", "latest"},
        {"r.io/team/app@sha256:" HEX64, "r.io/team/app", ""},
        {"nginx", "", "latest"},
        {"local:5000/k8s/a/b:2", "k8s.io/a/b", "2"},
        {"local:5000/k8s", "k8s.io", "latest"},
        {"whole.io/a:3", "other.io/x/a", "3"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena *arena = arena_new(1 << 16);
        struct reference ref;

        parse(cases[i].ref, &ref);
        const struct policy_entry *entry = policy_find(&config, &ref);
        Pull__SignaturePolicy *p = policy_signature(entry, &ref, arena);
        assert_string_equal(p->repository, cases[i].repository);
        assert_string_equal(p->tag, cases[i].tag);
        assert_string_equal(p->name, entry->prefix);
        assert_int_equal(p->n_key_files, 1);
        reference_done(&ref);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_check),
                                       cmocka_unit_test(test_import), cmocka_unit_test(test_signature)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
