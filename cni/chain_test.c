#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/str.h"
#include "cni/chain.h"
#include "cni/json.h"
#include "cni/plugin.h"
#include "cni/probe.h"
#include "cni/record.h"
#include "cni/testing.h"

struct fixture {
    struct cni_testbed bed;
    struct cni_conflist *list;
    struct cni_attachment a;
    json_t *caps;
};

static struct cni_conflist *make_list(const char *version)
{
    struct cni_conflist *list = NULL;
    _cleanup_free_ char *text =
        str_printf("{\"cniVersion\": \"%s\", \"name\": \"net\", \"plugins\": [{\"type\": \"one\"},"
                   " {\"type\": \"two\", \"capabilities\": {\"portMappings\": true, \"dns\": false}}]}",
                   version);
    assert_int_equal(cni_conflist_parse(text, strlen(text), "f", true, &list, NULL), 0);
    return list;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    cni_testbed_init(&f->bed);
    cni_testbed_plugin(&f->bed, "one", cni_testbed_good_plugin);
    cni_testbed_plugin(&f->bed, "two", cni_testbed_good_plugin);
    f->list = make_list("1.0.0");
    f->caps = json_pack("{s:[{s:i}], s:{}, s:s}", "portMappings", "hostPort", 80, "dns", "cgroupPath", "/x");
    f->a = (struct cni_attachment){.list = f->list,
                                   .container_id = "c1",
                                   .netns = "/run/netns/x",
                                   .ifname = "eth0",
                                   .args = "IgnoreUnknown=1",
                                   .capability_args = f->caps,
                                   .bin_dirs = f->bed.bin_dirs};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cni_conflist_unref(f->list);
    json_decref(f->caps);
    cni_testbed_done(&f->bed);
    free(f);
    return 0;
}

