#include "base/str.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/error.h"

static void test_compare(void **state)
{
    (void)state;
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq(NULL, ""));
    assert_true(str_eq("a", "a"));
    assert_true(str_has_prefix("abc", "ab"));
    assert_true(str_has_prefix("abc", ""));
    assert_false(str_has_prefix("a", "ab"));
    assert_false(str_has_prefix(NULL, "a"));
    assert_true(str_has_suffix("abc", "bc"));
    assert_false(str_has_suffix("c", "bc"));
    assert_true(str_empty(NULL) && str_empty("") && !str_empty("x"));
}

static void test_parse_unsigned(void **state)
{
    uint64_t v = 7;

    (void)state;
    assert_int_equal(str_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(str_parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(str_parse_u64("99999999999999999999999", 0, UINT64_MAX, &v), -ERANGE);
    assert_int_equal(str_parse_u64("5", 6, 9, &v), -ERANGE);
    assert_int_equal(str_parse_u64("10", 6, 9, &v), -ERANGE);
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1e3", "99999999999999999999999x"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(str_parse_u64(bad[i], 0, UINT64_MAX, &v), -EINVAL);
    assert_int_equal(str_parse_u64(NULL, 0, 1, &v), -EINVAL);
}

static void test_parse_signed(void **state)
{
    int64_t v = 7;

    (void)state;
    assert_int_equal(str_parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(str_parse_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &v), -ERANGE);
    assert_int_equal(str_parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &v), 0);
    assert_int_equal(str_parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &v), -ERANGE);
    assert_int_equal(str_parse_i64("-0", 0, 1, &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(str_parse_i64("--1", -5, 5, &v), -EINVAL);
    assert_int_equal(str_parse_i64("-", -5, 5, &v), -EINVAL);
    assert_int_equal(str_parse_i64("-6", -5, 5, &v), -ERANGE);
}

static void test_utf8(void **state)
{
    static const char *const good[] = {"", "plain", "ä€🐙", "\x7f", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80",
                                      "\xff",
                                      "a\xe2\x82",
                                      "\xe2",
                                      "\xf0\x9f\x90 truncated"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(str_is_utf8(good[i]));
        _cleanup_free_ char *copy = str_sanitize_utf8(good[i]);
        assert_string_equal(copy, good[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(str_is_utf8(bad[i]));
        _cleanup_free_ char *clean = str_sanitize_utf8(bad[i]);
        assert_true(str_is_utf8(clean));
        assert_non_null(strstr(clean, "\xef\xbf\xbd"));
    }
    _cleanup_free_ char *mixed = str_sanitize_utf8("a\xff\xff"
                                                   "b");
    assert_string_equal(mixed, "a\xef\xbf\xbd\xef\xbf\xbd"
                               "b");
}

static void test_hex(void **state)
{
    char a[65], b[65], odd[4];

    (void)state;
    assert_int_equal(str_random_hex(a, 64), 0);
    assert_int_equal(str_random_hex(b, 64), 0);
    assert_true(str_is_hex(a, 64));
    assert_string_not_equal(a, b);
    assert_int_equal(str_random_hex(odd, 3), 0);
    assert_true(str_is_hex(odd, 3));
    assert_false(str_is_hex(odd, 2));
    assert_false(str_is_hex("ABC", 3));
    assert_false(str_is_hex(NULL, 0));
    str_hex((const uint8_t[]){0x00, 0xaf, 0xff}, 3, a);
    assert_string_equal(a, "00afff");
}

static void test_vectors(void **state)
{
    _cleanup_strv_ char **v = strv_new(2, "a", "b");

    (void)state;
    assert_int_equal(strv_len(v), 2);
    assert_int_equal(strv_append(&v, "c"), 0);
    assert_string_equal(v[2], "c");
    assert_null(v[3]);
    _cleanup_strv_ char **fresh = NULL;
    assert_int_equal(strv_len(fresh), 0);
    assert_int_equal(strv_append(&fresh, "x"), 0);
    assert_int_equal(strv_len(fresh), 1);
    strv_free(NULL);
    _cleanup_free_ char *text = str_printf("%s-%d", "n", 5);
    assert_string_equal(text, "n-5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),      cmocka_unit_test(test_parse_unsigned),
        cmocka_unit_test(test_parse_signed), cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_hex),          cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
