#include "base/map.h"
#include "base/testing.h"

static void test_basics(void **state)
{
    int one = 1, two = 2;
    struct map *m = map_new();

    (void)state;
    assert_null(map_get(m, "a"));
    assert_null(map_remove(m, "a"));
    assert_int_equal(map_set(m, "a", &one), 0);
    assert_int_equal(map_set(m, "b", &two), 0);
    assert_ptr_equal(map_get(m, "a"), &one);
    assert_int_equal(map_set(m, "a", &two), 0);
    assert_ptr_equal(map_get(m, "a"), &two);
    assert_int_equal(map_len(m), 2);
    assert_ptr_equal(map_remove(m, "a"), &two);
    assert_null(map_get(m, "a"));
    assert_int_equal(map_len(m), 1);
    map_free(m);
    map_free(NULL);
}

// Random additions and removals against a plain table; the order is that of insertion.
static void test_against_model(void **state)
{
    enum { KEYS = 500, STEPS = 50000 };
    static int values[KEYS];
    static int order[KEYS]; // 0: absent
    struct map *m = map_new();
    unsigned seed = 12345;
    int clock = 0, len = 0;

    (void)state;
    for (int i = 0; i < STEPS; i++) {
        char key[16];
        seed = seed * 1103515245 + 12345;
        int k = (int)((seed >> 16) % KEYS);
        (void)snprintf(key, sizeof(key), "key-%d", k);
        if ((seed >> 8) & 1) {
            assert_int_equal(map_set(m, key, &values[k]), 0);
            if (!order[k]) {
                order[k] = ++clock;
                len++;
            }
        } else {
            assert_ptr_equal(map_remove(m, key), order[k] ? &values[k] : NULL);
            len -= order[k] != 0;
            order[k] = 0;
        }
        assert_int_equal(map_len(m), len);
    }
    int seen = 0, last = 0;
    for (struct map_iter it = {0}; map_next(m, &it);) {
        long k = (int *)it.value - values;
        assert_true(order[k] > last);
        last = order[k];
        seen++;
        assert_ptr_equal(map_get(m, it.key), it.value);
    }
    assert_int_equal(seen, len);
    map_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_basics), cmocka_unit_test(test_against_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
