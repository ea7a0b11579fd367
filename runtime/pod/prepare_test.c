// Containers that are prepared before they are started. Needs root.
#include "runtime/pod/testkit.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

static size_t containers_of(struct kit *k)
{
    Pod__Request r = POD__REQUEST__INIT;
    Pod__StateRequest ask = POD__STATE_REQUEST__INIT;

    r.op_case = POD__REQUEST__OP_STATE;
    r.state = &ask;
    return kit_call(k, &r, NULL, 0)->state->n_containers;
}

static void prepare_for(struct kit *k, const Pod__StartRequest *start)
{
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__Request r = POD__REQUEST__INIT;

    prepare.container_id = start->container_id;
    prepare.cgroup = start->cgroup;
    prepare.pid_mode = start->pid_mode;
    prepare.plan = start->plan;
    r.op_case = POD__REQUEST__OP_PREPARE;
    r.prepare = &prepare;
    assert_null(kit_call(k, &r, NULL, 0)->error);
}

static const Pod__Reply *start_it(struct kit *k, Pod__StartRequest *start)
{
    Pod__Request r = POD__REQUEST__INIT;

    r.op_case = POD__REQUEST__OP_START;
    r.start = start;
    return kit_call(k, &r, NULL, 0);
}

// crisp-pod's only child.
static pid_t only_child(struct kit *k)
{
    char *path = arena_printf(k->arena, "/proc/%d/task/%d/children", (int)k->pid, (int)k->pid), *text = NULL;
    pid_t pid = 0;

    for (int i = 0; i < 250 && pid == 0; i++) {
        assert_int_equal(file_read(path, 4096, &text, NULL, NULL), 0);
        pid = (pid_t)strtol(text, NULL, 10);
        free(text);
        (void)poll(NULL, 0, 20);
    }
    assert_true(pid > 0);
    return pid;
}

static void test_prepare(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT, f = POD__REQUEST__INIT;
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__ForgetRequest forget = POD__FORGET_REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    prepare.container_id = (char *)(uintptr_t) "c1";
    prepare.cgroup = kit_place(k, "c1");
    r.op_case = POD__REQUEST__OP_PREPARE;
    r.prepare = &prepare;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    assert_int_equal(containers_of(k), 0);
    char *log;
    assert_int_equal(kit_run_sh(k, "c1", "echo $$", &log)->exit_code, 0);
    assert_string_equal(log, "1\n");

    prepare.container_id = (char *)(uintptr_t) "c2"; // one that is never started
    prepare.cgroup = kit_place(k, "c2");
    assert_null(kit_call(k, &r, NULL, 0)->error);
    forget.container_id = (char *)(uintptr_t) "c2";
    f.op_case = POD__REQUEST__OP_FORGET;
    f.forget = &forget;
    assert_null(kit_call(k, &f, NULL, 0)->error);
    (void)poll(NULL, 0, 50); // it has been killed; its cgroup is empty in a moment
}

// The child of a prepared container builds the root before the start comes, and what goes wrong is the
// start's.
static void test_prepare_with_plan(void **state)
{
    struct kit *k = *state;
    static const char *const argv[] = {"/bin/sh", "-c", "echo $$; cat /data/file", NULL};
    char source[400], file[420];
    struct error err;

    NEED_KIT(k);
    kit_need_pod(k);
    (void)snprintf(source, sizeof(source), "%s/data", k->scratch);
    (void)snprintf(file, sizeof(file), "%s/file", source);
    for (int i = 0; i < 2; i++) {
        bool missing = i == 1; // the second one never finds its mount's source
        char *id = arena_printf(k->arena, "c%d", i);
        if (!missing) {
            assert_int_equal(file_mkdir_p(source, 0755, &err), 0);
            assert_int_equal(file_write_atomic(file, "here\n", 5, 0644, false, &err), 0);
        }
        Pod__LaunchPlan *plan = kit_plan(k, argv);
        kit_add_mount(k, plan, "bind", source, "/data", "", 0);
        Pod__StartRequest *start = kit_start_request(k, id, plan);
        prepare_for(k, start);
        (void)poll(NULL, 0, 300);
        if (!missing) // only who has it mounted already finds it after this
            assert_int_equal(rename(source, arena_printf(k->arena, "%s.away", source)), 0);
        const Pod__Reply *reply = start_it(k, start);
        if (missing) {
            assert_non_null(reply->error);
            assert_non_null(strstr(reply->error->message, source));
            assert_string_equal(reply->error->step, "mount /data");
            continue;
        }
        assert_null(reply->error);
        assert_int_equal(kit_wait_exit(k, id)->exit_code, 0);
        assert_string_equal(kit_log_text(k, id), "1\nhere\n");
    }
}

