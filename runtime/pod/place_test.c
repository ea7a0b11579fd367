// A prepared child whose cgroups (v1) are only being made. Needs root, and v1 hierarchies.
#include "runtime/pod/testkit.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define NEED_V1(k)                                                                                           \
    do {                                                                                                     \
        if (!(k)->pid || access("/sys/fs/cgroup/freezer/tasks", W_OK) < 0)                                   \
            TESTING_SKIP("needs root, /bin/busybox and v1 cgroups");                                         \
    } while (0)

// crisp-pod keeps the directories that its own cgroups are in: only below those can a child join late.
static void enter_beside(struct kit *k, const Pod__CgroupPlace *place)
{
    Pod__EnterRequest enter = POD__ENTER_REQUEST__INIT;
    Pod__Request r = POD__REQUEST__INIT;

    enter.cgroup_dirs = arena_alloc(k->arena, place->n_dirs * sizeof(char *));
    for (size_t i = 0; i < place->n_dirs; i++) {
        const char *slash = strrchr(place->dirs[i], '/');
        enter.cgroup_dirs[enter.n_cgroup_dirs++] =
            arena_printf(k->arena, "%.*s/none", (int)(slash - place->dirs[i]), place->dirs[i]);
    }
    r.op_case = POD__REQUEST__OP_ENTER;
    r.enter = &enter;
    assert_null(kit_call(k, &r, NULL, 0)->error);
}

static void remove_dirs(const Pod__CgroupPlace *place)
{
    for (size_t i = 0; i < place->n_dirs; i++)
        assert_int_equal(rmdir(place->dirs[i]), 0);
}

static void make_dirs(const Pod__CgroupPlace *place)
{
    for (size_t i = 0; i < place->n_dirs; i++)
        assert_int_equal(mkdir(place->dirs[i], 0755), 0);
}

static void prepare_later(struct kit *k, const Pod__StartRequest *start)
{
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__Request r = POD__REQUEST__INIT;

    prepare.container_id = start->container_id;
    prepare.cgroup = start->cgroup;
    prepare.plan = start->plan;
    prepare.cgroup_later = true;
    r.op_case = POD__REQUEST__OP_PREPARE;
    r.prepare = &prepare;
    assert_null(kit_call(k, &r, NULL, 0)->error);
}

static void placed(struct kit *k, const char *id)
{
    Pod__PlacedRequest p = POD__PLACED_REQUEST__INIT;
    Pod__Request r = POD__REQUEST__INIT;

    p.container_id = (char *)(uintptr_t)id;
    r.op_case = POD__REQUEST__OP_PLACED;
    r.placed = &p;
    assert_null(kit_call(k, &r, NULL, 0)->error);
}

static pid_t only_child(struct kit *k)
{
    char *path = arena_printf(k->arena, "/proc/%d/task/%d/children", (int)k->pid, (int)k->pid), *text = NULL;

    assert_int_equal(file_read(path, 4096, &text, NULL, NULL), 0);
    pid_t pid = (pid_t)atoi(text);
    free(text);
    return pid; // 0: none
}

// It is in its cgroups, which are the root of its cgroup namespace and of the file system that it sees.
static void test_later(void **state)
{
    struct kit *k = *state;
    static const char script[] = "grep -oE '(freezer|memory|pids):.*' /proc/self/cgroup; grep -c . /cg/tasks";

    NEED_V1(k);
    assert_null(kit_make_pod(k, false)->error);
    for (int i = 0; i < 4; i++) {
        bool reach = i >= 2, told = i % 2; // else the start tells
        char *id = arena_printf(k->arena, "c%d", i);
        Pod__LaunchPlan *plan = kit_plan_sh(k, script);
        kit_add_mount(k, plan, "cgroup", "cgroup", "/cg", "freezer", 0);
        Pod__StartRequest *start = kit_start_request(k, id, plan);
        Pod__Request r = POD__REQUEST__INIT;
        if (i == 2)
            enter_beside(k, start->cgroup);
        remove_dirs(start->cgroup);
        prepare_later(k, start);
        (void)poll(NULL, 0, 100);
        pid_t prepared = only_child(k);
        make_dirs(start->cgroup);
        if (told)
            placed(k, id);
        r.op_case = POD__REQUEST__OP_START;
        r.start = start;
        const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
        if (reply->error)
            fail_msg("reach %d, told %d: %s", reach, told, reply->error->message);
        assert_int_equal(reply->start->pid, prepared);
        assert_int_equal(kit_wait_exit(k, id)->exit_code, 0);
        const char *log = kit_log_text(k, id);
        if (!strstr(log, "freezer:/\n"))
            fail_msg("reach %d, told %d: %s", reach, told, log);
        assert_non_null(strstr(log, "pids:/\n"));
        assert_in_range(atoi(strrchr(log, ':') + 3), 1, 2); // the shell and grep, and nobody else
        assert_null(strstr(log, id));
    }
}

// Nobody finds a child that isn't in its cgroups yet, once the crispd that was making them is gone.
static void test_crispd_ends(void **state)
{
    struct kit *k = *state;

    NEED_V1(k);
    assert_null(kit_make_pod(k, false)->error);
    Pod__StartRequest *start = kit_start_request(k, "c1", kit_plan_sh(k, "exit 5"));
    enter_beside(k, start->cgroup);
    prepare_later(k, start);
    for (int i = 0; !only_child(k); i++) { // it is made after the answer
        assert_true(i < 500);
        (void)poll(NULL, 0, 10);
    }
    assert_int_equal(kit_connect(k), 0);
    for (int i = 0; only_child(k); i++) {
        assert_true(i < 500);
        (void)poll(NULL, 0, 10);
    }
    placed(k, "c1"); // of one that isn't there: nothing
    Pod__Request r = POD__REQUEST__INIT;
    r.op_case = POD__REQUEST__OP_START;
    r.start = start;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 5);
}

#define PLACE_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {PLACE_TEST(test_later), PLACE_TEST(test_crispd_ends)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
