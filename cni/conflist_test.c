#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cni/confdir.h"
#include "cni/conflist.h"
#include "cni/jsonline.h"
#include "cni/name.h"
#include "cni/testing.h"

static const char good[] = "{\n"
                           "  \"cniVersion\": \"1.0.0\",\n"
                           "  \"name\": \"pods\",\n"
                           "  \"disableCheck\": true,\n"
                           "  \"plugins\": [\n"
                           "    {\"type\": \"bridge\", \"ipam\": {\"type\": \"host-local\"}},\n"
                           "    {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}\n"
                           "  ]\n"
                           "}\n";

static void test_good_list(void **state)
{
    (void)state;
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(cni_conflist_parse(good, strlen(good), "10-a.conflist", true, &list, &err), 0);
    assert_string_equal(list->name, "pods");
    assert_string_equal(list->version, "1.0.0");
    assert_true(list->disable_check);
    assert_false(list->disable_gc);
    assert_int_equal(list->n_plugins, 2);
    assert_string_equal(list->plugins[1].type, "portmap");
}

static void test_single_conf(void **state)
{
    (void)state;
    const char text[] =
        "{\"cniVersion\": \"0.4.0\", \"name\": \"n\", \"type\": \"bridge\", \"bridge\": \"b0\"}";
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL;
    assert_int_equal(cni_conflist_parse(text, strlen(text), "x.conf", false, &list, NULL), 0);
    assert_int_equal(list->n_plugins, 1);
    assert_string_equal(list->version, "0.4.0");
    assert_string_equal(json_string_value(json_object_get(list->plugins[0].conf, "bridge")), "b0");
}

// What is wrong, as a list, and how its error begins.
static const struct bad {
    const char *text, *error;
} bad[] = {
    {"", "f:1: not valid JSON"},
    {"{", "f:1: not valid JSON"},
    {"[]", "f:1: not a JSON object"},
    {"{}", "f:1: name must be"},
    {"{\n\"name\": \"../x\"}", "f:2: name must be"},
    {"{\n\"name\": \"x\"}", "f:2: cniVersion is missing"},
    {"{\"name\": \"x\",\n\"cniVersion\": \"9.9.9\"}", "f:2: no supported CNI version"},
    {"{\"name\": \"x\",\n\"cniVersion\": \"0.2.0\"}", "f:2: no supported CNI version"},
    {"{\"name\": \"x\",\n\"cniVersion\": 1}", "f:2: cniVersion must be"},
    {"{\"name\": \"x\", \"cniVersions\":\n[\"1.0.0\",\n\"x\"]}", "f:3: cniVersions: not a version"},
    {"{\"name\": \"x\", \"cniVersion\": \"1.0.0\"}", "f:1: plugins lists no plugin"},
    {"{\"name\": \"x\", \"cniVersion\": \"1.0.0\",\n\"plugins\": {}}", "f:2: plugins must be an array"},
    {"{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n{\"type\": \"a\"},\n3]}",
     "f:3: a plugin must be an object"},
    {"{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n{\"type\": "
     "\"a\"},\n{\"type\":\n\"../a\"}]}",
     "f:4: type must be"},
    {"{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [{\"type\": \"a\",\n\"capabilities\": []}]}",
     "f:2: capabilities must be"},
    {"{\"name\": \"x\", \"cniVersion\": \"1.0.0\",\n\"disableGC\": 1, \"plugins\": [{\"type\": \"a\"}]}",
     "f:2: disableGC must be"},
};

static void test_bad_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct cni_conflist *list = NULL;
        struct error err = ERROR_INIT;
        assert_int_not_equal(cni_conflist_parse(bad[i].text, strlen(bad[i].text), "f", true, &list, &err), 0);
        assert_null(list);
        if (!str_has_prefix(err.message, bad[i].error))
            fail_msg("case %zu: %s", i, err.message);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    }
}

// Every truncation of a good file fails or parses, but never crashes (run under the sanitizers).
static void test_truncated(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(good); len++) {
        _cleanup_free_ char *text = malloc(len + 1);
        _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL;
        memcpy(text, good, len);
        text[len] = '\0';
        (void)cni_conflist_parse(text, len, "f", true, &list, NULL);
        const char *const paths[][4] = {{"plugins", "#1", "type", NULL}, {"name", NULL}, {"#3", "x", NULL}};
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
            assert_true(cni_json_line(text, len, paths[i]) >= 1);
    }
}

static void test_pick_version(void **state)
{
    (void)state;
    const char text[] =
        "{\"cniVersion\": \"0.4.0\", \"cniVersions\": [\"0.4.0\", \"1.1.0\", \"1.0.0\", \"7.0.0\"],"
        "\"name\": \"n\", \"plugins\": [{\"type\": \"a\"}]}";
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL;
    assert_int_equal(cni_conflist_parse(text, strlen(text), "f", true, &list, NULL), 0);
    assert_string_equal(list->version, "1.1.0");
    const char *const debian[] = {"0.4.0", "1.0.0", NULL}, *const old[] = {"0.3.1", NULL};
    assert_string_equal(cni_conflist_pick_version(list, debian), "1.0.0");
    assert_null(cni_conflist_pick_version(list, old));
}

