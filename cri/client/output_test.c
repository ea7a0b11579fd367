#include "cri/client/output.h"
#include "base/testing.h"
#include "base/clock.h"

static void test_ages(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {{0, "0s"},      {119, "119s"}, {120, "2m0s"},  {599, "9m59s"}, {600, "10m"},
                 {7199, "119m"}, {7200, "2h"},  {172800, "2d"}, {777600, "9d"}, {-1, "-"}};
    char out[OUTPUT_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        output_age(cases[i].seconds * NS_PER_SEC, out);
        assert_string_equal(out, cases[i].text);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0B"},          {999, "999B"},        {1000, "1.0kB"},
                 {4260000, "4.3MB"}, {999960000, "1.0GB"}, {UINT64_MAX, "18.4EB"}};
    char out[OUTPUT_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        output_size(cases[i].bytes, out);
        assert_string_equal(out, cases[i].text);
    }
    output_short_id("sha256:0123456789abcdef0123", out);
    assert_string_equal(out, "0123456789ab");
    output_short_id("short", out);
    assert_string_equal(out, "short");
    output_short_id(NULL, out);
    assert_string_equal(out, "");
}

static void test_binary_sizes(void **state)
{
    char out[OUTPUT_TEXT_MAX];

    (void)state;
    output_size_binary(1023, out);
    assert_string_equal(out, "1023B");
    output_size_binary(1024, out);
    assert_string_equal(out, "1.0KiB");
    output_size_binary(100 << 20, out);
    assert_string_equal(out, "100.0MiB");
    output_size_binary(UINT64_MAX, out);
    assert_string_equal(out, "16.0EiB");
}

static void test_cut(void **state)
{
    char line[] = "zwölf Boxkämpfer";

    (void)state;
    output_cut(line, 100);
    assert_string_equal(line, "zwölf Boxkämpfer");
    output_cut(line, 11);
    assert_string_equal(line, "zwölf Boxkä");
    output_cut(line, 0);
    assert_string_equal(line, "");
}

static void test_table(void **state)
{
    struct table t;
    char text[512];
    FILE *f = tmpfile();

    (void)state;
    table_init(&t, 3, (const char *const[]){"ID", "NAME", "END"});
    table_row(&t, (const char *const[]){"1", "ä-\033[31m", "x"});
    table_row(&t, (const char *const[]){"12345", "b", NULL});
    table_print(&t, f);
    table_done(&t);
    rewind(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    assert_string_equal(text, "ID      NAME      END\n"
                              "1       ä-?[31m   x\n"
                              "12345   b         \n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ages), cmocka_unit_test(test_sizes), cmocka_unit_test(test_binary_sizes),
        cmocka_unit_test(test_cut),  cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
