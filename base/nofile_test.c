// The daemon's limit is raised, its children's is not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/resource.h>

#include "base/nofile.h"
#include "base/spawn.h"

static void test_children_keep_the_original(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    nofile_raise();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, limit.rlim_max);

    // A child that asks at once may still see the raised limit: it waits for its stdin to end first.
    char *argv[] = {"sh", "-c", "read line; sleep 0.1; ulimit -n", NULL};
    struct spawn_options options = {.path = "/bin/sh", .argv = argv, .envp = NULL};
    struct spawn_result result;
    struct ctx ctx = CTX_NONE;
    assert_int_equal(spawn_run(&options, "x\n", 2, 4096, &ctx, &result, NULL), 0);
    assert_string_equal(result.out.data, "256\n");
    spawn_result_done(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_children_keep_the_original)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
