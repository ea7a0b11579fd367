#include "base/testing.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/selinux.h"

#define FIELD     "linux.security_context.selinux_options"
#define ATTRIBUTE "security.selinux"
#define LABEL     "system_u:object_r:container_file_t:s0:c1,c2"

// A host with SELinux. Its "context" is a FIFO, which gives back what is written to it: a policy in which
// every context is a good one; without it none is.
struct host {
    char dir[256], fs[300], context[340], etc[300];
    struct selinux *s;
};

static void write_text(const char *dir, const char *name, const char *text)
{
    struct error err = ERROR_INIT;
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (file_write_atomic(path, text, strlen(text), 0644, false, &err) < 0)
        fail_msg("%s", err.message);
}

static void open_host(struct host *h, const char *mls)
{
    const struct selinux_paths paths = {.fs = h->fs, .etc = h->etc};
    struct error err = ERROR_INIT;
    selinux_close(h->s);
    write_text(h->fs, "mls", mls);
    assert_int_equal(selinux_open(&paths, &h->s, &err), 0);
    assert_non_null(h->s);
}

static int setup(void **state)
{
    struct host *h = calloc(1, sizeof(*h));
    char contexts[400];
    testing_scratch_make(h->dir);
    (void)snprintf(h->fs, sizeof(h->fs), "%s/fs", h->dir);
    (void)snprintf(h->context, sizeof(h->context), "%s/context", h->fs);
    (void)snprintf(h->etc, sizeof(h->etc), "%s/etc", h->dir);
    (void)snprintf(contexts, sizeof(contexts), "%s/mine/contexts", h->etc);
    assert_int_equal(file_mkdir_p(h->fs, 0755, NULL), 0);
    assert_int_equal(file_mkdir_p(contexts, 0755, NULL), 0);
    assert_int_equal(mkfifo(h->context, 0600), 0);
    write_text(h->fs, "enforce", "1");
    write_text(h->etc, "config", "# SELINUXTYPE=other\nSELINUX=enforcing\nSELINUXTYPE=mine\n");
    write_text(contexts, "lxc_contexts",
               "process = \"sys_u:sys_r:cont_t:s0\"\nfile=\"sys_u:obj_r:cont_file_t:s0\"\n"
               "sandbox_kvm_process = \"a:b:c:s0\"\n");
    open_host(h, "1");
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct host *h = *state;
    selinux_close(h->s);
    testing_scratch_remove(h->dir);
    free(h);
    return 0;
}

static void the_host_is_read(void **state)
{
    struct host *h = *state;
    assert_true(selinux_is_enforcing(h->s));
    assert_true(selinux_has_levels(h->s));
    assert_string_equal(selinux_process_default(h->s), "sys_u:sys_r:cont_t:s0");
    assert_string_equal(selinux_file_default(h->s), "sys_u:obj_r:cont_file_t:s0");
    write_text(h->fs, "enforce", "0");
    assert_false(selinux_is_enforcing(h->s));

    // Without the policy's file: the names that all such policies use.
    write_text(h->etc, "config", "SELINUXTYPE=../mine\n");
    open_host(h, "0");
    assert_string_equal(selinux_process_default(h->s), "system_u:system_r:container_t");
    assert_string_equal(selinux_file_default(h->s), "system_u:object_r:container_file_t");

    // A policy without any of them.
    assert_int_equal(unlink(h->context), 0);
    open_host(h, "0");
    assert_string_equal(selinux_process_default(h->s), "");
    assert_string_equal(selinux_file_default(h->s), "");

    const struct selinux_paths none = {.fs = "/nonexistent", .etc = h->etc};
    struct selinux *s = h->s;
    assert_int_equal(selinux_open(&none, &s, NULL), 0);
    assert_null(s);
}

static Cri__SELinuxOption options(const char *user, const char *role, const char *type, const char *level)
{
    Cri__SELinuxOption o = CRI__SELINUX_OPTION__INIT;
    o.user = (char *)user;
    o.role = (char *)role;
    o.type = (char *)type;
    o.level = (char *)level;
    return o;
}

