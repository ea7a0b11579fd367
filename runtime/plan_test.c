#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "runtime/plan_fixture.h"

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
        cmocka_unit_test(args_follow_dockers_rules), cmocka_unit_test(env_is_merged),
        cmocka_unit_test(user_is_passed_on),         cmocka_unit_test(privileges_are_set),
        cmocka_unit_test(pid_mode_is_chosen),        cmocka_unit_test(start_is_complete),
        cmocka_unit_test(exec_is_the_containers),    cmocka_unit_test(small_arena_is_an_error),
        cmocka_unit_test(building_is_fast),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
