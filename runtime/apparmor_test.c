#include "base/testing.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/spawn.h"
#include "base/str.h"
#include "runtime/apparmor.h"

#define FIELD "linux.security_context.apparmor"

// A host with AppArmor: a list of profiles, and a parser that notes what it is given and adds to the list.
struct host {
    char dir[256], enabled[300], profiles[300], parser[300], given[300];
    const char *parsers[3];
    struct apparmor *a;
};

static void write_text(const char *path, const char *text, mode_t mode)
{
    struct error err = ERROR_INIT;
    if (file_write_atomic(path, text, strlen(text), mode, false, &err) < 0)
        fail_msg("%s", err.message);
}

static void write_parser(const struct host *h, const char *end)
{
    char script[2048];
    (void)snprintf(script, sizeof(script), "#!/bin/sh\necho run >>%s\ncat >>%s\n%s\n", h->given, h->given,
                   end);
    write_text(h->parser, script, 0755);
}

static int setup(void **state)
{
    struct host *h = calloc(1, sizeof(*h));
    testing_scratch_make(h->dir);
    (void)snprintf(h->enabled, sizeof(h->enabled), "%s/enabled", h->dir);
    (void)snprintf(h->profiles, sizeof(h->profiles), "%s/profiles", h->dir);
    (void)snprintf(h->parser, sizeof(h->parser), "%s/parser", h->dir);
    (void)snprintf(h->given, sizeof(h->given), "%s/given", h->dir);
    write_text(h->enabled, "Y\n", 0644);
    write_text(h->profiles, "/usr/bin/man (enforce)\nmine (complain)\nwith (a) blank (enforce)\n", 0644);
    char add[700];
    (void)snprintf(add, sizeof(add), "sleep 0.1; echo '" APPARMOR_DEFAULT_NAME " (enforce)' >>%s",
                   h->profiles);
    write_parser(h, add);
    h->parsers[0] = "/nonexistent/parser";
    h->parsers[1] = h->parser;
    const struct apparmor_paths paths = {
        .enabled = h->enabled, .profiles = h->profiles, .parsers = h->parsers};
    assert_int_equal(apparmor_open(&paths, &h->a, NULL), 0);
    assert_non_null(h->a);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct host *h = *state;
    apparmor_close(h->a);
    testing_scratch_remove(h->dir);
    free(h);
    return 0;
}

static size_t runs(const struct host *h)
{
    _cleanup_free_ char *text = NULL;
    size_t n = 0;
    if (file_read(h->given, 1 << 20, &text, NULL, NULL) < 0)
        return 0;
    for (const char *at = text; (at = strstr(at, "run\n")); at++)
        n++;
    return n;
}

static void hosts_without_it_have_none(void **state)
{
    struct host *h = *state;
    const struct apparmor_paths paths = {.enabled = h->enabled};
    struct apparmor *a = h->a;
    write_text(h->enabled, "N\n", 0644);
    assert_int_equal(apparmor_open(&paths, &a, NULL), 0);
    assert_null(a);
    const struct apparmor_paths nothing = {.enabled = "/nonexistent/enabled"};
    a = h->a;
    assert_int_equal(apparmor_open(&nothing, &a, NULL), 0);
    assert_null(a);

    struct apparmor_choice choice = {.kind = APPARMOR_UNSET, .name = ""};
    const char *name = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(apparmor_resolve(NULL, FIELD, &choice, &name, &err), 0);
    assert_string_equal(name, "");
    choice.kind = APPARMOR_UNCONFINED;
    assert_int_equal(apparmor_resolve(NULL, FIELD, &choice, &name, &err), 0);
    for (enum apparmor_kind kind = APPARMOR_DEFAULT; kind <= APPARMOR_LOCALHOST; kind++) {
        choice.kind = kind;
        assert_true(apparmor_resolve(NULL, FIELD, &choice, &name, &err) < 0);
        assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(err.message, "has no AppArmor enabled"));
    }
}

