#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/cgroup.h"
#include "runtime/plan.h"
#include "runtime/policy.h"

#define MAX 8

// A config that a test fills, and what is made of it.
struct fixture {
    struct cgroup_host *cgroups;
    struct policy *policy;
    struct arena *arena;
    char dir[64];

    Cri__NamespaceOption pod_namespaces, namespaces;
    Cri__LinuxSandboxSecurityContext pod_security;
    Cri__LinuxPodSandboxConfig pod_linux;
    Cri__PodSandboxConfig pod;
    Cri__LinuxContainerSecurityContext security;
    Cri__LinuxContainerResources resources;
    Cri__LinuxContainerConfig linux;
    Cri__ContainerConfig config;
    Pull__ImageConfig image;
    Cri__Mount mount[MAX];
    Cri__Mount *mounts[MAX];
    Cri__Device device;
    Cri__Device *devices;
    struct plan_input in;
    struct error err;
};

static const char *lowers[] = {"b", "a"};

static void reset(struct fixture *f)
{
    cri__namespace_option__init(&f->pod_namespaces);
    cri__namespace_option__init(&f->namespaces);
    cri__linux_sandbox_security_context__init(&f->pod_security);
    cri__linux_pod_sandbox_config__init(&f->pod_linux);
    cri__pod_sandbox_config__init(&f->pod);
    f->pod.linux = &f->pod_linux;
    f->pod_linux.security_context = &f->pod_security;
    cri__linux_container_security_context__init(&f->security);
    cri__linux_container_resources__init(&f->resources);
    cri__linux_container_config__init(&f->linux);
    f->linux.security_context = &f->security;
    f->linux.resources = &f->resources;
    cri__container_config__init(&f->config);
    f->config.linux = &f->linux;
    cri__device__init(&f->device);
    f->devices = &f->device;
    pull__image_config__init(&f->image);
    static char *cmd[] = {(char *)"/bin/sh"};
    f->image.cmd = cmd;
    f->image.n_cmd = 1;
    for (size_t i = 0; i < MAX; i++) {
        cri__mount__init(&f->mount[i]);
        f->mounts[i] = &f->mount[i];
        f->mount[i].host_path = f->dir;
    }
    f->config.mounts = f->mounts;
    f->in = (struct plan_input){
        .config = &f->config,
        .pod = &f->pod,
        .image = &f->image,
        .rootfs =
            {.layers_dir = "/layers", .lowers = lowers, .n_lowers = 2, .upper = "/upper", .work = "/work"},
        .hostname = "box",
        .hosts_path = "/run/pod/hosts",
        .hostname_path = "/run/pod/hostname",
        .resolv_conf_path = "/run/pod/resolv.conf",
        .shm_path = "/run/pod/shm",
    };
    f->err = ERROR_INIT;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cgroup_options o = {.parent = "/crisp-plan-test"};
    *state = f;
    f->arena = arena_new(64u << 20);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/crisp-plan-test-XXXXXX");
    if (!f->arena || !mkdtemp(f->dir) || cgroup_host_open(&o, &f->cgroups, NULL) < 0)
        return -1;
    reset(f);
    return policy_open(f->cgroups, &f->policy, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    policy_close(f->policy);
    cgroup_host_close(f->cgroups);
    arena_free(f->arena);
    int r = rmdir(f->dir);
    free(f);
    return r;
}

static Pod__LaunchPlan *build(struct fixture *f)
{
    Pod__LaunchPlan *plan = NULL;
    if (plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0)
        fail_msg("%s", f->err.message);
    return plan;
}

static const Pod__Mount *mount_at(const Pod__LaunchPlan *plan, const char *destination)
{
    const Pod__Mount *found = NULL;
    for (size_t i = 0; i < plan->n_mounts; i++) {
        if (str_eq(plan->mounts[i]->destination, destination)) {
            assert_null(found); // never twice
            found = plan->mounts[i];
        }
    }
    return found;
}

static const Pod__Device *device_at(const Pod__LaunchPlan *plan, const char *path)
{
    for (size_t i = 0; i < plan->n_devices; i++) {
        if (str_eq(plan->devices[i]->path, path))
            return plan->devices[i];
    }
    return NULL;
}

static void args_follow_dockers_rules(void **state)
{
    struct fixture *f = *state;
    static char *entrypoint[] = {(char *)"ep"}, *cmd[] = {(char *)"cmd"}, *command[] = {(char *)"command"},
                *args[] = {(char *)"a", (char *)"b"};
    static const struct {
        bool entrypoint, cmd, command, args;
        const char *want; // NULL: refused
    } cases[] = {
        {true, true, false, false, "ep cmd"}, {true, true, false, true, "ep a b"},
        {true, true, true, false, "command"}, {true, true, true, true, "command a b"},
        {false, true, false, false, "cmd"},   {false, true, false, true, "a b"},
        {true, false, false, false, "ep"},    {false, false, true, false, "command"},
        {false, false, false, true, "a b"},   {false, false, false, false, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Pod__LaunchPlan *plan;
        char got[64] = "";
        reset(f);
        f->image.entrypoint = entrypoint;
        f->image.n_entrypoint = cases[i].entrypoint;
        f->image.cmd = cmd;
        f->image.n_cmd = cases[i].cmd;
        f->config.command = command;
        f->config.n_command = cases[i].command;
        f->config.args = args;
        f->config.n_args = cases[i].args ? 2 : 0;
        if (!cases[i].want) {
            assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
            assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
            assert_true(str_has_prefix(f->err.message, "no command: "));
            continue;
        }
        plan = build(f);
        for (size_t k = 0; k < plan->process->n_args; k++)
            (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", k ? " " : "",
                           plan->process->args[k]);
        assert_string_equal(got, cases[i].want);
    }
}

static void env_is_merged(void **state)
{
    struct fixture *f = *state;
    static char *image_env[] = {(char *)"PATH=/image", (char *)"A=1", (char *)"AB=2"};
    Cri__KeyValue kv[3];
    Cri__KeyValue *envs[3];
    static const char *const keys[] = {"A", "NEW", "HOSTNAME"}, *const values[] = {"x=y", "", "mine"};
    reset(f);
    f->image.env = image_env;
    f->image.n_env = 3;
    for (size_t i = 0; i < 3; i++) {
        cri__key_value__init(&kv[i]);
        kv[i].key = (char *)keys[i];
        kv[i].value.data = (uint8_t *)values[i];
        kv[i].value.len = strlen(values[i]);
        envs[i] = &kv[i];
    }
    f->config.envs = envs;
    f->config.n_envs = 3;
    f->config.tty = true;
    Pod__Process *p = build(f)->process;
    static const char *const want[] = {"PATH=/image", "TERM=xterm", "A=x=y", "AB=2", "HOSTNAME=mine", "NEW="};
    assert_int_equal(p->n_env, ARRAY_SIZE(want));
    for (size_t i = 0; i < ARRAY_SIZE(want); i++)
        assert_string_equal(p->env[i], want[i]);
    assert_true(p->tty);
    reset(f);
    p = build(f)->process;
    assert_string_equal(p->env[0], "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_string_equal(p->env[1], "HOSTNAME=box");
    assert_int_equal(p->n_env, 2);
}

static void defaults_are_mounted(void **state)
{
    struct fixture *f = *state;
    reset(f);
    Pod__LaunchPlan *plan = build(f);
    static const struct {
        const char *at, *type;
        uint64_t flags;
    } want[] = {
        {"/proc", "proc", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
        {"/dev", "tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME},
        {"/dev/pts", "devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC},
        {"/dev/mqueue", "mqueue", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
        {"/sys", "sysfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY},
        {"/dev/shm", "bind", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
        {"/etc/hosts", "bind", 0},
        {"/etc/hostname", "bind", 0},
        {"/etc/resolv.conf", "bind", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        const Pod__Mount *m = mount_at(plan, want[i].at);
        assert_non_null(m);
        assert_string_equal(m->type, want[i].type);
        assert_int_equal(m->flags, want[i].flags);
    }
    const struct cgroup_hierarchy *h;
    size_t n = cgroup_host_hierarchies(f->cgroups, &h);
    assert_non_null(mount_at(plan, "/sys/fs/cgroup"));
    for (size_t i = 0; i < n && !cgroup_host_is_v2(f->cgroups); i++) {
        char at[128];
        (void)snprintf(at, sizeof(at), "/sys/fs/cgroup/%s", h[i].name);
        const Pod__Mount *m = mount_at(plan, at);
        assert_non_null(m);
        assert_string_equal(m->data, h[i].data);
        assert_true(m->flags & MOUNT_ATTR_RDONLY);
    }
    assert_non_null(device_at(plan, "/dev/null"));
    assert_int_equal(plan->n_devices, 6);
    assert_true(plan->own_cgroup_ns);
    assert_false(plan->host_network || plan->host_ipc || plan->host_uts || plan->privileged_sys);
    assert_string_equal(plan->root->lowers[0], "b");
    assert_int_equal(plan->root->n_lowers, 2);
    assert_string_equal(plan->process->cwd, "/");
    assert_true(plan->n_masked_paths > 5 && plan->n_readonly_paths >= 5);
    assert_int_equal(plan->process->capabilities->bounding, caps_default() & f->policy->caps_held);
    assert_int_equal(plan->process->seccomp.len, 0); // none asked for
    assert_string_equal(plan->required_features[0], "launch-1");
}

static void config_mounts_are_ordered(void **state)
{
    struct fixture *f = *state;
    static char *const paths[] = {(char *)"/data/cache/deep/", (char *)"/etc/hosts",
                                  (char *)"/data/cache",       (char *)"/data",
                                  (char *)"//data/./b",        (char *)"/dev/shm"};
    // All that are there, the runtime's own and these: parents first, else in the order of the config.
    static const char *const want[] = {"/proc",          "/dev",
                                       "/sys",           "/data",
                                       "/dev/pts",       "/dev/mqueue",
                                       "/etc/hostname",  "/etc/resolv.conf",
                                       "/etc/hosts",     "/data/cache",
                                       "/data/b",        "/dev/shm",
                                       "/sys/fs/cgroup", "/data/cache/deep"};
    reset(f);
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        f->mount[i].container_path = paths[i];
    f->config.n_mounts = ARRAY_SIZE(paths);
    f->mount[0].readonly = true;
    f->mount[1].propagation = CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL;
    f->mount[3].propagation = CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER;
    f->mount[2].readonly = f->mount[2].recursive_read_only = true;
    Pod__LaunchPlan *plan = build(f);
    for (size_t i = 0; i < ARRAY_SIZE(want); i++)
        assert_string_equal(plan->mounts[i]->destination, want[i]);
    // Their own instead of the pod's.
    assert_string_equal(mount_at(plan, "/etc/hosts")->source, f->dir);
    assert_int_equal(mount_at(plan, "/etc/hosts")->propagation, POD__PROPAGATION__PROPAGATION_SHARED);
    assert_string_equal(mount_at(plan, "/dev/shm")->source, f->dir);
    assert_int_equal(mount_at(plan, "/data")->propagation, POD__PROPAGATION__PROPAGATION_SLAVE);
    assert_int_equal(mount_at(plan, "/data")->flags, 0);
    assert_true(mount_at(plan, "/data")->recursive);
    assert_int_equal(mount_at(plan, "/data/cache/deep")->flags, MOUNT_ATTR_RDONLY);
    assert_false(mount_at(plan, "/data/cache/deep")->recursive_readonly);
    assert_true(mount_at(plan, "/data/cache")->recursive_readonly);
}

// A volume at /etc doesn't take the pod's files away, one at /dev or /sys/fs does so with what is below.
static void covered_defaults_are_left_out(void **state)
{
    struct fixture *f = *state;
    reset(f);
    f->mount[0].container_path = (char *)"/etc";
    f->mount[1].container_path = (char *)"/sys//fs/";
    f->mount[2].container_path = (char *)"/de";
    f->config.n_mounts = 3;
    Pod__LaunchPlan *plan = build(f);
    assert_true(mount_at(plan, "/etc/hosts")->optional);
    assert_null(mount_at(plan, "/sys/fs/cgroup"));
    assert_non_null(mount_at(plan, "/dev"));
    assert_non_null(mount_at(plan, "/dev/shm"));
}

// Whether crisp-pod must know a feature for this plan; the kernel's security module may ask for more.
static bool requires(const Pod__LaunchPlan *plan, const char *feature)
{
    for (size_t i = 0; i < plan->n_required_features; i++)
        if (str_eq(plan->required_features[i], feature))
            return true;
    return false;
}

static void volumes_are_planned(void **state)
{
    struct fixture *f = *state;
    static char *declared[] = {(char *)"/data/",   (char *)"var/../lib/./x", (char *)"/etc/hosts",
                               (char *)"/proc/x",  (char *)"/mine/too",      (char *)"/data",
                               (char *)"../../up", (char *)"/minefield"};
    Pod__LaunchPlan *plan;
    char path[128];
    reset(f);
    f->image.volumes = declared;
    f->image.n_volumes = ARRAY_SIZE(declared);
    f->mount[0].container_path = (char *)"/mine";
    f->config.n_mounts = 1;
    size_t without = build(f)->n_mounts; // nowhere to make them
    f->in.rootfs.volumes = f->dir;
    plan = build(f);
    assert_int_equal(plan->n_mounts, without + 4);
    static const char *const want[] = {"/data", "/lib/x", "/up", "/minefield"};
    static const int number[] = {0, 1, 6, 7};
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        const Pod__Mount *m = mount_at(plan, want[i]);
        (void)snprintf(path, sizeof(path), "%s/%d", f->dir, number[i]);
        assert_string_equal(m->source, path);
        assert_true(m->copy_content);
        assert_int_equal(rmdir(path), 0);
    }
    assert_true(requires(plan, "volume-content"));
    assert_false(requires(plan, "image-volume"));
    declared[0] = (char *)"/..";
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    assert_string_equal(f->err.message, "the image declares its root a volume (\"/..\")");
    declared[0] = (char *)"/data/";
}

static void images_are_mounted(void **state)
{
    struct fixture *f = *state;
    static const char *layers[] = {"x", "empty"};
    const struct plan_image image = {.mount = 1, .image_id = "sha256:1", .lowers = layers, .n_lowers = 2};
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;
    Pod__LaunchPlan *plan;
    reset(f);
    spec.image = (char *)"sha256:1";
    f->mount[0].container_path = (char *)"/a";
    f->mount[1].container_path = (char *)"/b";
    f->mount[1].host_path = (char *)"";
    f->mount[1].image = &spec;
    f->mount[1].image_sub_path = (char *)"c/d";
    f->config.n_mounts = 2;
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    assert_string_equal(f->err.message, "mounts[1].image: was not looked up");
    f->in.images = &image;
    f->in.n_images = 1;
    plan = build(f);
    const Pod__Mount *m = mount_at(plan, "/b");
    assert_string_equal(m->type, "image");
    assert_string_equal(m->source, "sha256:1");
    assert_string_equal(m->sub_path, "c/d");
    assert_string_equal(m->lowers[1], "empty");
    assert_int_equal(m->n_lowers, 2);
    assert_int_equal(m->flags, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
    assert_true(requires(plan, "image-volume"));
}

static void host_dev_is_left_alone(void **state)
{
    struct fixture *f = *state;
    reset(f);
    f->mount[0].container_path = (char *)"/dev/";
    f->mount[1].container_path = (char *)"/sys/fs/cgroup";
    f->config.n_mounts = 2;
    Pod__LaunchPlan *plan = build(f);
    assert_null(mount_at(plan, "/dev/pts"));
    assert_null(mount_at(plan, "/dev/shm"));
    assert_null(mount_at(plan, "/sys/fs/cgroup/cpu"));
    assert_non_null(mount_at(plan, "/sys"));
    assert_int_equal(plan->n_devices, 0);
}

static void sources_are_made(void **state)
{
    struct fixture *f = *state;
    static char f_dir[128];
    char missing[128], parent[128], under_file[128];
    struct stat st;
    Pod__LaunchPlan *plan;
    reset(f);
    (void)snprintf(parent, sizeof(parent), "%s/a", f->dir);
    (void)snprintf(missing, sizeof(missing), "%s/a/b", f->dir);
    f->mount[0].container_path = (char *)"/x";
    f->mount[0].host_path = missing;
    f->config.n_mounts = 1;
    (void)build(f);
    assert_int_equal(stat(missing, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0755);
    assert_int_equal(rmdir(missing) | rmdir(parent), 0);
    (void)snprintf(under_file, sizeof(under_file), "/proc/self/status/x");
    f->mount[0].host_path = under_file;
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    assert_true(str_has_prefix(f->err.message, "mounts[0].host_path \"/proc/self/status/x\""));
    assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
    f->mount[0].host_path = (char *)"/proc/nosuch/x";
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    assert_true(
        str_has_prefix(f->err.message, "mounts[0].host_path \"/proc/nosuch/x\" is missing and can't"));
    assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
    // Not where the configuration forbids it.
    static char *denied[] = {(char *)"/nosuch", f_dir, NULL};
    (void)snprintf(f_dir, sizeof(f_dir), "%s/a", f->dir);
    f->policy->absent_sources_denied = denied;
    f->mount[0].host_path = missing;
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    assert_non_null(strstr(f->err.message, "/a/b\" is missing, and the configuration"));
    assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
    (void)snprintf(parent, sizeof(parent), "%s/a-too", f->dir);
    f->mount[0].host_path = parent; // "…/a-too" isn't below "…/a"
    (void)build(f);
    assert_int_equal(rmdir(parent), 0);
    denied[0] = (char *)"/";
    assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
    f->policy->absent_sources_denied = NULL;
}

static void user_is_passed_on(void **state)
{
    struct fixture *f = *state;
    Cri__Int64Value user = CRI__INT64_VALUE__INIT, group = CRI__INT64_VALUE__INIT;
    int64_t groups[] = {7, 4294967294};
    reset(f);
    f->image.user = (char *)"www-data:1000";
    Pod__User *u = build(f)->process->user;
    assert_string_equal(u->user, "www-data:1000");
    assert_false(u->has_uid || u->has_gid);
    assert_true(u->merge_image_groups);
    f->security.run_as_username = (char *)"nobody";
    assert_string_equal(build(f)->process->user->user, "nobody");
    f->security.run_as_username = (char *)"";
    user.value = 4294967294;
    group.value = 5;
    f->security.run_as_user = &user;
    f->security.run_as_group = &group;
    f->security.supplemental_groups = groups;
    f->security.n_supplemental_groups = 2;
    f->security.supplemental_groups_policy = CRI__SUPPLEMENTAL_GROUPS_POLICY__Strict;
    u = build(f)->process->user;
    assert_string_equal(u->user, ""); // the image's group doesn't come with another user
    assert_true(u->has_uid && u->has_gid);
    assert_int_equal(u->uid, 4294967294);
    assert_int_equal(u->gid, 5);
    assert_int_equal(u->supplemental_groups[1], 4294967294);
    assert_false(u->merge_image_groups);
}

static void privileges_are_set(void **state)
{
    struct fixture *f = *state;
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    static char *one_path[] = {(char *)"/proc/kcore"};
    reset(f);
    f->security.seccomp = &profile;
    f->security.no_new_privs = true;
    f->security.readonly_rootfs = true;
    f->security.masked_paths = one_path;
    f->security.n_masked_paths = 1;
    f->resources.oom_score_adj = -5;
    Pod__LaunchPlan *plan = build(f);
    size_t len = plan->process->seccomp.len;
    assert_true(len > 0);
    assert_true(plan->process->no_new_privileges && plan->root->readonly);
    assert_int_equal(plan->n_masked_paths, 1);
    assert_int_equal(plan->n_readonly_paths, 0);
    assert_int_equal(plan->process->oom_score_adj->value, -5);
    assert_int_equal(mount_at(plan, "/etc/hosts")->flags, MOUNT_ATTR_RDONLY);
    // The deprecated way.
    f->security.seccomp = NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    f->security.seccomp_profile_path = (char *)"runtime/default";
    assert_int_equal(build(f)->process->seccomp.len, len);
    f->security.seccomp_profile_path = (char *)"unconfined";
    assert_int_equal(build(f)->process->seccomp.len, 0);
#pragma GCC diagnostic pop
    f->security.seccomp = &profile;
    f->security.privileged = true;
    plan = build(f);
    assert_int_equal(plan->process->seccomp.len, 0);
    assert_int_equal(plan->process->capabilities->effective, f->policy->caps_held);
    assert_int_equal(plan->n_masked_paths + plan->n_readonly_paths, 0);
    assert_true(plan->privileged_sys);
    assert_false(mount_at(plan, "/sys")->flags & MOUNT_ATTR_RDONLY);
    assert_true(plan->n_devices >= 6);
    assert_null(device_at(plan, "/dev/pts/0"));
}

static void devices_are_resolved(void **state)
{
    struct fixture *f = *state;
    struct cgroup_devices rules;
    Pod__LaunchPlan *plan;
    reset(f);
    f->config.devices = &f->devices;
    f->config.n_devices = 1;
    f->device.host_path = (char *)"/dev/full";
    f->device.container_path = (char *)"/dev/mine";
    f->device.permissions = (char *)"r";
    plan = build(f);
    const Pod__Device *d = device_at(plan, "/dev/mine");
    assert_non_null(d);
    assert_int_equal(d->type, S_IFCHR);
    assert_int_equal(d->major, 1);
    assert_int_equal(d->minor, 7);
    assert_int_equal(plan_device_rules(&f->in, f->arena, &rules, &f->err), 0);
    assert_int_equal(rules.n_rules, 1);
    assert_int_equal(rules.rules[0].minor, 7);
    assert_string_equal(rules.rules[0].access, "r");
    assert_false(rules.allow_all);
    f->device.container_path = (char *)"/dev/null"; // instead of the default one
    plan = build(f);
    assert_int_equal(plan->n_devices, 6);
    assert_int_equal(device_at(plan, "/dev/null")->minor, 7);
    static const struct {
        const char *host, *text;
    } bad[] = {{"/dev/nosuch", "devices[0].host_path \"/dev/nosuch\": No such file or directory"},
               {"/proc/self/status", "devices[0].host_path \"/proc/self/status\" is neither a device"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        f->device.host_path = (char *)bad[i].host;
        assert_true(plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0);
        assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
        assert_true(str_has_prefix(f->err.message, bad[i].text));
    }
    f->security.privileged = true;
    assert_int_equal(plan_device_rules(&f->in, f->arena, &rules, &f->err), 0);
    assert_true(rules.allow_all);
}

// Names that are special right in /dev are ordinary further down; links are not followed there.
static void device_directories_are_walked(void **state)
{
    struct fixture *f = *state;
    struct cgroup_devices rules;
    char path[5][128];
    static const char *const names[] = {"random", "console", "pts", "pts/null", "link"};
    reset(f);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        (void)snprintf(path[i], sizeof(path[i]), "%s/%s", f->dir, names[i]);
        int r = i == 2   ? mkdir(path[i], 0755)
                : i == 4 ? symlink("random", path[i])
                         : mknod(path[i], (i == 1 ? S_IFBLK : S_IFCHR) | 0640, makedev(7, (unsigned)i));
        assert_int_equal(r, 0);
    }
    assert_int_equal(chmod(path[0], 0604), 0);
    assert_int_equal(chown(path[0], 12, 34), 0);
    f->config.devices = &f->devices;
    f->config.n_devices = 1;
    f->device.host_path = f->dir;
    f->device.container_path = (char *)"/dev//mine/";
    Cri__Int64Value user = CRI__INT64_VALUE__INIT;
    user.value = 1000;
    f->security.run_as_user = &user;
    Pod__LaunchPlan *plan = build(f);
    const Pod__Device *d = device_at(plan, "/dev/mine/random");
    assert_non_null(d);
    assert_int_equal(d->mode, 0604);
    assert_int_equal(d->uid, 12);
    assert_int_equal(d->gid, 34);
    assert_int_equal(device_at(plan, "/dev/mine/console")->type, S_IFBLK);
    assert_non_null(device_at(plan, "/dev/mine/pts/null"));
    assert_null(device_at(plan, "/dev/mine/link"));
    assert_int_equal(plan->n_devices, 6 + 3);
    assert_int_equal(plan_device_rules(&f->in, f->arena, &rules, &f->err), 0);
    assert_int_equal(rules.n_rules, 3);
    assert_string_equal(rules.rules[0].access, "rwm"); // what no permissions mean
    f->policy->device_ownership = true;
    plan = build(f);
    f->policy->device_ownership = false;
    assert_int_equal(device_at(plan, "/dev/mine/random")->uid, 1000);
    assert_int_equal(device_at(plan, "/dev/mine/random")->gid, 34); // no run_as_group
    assert_int_equal(device_at(plan, "/dev/null")->uid, 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(remove(path[(i + 3) % 5]), 0); // what is in pts before pts
}

static void pid_mode_is_chosen(void **state)
{
    struct fixture *f = *state;
    const int none = -1;
    static const struct {
        int pod, container;
        Pod__PidMode want;
    } cases[] = {
        {none, none, POD__PID_MODE__PID_PRIVATE},
        {CRI__NAMESPACE_MODE__POD, none, POD__PID_MODE__PID_POD},
        {CRI__NAMESPACE_MODE__CONTAINER, none, POD__PID_MODE__PID_PRIVATE},
        {CRI__NAMESPACE_MODE__NODE, none, POD__PID_MODE__PID_HOST},
        {CRI__NAMESPACE_MODE__CONTAINER, CRI__NAMESPACE_MODE__CONTAINER, POD__PID_MODE__PID_PRIVATE},
        {CRI__NAMESPACE_MODE__POD, CRI__NAMESPACE_MODE__POD, POD__PID_MODE__PID_POD},
        {none, CRI__NAMESPACE_MODE__POD, POD__PID_MODE__PID_PRIVATE},
        {CRI__NAMESPACE_MODE__NODE, CRI__NAMESPACE_MODE__NODE, POD__PID_MODE__PID_HOST},
        {CRI__NAMESPACE_MODE__NODE, CRI__NAMESPACE_MODE__POD, POD__PID_MODE__PID_HOST},
        {CRI__NAMESPACE_MODE__POD, CRI__NAMESPACE_MODE__TARGET, POD__PID_MODE__PID_TARGET},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        reset(f);
        f->pod_namespaces.pid = cases[i].pod == none ? 0 : (Cri__NamespaceMode)cases[i].pod;
        f->namespaces.pid = cases[i].container == none ? 0 : (Cri__NamespaceMode)cases[i].container;
        f->pod_security.namespace_options = cases[i].pod == none ? NULL : &f->pod_namespaces;
        f->security.namespace_options = cases[i].container == none ? NULL : &f->namespaces;
        assert_int_equal(plan_pid_mode(&f->pod, &f->config), cases[i].want);
    }
}

static void start_is_complete(void **state)
{
    struct fixture *f = *state;
    Pod__CgroupPlace *place;
    Pod__StartRequest *start;
    reset(f);
    f->pod.log_directory = (char *)"/var/log/pods/x";
    f->config.log_path = (char *)"c/0.log";
    f->config.stdin = f->config.stdin_once = true;
    f->security.namespace_options = &f->namespaces;
    f->namespaces.pid = CRI__NAMESPACE_MODE__TARGET;
    f->namespaces.target_id = (char *)"other";
    Pod__LaunchPlan *plan = build(f);
    assert_int_equal(cgroup_place(f->cgroups, "/a", f->arena, &place, &f->err), 0);
    assert_int_equal(plan_build_start(&f->in, "id", plan, place, 1000, f->arena, &start, &f->err), 0);
    assert_string_equal(start->stdio->log_path, "/var/log/pods/x/c/0.log");
    assert_true(start->stdio->stdin && start->stdio->stdin_once && !start->stdio->tty);
    assert_int_equal(start->pid_mode, POD__PID_MODE__PID_TARGET);
    assert_string_equal(start->pid_target, "other");
    Pod__LaunchPlan *again = pod__launch_plan__unpack(NULL, start->plan.len, start->plan.data);
    assert_non_null(again);
    assert_int_equal(again->n_mounts, plan->n_mounts);
    pod__launch_plan__free_unpacked(again, NULL);
}

static void exec_is_the_containers(void **state)
{
    struct fixture *f = *state;
    static const char *const cmd[] = {"ls", "-l"};
    uint32_t groups[] = {5, 6};
    Pod__ResolvedUser user = POD__RESOLVED_USER__INIT;
    Pod__Process *p;
    reset(f);
    f->image.working_dir = (char *)"app";
    Pod__LaunchPlan *plan = build(f);
    assert_string_equal(plan->process->cwd, "/app");
    assert_true(plan->process->cwd_from_image);
    user.uid = 1000;
    user.gid = 5;
    user.groups = groups;
    user.n_groups = 2;
    user.home = (char *)"/home/x";
    assert_int_equal(plan_build_exec(plan->process, &user, cmd, 2, true, f->arena, &p, &f->err), 0);
    assert_string_equal(p->args[1], "-l");
    assert_string_equal(p->cwd, "/app");
    assert_string_equal(p->env[p->n_env - 1], "TERM=xterm");
    assert_int_equal(p->n_env, plan->process->n_env + 1);
    assert_true(p->user->resolved);
    assert_int_equal(p->user->uid, 1000);
    assert_int_equal(p->user->n_supplemental_groups, 2);
    assert_int_equal(p->capabilities->bounding, plan->process->capabilities->bounding);
    assert_true(plan_build_exec(plan->process, &user, cmd, 0, false, f->arena, &p, &f->err) < 0);
    assert_int_equal(f->err.status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(f->err.message, "cmd: no command to execute");
}

static void small_arena_is_an_error(void **state)
{
    struct fixture *f = *state;
    Pod__LaunchPlan *plan;
    reset(f);
    for (size_t size = 64; size < 65536; size += 4096) {
        struct arena *arena = arena_new(size);
        assert_non_null(arena);
        assert_true(plan_build(f->policy, &f->in, arena, &plan, &f->err) < 0);
        assert_int_equal(f->err.status, STATUS_RESOURCE_EXHAUSTED);
        arena_free(arena);
    }
}

static void building_is_fast(void **state)
{
    struct fixture *f = *state;
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    reset(f);
    f->security.seccomp = &profile;
    (void)build(f);
    int64_t start = clock_mono_ns();
    size_t len = 0;
    for (int i = 0; i < 100; i++)
        len = pod__launch_plan__get_packed_size(build(f));
    print_message("a plan: %lld us, %zu bytes\n", (long long)((clock_mono_ns() - start) / 100000), len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(args_follow_dockers_rules),
        cmocka_unit_test(env_is_merged),
        cmocka_unit_test(defaults_are_mounted),
        cmocka_unit_test(config_mounts_are_ordered),
        cmocka_unit_test(covered_defaults_are_left_out),
        cmocka_unit_test(volumes_are_planned),
        cmocka_unit_test(images_are_mounted),
        cmocka_unit_test(host_dev_is_left_alone),
        cmocka_unit_test(sources_are_made),
        cmocka_unit_test(user_is_passed_on),
        cmocka_unit_test(privileges_are_set),
        cmocka_unit_test(devices_are_resolved),
        cmocka_unit_test(device_directories_are_walked),
        cmocka_unit_test(pid_mode_is_chosen),
        cmocka_unit_test(start_is_complete),
        cmocka_unit_test(exec_is_the_containers),
        cmocka_unit_test(small_arena_is_an_error),
        cmocka_unit_test(building_is_fast),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
