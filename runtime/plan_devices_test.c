#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "runtime/plan_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_resolved),
        cmocka_unit_test(device_directories_are_walked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