static json_t *read_json(struct fixture *f, const char *relative)
{
    _cleanup_free_ char *text = cni_testbed_read(&f->bed, relative);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static void test_add_and_del(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    _cleanup_json_ json_t *result = NULL;
    assert_int_equal(cni_add(&f->a, &ctx, &result, &err), 0);
    assert_int_equal(cni_check(&f->a, result, &ctx, &err), 0);
    assert_int_equal(cni_del(&f->a, result, &ctx, &err), 0);
    _cleanup_free_ char *calls = cni_testbed_read(&f->bed, "calls");
    assert_string_equal(calls, "ADD one netns=/run/netns/x args=IgnoreUnknown=1\n"
                               "ADD two netns=/run/netns/x args=IgnoreUnknown=1\n"
                               "CHECK one netns=/run/netns/x args=IgnoreUnknown=1\n"
                               "CHECK two netns=/run/netns/x args=IgnoreUnknown=1\n"
                               "DEL two netns=/run/netns/x args=IgnoreUnknown=1\n"
                               "DEL one netns=/run/netns/x args=IgnoreUnknown=1\n");
    _cleanup_json_ json_t *one = read_json(f, "stdin.one.ADD"), *two = read_json(f, "stdin.two.ADD");
    _cleanup_json_ json_t *del = read_json(f, "stdin.one.DEL");
    assert_string_equal(json_string_value(json_object_get(one, "name")), "net");
    assert_string_equal(json_string_value(json_object_get(one, "cniVersion")), "1.0.0");
    assert_null(json_object_get(one, "prevResult"));
    assert_null(json_object_get(one, "runtimeConfig")); // declares no capability
    assert_true(json_equal(json_object_get(two, "prevResult"), result));
    json_t *config = json_object_get(two, "runtimeConfig");
    assert_int_equal(json_object_size(config), 1); // neither dns (false) nor cgroupPath (not declared)
    assert_true(
        json_equal(json_object_get(config, "portMappings"), json_object_get(f->caps, "portMappings")));
    assert_true(json_equal(json_object_get(del, "prevResult"), result));
}

static void test_old_version(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    _cleanup_json_ json_t *result = NULL;
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = make_list("0.3.1");
    f->a.list = list;
    assert_int_equal(cni_add(&f->a, &ctx, &result, NULL), 0);
    assert_int_equal(cni_check(&f->a, result, &ctx, NULL), 0); // no such command then: not run
    assert_int_equal(cni_del(&f->a, result, &ctx, NULL), 0);
    assert_false(cni_testbed_exists(&f->bed, "stdin.one.CHECK"));
    _cleanup_json_ json_t *del = read_json(f, "stdin.one.DEL");
    assert_null(json_object_get(del, "prevResult"));
}

static void expect_add_error(struct fixture *f, const char *body, enum status status, const char *text)
{
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    _cleanup_json_ json_t *result = NULL;
    cni_testbed_plugin(&f->bed, "two", body);
    assert_true(cni_add(&f->a, &ctx, &result, &err) < 0);
    if (!strstr(err.message, text) || err.status != status)
        fail_msg("%s: %s (wanted: %s)", error_status_name(err.status), err.message, text);
    assert_non_null(result); // the first plugin's: for DEL
}

static void test_add_errors(void **state)
{
    struct fixture *f = *state;
    expect_add_error(f,
                     "echo '{\"cniVersion\": \"1.0.0\", \"code\": 100, \"msg\": \"no address\", \"details\": "
                     "\"range full\"}'; echo 'some log' >&2; exit 1",
                     STATUS_INTERNAL,
                     "network net: CNI plugin two ADD: no address: range full (code 100): stderr: some log");
    expect_add_error(f, "echo '{\"code\": 11, \"msg\": \"wait\"}'; exit 1", STATUS_UNAVAILABLE,
                     "two ADD: wait (code 11)");
    expect_add_error(f, "echo '{\"code\": 7, \"msg\": \"bad\"}'; exit 1", STATUS_FAILED_PRECONDITION,
                     "bad (code 7)");
    expect_add_error(f, "exit 3", STATUS_INTERNAL, "exit code 3 and no CNI error");
    expect_add_error(f, "echo boom >&2; exit 3", STATUS_INTERNAL, "exit code 3: stderr: boom");
    expect_add_error(f, "kill -9 $$", STATUS_INTERNAL, "exit code 137");
    expect_add_error(f, "exit 0", STATUS_INTERNAL, "CNI plugin two gave a bad result: it printed nothing");
    expect_add_error(f, "echo garbage", STATUS_INTERNAL, "bad result: output:1: not valid JSON");
    expect_add_error(f, "head -c 3000000 /dev/zero", STATUS_INTERNAL, "printed more than 1048576 bytes");
}

static void test_missing_plugin(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    _cleanup_json_ json_t *result = NULL;
    _cleanup_free_ char *path = str_printf("%s/one", f->bed.bin_dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cni_add(&f->a, &ctx, &result, &err), -ENOENT);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "CNI plugin one not found in"));
    assert_non_null(strstr(err.message, f->bed.bin_dir));
}

static void test_bounds(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    json_t *result = NULL;
    const struct ctx none = CTX_NONE;
    cni_testbed_plugin(&f->bed, "one", "sleep 60");
    int64_t start = clock_mono_ns();
    struct ctx ctx = ctx_with_timeout(&none, 200 * NS_PER_MS);
    assert_int_equal(cni_add(&f->a, &ctx, &result, &err), -ETIMEDOUT);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    assert_non_null(strstr(err.message, "CNI plugin one ADD"));
    struct ctx cancelled = {.deadline_mono_ns = INT64_MAX, .cancel_fd = eventfd(1, EFD_CLOEXEC)};
    assert_int_equal(cni_add(&f->a, &cancelled, &result, &err), -ECANCELED);
    assert_int_equal(err.status, STATUS_CANCELLED);
    assert_true(clock_mono_ns() - start < 5 * NS_PER_SEC);
    (void)close(cancelled.cancel_fd);
}

