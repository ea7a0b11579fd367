#include "image/platform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"

static void format(Pull__Platform **list, size_t n, struct buf *out)
{
    buf_init(out, 1024);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_printf(out, "%s%s/%s%s%s", i ? " " : "", list[i]->os, list[i]->architecture,
                                    *list[i]->variant ? "/" : "", list[i]->variant),
                         0);
}

static void test_machines(void **state)
{
    static const struct {
        const char *machine;
        int level;
        const char *platforms;
    } cases[] = {
        {"x86_64", 1, "linux/amd64 linux/386"},
        {"x86_64", 3, "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"},
        {"x86_64", 4, "linux/amd64/v4 linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"},
        {"aarch64", 1, "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"},
        {"armv7l", 1, "linux/arm/v7 linux/arm/v6 linux/arm/v5"},
        {"armv6l", 1, "linux/arm/v6 linux/arm/v5"},
        {"i686", 1, "linux/386"},
        {"riscv64", 1, "linux/riscv64"},
        {"s390x", 1, "linux/s390x"},
        {"ppc64le", 1, "linux/ppc64le"},
        {"loongarch64", 1, "linux/loong64"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena *arena = arena_new(1 << 16);
        _cleanup_(buf_done) struct buf text = {0};
        Pull__Platform **list;
        size_t n;

        assert_int_equal(platform_list(cases[i].machine, cases[i].level, arena, &list, &n, NULL), 0);
        format(list, n, &text);
        assert_string_equal(text.data, cases[i].platforms);
        arena_free(arena);
    }
}

static void test_host(void **state)
{
    struct arena *arena = arena_new(1 << 16);
    Pull__Platform **list;
    size_t n;

    (void)state;
    assert_int_equal(platform_list_host(arena, &list, &n, NULL), 0);
    assert_true(n >= 1);
    assert_string_equal(list[0]->os, "linux");
#if defined(__x86_64__)
    assert_string_equal(list[0]->architecture, "amd64");
    assert_string_equal(list[n - 1]->architecture, "386");
#endif
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_machines), cmocka_unit_test(test_host)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
