#include "image/loose.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"

static int check(const char *dir, const char *name, const char *target)
{
    struct error err = ERROR_INIT;
    Pull__Loose loose = PULL__LOOSE__INIT;
    Pull__LooseLink link = PULL__LOOSE_LINK__INIT, *links[] = {&link};
    char *dirs[] = {(char *)dir};

    link.name = (char *)name;
    link.target = (char *)target;
    loose.implicit_dirs = dirs;
    loose.n_implicit_dirs = 1;
    loose.links = links;
    loose.n_links = 1;
    return loose_check(&loose, false, &err);
}

static void test_names(void **state)
{
    static const char *const bad[] = {"",    "/",     "/etc", "..", "../x", "a/..", "a/../b",
                                      "./a", "a/./b", "a//b", "a/", "//a",  "a/."};
    char name[NAME_MAX + 2], path[PATH_MAX + 1];

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (size_t i = 0; i + 1 < sizeof(path); i++)
        path[i] = i % 2 ? '/' : 'd';
    path[sizeof(path) - 2] = 'd';
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(check(".", "a/b", "..c/.d"), 0);
    assert_int_equal(check("a", "a", "..."), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(check(bad[i], "a", "a"), -EBADMSG);
        assert_int_equal(check("a", bad[i], "a"), -EBADMSG);
        assert_int_equal(check("a", "a", bad[i]), -EBADMSG);
    }
    assert_int_equal(check("a", ".", "a"), -EBADMSG);
    assert_int_equal(check("a", "a", "."), -EBADMSG);
    assert_int_equal(check(name, "a", "a"), -EBADMSG);
    assert_int_equal(check(path, "a", "a"), -EBADMSG);
}

static void test_parts(void **state)
{
    struct error err = ERROR_INIT;
    Pull__Loose loose = PULL__LOOSE__INIT;
    uint32_t parts[] = {1};

    (void)state;
    assert_int_equal(loose_check(NULL, false, &err), 0);
    loose.parts = parts;
    loose.n_parts = 1;
    assert_int_equal(loose_check(&loose, true, &err), 0);
    assert_int_equal(loose_check(&loose, false, &err), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_parts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
