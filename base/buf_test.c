#include "base/buf.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/error.h"

static void test_append(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_int_equal(buf_append(&b, "", 0), 0);
    assert_string_equal(b.data, "");
    assert_int_equal(buf_append_str(&b, "hello"), 0);
    assert_int_equal(buf_append(&b, "123456", 6), -E2BIG);
    assert_string_equal(b.data, "hello"); // unchanged
    assert_int_equal(buf_append(&b, "12345", 5), 0);
    assert_int_equal(b.len, 10);
    assert_int_equal(buf_append(&b, "x", 1), -E2BIG);
    assert_int_equal(buf_append(&b, "x", SIZE_MAX), -E2BIG);
    buf_consume(&b, 5);
    assert_string_equal(b.data, "12345");
    buf_consume(&b, 100);
    assert_int_equal(b.len, 0);
    buf_done(&b);
    assert_null(b.data);
}

static void test_growth_and_printf(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(buf_printf(&b, "%04d,", i), 0);
    assert_int_equal(b.len, 50000);
    assert_memory_equal(b.data + 49995, "9999,", 6);
    _cleanup_free_ char *taken = buf_steal(&b);
    assert_int_equal(strlen(taken), 50000);
    assert_null(b.data);
    _cleanup_free_ char *empty = buf_steal(&b);
    assert_string_equal(empty, "");
    buf_init(&b, 4);
    assert_int_equal(buf_printf(&b, "%s", "12345"), -E2BIG);
    assert_int_equal(b.len, 0);
    buf_done(&b);
}

static void test_read_fd(void **state)
{
    struct buf b;
    int p[2];

    (void)state;
    assert_int_equal(pipe(p), 0);
    assert_int_equal(write(p[1], "abcdef", 6), 6);
    buf_init(&b, 5);
    assert_int_equal(buf_read_fd(&b, p[0], 2), 2);
    assert_string_equal(b.data, "ab");
    assert_int_equal(buf_read_fd(&b, p[0], 100), 3); // no more than fits
    assert_int_equal(buf_read_fd(&b, p[0], 1), -E2BIG);
    buf_consume(&b, 5);
    assert_int_equal(buf_read_fd(&b, p[0], 5), 1);
    close(p[1]);
    assert_int_equal(buf_read_fd(&b, p[0], 4), 0);
    close(p[0]);
    assert_int_equal(buf_read_fd(&b, p[0], 4), -EBADF);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_growth_and_printf),
        cmocka_unit_test(test_read_fd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
