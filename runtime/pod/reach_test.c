// Paths by which an image could have a program of the host executed (CVE-2024-21626, by way of the program).
//
// The kernel looks for the program before it closes what is close-on-exec: any directory of the host that is
// still open then leads there, as /proc/self/fd/N/../…
#include "runtime/pod/testkit.h"

#include <linux/capability.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define FDS_MAX 48

static void make_program(struct kit *k, char file[300], char path[8000])
{
    struct error err;

    (void)snprintf(file, 300, "%s/on-the-host", k->scratch);
    assert_int_equal(file_write_atomic(file, "#!/bin/sh\n", 10, 0755, false, &err), 0);
    size_t len = (size_t)snprintf(path, 8000, "PATH=");
    for (int fd = 3; fd < FDS_MAX; fd++)
        len += (size_t)snprintf(path + len, 8000 - len, "/proc/self/fd/%d/../..%s:", fd, k->scratch);
}

static bool is_refused(const Pod__Reply *reply)
{
    return reply->error && (reply->error->errnum == ENOENT || reply->error->errnum == ENOTDIR);
}

static void test_start(void **state)
{
    struct kit *k = *state;
    char file[300], path[8000];

    if (!kit_possible() || kit_make_pod(k, false)->error)
        TESTING_SKIP("needs root and /bin/busybox");
    make_program(k, file, path);
    Pod__LaunchPlan *plan = kit_plan_sh(k, "true");
    plan->process->args[0] = (char *)(uintptr_t) "on-the-host";
    plan->process->env[0] = path;
    assert_true(is_refused(kit_start(k, "by-path", plan)));
    for (int fd = 3; fd < FDS_MAX / 2; fd++) {
        plan = kit_plan_sh(k, "true");
        plan->process->args[0] = arena_printf(k->arena, "/proc/self/fd/%d/../..%s", fd, file);
        assert_true(is_refused(kit_start(k, arena_printf(k->arena, "by-name-%d", fd), plan)));
    }
    assert_int_equal(unlink(file), 0);
}

static void check_exec(struct kit *k, uint64_t more_caps)
{
    char file[300], path[8000];
    Pod__Request r = POD__REQUEST__INIT;

    make_program(k, file, path);
    r.op_case = POD__REQUEST__OP_EXEC;
    r.exec = kit_exec_request(k, "box", "by-path", "true");
    r.exec->process->args[0] = (char *)(uintptr_t) "on-the-host";
    r.exec->process->env[0] = path;
    r.exec->process->capabilities->bounding |= more_caps;
    r.exec->process->capabilities->permitted |= more_caps;
    assert_true(is_refused(kit_call(k, &r, NULL, 0)));
    for (int fd = 3; fd < FDS_MAX / 2; fd++) {
        r.exec = kit_exec_request(k, "box", arena_printf(k->arena, "by-name-%d", fd), "true");
        r.exec->process->args[0] = arena_printf(k->arena, "/proc/self/fd/%d/../..%s", fd, file);
        r.exec->process->capabilities->bounding |= more_caps;
        assert_true(is_refused(kit_call(k, &r, NULL, 0)));
    }
    assert_int_equal(unlink(file), 0);
}

static void start_box(struct kit *k, uint64_t more_caps)
{
    Pod__LaunchPlan *plan = kit_plan_sh(k, "sleep 1000");

    assert_null(kit_make_pod(k, false)->error);
    plan->process->capabilities->bounding |= more_caps;
    assert_null(kit_start(k, "box", plan)->error);
}

static void test_exec(void **state)
{
    if (!kit_possible())
        TESTING_SKIP("needs root and /bin/busybox");
    start_box(*state, 0);
    check_exec(*state, 0);
}

// With a tracer about, an exec appears in the container in a second stage.
static void test_exec_two_stages(void **state)
{
    const uint64_t ptrace = UINT64_C(1) << CAP_SYS_PTRACE;

    if (!kit_possible())
        TESTING_SKIP("needs root and /bin/busybox");
    start_box(*state, ptrace);
    check_exec(*state, ptrace);
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_start),
        POD_TEST(test_exec),
        POD_TEST(test_exec_two_stages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
