// Launches that are held for crispd's hooks, and the hooks that the child runs itself. Needs root.
#include "runtime/pod/testkit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

static bool make_pod(struct kit *k)
{
    if (!k->pid)
        return false;
    const Pod__Reply *reply = kit_make_pod(k, false);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    return true;
}

static Pod__Hook *hook(struct kit *k, const char *script)
{
    Pod__Hook *h = arena_alloc(k->arena, sizeof(*h));
    char **args = arena_alloc(k->arena, 3 * sizeof(*args)), **env = arena_alloc(k->arena, sizeof(*env));

    pod__hook__init(h);
    h->path = (char *)(uintptr_t) "/bin/sh";
    args[0] = (char *)(uintptr_t) "sh";
    args[1] = (char *)(uintptr_t) "-c";
    args[2] = arena_strdup(k->arena, script);
    env[0] = arena_printf(k->arena, "D=%s", k->scratch);
    h->args = args;
    h->n_args = 3;
    h->env = env;
    h->n_env = 1;
    return h;
}

static Pod__LaunchPlan *plan_with_hooks(struct kit *k, const char *script)
{
    Pod__LaunchPlan *plan = kit_plan_sh(k, script);
    Pod__Hooks *hooks = arena_alloc(k->arena, sizeof(*hooks));

    pod__hooks__init(hooks);
    hooks->root_dir = arena_printf(k->arena, "%s/mnt", k->scratch);
    hooks->state = (char *)(uintptr_t) "\"id\":\"c\"";
    hooks->create_container = arena_alloc(k->arena, 4 * sizeof(Pod__Hook *));
    hooks->start_container = arena_alloc(k->arena, 4 * sizeof(Pod__Hook *));
    (void)mkdir(hooks->root_dir, 0700);
    plan->hooks = hooks;
    return plan;
}

static Pod__Reply *start_held(struct kit *k, const char *id, const Pod__LaunchPlan *plan)
{
    Pod__Request r = POD__REQUEST__INIT;

    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, id, plan);
    r.start->hold = true;
    return kit_call(k, &r, NULL, 0);
}

static Pod__Reply *proceed(struct kit *k, const char *id, bool abort)
{
    Pod__Request r = POD__REQUEST__INIT;
    Pod__ProceedRequest p = POD__PROCEED_REQUEST__INIT;

    p.container_id = (char *)(uintptr_t)id;
    p.abort = abort;
    r.op_case = POD__REQUEST__OP_PROCEED;
    r.proceed = &p;
    return kit_call(k, &r, NULL, 0);
}

static const Pod__StartReply *expect_held(const Pod__Reply *reply)
{
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_int_equal(reply->result_case, POD__REPLY__RESULT_START);
    assert_true(reply->start->held && reply->start->pid > 0);
    return reply->start;
}

static char *text_of(struct kit *k, const char *name)
{
    char *path = arena_printf(k->arena, "%s/%s", k->scratch, name), *text = NULL;

    if (file_read(path, 4096, &text, NULL, NULL) < 0)
        return NULL;
    char *copy = arena_strdup(k->arena, text);
    free(text);
    return copy;
}

static void test_held_and_let_go(void **state)
{
    struct kit *k = *state;
    char path[64], ours[64] = "", theirs[64] = "";

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan = plan_with_hooks(k, "cat /by-hook; ls /by-hook2; exit 4");
    plan->root->readonly = true;
    plan->hooks->create_container[plan->hooks->n_create_container++] =
        hook(k, "cat >$D/state; echo hooked >$D/mnt/root/by-hook; readlink /proc/self/ns/mnt >$D/ns");
    const Pod__StartReply *start = expect_held(start_held(k, "c", plan));
    assert_null(text_of(k, "state")); // its own hooks come when crispd's are done
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", start->pid);
    assert_true(readlink(path, theirs, sizeof(theirs) - 1) > 0);
    assert_true(readlink("/proc/self/ns/mnt", ours, sizeof(ours) - 1) > 0);
    assert_string_not_equal(ours, theirs);              // it has its namespaces, and its root is there
    const Pod__Reply *reply = start_held(k, "c", plan); // asked again
    assert_int_equal(expect_held(reply)->pid, start->pid);
    reply = proceed(k, "c", false);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_true(!reply->start->held && reply->start->pid == start->pid && reply->start->started_at_ns > 0);
    assert_int_equal(kit_wait_exit(k, "c")->exit_code, 4);
    assert_non_null(strstr(kit_log_text(k, "c"), "hooked\n"));
    assert_string_equal(text_of(k, "state"), "{\"status\":\"creating\",\"pid\":1,\"id\":\"c\"}");
    assert_true(str_has_prefix(text_of(k, "ns"), theirs));
    reply = proceed(k, "c", false);
    assert_non_null(strstr(reply->error->message, "start container c: it is not held"));
}

