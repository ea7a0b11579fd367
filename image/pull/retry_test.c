#include "image/pull/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void expect_about(int64_t ms, int64_t wanted)
{
    assert_in_range(ms, wanted, wanted + wanted / 4);
}

static void test_back_off(void **state)
{
    struct retry r = {0};

    (void)state;
    expect_about(retry_delay_ms(&r, 0), 200);
    expect_about(retry_delay_ms(&r, 0), 800);
    assert_int_equal(retry_delay_ms(&r, 0), -1);
}

static void test_as_long_as_asked(void **state)
{
    struct retry r = {0};

    (void)state;
    assert_int_equal(retry_delay_ms(&r, RETRY_WAIT_MAX_S + 1), -1);
    for (int i = 1; i <= 4; i++)
        expect_about(retry_delay_ms(&r, i), i * 1000);
    assert_int_equal(retry_delay_ms(&r, 1), -1);
}

static void test_not_for_ever(void **state)
{
    struct retry r = {0};

    (void)state;
    expect_about(retry_delay_ms(&r, 60), 60000);
    assert_int_equal(retry_delay_ms(&r, 60), -1);
    expect_about(retry_delay_ms(&r, 10), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_as_long_as_asked),
        cmocka_unit_test(test_not_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
