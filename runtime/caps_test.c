#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/capability.h>

#include "base/cleanup.h"
#include "runtime/caps.h"

#define NO_SYS_RESOURCE (~CAPS_BIT(CAP_SYS_RESOURCE) & ((CAPS_BIT(CAP_LAST_CAP) << 1) - 1))

// Every capability that libcap and the kernel's header know has the same name here.
static void names_are_complete(void **state)
{
    (void)state;
    assert_int_equal(caps_count(), CAP_LAST_CAP + 1);
    for (int cap = 0; cap < caps_count(); cap++) {
        assert_non_null(caps_name(cap));
        char *theirs = cap_to_name((cap_value_t)cap);
        assert_non_null(theirs);
        assert_int_equal(strncmp(theirs, "cap_", 4), 0);
        assert_int_equal(strcasecmp(theirs + 4, caps_name(cap)), 0);
        assert_int_equal(caps_parse(theirs), cap);
        cap_free(theirs);
    }
    assert_null(caps_name(-1));
    assert_null(caps_name(caps_count()));
}

static void names_are_parsed(void **state)
{
    (void)state;
    assert_int_equal(caps_parse("NET_ADMIN"), CAP_NET_ADMIN);
    assert_int_equal(caps_parse("CAP_NET_ADMIN"), CAP_NET_ADMIN);
    assert_int_equal(caps_parse("cap_net_admin"), CAP_NET_ADMIN);
    assert_int_equal(caps_parse("Net_Admin"), CAP_NET_ADMIN);
    assert_int_equal(caps_parse("NET_ADMIN "), -1);
    assert_int_equal(caps_parse("ALL"), -1);
    assert_int_equal(caps_parse(""), -1);
    assert_int_equal(caps_parse(NULL), -1);
}

static void held_is_sane(void **state)
{
    (void)state;
    uint64_t held;
    assert_int_equal(caps_held(&held, NULL), 0);
    assert_int_equal(held >> (CAP_LAST_CAP + 8), 0);
}

struct set_case {
    const char *add[3], *drop[3], *ambient[3];
    bool privileged;
    uint64_t want, want_ambient;
};

static Cri__Capability asked_of(const struct set_case *c)
{
    Cri__Capability a = CRI__CAPABILITY__INIT;
    a.add_capabilities = (char **)c->add;
    a.drop_capabilities = (char **)c->drop;
    a.add_ambient_capabilities = (char **)c->ambient;
    while (a.n_add_capabilities < 3 && c->add[a.n_add_capabilities])
        a.n_add_capabilities++;
    while (a.n_drop_capabilities < 3 && c->drop[a.n_drop_capabilities])
        a.n_drop_capabilities++;
    while (a.n_add_ambient_capabilities < 3 && c->ambient[a.n_add_ambient_capabilities])
        a.n_add_ambient_capabilities++;
    return a;
}

static void sets_are_computed(void **state)
{
    (void)state;
    uint64_t held = NO_SYS_RESOURCE, base = caps_default();
    const struct set_case cases[] = {
        {.want = base},
        {.add = {"NET_ADMIN"}, .want = base | CAPS_BIT(CAP_NET_ADMIN)},
        {.drop = {"chown", "CAP_KILL"}, .want = base & ~(CAPS_BIT(CAP_CHOWN) | CAPS_BIT(CAP_KILL))},
        {.add = {"ALL"}, .want = held},
        {.add = {"ALL"}, .drop = {"SYS_ADMIN"}, .want = held & ~CAPS_BIT(CAP_SYS_ADMIN)},
        {.drop = {"ALL"}, .want = 0},
        {.add = {"NET_BIND_SERVICE"}, .drop = {"all"}, .want = CAPS_BIT(CAP_NET_BIND_SERVICE)},
        {.add = {"SYS_TIME"}, .drop = {"SYS_TIME"}, .want = base},
        {.privileged = true, .drop = {"ALL"}, .want = held},
        {.ambient = {"NET_RAW"}, .want = base, .want_ambient = CAPS_BIT(CAP_NET_RAW)},
        {.drop = {"ALL"},
         .ambient = {"NET_BIND_SERVICE"},
         .want = CAPS_BIT(CAP_NET_BIND_SERVICE),
         .want_ambient = CAPS_BIT(CAP_NET_BIND_SERVICE)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Cri__Capability asked = asked_of(&cases[i]);
        Pod__Capabilities out;
        struct error err = ERROR_INIT;
        assert_int_equal(caps_compute(&asked, cases[i].privileged, held, &out, &err), 0);
        assert_int_equal(out.bounding, cases[i].want);
        assert_int_equal(out.effective, cases[i].want);
        assert_int_equal(out.permitted, cases[i].want);
        assert_int_equal(out.ambient, cases[i].want_ambient);
        assert_int_equal(out.inheritable, cases[i].want_ambient); // CVE-2022-24769
    }
    assert_int_equal(__builtin_popcountll(base), 14);
}

static void bad_ones_are_named(void **state)
{
    (void)state;
    const struct {
        struct set_case asked;
        enum status status;
        const char *text;
    } cases[] = {
        {{.add = {"NET_ADMIN", "NOSUCH"}},
         STATUS_INVALID_ARGUMENT,
         "linux.security_context.capabilities.add_capabilities: unknown capability \"NOSUCH\""},
        {{.drop = {""}},
         STATUS_INVALID_ARGUMENT,
         "linux.security_context.capabilities.drop_capabilities: unknown capability \"\""},
        {{.ambient = {"CAP_"}},
         STATUS_INVALID_ARGUMENT,
         "linux.security_context.capabilities.add_ambient_capabilities: unknown capability \"CAP_\""},
        {{.add = {"sys_resource"}},
         STATUS_FAILED_PRECONDITION,
         "linux.security_context.capabilities.add_capabilities: CAP_SYS_RESOURCE cannot be given, the "
         "runtime "
         "doesn't hold it itself"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Cri__Capability asked = asked_of(&cases[i].asked);
        Pod__Capabilities out;
        struct error err = ERROR_INIT;
        assert_true(caps_compute(&asked, false, NO_SYS_RESOURCE, &out, &err) < 0);
        assert_int_equal(err.status, cases[i].status);
        assert_string_equal(err.message, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_complete), cmocka_unit_test(names_are_parsed),
        cmocka_unit_test(held_is_sane),       cmocka_unit_test(sets_are_computed),
        cmocka_unit_test(bad_ones_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
