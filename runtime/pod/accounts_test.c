#include "runtime/pod/accounts.h"

#include "base/testing.h"

#include "base/str.h"

static const char passwd[] = "# comment\n"
                             "root:x:0:0:root:/root:/bin/sh\n"
                             "\n"
                             "broken\n"
                             "bad:x:notanumber:0::/:\n"
                             "www:x:33:34:www:/var/www:/bin/false\n"
                             "1000:x:77:77::/odd:\n"
                             "nohome:x:40:41\n"
                             "www:x:99:99:second::\n"
                             "last:x:50:51:no newline:/last:/bin/sh";
static const char group[] = "root:x:0:\nstaff:x:50:www,root\nwww:x:34:www\nextra:x:51:a,www\nempty:x:52:\n"
                            "almost:x:53:wwww,ww\n2000:x:88:\n";

struct expectation {
    const char *spec;
    bool merge;
    const char *result; // "uid gid groups home", or the error's text
};

static const char *resolve(const Pod__User *user, char *out, size_t size)
{
    static struct account a;
    struct error err = ERROR_INIT;

    if (account_resolve(user, passwd, group, &a, &err) < 0) {
        (void)snprintf(out, size, "%s", err.message);
        return out;
    }
    int n = snprintf(out, size, "%u %u", a.uid, a.gid);
    for (size_t i = 0; i < a.n_groups; i++)
        n += snprintf(out + n, size - (size_t)n, "%c%u", i ? ',' : ' ', a.groups[i]);
    (void)snprintf(out + n, size - (size_t)n, " %s", a.home);
    return out;
}

static void test_specs(void **state)
{
    static const struct expectation cases[] = {
        {"", true, "0 0 0,50 /root"},
        {"root", true, "0 0 0,50 /root"},
        {"root", false, "0 0 0 /root"},
        {"0", false, "0 0 0 /root"},
        {"www", true, "33 34 34,50,51 /var/www"}, // the first of two; its own group only as the primary one
        {"33", true, "33 34 34,50,51 /var/www"},
        {"www:staff", true, "33 50 50,51 /var/www"},
        {"www:0", false, "33 0 0 /var/www"},
        {"1002", true, "1002 0 0 /"}, // in no file
        {"1002:50000", false, "1002 50000 50000 /"},
        {"1000", false, "1000 0 0 /"}, // a number is a uid, also where a user has such a name
        {"www:2000", false, "33 88 88 /var/www"},
        {"nohome", false, "40 41 41 /"},
        {"last", false, "50 51 51 /last"},
        {"ghost", false, "user \"ghost\" is not in the image's /etc/passwd"},
        {"bad", false, "user \"bad\" is not in the image's /etc/passwd"},
        {"www:ghosts", false, "group \"ghosts\" is not in the image's /etc/group"},
        {"-1", false, "user \"-1\" is not in the image's /etc/passwd"},
        {"4294967295", false,
         "user \"4294967295\" is not in the image's /etc/passwd"}, // (uid_t)-1: "unchanged"
        {"99999999999999", false, "user \"99999999999999\" is not in the image's /etc/passwd"},
    };
    char out[2048];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Pod__User user = POD__USER__INIT;
        user.user = (char *)(uintptr_t)cases[i].spec;
        user.merge_image_groups = cases[i].merge;
        assert_string_equal(resolve(&user, out, sizeof(out)), cases[i].result);
    }
}

static void test_numbers(void **state)
{
    Pod__User user = POD__USER__INIT;
    uint32_t more[] = {7, 34, 7};
    char out[2048];

    (void)state;
    user.user = (char *)(uintptr_t) "ghost:ghosts"; // the image's, overridden
    user.has_uid = true;
    user.uid = 33;
    assert_string_equal(resolve(&user, out, sizeof(out)), "33 34 34 /var/www");
    user.has_gid = true;
    user.gid = 5;
    user.supplemental_groups = more;
    user.n_supplemental_groups = 3;
    user.merge_image_groups = true;
    assert_string_equal(resolve(&user, out, sizeof(out)), "33 5 5,50,51,7,34 /var/www");
    user.resolved = true;
    user.home = (char *)(uintptr_t) "/h";
    assert_string_equal(resolve(&user, out, sizeof(out)), "33 5 5,7,34 /h");
}

static void test_bounds(void **state)
{
    Pod__User user = POD__USER__INIT;
    static uint32_t many[ACCOUNTS_GROUPS_MAX + 1];
    char long_name[600], out[2048];

    (void)state;
    for (uint32_t i = 0; i <= ACCOUNTS_GROUPS_MAX; i++)
        many[i] = i + 1;
    user.user = (char *)(uintptr_t) "0";
    user.supplemental_groups = many;
    user.n_supplemental_groups = ACCOUNTS_GROUPS_MAX + 1;
    assert_non_null(strstr(resolve(&user, out, sizeof(out)), "more than 1024 supplemental groups"));
    user.n_supplemental_groups = 0;
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    user.user = long_name;
    assert_non_null(strstr(resolve(&user, out, sizeof(out)), "longer than"));
}

// Whatever bytes the files have: no crash, and nobody is found in them.
static void test_garbage(void **state)
{
    static const char *const files[] = {":",          "::::",         ":::::::::::::", "x",
                                        "\n\n\n",     "www",          "www:",          "www:x",
                                        "www:x:",     "www:x:33",     "www:x:33:",     "www:x:33:\377\376",
                                        "www:x::34:", "www:x:+33:34:"};
    Pod__User user = POD__USER__INIT;
    struct account a;
    struct error err;

    (void)state;
    user.user = (char *)(uintptr_t) "www";
    user.merge_image_groups = true;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        assert_true(account_resolve(&user, files[i], files[i], &a, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specs),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_garbage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