static void all_forms_are_understood(void **state)
{
    (void)state;
    static const struct {
        int type; // -1: no message, but the deprecated string
        const char *text;
        enum apparmor_kind kind;
        const char *name;
    } cases[] = {
        {-1, NULL, APPARMOR_UNSET, ""},
        {-1, "", APPARMOR_UNSET, ""},
        {-1, "runtime/default", APPARMOR_DEFAULT, ""},
        {-1, "unconfined", APPARMOR_UNCONFINED, ""},
        {-1, "localhost/mine", APPARMOR_LOCALHOST, "mine"},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault, "", APPARMOR_DEFAULT, ""},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined, "", APPARMOR_UNCONFINED, ""},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost, "mine", APPARMOR_LOCALHOST, "mine"},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost, "localhost/mine", APPARMOR_LOCALHOST, "mine"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
        struct apparmor_choice choice;
        struct error err = ERROR_INIT;
        bool field = cases[i].type >= 0;
        profile.profile_type = field ? (Cri__SecurityProfile__ProfileType)cases[i].type : 0;
        profile.localhost_ref = (char *)cases[i].text;
        // The field counts where both are there.
        int r = apparmor_choose(FIELD, field ? &profile : NULL, field ? "localhost/other" : cases[i].text,
                                &choice, &err);
        assert_int_equal(r, 0);
        assert_int_equal(choice.kind, cases[i].kind);
        assert_string_equal(choice.name, cases[i].name);
    }
}

static void bad_forms_are_refused(void **state)
{
    (void)state;
    static char too_long[APPARMOR_NAME_MAX + 2];
    memset(too_long, 'x', APPARMOR_NAME_MAX + 1);
    const struct {
        int type;
        const char *text, *want;
    } cases[] = {
        {-1, "default", "(apparmor_profile) is not runtime/default, unconfined or localhost/NAME"},
        {-1, "localhost/", "it is empty"},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost, "", "it is empty"},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost, "a\nexec b", "has a character"},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost, too_long, "is longer than"},
        {CRI__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault, "x", "localhost_ref: is set, but"},
        {9, "", "profile_type: unknown type 9"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
        struct apparmor_choice choice;
        struct error err = ERROR_INIT;
        bool field = cases[i].type >= 0;
        profile.profile_type = field ? (Cri__SecurityProfile__ProfileType)cases[i].type : 0;
        profile.localhost_ref = (char *)cases[i].text;
        assert_true(apparmor_choose(FIELD, field ? &profile : NULL, cases[i].text, &choice, &err) < 0);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        assert_true(str_has_prefix(err.message, FIELD));
        if (!strstr(err.message, cases[i].want))
            fail_msg("case %zu: %s", i, err.message);
    }
}

static int resolve(struct host *h, enum apparmor_kind kind, const char *wanted, const char **name,
                   struct error *err)
{
    const struct apparmor_choice choice = {.kind = kind, .name = wanted};
    return apparmor_resolve(h->a, FIELD, &choice, name, err);
}

