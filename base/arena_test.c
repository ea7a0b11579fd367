#include "base/arena.h"
#include "base/testing.h"
#include "base/cleanup.h"

static void check_cap(struct arena *whole)
{
    _cleanup_(arena_freep) struct arena *a = whole;

    assert_non_null(a);
    size_t taken = 0;
    for (;;) {
        uint8_t *p = arena_alloc(a, 1000);
        if (!p)
            break;
        assert_int_equal((uintptr_t)p % 16, 0);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, 1000);
        taken += 1000;
    }
    assert_in_range(taken, 98000, 100000);
    assert_true(arena_used(a) <= 100000);
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_alloc(a, SIZE_MAX - 64));
}

static void test_cap(void **state)
{
    (void)state;
    check_cap(arena_new(100000));
    check_cap(arena_new_apart(100000));
}

static void check_big_and_small(struct arena *whole)
{
    _cleanup_(arena_freep) struct arena *a = whole;

    char *small = arena_strdup(a, "small");
    char *big = arena_alloc(a, (size_t)1 << 20);
    char *next = arena_strdup(a, "next");
    assert_non_null(big);
    memset(big, 1, (size_t)1 << 20);
    assert_string_equal(small, "small");
    assert_string_equal(next, "next");
    assert_true(next - small == 16); // the big one didn't cost the chunk under way
    assert_non_null(arena_alloc(a, 0));
}

static void test_big_and_small(void **state)
{
    (void)state;
    check_big_and_small(arena_new(SIZE_MAX));
    check_big_and_small(arena_new_apart(SIZE_MAX));
}

static void test_strings(void **state)
{
    _cleanup_(arena_freep) struct arena *a = arena_new(64);

    (void)state;
    assert_null(arena_strdup(a, NULL));
    assert_null(arena_strndup(a, NULL, 5));
    assert_string_equal(arena_strndup(a, "abcdef", 3), "abc");
    assert_string_equal(arena_printf(a, "%d-%s", 42, "x"), "42-x");
    assert_memory_equal(arena_memdup(a, "\0\1\2", 3), "\0\1\2", 3);
    assert_non_null(arena_alloc(a, 16));
    assert_null(arena_printf(a, "%s", "no room left"));
    assert_null(arena_strdup(a, ""));
    arena_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_big_and_small),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