// Nothing of a child that is gone, or failed, before the start is the start's: that makes its own.
static void test_prepared_in_vain(void **state)
{
    struct kit *k = *state;
    static const char *const argv[] = {"/bin/sh", "-c", "read -r line; cat /data/file; exit 3", NULL};
    char source[400], file[420];
    struct error err;

    NEED_KIT(k);
    kit_need_pod(k);
    (void)snprintf(source, sizeof(source), "%s/late", k->scratch);
    (void)snprintf(file, sizeof(file), "%s/file", source);
    for (int i = 0; i < 4; i++) {
        char *id = arena_printf(k->arena, "c%d", i);
        Pod__LaunchPlan *plan = kit_plan(k, argv);
        kit_add_mount(k, plan, "bind", source, "/data", "", 0);
        Pod__StartRequest *start = kit_start_request(k, id, plan);
        prepare_for(k, start);
        if (i == 0) { // its mount's source comes after it was looked for
            (void)poll(NULL, 0, 300);
            assert_int_equal(file_mkdir_p(source, 0755, &err), 0);
            assert_int_equal(file_write_atomic(file, "here\n", 5, 0644, false, &err), 0);
        } else if (i == 1) { // killed, and gone
            assert_int_equal(kill(only_child(k), SIGKILL), 0);
            (void)poll(NULL, 0, 300);
        } else if (i == 2) { // killed just now
            pid_t pid = only_child(k);
            assert_int_equal(kill(k->pid, SIGSTOP), 0);
            assert_int_equal(kill(pid, SIGKILL), 0);
            (void)poll(NULL, 0, 100);
            assert_int_equal(kill(k->pid, SIGCONT), 0);
        } else { // stopped, and killed once it has its orders
            pid_t pid = only_child(k);
            Pod__Request r = POD__REQUEST__INIT;
            assert_int_equal(kill(pid, SIGSTOP), 0);
            r.op_case = POD__REQUEST__OP_START;
            r.start = start;
            kit_send(k, &r, NULL, 0);
            (void)poll(NULL, 0, 300);
            assert_int_equal(kill(pid, SIGKILL), 0);
            const Pod__Reply *reply = kit_receive(k, r.id);
            assert_null(reply->error);
        }
        if (i < 3) {
            const Pod__Reply *reply = start_it(k, start);
            if (reply->error)
                fail_msg("%d: %s", i, reply->error->message);
        }
        assert_int_equal(kit_wait_exit(k, id)->exit_code, 3);
        assert_string_equal(kit_log_text(k, id), "here\n");
    }
}

static void spare_for(struct kit *k, Pod__PidMode mode)
{
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__Request r = POD__REQUEST__INIT;

    prepare.pid_mode = mode;
    r.op_case = POD__REQUEST__OP_PREPARE;
    r.prepare = &prepare;
    assert_null(kit_call(k, &r, NULL, 0)->error);
}

static bool has_child(struct kit *k)
{
    char *path = arena_printf(k->arena, "/proc/%d/task/%d/children", (int)k->pid, (int)k->pid), *text = NULL;

    assert_int_equal(file_read(path, 4096, &text, NULL, NULL), 0);
    bool has = *text != '\0';
    free(text);
    return has;
}