static void named_profiles_have_to_be_loaded(void **state)
{
    struct host *h = *state;
    const char *name = NULL;
    struct error err = ERROR_INIT;
    static const char *const there[] = {"mine", "/usr/bin/man", "with (a) blank", "mine//&/usr/bin/man"};
    static const char *const absent[] = {"min", "mine2", "with", "mine (complain)", "mine//&other"};
    for (size_t i = 0; i < ARRAY_SIZE(there); i++) {
        assert_int_equal(resolve(h, APPARMOR_LOCALHOST, there[i], &name, &err), 0);
        assert_string_equal(name, there[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
        assert_true(resolve(h, APPARMOR_LOCALHOST, absent[i], &name, &err) < 0);
        assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(err.message, absent[i]));
        assert_non_null(strstr(err.message, "is not loaded in this host's kernel"));
    }
    // Nobody can look: the kernel finds out at the start.
    assert_int_equal(unlink(h->profiles), 0);
    assert_int_equal(resolve(h, APPARMOR_LOCALHOST, "other", &name, &err), 0);
    assert_int_equal(runs(h), 0);
}

static void *resolve_thread(void *arg)
{
    const char *name = "";
    struct error err = ERROR_INIT;
    bool good = resolve(arg, APPARMOR_UNSET, "", &name, &err) == 0 && str_eq(name, APPARMOR_DEFAULT_NAME);
    return good ? arg : NULL;
}

// Once, however many ask at the same time, and with our text.
static void the_default_is_loaded_once(void **state)
{
    struct host *h = *state;
    pthread_t threads[8];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, resolve_thread, h), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *good;
        assert_int_equal(pthread_join(threads[i], &good), 0);
        assert_non_null(good);
    }
    assert_int_equal(runs(h), 1);
    _cleanup_free_ char *given = NULL;
    assert_int_equal(file_read(h->given, 1 << 20, &given, NULL, NULL), 0);
    assert_string_equal(given + strlen("run\n"), apparmor_default_text);
    // Somebody unloads all profiles: ours comes back.
    write_text(h->profiles, "mine (enforce)\n", 0644);
    assert_non_null(resolve_thread(h));
    assert_int_equal(runs(h), 2);
    assert_non_null(resolve_thread(h));
    assert_int_equal(runs(h), 2);
}

static void a_failing_parser_is_told_of(void **state)
{
    struct host *h = *state;
    const char *name = NULL;
    struct error err = ERROR_INIT;
    write_parser(h, "echo 'no room in the kernel' >&2; exit 3");
    assert_true(resolve(h, APPARMOR_DEFAULT, "", &name, &err) < 0);
    assert_non_null(strstr(err.message, "parser ended with 3: no room in the kernel"));
    assert_true(str_has_prefix(err.message, FIELD ": load the AppArmor profile crisp-default: "));
    assert_true(resolve(h, APPARMOR_UNSET, "", &name, &err) < 0); // tried again
    assert_int_equal(runs(h), 2);
}

// Asked for: an error. Not asked for: what hosts without the program have always done.
static void a_missing_parser_is_told_of(void **state)
{
    struct host *h = *state;
    const char *name = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(unlink(h->parser), 0);
    assert_null(apparmor_parser(h->a));
    assert_true(resolve(h, APPARMOR_DEFAULT, "", &name, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "no apparmor_parser: install it"));
    assert_int_equal(resolve(h, APPARMOR_UNSET, "", &name, &err), 0);
    assert_string_equal(name, "");
}

// The real one: is it a profile at all?
static void the_text_is_a_profile(void **state)
{
    struct host *h = *state;
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{apparmor_default_text, true}, {"profile x { nonsense, }", false}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct spawn_options options = {
            .path = "/sbin/apparmor_parser",
            .argv = (char *[]){(char *)"apparmor_parser", (char *)"--skip-kernel-load",
                               (char *)"--skip-cache", (char *)"--quiet", NULL}};
        const struct ctx none = CTX_NONE;
        struct spawn_result result = {0};
        struct error err = ERROR_INIT;
        if (spawn_run(&options, cases[i].text, strlen(cases[i].text), 65536, &none, &result, &err) < 0)
            fail_msg("%s (in %s)", err.message, h->dir);
        if ((result.exit_code == 0) != cases[i].good)
            fail_msg("case %zu: %d: %s", i, result.exit_code, result.err.data);
        spawn_result_done(&result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hosts_without_it_have_none, setup, teardown),
        cmocka_unit_test(all_forms_are_understood),
        cmocka_unit_test(bad_forms_are_refused),
        cmocka_unit_test_setup_teardown(named_profiles_have_to_be_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(the_default_is_loaded_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failing_parser_is_told_of, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_parser_is_told_of, setup, teardown),
        cmocka_unit_test_setup_teardown(the_text_is_a_profile, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