static void test_del_codes(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    cni_testbed_plugin(&f->bed, "two", "echo '{\"code\": 3, \"msg\": \"who?\"}'; exit 1");
    assert_int_equal(cni_del(&f->a, NULL, &ctx, &err), 0); // unknown container: nothing to do
    assert_true(cni_testbed_exists(&f->bed, "stdin.one.DEL"));
    cni_testbed_plugin(&f->bed, "two", "echo '{\"code\": 5, \"msg\": \"io\"}'; exit 1");
    assert_true(cni_del(&f->a, NULL, &ctx, &err) < 0);
}

static void test_bad_names(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    json_t *result = NULL;
    struct error err = ERROR_INIT;
    f->a.container_id = "../c1";
    assert_int_equal(cni_add(&f->a, &ctx, &result, &err), -EINVAL);
    f->a.container_id = "c1";
    f->a.ifname = "eth0/../x";
    assert_int_equal(cni_add(&f->a, &ctx, &result, &err), -EINVAL);
    assert_false(cni_testbed_exists(&f->bed, "calls"));
}

static void test_status_and_gc(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    const struct cni_valid_attachment valid[] = {{"c1", "eth0"}};
    assert_int_equal(cni_status(f->list, f->bed.bin_dirs, &ctx, &err), 0);
    assert_int_equal(cni_gc(f->list, f->bed.bin_dirs, valid, 1, &ctx, &err), 0);
    assert_false(cni_testbed_exists(&f->bed, "calls")); // commands of 1.1.0
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = make_list("1.1.0");
    assert_int_equal(cni_status(list, f->bed.bin_dirs, &ctx, &err), 0);
    assert_int_equal(cni_gc(list, f->bed.bin_dirs, valid, 1, &ctx, &err), 0);
    _cleanup_json_ json_t *gc = read_json(f, "stdin.two.GC");
    const json_t *item = json_array_get(json_object_get(gc, "cni.dev/valid-attachments"), 0);
    assert_string_equal(json_string_value(json_object_get(item, "containerID")), "c1");
    assert_string_equal(json_string_value(json_object_get(item, "ifname")), "eth0");
    cni_testbed_plugin(&f->bed, "one", "echo '{\"code\": 50, \"msg\": \"daemon down\"}'; exit 1");
    assert_true(cni_status(list, f->bed.bin_dirs, &ctx, &err) < 0);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    assert_true(cni_gc(list, f->bed.bin_dirs, valid, 1, &ctx, &err) <
                0); // and the second was run all the same
}

static void test_negotiation(void **state)
{
    struct fixture *f = *state;
    const struct ctx ctx = CTX_NONE;
    struct error err = ERROR_INIT;
    char version[CNI_VERSION_MAX];
    struct cni_probe *probe = cni_probe_new();
    const char text[] =
        "{\"cniVersion\": \"1.0.0\", \"cniVersions\": [\"1.0.0\", \"1.1.0\"], \"name\": \"net\","
        " \"plugins\": [{\"type\": \"one\"}, {\"type\": \"two\"}]}";
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL;
    assert_int_equal(cni_conflist_parse(text, strlen(text), "f", true, &list, NULL), 0);
    assert_int_equal(cni_probe_negotiate(probe, f->bed.bin_dirs, list, &ctx, version, &err), 0);
    assert_string_equal(version, "1.1.0");
    cni_testbed_write(&f->bed, "versions.two", "{\"supportedVersions\": [\"0.4.0\", \"1.0.0\"]}");
    assert_int_equal(cni_probe_negotiate(probe, f->bed.bin_dirs, list, &ctx, version, &err), 0);
    assert_string_equal(version, "1.1.0");                       // remembered
    cni_testbed_plugin(&f->bed, "two", cni_testbed_good_plugin); // until the file changes
    assert_int_equal(cni_probe_negotiate(probe, f->bed.bin_dirs, list, &ctx, version, &err), 0);
    assert_string_equal(version, "1.0.0");
    cni_testbed_write(&f->bed, "versions.two", "{\"supportedVersions\": [\"0.4.0\"]}");
    cni_testbed_plugin(&f->bed, "two", cni_testbed_good_plugin);
    assert_true(cni_probe_negotiate(probe, f->bed.bin_dirs, list, &ctx, version, &err) < 0);
    assert_non_null(strstr(err.message, "CNI plugin two doesn't speak"));
    cni_testbed_write(&f->bed, "versions.two", "nonsense");
    cni_testbed_plugin(&f->bed, "two", cni_testbed_good_plugin);
    assert_true(cni_probe_negotiate(probe, f->bed.bin_dirs, list, &ctx, version, &err) < 0);
    assert_non_null(strstr(err.message, "bad answer to VERSION"));
    cni_probe_free(probe);
}