static void test_names(void **state)
{
    (void)state;
    assert_true(cni_name_is_valid("a.b_c-9"));
    assert_false(cni_name_is_valid(".a"));
    assert_false(cni_name_is_valid("a/b"));
    assert_false(cni_name_is_valid(""));
    assert_false(cni_name_is_valid(NULL));
    assert_true(cni_ifname_is_valid("eth0"));
    assert_false(cni_ifname_is_valid(".."));
    assert_false(cni_ifname_is_valid("a:b"));
    assert_false(cni_ifname_is_valid("sixteen-bytes-xx"));
    assert_true(cni_type_is_valid("host-local"));
    assert_false(cni_type_is_valid("../sh"));
    assert_false(cni_type_is_valid(".."));
    assert_true(cni_version_compare("0.10.0", "0.4.0") > 0);
    assert_false(cni_version_is_valid("1.0"));
    assert_false(cni_version_is_valid("1.0.0-rc1"));
}

static void test_directory(void **state)
{
    (void)state;
    struct cni_testbed bed;
    cni_testbed_init(&bed);
    struct cni_conflist *list = NULL;
    struct error skipped = ERROR_INIT, err = ERROR_INIT;
    assert_int_equal(cni_confdir_load(bed.conf_dir, NULL, &list, &skipped, &err), -ENOENT);
    assert_non_null(strstr(err.message, bed.conf_dir));
    cni_testbed_write(&bed, "conf/10-a.conflist", "{ broken");
    cni_testbed_write(&bed, "conf/.09-hidden.conflist", good);
    cni_testbed_write(&bed, "conf/11-readme.txt", good);
    assert_int_equal(cni_confdir_load(bed.conf_dir, NULL, &list, &skipped, &err), -EINVAL);
    assert_non_null(strstr(err.message, "10-a.conflist:1: not valid JSON"));
    cni_testbed_write(&bed, "conf/20-b.conflist", good);
    skipped = ERROR_INIT;
    assert_int_equal(cni_confdir_load(bed.conf_dir, NULL, &list, &skipped, &err), 0);
    assert_true(str_has_suffix(list->path, "/20-b.conflist"));
    assert_non_null(strstr(skipped.message, "10-a.conflist:1:"));
    // The one in use breaks: it stays in use.
    struct cni_conflist *again = NULL;
    cni_testbed_write(&bed, "conf/20-b.conflist", "{}");
    cni_testbed_write(&bed, "conf/30-c.conflist", good);
    assert_int_equal(cni_confdir_load(bed.conf_dir, list, &again, &skipped, &err), 0);
    assert_ptr_equal(again, list);
    cni_conflist_unref(again);
    cni_conflist_unref(list);
    cni_testbed_done(&bed);
}

static void test_folder_of_plugins(void **state)
{
    (void)state;
    struct cni_testbed bed;
    cni_testbed_init(&bed);
    _cleanup_free_ char *folder = str_printf("%s/pods", bed.conf_dir);
    assert_int_equal(mkdir(folder, 0755), 0);
    cni_testbed_write(&bed, "conf/pods/20-b.conf", "{\"type\": \"second\"}");
    cni_testbed_write(&bed, "conf/pods/10-a.conf", "{\"type\": \"first\"}");
    cni_testbed_write(&bed, "conf/a.conflist", "{\"cniVersion\": \"1.1.0\", \"name\": \"pods\"}");
    _cleanup_free_ char *path = str_printf("%s/a.conflist", bed.conf_dir);
    struct cni_conflist *list = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(cni_conflist_load(path, &list, &err), 0);
    assert_int_equal(list->n_plugins, 2);
    assert_string_equal(list->plugins[0].type, "first");
    cni_conflist_unref(list);
    cni_testbed_write(&bed, "conf/a.conflist",
                      "{\"cniVersion\": \"1.1.0\", \"name\": \"pods\", \"loadOnlyInlinedPlugins\": true,"
                      " \"plugins\": [{\"type\": \"only\"}]}");
    assert_int_equal(cni_conflist_load(path, &list, &err), 0);
    assert_int_equal(list->n_plugins, 1);
    cni_conflist_unref(list);
    cni_testbed_write(&bed, "conf/a.conflist", "{\"cniVersion\": \"1.1.0\", \"name\": \"pods\"}");
    cni_testbed_write(&bed, "conf/pods/30-c.conf", "{\n\"type\": 3}");
    assert_int_equal(cni_conflist_load(path, &list, &err), -EINVAL);
    assert_non_null(strstr(err.message, "/pods/30-c.conf:2: type must be"));
    cni_testbed_done(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_list),    cmocka_unit_test(test_single_conf),
        cmocka_unit_test(test_bad_lists),    cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_pick_version), cmocka_unit_test(test_names),
        cmocka_unit_test(test_directory),    cmocka_unit_test(test_folder_of_plugins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