static void labels_are_put_together(void **state)
{
    struct host *h = *state;
    const struct {
        Cri__SELinuxOption options;
        const char *pod_level;
        bool privileged;
        const char *process, *file;
    } cases[] = {
        {options("", "", "", ""), "s0:c3,c9", false, "sys_u:sys_r:cont_t:s0:c3,c9",
         "sys_u:obj_r:cont_file_t:s0:c3,c9"},
        {options("", "", "", ""), "", false, "sys_u:sys_r:cont_t:s0", "sys_u:obj_r:cont_file_t:s0"},
        {options("", "", "", "s0:c4,c5"), "s0:c3,c9", false, "sys_u:sys_r:cont_t:s0:c4,c5",
         "sys_u:obj_r:cont_file_t:s0:c4,c5"},
        {options("u", "r", "t", "s0"), "s0:c3,c9", false, "u:r:t:s0", "sys_u:obj_r:cont_file_t:s0"},
        {options("", "", "t", ""), "s0:c3,c9", false, "sys_u:sys_r:t:s0:c3,c9",
         "sys_u:obj_r:cont_file_t:s0:c3,c9"},
        {options("", "", "t", ""), "s0:c3,c9", true, "sys_u:sys_r:spc_t:s0",
         "sys_u:obj_r:cont_file_t:s0:c3,c9"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct selinux_labels labels;
        struct error err = ERROR_INIT;
        if (selinux_make_labels(h->s, FIELD, &cases[i].options, cases[i].pod_level, cases[i].privileged,
                                &labels, &err) < 0)
            fail_msg("case %zu: %s", i, err.message);
        assert_string_equal(labels.process, cases[i].process);
        assert_string_equal(labels.file, cases[i].file);
    }
    struct selinux_labels labels;
    assert_int_equal(selinux_make_labels(h->s, FIELD, NULL, "s0:c3,c9", false, &labels, NULL), 0);
    assert_string_equal(labels.process, cases[0].process);
}

static void bad_options_are_refused(void **state)
{
    struct host *h = *state;
    static char longest[256];
    memset(longest, 'x', 255);
    const struct {
        Cri__SELinuxOption options;
        const char *want;
    } cases[] = {
        {options("u:r", "", "", ""), FIELD ".user: \"u:r\" has a character"},
        {options("", "a b", "", ""), FIELD ".role: "},
        {options("", "", "t\"", ""), FIELD ".type: "},
        {options("", "", "", "s0 c1"), FIELD ".level: "},
        {options("", "", longest, ""), FIELD ": "},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct selinux_labels labels;
        struct error err = ERROR_INIT;
        assert_true(selinux_make_labels(h->s, FIELD, &cases[i].options, "", i % 2, &labels, &err) < 0);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        if (!str_has_prefix(err.message, cases[i].want))
            fail_msg("case %zu: %s", i, err.message);
    }
}

// Debian's: containers run unlabelled there, but for what is asked for, which has to be in the policy.
static void policies_without_containers(void **state)
{
    struct host *h = *state;
    struct selinux_labels labels;
    struct error err = ERROR_INIT;
    assert_int_equal(unlink(h->context), 0);
    open_host(h, "1");
    assert_int_equal(selinux_make_labels(h->s, FIELD, NULL, "s0:c1,c2", false, &labels, &err), 0);
    assert_string_equal(labels.process, "");
    assert_string_equal(labels.file, "");
    Cri__SELinuxOption o = options("", "", "", "s0:c1,c2");
    assert_true(selinux_make_labels(h->s, FIELD, &o, "", false, &labels, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "name a type"));
    o = options("", "", "t", "");
    assert_true(selinux_make_labels(h->s, FIELD, &o, "", false, &labels, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(err.message,
                        FIELD ": \"sys_u:sys_r:t:s0\" is not a context of this host's SELinux policy");
    assert_int_equal(mkfifo(h->context, 0600), 0);
    assert_int_equal(selinux_make_labels(h->s, FIELD, &o, "", false, &labels, &err), 0);
    assert_string_equal(labels.process, "sys_u:sys_r:t:s0");
    assert_string_equal(labels.file, "");
}

// ---- Relabelling ----

static const char *at(const struct host *h, const char *name)
{
    static char path[600];
    (void)snprintf(path, sizeof(path), "%s/%s", h->dir, name);
    return path;
}

static bool has_label(const struct host *h, const char *name, const char *label)
{
    char now[256] = "";
    ssize_t n = lgetxattr(at(h, name), ATTRIBUTE, now, sizeof(now) - 1);
    return n >= 0 ? str_eq(now, label) : *label == '\0';
}

static void make_tree(const struct host *h)
{
    assert_int_equal(file_mkdir_p(at(h, "v/sub/deep"), 0755, NULL), 0);
    assert_int_equal(file_mkdir_p(at(h, "outside"), 0755, NULL), 0);
    write_text(h->dir, "v/sub/file", "x");
    write_text(h->dir, "outside/file", "x");
    char target[400];
    (void)snprintf(target, sizeof(target), "%s/outside", h->dir);
    assert_int_equal(symlink(target, at(h, "v/link")), 0);
    assert_int_equal(mkfifo(at(h, "v/fifo"), 0600), 0); // opening it would wait for ever
}

static void trees_are_relabelled(void **state)
{
    struct host *h = *state;
    struct error err = ERROR_INIT;
    static const char *const inside[] = {"v", "v/sub", "v/sub/deep", "v/sub/file", "v/link", "v/fifo"};
    make_tree(h);
    if (selinux_relabel(at(h, "v"), LABEL, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < ARRAY_SIZE(inside); i++)
        if (!has_label(h, inside[i], LABEL))
            fail_msg("%s is not labelled", inside[i]);
    assert_true(has_label(h, "outside", "") && has_label(h, "outside/file", ""));

    // The root has it: nothing is looked at. With another one everything is.
    write_text(h->dir, "v/sub/file", "replaced");
    assert_true(has_label(h, "v/sub/file", ""));
    assert_int_equal(selinux_relabel(at(h, "v"), LABEL, &err), 0);
    assert_true(has_label(h, "v/sub/file", ""));
    assert_int_equal(selinux_relabel(at(h, "v"), "a:b:c:s0", &err), 0);
    assert_true(has_label(h, "v/sub/file", "a:b:c:s0") && has_label(h, "v", "a:b:c:s0"));

    // A single file.
    assert_int_equal(selinux_relabel(at(h, "outside/file"), LABEL, &err), 0);
    assert_true(has_label(h, "outside/file", LABEL) && has_label(h, "outside", ""));
}

static void some_trees_are_not_relabelled(void **state)
{
    struct host *h = *state;
    struct error err = ERROR_INIT;
    make_tree(h);
    assert_int_equal(symlink("/etc", at(h, "etc-link")), 0);
    assert_true(selinux_relabel(at(h, "etc-link"), LABEL, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_string_equal(err.message, "/etc is a directory of the node's own, which is not relabelled");
    assert_true(selinux_relabel("/", LABEL, &err) < 0);
    assert_true(selinux_relabel(at(h, "absent"), LABEL, &err) < 0);

    // Too deep: told, and the root isn't labelled, so that it is tried again.
    char path[2000];
    size_t len = (size_t)snprintf(path, sizeof(path), "%s/v", h->dir);
    for (int i = 0; i < 200; i++) {
        len += (size_t)snprintf(path + len, sizeof(path) - len, "/d");
        assert_int_equal(mkdir(path, 0755), 0);
    }
    assert_true(selinux_relabel(at(h, "v"), LABEL, &err) < 0);
    assert_non_null(strstr(err.message, "levels deep"));
    assert_true(has_label(h, "v", ""));
}

// ---- Pods' categories ----

static bool is_first(void *data, const char *pod_id)
{
    return str_eq(pod_id, data);
}

static void pods_get_categories_of_their_own(void **state)
{
    struct host *h = *state;
    // Ids that begin alike: the same pair would come first.
    char one[65], two[65], a[SELINUX_LEVEL_MAX], b[SELINUX_LEVEL_MAX], c[SELINUX_LEVEL_MAX];
    struct error err = ERROR_INIT;
    assert_int_equal(selinux_level_prepare(h->dir, &err), 0);
    assert_int_equal(selinux_level_prepare(h->dir, &err), 0); // after a restart
    assert_int_equal(str_random_hex(one, 64), 0);
    assert_int_equal(str_random_hex(two, 64), 0);
    memcpy(two, one, 10);
    assert_int_equal(selinux_level_claim(h->dir, one, a, &err), 0);
    assert_int_equal(selinux_level_claim(h->dir, two, b, &err), 0);
    assert_string_not_equal(a, b);
    assert_int_equal(selinux_level_claim(h->dir, one, c, &err), 0); // the next container's
    assert_string_equal(a, c);
    unsigned low, high;
    assert_int_equal(sscanf(a, "s0:c%u,c%u", &low, &high), 2);
    assert_true(low < high && high < 1024);

    selinux_level_release(h->dir, one);
    assert_int_equal(selinux_level_claim(h->dir, two, b, &err), 0);
    assert_string_equal(b, a); // free again
    assert_int_equal(selinux_level_claim(h->dir, one, c, &err), 0);
    assert_string_not_equal(c, a);
    selinux_level_sweep(h->dir, is_first, one);
    selinux_level_release(h->dir, one);
    assert_int_equal(rmdir(at(h, "selinux")), 0); // nothing is left
}

static void the_same_digits_make_two_categories(void **state)
{
    struct host *h = *state;
    char level[SELINUX_LEVEL_MAX], id[65];
    struct error err = ERROR_INIT;
    assert_int_equal(selinux_level_prepare(h->dir, &err), 0);
    memset(id, '0', 64);
    id[64] = '\0';
    assert_int_equal(selinux_level_claim(h->dir, id, level, &err), 0);
    assert_string_equal(level, "s0:c0,c1");
    id[63] = '1'; // another pod, all of whose pairs are that one
    assert_true(selinux_level_claim(h->dir, id, level, &err) < 0);
    assert_int_equal(err.status, STATUS_RESOURCE_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_host_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_are_put_together, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_options_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(policies_without_containers, setup, teardown),
        cmocka_unit_test_setup_teardown(trees_are_relabelled, setup, teardown),
        cmocka_unit_test_setup_teardown(some_trees_are_not_relabelled, setup, teardown),
        cmocka_unit_test_setup_teardown(pods_get_categories_of_their_own, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_digits_make_two_categories, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