static void test_records(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct cni_record record = {.state = CNI_RECORD_ADDING,
                                .container_id = strdup("c1"),
                                .ifname = strdup("eth0"),
                                .netns = strdup("/n"),
                                .args = strdup("a=b"),
                                .list = cni_conflist_ref(f->list),
                                .capability_args = json_incref(f->caps),
                                .created_ns = 42};
    struct cni_record back;
    const char *dir = f->bed.conf_dir;
    assert_int_equal(cni_record_load(dir, "c1", &back, &err), -ENOENT);
    assert_int_equal(cni_record_save(dir, &record, &err), 0);
    assert_int_equal(cni_record_load(dir, "c1", &back, &err), 0);
    assert_int_equal(back.state, CNI_RECORD_ADDING);
    assert_int_equal(back.created_ns, 42);
    assert_null(back.result);
    assert_true(json_equal(back.list->json, f->list->json));
    assert_true(json_equal(back.capability_args, f->caps));
    cni_record_done(&back);
    _cleanup_strv_ char **ids = NULL;
    cni_testbed_write(&f->bed, "conf/c2.json.tmp.abc", "x");
    assert_int_equal(cni_record_clean(dir, &err), 0);
    assert_false(cni_testbed_exists(&f->bed, "conf/c2.json.tmp.abc"));
    assert_int_equal(cni_record_list(dir, &ids, &err), 0);
    assert_int_equal(strv_len(ids), 1);
    assert_int_equal(cni_record_load(dir, "../conf/c1", &back, &err), -EINVAL);
    cni_testbed_write(&f->bed, "conf/c1.json", "{\"format\": 1, \"state\": \"odd\"}");
    assert_true(cni_record_load(dir, "c1", &back, &err) < 0);
    assert_int_equal(err.status, STATUS_DATA_LOSS);
    assert_int_equal(cni_record_remove(dir, "c1", &err), 0);
    // One that is too large to be read again is refused, and what is there stays.
    assert_int_equal(cni_record_save(dir, &record, &err), 0);
    _cleanup_free_ char *large = calloc(1, CNI_RECORD_MAX_BYTES + 1);
    assert_non_null(large);
    memset(large, 'x', CNI_RECORD_MAX_BYTES);
    record.result = json_pack("{s:s}", "x", large);
    assert_int_equal(cni_record_save(dir, &record, &err), -EFBIG);
    assert_int_equal(cni_record_load(dir, "c1", &back, &err), 0);
    cni_record_done(&back);
    assert_int_equal(cni_record_remove(dir, "c1", &err), 0);
    assert_int_equal(cni_record_remove(dir, "c1", &err), 0);
    cni_record_done(&record);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_add_and_del), TEST(test_old_version), TEST(test_add_errors), TEST(test_missing_plugin),
        TEST(test_bounds),      TEST(test_del_codes),   TEST(test_bad_names),  TEST(test_status_and_gc),
        TEST(test_negotiation), TEST(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
