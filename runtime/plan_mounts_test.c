#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "runtime/plan_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_mounted),
        cmocka_unit_test(config_mounts_are_ordered),
        cmocka_unit_test(covered_defaults_are_left_out),
        cmocka_unit_test(volumes_are_planned),
        cmocka_unit_test(images_are_mounted),
        cmocka_unit_test(host_dev_is_left_alone),
        cmocka_unit_test(sources_are_made),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
