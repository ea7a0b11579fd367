// What CDI devices change in a plan.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cdi.h"
#include "runtime/cgroup.h"
#include "runtime/plan.h"
#include "runtime/policy.h"

struct fixture {
    struct cgroup_host *cgroups;
    struct policy *policy;
    struct arena *arena;
    Cri__PodSandboxConfig pod;
    Cri__ContainerConfig config;
    Cri__LinuxContainerConfig linux;
    Cri__LinuxContainerSecurityContext security;
    Cri__Int64Value uid, gid;
    Pull__ImageConfig image;
    struct plan_input in;
    struct cdi_edit edits[2];
    struct cdi_set set;
    struct error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cgroup_options o = {.parent = "/crisp-plan-cdi-test"};
    *state = f;
    f->arena = arena_new(64u << 20);
    if (!f->arena || cgroup_host_open(&o, &f->cgroups, NULL) < 0)
        return -1;
    return policy_open(f->cgroups, &f->policy, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    policy_close(f->policy);
    cgroup_host_close(f->cgroups);
    arena_free(f->arena);
    free(f);
    return 0;
}

// The container asks for a device with these edits, after a file's own.
static void use(struct fixture *f, const char *common, const char *edits)
{
    static char *cmd[] = {"/bin/sh"};
    static const char *lowers[] = {"a"};
    struct cdi_spec *spec = NULL;
    char *text = arena_printf(f->arena,
                              "{\"cdiVersion\": \"1.0.0\", \"kind\": \"v.com/c\", \"containerEdits\": {%s}, "
                              "\"devices\": [{\"name\": \"d\", \"containerEdits\": {%s}}]}",
                              common, edits);
    f->err = ERROR_INIT;
    if (cdi_parse("file", text, strlen(text), false, f->arena, &spec, &f->err) < 0)
        fail_msg("%s", f->err.message);
    f->edits[0] = (struct cdi_edit){.edits = &spec->edits, .device = "v.com/c=d", .file = "file"};
    f->edits[1] =
        (struct cdi_edit){.edits = &spec->devices.v[0].edits, .device = "v.com/c=d", .file = "file"};
    f->set = (struct cdi_set){.v = f->edits, .n = 2};
    cri__pod_sandbox_config__init(&f->pod);
    cri__container_config__init(&f->config);
    cri__linux_container_config__init(&f->linux);
    cri__linux_container_security_context__init(&f->security);
    cri__int64_value__init(&f->uid);
    cri__int64_value__init(&f->gid);
    pull__image_config__init(&f->image);
    f->config.linux = &f->linux;
    f->linux.security_context = &f->security;
    f->image.cmd = cmd;
    f->image.n_cmd = 1;
    f->in = (struct plan_input){
        .config = &f->config,
        .pod = &f->pod,
        .image = &f->image,
        .rootfs = {.layers_dir = "/layers", .lowers = lowers, .n_lowers = 1, .upper = "/u", .work = "/w"},
        .cdi = &f->set};
}

static Pod__LaunchPlan *build(struct fixture *f)
{
    Pod__LaunchPlan *plan = NULL;
    if (plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0)
        fail_msg("%s", f->err.message);
    return plan;
}

static void refused(struct fixture *f, enum status status, const char *text)
{
    Pod__LaunchPlan *plan;
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    assert_int_equal(f->err.status, status);
    if (!str_has_prefix(f->err.message, text))
        fail_msg("%s", f->err.message);
}

static const Pod__Device *device_at(const Pod__LaunchPlan *plan, const char *path)
{
    for (size_t i = 0; i < plan->n_devices; i++) {
        if (str_eq(plan->devices[i]->path, path))
            return plan->devices[i];
    }
    fail_msg("no device %s", path);
    return NULL;
}

static size_t mount_index(const Pod__LaunchPlan *plan, const char *destination)
{
    size_t found = plan->n_mounts;
    for (size_t i = 0; i < plan->n_mounts; i++) {
        if (str_eq(plan->mounts[i]->destination, destination)) {
            assert_int_equal(found, plan->n_mounts); // never twice
            found = i;
        }
    }
    assert_true(found < plan->n_mounts);
    return found;
}

static bool has_env(const Pod__LaunchPlan *plan, const char *entry)
{
    for (size_t i = 0; i < plan->process->n_env; i++) {
        if (str_eq(plan->process->env[i], entry))
            return true;
    }
    return false;
}

static void environment_and_groups(void **state)
{
    struct fixture *f = *state;
    int64_t groups[] = {44, 7};
    use(f, "\"env\": [\"A=common\", \"B=common\"], \"additionalGids\": [44, 0]",
        "\"env\": [\"B=device\", \"PATH=/x\"], \"additionalGids\": [45, 44]");
    f->security.supplemental_groups = groups;
    f->security.n_supplemental_groups = 2;
    const Pod__LaunchPlan *plan = build(f);
    assert_true(has_env(plan, "A=common") && has_env(plan, "B=device") && has_env(plan, "PATH=/x"));
    assert_false(has_env(plan, "B=common"));
    const Pod__User *u = plan->process->user;
    assert_int_equal(u->n_supplemental_groups, 3);
    assert_int_equal(u->supplemental_groups[0], 44);
    assert_int_equal(u->supplemental_groups[1], 7);
    assert_int_equal(u->supplemental_groups[2], 45);
}

static void nodes_are_the_hosts_but_for_what_is_said(void **state)
{
    struct fixture *f = *state;
    struct cgroup_devices rules;
    use(f,
        "\"deviceNodes\": [{\"path\": \"/dev/full\"}, {\"path\": \"/dev/null\", \"hostPath\": "
        "\"/dev/full\"}]",
        "\"deviceNodes\": ["
        "{\"path\": \"/dev/mine\", \"hostPath\": \"/dev/full\", \"type\": \"c\", \"fileMode\": 384, \"uid\": "
        "5,"
        " \"gid\": 6, \"permissions\": \"r\"},"
        "{\"path\": \"/dev/whole\", \"type\": \"b\", \"major\": 259, \"minor\": 1048575, \"permissions\": "
        "\"none\"},"
        "{\"path\": \"/dev/u\", \"type\": \"u\", \"major\": 10, \"permissions\": \"w\"},"
        "{\"path\": \"/dev/pipe\", \"type\": \"p\", \"fileMode\": 420}]");
    const Pod__LaunchPlan *plan = build(f);
    const Pod__Device *d = device_at(plan, "/dev/full");
    struct stat st;
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(d->type == S_IFCHR && d->major == 1 && d->minor == 7 && d->mode == (st.st_mode & 07777));
    assert_int_equal(d->uid, 0);
    assert_int_equal(device_at(plan, "/dev/null")->minor, 7); // instead of the default one
    d = device_at(plan, "/dev/mine");
    assert_true(d->major == 1 && d->minor == 7 && d->mode == 0600 && d->uid == 5 && d->gid == 6);
    d = device_at(plan, "/dev/whole");
    assert_true(d->type == S_IFBLK && d->major == 259 && d->minor == 1048575);
    d = device_at(plan, "/dev/u");
    assert_true(d->type == S_IFCHR && d->major == 10 && d->minor == 0);
    assert_int_equal(device_at(plan, "/dev/pipe")->type, S_IFIFO);
    assert_int_equal(plan->n_devices, 6 + 4);
    assert_int_equal(plan_device_rules(&f->in, f->arena, &rules, &f->err), 0);
    static const struct {
        char type;
        int major, minor;
        const char *access;
    } want[] = {{'c', 1, 7, "rwm"}, {'c', 1, 7, "rwm"}, {'c', 1, 7, "r"}, {'c', 10, 0, "w"}};
    assert_int_equal(rules.n_rules, ARRAY_SIZE(want));
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        assert_int_equal(rules.rules[i].type, want[i].type);
        assert_int_equal(rules.rules[i].major, want[i].major);
        assert_int_equal(rules.rules[i].minor, want[i].minor);
        assert_string_equal(rules.rules[i].access, want[i].access);
    }
}