static void test_aborted(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    const Pod__StartReply *start = expect_held(start_held(k, "c", plan_with_hooks(k, "true")));
    pid_t pid = start->pid;
    const Pod__Reply *reply = proceed(k, "c", true);
    assert_int_equal(reply->error->status, STATUS_ABORTED);
    assert_non_null(strstr(reply->error->message, "busy with: hooks of the host"));
    assert_int_equal(kill(pid, 0), -1); // the answer waits for its end
    // As if it had never been.
    assert_int_equal(kit_start(k, "c", kit_plan_sh(k, "true"))->result_case, POD__REPLY__RESULT_START);
    (void)kit_wait_exit(k, "c");
}

static void test_crispd_goes(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    pid_t pid = expect_held(start_held(k, "c", plan_with_hooks(k, "true")))->pid;
    assert_int_equal(kit_connect(k), 0); // closes the former connection
    for (int64_t i = 0; i < testing_limit(250) && kill(pid, 0) == 0; i++)
        (void)poll(NULL, 0, 20);
    assert_int_equal(kill(pid, 0), -1);
    Pod__Request r = POD__REQUEST__INIT;
    Pod__StateRequest ask = POD__STATE_REQUEST__INIT;
    r.op_case = POD__REQUEST__OP_STATE;
    r.state = &ask;
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    assert_int_equal(reply->state->n_containers, 0);
}

static void test_deadline(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c", plan_with_hooks(k, "true"));
    r.start->hold = true;
    r.start->deadline_ms = (uint32_t)testing_limit(1000);
    (void)expect_held(kit_call(k, &r, NULL, 0));
    (void)poll(NULL, 0, (int)testing_limit(1300)); // crispd's hooks take longer than all of it may
    const Pod__Reply *reply = proceed(k, "c", false);
    assert_non_null(strstr(reply->error->message, "it is not held"));
}

static void expect_failure(struct kit *k, const char *id, const Pod__LaunchPlan *plan, enum status status,
                           const char *says)
{
    (void)expect_held(start_held(k, id, plan));
    const Pod__Reply *reply = proceed(k, id, false);
    assert_non_null(reply->error);
    if (!strstr(reply->error->message, says))
        fail_msg("\"%s\" does not say \"%s\"", reply->error->message, says);
    assert_int_equal(reply->error->status, status);
}

static void test_failing_hooks(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan = plan_with_hooks(k, "true");
    Pod__Hook *one = plan->hooks->create_container[0] = hook(k, "echo no good >&2; exit 9");
    plan->hooks->n_create_container = 1;
    expect_failure(k, "c1", plan, STATUS_FAILED_PRECONDITION,
                   "createContainer hook: /bin/sh failed with exit code 9: no good");
    one->args[2] = (char *)(uintptr_t) "kill -15 $$";
    expect_failure(k, "c2", plan, STATUS_FAILED_PRECONDITION, "/bin/sh was killed by signal 15");
    one->args[2] = (char *)(uintptr_t) "echo begun; sleep 100 & sleep 100";
    one->timeout_ms = (uint32_t)testing_limit(200);
    expect_failure(k, "c3", plan, STATUS_DEADLINE_EXCEEDED,
                   arena_printf(k->arena, "/bin/sh was killed after %u ms: begun", one->timeout_ms));
    // Much output neither blocks nor grows: the end of it is told.
    one->args[2] = (char *)(uintptr_t) "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; "
                                       "echo last; exit 1";
    one->timeout_ms = (uint32_t)testing_limit(20000);
    expect_failure(k, "c4", plan, STATUS_FAILED_PRECONDITION, "0123456789 last");
    one->path = (char *)(uintptr_t) "/no/hook";
    expect_failure(k, "c5", plan, STATUS_FAILED_PRECONDITION,
                   "/no/hook failed with exit code 127: exec: No such file");
}

// A startContainer hook is the container's program: it gets no more than the container's process.
static void test_start_container_hook(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan = plan_with_hooks(k, "cat /tmp/seen");
    plan->process->user->has_uid = true;
    plan->process->user->uid = 1234;
    plan->hooks->start_container[plan->hooks->n_start_container++] =
        hook(k, "(cat; echo; id -u; grep CapEff /proc/self/status; ls -d $D) >/tmp/seen 2>&1; true");
    kit_add_mount(k, plan, "tmpfs", "tmpfs", "/tmp", "mode=1777", 0);
    (void)expect_held(start_held(k, "c", plan));
    const Pod__Reply *reply = proceed(k, "c", false);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_int_equal(kit_wait_exit(k, "c")->exit_code, 0);
    const char *log = kit_log_text(k, "c");
    assert_non_null(strstr(log, "{\"status\":\"created\",\"pid\":1,\"id\":\"c\"}\n1234\n"));
    assert_non_null(strstr(log, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(log, "No such file")); // nothing of the host is in sight
    plan->hooks->start_container[0]->args[2] = (char *)(uintptr_t) "exit 2";
    expect_failure(k, "c2", plan, STATUS_FAILED_PRECONDITION,
                   "startContainer hook: /bin/sh failed with exit code 2");
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_held_and_let_go), POD_TEST(test_aborted),       POD_TEST(test_crispd_goes),
        POD_TEST(test_deadline),        POD_TEST(test_failing_hooks), POD_TEST(test_start_container_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
