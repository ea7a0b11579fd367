// The lines of a pull's display.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "cri/client/pull.h"

static Crisp__LayerProgress layer(uint64_t fetched, uint64_t size, Crisp__LayerState state)
{
    Crisp__LayerProgress l = CRISP__LAYER_PROGRESS__INIT;

    l.digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    l.fetched = fetched;
    l.size = size;
    l.state = state;
    return l;
}

static void test_lines(void **state)
{
    (void)state;
    char out[256];
    Crisp__LayerProgress l = layer(5000000, 10000000, CRISP__LAYER_STATE__LAYER_FETCHING);

    pull_view_line(&l, 70, out, sizeof(out));
    assert_string_equal(out, "0123456789ab  fetching      [==========>          ]  5.0MB / 10.0MB");
    // Too narrow for a bar, and for anything.
    pull_view_line(&l, 50, out, sizeof(out));
    assert_string_equal(out, "0123456789ab  fetching      5.0MB / 10.0MB");
    pull_view_line(&l, 10, out, sizeof(out));
    assert_string_equal(out, "0123456789");
    l.state = CRISP__LAYER_STATE__LAYER_PRESENT;
    pull_view_line(&l, 80, out, sizeof(out));
    assert_string_equal(out, "0123456789ab  here already  10.0MB");
    l.state = (Crisp__LayerState)77; // of a newer runtime
    pull_view_line(&l, 80, out, sizeof(out));
    assert_string_equal(out, "0123456789ab  waiting       10.0MB");
}

// What a runtime says is not to be trusted with the width of a bar.
static void test_nonsense(void **state)
{
    (void)state;
    char out[256];
    Crisp__LayerProgress l = layer(UINT64_MAX, 1, CRISP__LAYER_STATE__LAYER_FETCHING);

    pull_view_line(&l, 200, out, sizeof(out));
    assert_non_null(strstr(out, "[========================================]"));
    l = layer(7, 0, CRISP__LAYER_STATE__LAYER_FETCHING);
    l.digest = "";
    pull_view_line(&l, 200, out, sizeof(out));
    assert_non_null(strstr(out, "[>                                       ]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