// Who made the namespaces may be dying still, and a spare is made after the answer. Ten seconds at most.
static bool wait_has_child(struct kit *k, bool wanted)
{
    for (int i = 0; i < 1000 && has_child(k) != wanted; i++)
        (void)usleep(10000);
    return has_child(k) == wanted;
}

// As CreateContainer does where the cgroups are made meanwhile.
static void take_spare(struct kit *k, const Pod__StartRequest *start)
{
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__PlacedRequest placed = POD__PLACED_REQUEST__INIT;
    Pod__Request r = POD__REQUEST__INIT, p = POD__REQUEST__INIT;

    prepare.container_id = start->container_id;
    prepare.cgroup = start->cgroup;
    prepare.plan = start->plan;
    prepare.cgroup_later = true;
    r.op_case = POD__REQUEST__OP_PREPARE;
    r.prepare = &prepare;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    placed.container_id = start->container_id;
    p.op_case = POD__REQUEST__OP_PLACED;
    p.placed = &placed;
    assert_null(kit_call(k, &p, NULL, 0)->error);
}

// A child that is there before any container becomes the first one, in that one's cgroups; it is told to
// nobody. Where there is none any more, or it can't be had, the container gets its own.
static void test_spare(void **state)
{
    struct kit *k = *state;
    static const char *const argv[] = {"/bin/sh", "-c", "echo $$; grep -c ':/$' /proc/self/cgroup", NULL};

    NEED_KIT(k);
    kit_need_pod(k);
    for (int i = 0; i < 4; i++) {
        char *id = arena_printf(k->arena, "c%d", i);
        Pod__StartRequest *start = kit_start_request(k, id, kit_plan(k, argv));
        pid_t pid = 0;
        if (i < 3) {
            assert_true(wait_has_child(k, false));
            spare_for(k, POD__PID_MODE__PID_PRIVATE);
            spare_for(k, POD__PID_MODE__PID_PRIVATE); // one is enough
            assert_true(wait_has_child(k, true));
            pid = only_child(k);
            assert_int_equal(containers_of(k), 0);
        }
        if (i == 1)
            assert_int_equal(kill(pid, SIGKILL), 0);
        if (i < 2)
            take_spare(k, start); // the third is started without
        const Pod__Reply *reply = start_it(k, start);
        if (reply->error)
            fail_msg("%d: %s", i, reply->error->message);
        if (i == 0 && !start->cgroup->v2)
            assert_int_equal(reply->start->pid, pid);
        else if (i > 0)
            assert_int_not_equal(reply->start->pid, pid);
        assert_int_equal(kit_wait_exit(k, id)->exit_code, 0);
        assert_true(str_has_prefix(kit_log_text(k, id), "1\n"));
        assert_string_not_equal(kit_log_text(k, id), "1\n0\n");
        Pod__Request f = POD__REQUEST__INIT;
        Pod__ForgetRequest forget = POD__FORGET_REQUEST__INIT;
        forget.container_id = id;
        f.op_case = POD__REQUEST__OP_FORGET;
        f.forget = &forget;
        assert_null(kit_call(k, &f, NULL, 0)->error);
    }
    // The one that is left over from the third goes with crisp-pod (the kit's teardown looks).
}

// Nobody may wait in a pid namespace that others see.
static void test_spare_is_private(void **state)
{
    struct kit *k = *state;

    NEED_KIT(k);
    kit_need_pod(k);
    assert_true(wait_has_child(k, false));
    spare_for(k, POD__PID_MODE__PID_HOST);
    spare_for(k, POD__PID_MODE__PID_POD);
    spare_for(k, POD__PID_MODE__PID_TARGET);
    (void)kit_call(k, &(Pod__Request){.base = PROTOBUF_C_MESSAGE_INIT(&pod__request__descriptor)}, NULL, 0);
    assert_false(has_child(k)); // what was asked for before that answer has been done
    spare_for(k, POD__PID_MODE__PID_PRIVATE);
    assert_true(wait_has_child(k, true));
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_prepare), POD_TEST(test_prepare_with_plan), POD_TEST(test_prepared_in_vain),
        POD_TEST(test_spare),   POD_TEST(test_spare_is_private),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
