#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cni/config.h"
#include "cni/testing.h"

#define LIST(name) "{\"cniVersion\": \"1.0.0\", \"name\": \"" name "\", \"plugins\": [{\"type\": \"one\"}]}"

static int setup(void **state)
{
    struct cni_testbed *bed = calloc(1, sizeof(*bed));
    cni_testbed_init(bed);
    cni_testbed_plugin(bed, "one", cni_testbed_good_plugin);
    *state = bed;
    return 0;
}

static int teardown(void **state)
{
    cni_testbed_done(*state);
    free(*state);
    return 0;
}

// Waits (at most 8 s) until the loaded network is `name` (NULL: none), and load error and problem contain the
// texts given.
static void expect(struct cni_config *config, const char *name, const char *load_error, const char *problem)
{
    struct cni_config_state state;
    for (int64_t end = clock_mono_ns() + 8 * NS_PER_SEC;;) {
        cni_config_get_state(config, &state);
        bool same = str_eq(state.list ? state.list->name : NULL, name) &&
                    strstr(state.load_error, load_error) && strstr(state.problem, problem) &&
                    (*load_error || !*state.load_error) && (*problem || !*state.problem);
        cni_conflist_unref(state.list);
        if (same)
            return;
        if (clock_mono_ns() > end)
            fail_msg("not %s: load error \"%s\", problem \"%s\"", name ? name : "none", state.load_error,
                     state.problem);
        (void)poll(NULL, 0, 5);
    }
}

static void test_follows(void **state)
{
    struct cni_testbed *bed = *state;
    struct cni_config *config = NULL;
    assert_int_equal(cni_config_open(bed->conf_dir, bed->bin_dirs, &config, NULL), 0);
    expect(config, NULL, "no CNI configuration in", "");
    cni_testbed_write(bed, "conf/20-a.conflist", LIST("a"));
    expect(config, "a", "", "");
    cni_testbed_write(bed, "conf/10-b.conflist", LIST("b"));
    expect(config, "b", "", "");
    cni_testbed_write(bed, "conf/10-b.conflist", "{ oops");
    expect(config, "b", "10-b.conflist:1: not valid JSON", "");
    cni_testbed_write(bed, "conf/10-b.conflist", LIST("b2"));
    expect(config, "b2", "", "");
    _cleanup_free_ char *b = str_printf("%s/10-b.conflist", bed->conf_dir);
    _cleanup_free_ char *a = str_printf("%s/20-a.conflist", bed->conf_dir);
    assert_int_equal(unlink(b), 0);
    expect(config, "a", "", "");
    assert_int_equal(unlink(a), 0);
    expect(config, NULL, "no CNI configuration in", "");
    cni_config_close(config);
}

static void test_directory_comes_and_goes(void **state)
{
    struct cni_testbed *bed = *state;
    struct cni_config *config = NULL;
    _cleanup_free_ char *dir = str_printf("%s/x/y/net.d", bed->root), *x = str_printf("%s/x", bed->root);
    _cleanup_free_ char *y = str_printf("%s/x/y", bed->root), *old = str_printf("%s/old", bed->root);
    assert_int_equal(cni_config_open(dir, bed->bin_dirs, &config, NULL), 0);
    expect(config, NULL, "No such file or directory", "");
    assert_int_equal(mkdir(x, 0755), 0);
    assert_int_equal(mkdir(y, 0755), 0);
    assert_int_equal(mkdir(dir, 0755), 0);
    cni_testbed_write(bed, "x/y/net.d/a.conflist", LIST("a"));
    expect(config, "a", "", "");
    assert_int_equal(rename(x, old), 0);
    expect(config, NULL, "No such file or directory", "");
    // As a ConfigMap or an installer does it: a link to a directory that is complete.
    _cleanup_free_ char *target = str_printf("%s/old", bed->root);
    assert_int_equal(symlink(target, x), 0);
    expect(config, "a", "", "");
    cni_testbed_write(bed, "old/y/net.d/a.conflist", LIST("b"));
    expect(config, "b", "", "");
    cni_config_close(config);
}

static void test_plugins_are_looked_after(void **state)
{
    struct cni_testbed *bed = *state;
    struct cni_config *config = NULL;
    _cleanup_free_ char *plugin = str_printf("%s/one", bed->bin_dir);
    cni_testbed_write(bed, "conf/a.conflist", LIST("a"));
    assert_int_equal(cni_config_open(bed->conf_dir, bed->bin_dirs, &config, NULL), 0);
    expect(config, "a", "", ""); // loaded before open returned
    assert_int_equal(unlink(plugin), 0);
    expect(config, "a", "", "CNI plugin one not found in");
    cni_testbed_plugin(bed, "one", cni_testbed_good_plugin);
    expect(config, "a", "", "");
    cni_testbed_write(bed, "versions.one", "{\"supportedVersions\": [\"0.4.0\"]}");
    cni_testbed_plugin(bed, "one", "exit 0");
    cni_testbed_write(bed, "conf/a.conflist", LIST("b"));
    expect(config, "b", "", "CNI plugin one doesn't speak version 1.0.0 (it speaks up to 0.4.0)");
    cni_config_close(config);
}

static void test_status_command(void **state)
{
    struct cni_testbed *bed = *state;
    struct cni_config *config = NULL;
    cni_testbed_plugin(bed, "one", "echo '{\"code\": 50, \"msg\": \"agent is down\"}'; exit 1");
    cni_testbed_write(bed, "conf/a.conflist",
                      "{\"cniVersion\": \"1.1.0\", \"name\": \"a\", \"plugins\": [{\"type\": \"one\"}]}");
    assert_int_equal(cni_config_open(bed->conf_dir, bed->bin_dirs, &config, NULL), 0);
    expect(config, "a", "", "agent is down");
    cni_testbed_plugin(bed, "one", "exit 0");
    expect(config, "a", "", ""); // looked at again while something is amiss
    cni_config_close(config);
}

static void test_hung_plugin_does_not_block(void **state)
{
    struct cni_testbed *bed = *state;
    struct cni_config *config = NULL;
    cni_testbed_plugin(bed, "one", "exec sleep 100");
    cni_testbed_write(bed, "conf/a.conflist",
                      "{\"cniVersion\": \"1.1.0\", \"name\": \"a\", \"plugins\": [{\"type\": \"one\"}]}");
    int64_t start = clock_mono_ns();
    assert_int_equal(cni_config_open(bed->conf_dir, bed->bin_dirs, &config, NULL), 0);
    struct cni_config_state now;
    cni_config_get_state(config, &now);
    assert_non_null(strstr(now.load_error, "is still being read"));
    cni_config_close(config); // kills it
    assert_true(clock_mono_ns() - start < 5 * NS_PER_SEC);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_follows),        TEST(test_directory_comes_and_goes),   TEST(test_plugins_are_looked_after),
        TEST(test_status_command), TEST(test_hung_plugin_does_not_block),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