static void nodes_belong_to_the_user(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *image;
        int64_t uid, gid; // of the config; 0: none
        uint32_t want_uid, want_gid;
    } cases[] = {{"", 0, 0, 0, 0},
                 {"1000", 0, 0, 1000, 0},
                 {"1000:50", 0, 0, 1000, 50},
                 {"1000:50", 7, 8, 7, 8},
                 {"1000:50", 7, 0, 7, 0},
                 {"www-data", 0, 0, 0, 0},
                 {"1000:staff", 0, 0, 1000, 0},
                 {"99999999999", 0, 0, 0, 0}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        use(f, "", "\"deviceNodes\": [{\"path\": \"/dev/full\"}]");
        f->image.user = (char *)cases[i].image;
        f->uid.value = cases[i].uid;
        f->gid.value = cases[i].gid;
        f->security.run_as_user = cases[i].uid ? &f->uid : NULL;
        f->security.run_as_group = cases[i].gid ? &f->gid : NULL;
        const Pod__Device *d = device_at(build(f), "/dev/full");
        assert_int_equal(d->uid, cases[i].want_uid);
        assert_int_equal(d->gid, cases[i].want_gid);
    }
}

static void mounts_have_their_options_and_place(void **state)
{
    struct fixture *f = *state;
    Cri__Mount mount = CRI__MOUNT__INIT;
    Cri__Mount *mounts[] = {&mount};
    mount.host_path = "/etc";
    mount.container_path = "/opt/a/b";
    use(f, "",
        "\"mounts\": ["
        "{\"hostPath\": \"/usr\", \"containerPath\": \"/opt//a/\", \"options\": [\"ro\", \"nosuid\", "
        "\"rbind\", "
        "\"rslave\"]},"
        "{\"hostPath\": \"/etc\", \"containerPath\": \"/z\"},"
        "{\"hostPath\": \"tmpfs\", \"containerPath\": \"/t\", \"type\": \"tmpfs\", \"options\": "
        "[\"size=64k\", "
        "\"noexec\", \"mode=700\"]},"
        "{\"hostPath\": \"/usr\", \"containerPath\": \"/z\", \"options\": [\"ro\", \"rw\", \"noatime\"], "
        "\"type\": \"bind\"}]");
    f->config.mounts = mounts;
    f->config.n_mounts = 1;
    const Pod__LaunchPlan *plan = build(f);
    size_t at = mount_index(plan, "/opt/a");
    assert_true(at < mount_index(plan, "/opt/a/b")); // which it would cover
    const Pod__Mount *m = plan->mounts[at];
    assert_string_equal(m->type, "bind");
    assert_string_equal(m->source, "/usr");
    assert_int_equal(m->flags, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
    assert_true(m->recursive);
    assert_int_equal(m->propagation, POD__PROPAGATION__PROPAGATION_SLAVE);
    m = plan->mounts[mount_index(plan, "/z")]; // the later one
    assert_string_equal(m->source, "/usr");
    assert_int_equal(m->flags, MOUNT_ATTR_NOATIME);
    assert_false(m->recursive);
    m = plan->mounts[mount_index(plan, "/t")];
    assert_string_equal(m->type, "tmpfs");
    assert_string_equal(m->data, "size=64k,mode=700");
    assert_int_equal(m->flags, MOUNT_ATTR_NOEXEC);
}

static void what_is_not_there_or_not_known(void **state)
{
    struct fixture *f = *state;
#define WHERE "CDI device \"v.com/c=d\": file: devices[0].containerEdits."
    static const struct {
        const char *edits;
        enum status status;
        const char *text;
    } cases[] = {
        {"\"deviceNodes\": [{\"path\": \"/dev/nosuch\"}]", STATUS_FAILED_PRECONDITION,
         WHERE "deviceNodes[0].path: \"/dev/nosuch\": No such file or directory"},
        {"\"deviceNodes\": [{\"path\": \"/dev/x\", \"hostPath\": \"/usr\"}]", STATUS_FAILED_PRECONDITION,
         WHERE "deviceNodes[0].hostPath: \"/usr\": No such device"},
        {"\"deviceNodes\": [{\"path\": \"/dev/full\", \"type\": \"b\"}]", STATUS_FAILED_PRECONDITION,
         WHERE "deviceNodes[0].type: is \"b\", but /dev/full is another"},
        {"\"mounts\": [{\"hostPath\": \"/nosuch\", \"containerPath\": \"/a\"}]", STATUS_FAILED_PRECONDITION,
         WHERE "mounts[0].hostPath: \"/nosuch\": No such file or directory"},
        {"\"mounts\": [{\"hostPath\": \"x\", \"containerPath\": \"/a\"}]", STATUS_FAILED_PRECONDITION,
         WHERE "mounts[0].hostPath: \"x\": Invalid argument"},
        {"\"mounts\": [{\"hostPath\": \"/usr\", \"containerPath\": \"/a\", \"type\": \"ext4\"}]",
         STATUS_UNIMPLEMENTED, WHERE "mounts[0].type: \"ext4\" is not supported"},
        {"\"mounts\": [{\"hostPath\": \"/usr\", \"containerPath\": \"/a\", \"options\": [\"nosuch\"]}]",
         STATUS_UNIMPLEMENTED, WHERE "mounts[0].options: \"nosuch\" is not supported"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        use(f, "", cases[i].edits);
        refused(f, cases[i].status, cases[i].text);
    }
}

static void hooks_come_in_order(void **state)
{
    struct fixture *f = *state;
    Pod__CgroupPlace place = POD__CGROUP_PLACE__INIT;
    Pod__StartRequest *start;
    use(f, "\"hooks\": [{\"hookName\": \"createContainer\", \"path\": \"/one\"}]",
        "\"hooks\": [{\"hookName\": \"createContainer\", \"path\": \"/two\", \"args\": [\"two\", \"x\"], "
        "\"env\": [\"A=b\"], \"timeout\": 7}, {\"hookName\": \"poststop\", \"path\": \"/three\"}]");
    f->in.id = "ID";
    f->in.bundle = "/run/bundle";
    const Pod__LaunchPlan *plan = build(f);
    const Pod__Hooks *h = plan->hooks;
    assert_non_null(h);
    assert_string_equal(h->root_dir, "/run/bundle/mnt");
    assert_string_equal(h->state, "\"ociVersion\":\"1.2.0\",\"id\":\"ID\",\"bundle\":\"/run/bundle\","
                                  "\"annotations\":{}");
    assert_int_equal(h->n_create_container, 2);
    assert_string_equal(h->create_container[0]->path, "/one");
    assert_int_equal(h->create_container[0]->timeout_ms, 0);
    assert_string_equal(h->create_container[1]->args[1], "x");
    assert_string_equal(h->create_container[1]->env[0], "A=b");
    assert_int_equal(h->create_container[1]->timeout_ms, 7000);
    assert_int_equal(h->n_poststop, 1);
    assert_int_equal(h->n_prestart + h->n_create_runtime + h->n_start_container + h->n_poststart, 0);
    bool required = false;
    for (size_t i = 0; i < plan->n_required_features; i++)
        required = required || str_eq(plan->required_features[i], "hooks-1");
    assert_true(required);
    assert_int_equal(plan_build_start(&f->in, "ID", plan, &place, 1000, f->arena, &start, &f->err), 0);
    assert_true(start->hold);
    assert_int_equal(start->deadline_ms, 1000 + PLAN_HOOK_TIMEOUT_MS + 7000); // poststop's is not the start's
    // A program of the container's that could trace the launch would get what that has.
    Cri__Capability add = CRI__CAPABILITY__INIT;
    char *names[] = {"SYS_PTRACE"};
    add.add_capabilities = names;
    add.n_add_capabilities = 1;
    use(f, "", "\"hooks\": [{\"hookName\": \"startContainer\", \"path\": \"/inside\"}]");
    f->in.id = "ID";
    f->in.bundle = "/run/bundle";
    (void)build(f);
    f->security.capabilities = &add;
    refused(f, STATUS_UNIMPLEMENTED,
            "CDI_devices: a startContainer hook (/inside) is not supported together with SYS_PTRACE");
    use(f, "", "\"env\": [\"A=b\"]");
    plan = build(f);
    assert_null(plan->hooks);
    assert_int_equal(plan_build_start(&f->in, "ID", plan, &place, 1000, f->arena, &start, &f->err), 0);
    assert_true(!start->hold && start->deadline_ms == 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment_and_groups),
        cmocka_unit_test(nodes_are_the_hosts_but_for_what_is_said),
        cmocka_unit_test(nodes_belong_to_the_user),
        cmocka_unit_test(mounts_have_their_options_and_place),
        cmocka_unit_test(what_is_not_there_or_not_known),
        cmocka_unit_test(hooks_come_in_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
