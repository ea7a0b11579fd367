#include "base/testing.h"

#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/rlimit.h"

static void good_ones_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t resource;
        uint64_t soft, hard;
    } cases[] = {
        {"nofile=1024:1048576", RLIMIT_NOFILE, 1024, 1048576},
        {"core=0", RLIMIT_CORE, 0, 0},
        {"memlock=unlimited", RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY},
        {"stack=8388608:unlimited", RLIMIT_STACK, 8388608, RLIM_INFINITY},
        {"cpu=1:2", RLIMIT_CPU, 1, 2},
        {"rttime=0:0", RLIMIT_RTTIME, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rlimit_spec spec;
        assert_true(rlimit_parse(cases[i].text, &spec));
        assert_int_equal(spec.resource, cases[i].resource);
        assert_true(spec.soft == cases[i].soft && spec.hard == cases[i].hard);
    }
}

static void every_resource_has_a_name(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < RLIMIT_NLIMITS; i++) {
        char text[32];
        struct rlimit_spec spec;
        assert_non_null(rlimit_name(i));
        (void)snprintf(text, sizeof(text), "%s=7", rlimit_name(i));
        assert_true(rlimit_parse(text, &spec));
        assert_int_equal(spec.resource, i);
    }
    assert_null(rlimit_name(RLIMIT_NLIMITS));
}

static void bad_ones_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",
                                        "nofile",
                                        "nofile=",
                                        "nofile=:",
                                        "nofile=5:",
                                        "nofile=:5",
                                        "nofile=-1",
                                        "nofile=2:1",
                                        "nofile=1:2:3",
                                        "files=5",
                                        "NOFILE=5",
                                        "=5",
                                        "nofile=5000000000000000000000",
                                        "core= 0"};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rlimit_spec spec;
        if (rlimit_parse(cases[i], &spec))
            fail_msg("\"%s\" passed", cases[i]);
    }
    const char *const list[] = {"core=0", "files=5", NULL};
    struct rlimit_list parsed;
    struct error err = ERROR_INIT;
    assert_true(rlimit_parse_list(list, &parsed, &err) < 0);
    assert_string_equal(err.message, "\"files=5\" is no resource limit such as nofile=1024:1048576");
}

static void the_last_one_counts(void **state)
{
    (void)state;
    const char *const list[] = {"core=1", "nofile=5", "core=0:2", NULL};
    struct rlimit_list parsed;
    assert_int_equal(rlimit_parse_list(list, &parsed, NULL), 0);
    assert_int_equal(parsed.n, 2);
    assert_true(parsed.items[0].resource == RLIMIT_CORE && parsed.items[0].soft == 0 &&
                parsed.items[0].hard == 2);
    assert_int_equal(rlimit_parse_list(NULL, &parsed, NULL), 0);
    assert_int_equal(parsed.n, 0);
}

static void what_is_out_of_reach_is_known(void **state)
{
    (void)state;
    struct rlimit64 own;
    uint64_t got = 0;
    assert_int_equal(getrlimit64(RLIMIT_NOFILE, &own), 0);
    struct rlimit_spec spec = {.resource = RLIMIT_NOFILE, .soft = 10, .hard = own.rlim_max};
    assert_false(rlimit_is_out_of_reach(&spec, false, &got));
    spec.hard = own.rlim_max + 1;
    assert_true(rlimit_is_out_of_reach(&spec, false, &got));
    assert_true(got == own.rlim_max);
    spec.hard = RLIM_INFINITY; // fs.nr_open ends it for everybody
    assert_true(rlimit_is_out_of_reach(&spec, true, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_parsed),          cmocka_unit_test(every_resource_has_a_name),
        cmocka_unit_test(bad_ones_are_refused),          cmocka_unit_test(the_last_one_counts),
        cmocka_unit_test(what_is_out_of_reach_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
