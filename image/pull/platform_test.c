#include "image/pull/platform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#define OCI_IMAGE "application/vnd.oci.image.manifest.v1+json"

static struct index_entry entry(const char *os, const char *architecture, const char *variant)
{
    return (struct index_entry){.descriptor = {.digest = "", .media_type = OCI_IMAGE},
                                .os = os,
                                .architecture = architecture,
                                .variant = variant};
}

static Pull__Platform platform(const char *architecture, const char *variant)
{
    Pull__Platform p = PULL__PLATFORM__INIT;

    p.os = (char *)"linux";
    p.architecture = (char *)architecture;
    p.variant = (char *)variant;
    return p;
}

// "1 0": the chosen entries' places; for none the error's text.
static char *chosen(struct index_entry *entries, size_t n_entries, const struct platforms *platforms)
{
    const struct manifest index = {.kind = MANIFEST_INDEX, .entries = entries, .n_entries = n_entries};
    struct arena *arena = arena_new(1 << 16);
    const struct index_entry **out;
    struct error err = ERROR_INIT;
    char *text = NULL;
    size_t n;

    if (platform_choose(&index, platforms, arena, &out, &n, &err) < 0) {
        assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
        assert_int_equal(err.errnum, ENOEXEC);
        text = strdup(err.message);
    } else {
        struct buf places;
        buf_init(&places, 1000);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(buf_printf(&places, "%s%td", i ? " " : "", out[i] - entries), 0);
        text = buf_steal(&places);
    }
    arena_free(arena);
    return text;
}

#define EXPECT(platforms, text, ...)                                                                         \
    do {                                                                                                     \
        struct index_entry e[] = {__VA_ARGS__};                                                              \
        _cleanup_free_ char *c = chosen(e, ARRAY_SIZE(e), platforms);                                        \
        assert_string_equal(c, text);                                                                        \
    } while (0)

static void test_amd64(void **state)
{
    Pull__Platform v3 = platform("amd64", "v3"), v2 = platform("amd64", "v2"), v1 = platform("amd64", ""),
                   i386 = platform("386", "");
    Pull__Platform *all[] = {&v3, &v2, &v1, &i386}, *one[] = {&v1};
    const struct platforms modern = {all, 4}, old = {one, 1};

    (void)state;
    EXPECT(&modern, "3 1 0", entry("linux", "amd64", ""), entry("linux", "amd64", "v2"),
           entry("linux", "amd64", "v4"), entry("linux", "amd64", "v3"));
    EXPECT(&old, "1", entry("linux", "amd64", "v3"), entry("linux", "amd64", "v1"));
    EXPECT(&old, "0 2", entry("linux", "amd64", ""), entry("linux", "arm64", ""),
           entry("linux", "amd64", ""));
    EXPECT(&modern, "0", entry("Linux", "x86_64", ""), entry("windows", "amd64", ""));
    EXPECT(&modern, "1 0", entry("linux", "386", ""), entry("linux", "amd64", ""));
    EXPECT(&old, "no image for platform linux/amd64; there are: linux/386, linux/arm64/v8, windows/amd64",
           entry("linux", "386", ""), entry("linux", "arm64", "v8"), entry("unknown", "unknown", ""),
           entry("windows", "amd64", ""));
    EXPECT(&old, "no image for platform linux/amd64; there are: none", entry("unknown", "unknown", ""));
}

static void test_arm(void **state)
{
    Pull__Platform arm64 = platform("arm64", ""), v8 = platform("arm", "v8"), v7 = platform("arm", "v7"),
                   v6 = platform("arm", "v6"), v5 = platform("arm", "v5");
    Pull__Platform *all[] = {&arm64, &v8, &v7, &v6, &v5}, *small[] = {&v7, &v6, &v5}, *smaller[] = {&v6, &v5};
    const struct platforms server = {all, 5}, board = {small, 3}, old = {smaller, 2};

    (void)state;
    EXPECT(&server, "2 3 1 0", entry("linux", "arm", "v6"), entry("linux", "arm", "v7"),
           entry("linux", "arm64", "v8"), entry("linux", "aarch64", ""));
    EXPECT(&server, "1", entry("linux", "arm64", "v9"), entry("linux", "arm64", "8"));
    EXPECT(&board, "1 0", entry("linux", "arm", "v5"), entry("linux", "arm", ""),
           entry("linux", "arm64", ""));
    EXPECT(&board, "1 0", entry("linux", "armel", ""), entry("linux", "armhf", ""));
    EXPECT(&old, "1", entry("linux", "arm", ""), entry("linux", "arm", "6"));
}

// Those that don't say what they are for come last, unless they can't be images.
static void test_unsaid(void **state)
{
    Pull__Platform v1 = platform("amd64", "");
    Pull__Platform *one[] = {&v1};
    const struct platforms amd64 = {one, 1};
    struct index_entry signature = entry("", "", "");

    (void)state;
    signature.descriptor.media_type = "application/vnd.example.signature";
    EXPECT(&amd64, "2 0", entry("", "", ""), signature, entry("linux", "amd64", ""));
    EXPECT(&amd64, "no image for platform linux/amd64; there are: none", signature);
}

static void test_runnable(void **state)
{
    Pull__Platform v1 = platform("amd64", ""), i386 = platform("386", "");
    Pull__Platform *list[] = {&v1, &i386};
    const struct platforms amd64 = {list, 2};

    (void)state;
    assert_true(platform_is_runnable("linux", "amd64", &amd64));
    assert_true(platform_is_runnable("linux", "x86_64", &amd64));
    assert_true(platform_is_runnable("linux", "386", &amd64));
    assert_true(platform_is_runnable("", "", &amd64));
    assert_false(platform_is_runnable("windows", "amd64", &amd64));
    assert_false(platform_is_runnable("linux", "arm64", &amd64));
    assert_false(platform_is_runnable("unknown", "unknown", &amd64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_amd64), cmocka_unit_test(test_arm),
                                       cmocka_unit_test(test_unsaid), cmocka_unit_test(test_runnable)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
