// Containers in a pid namespace that is the pod's, or another container's. Needs root.
#include "runtime/pod/testkit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

// The first process of the shared pid namespace: crisp-pod's child of that name, or 0.
static pid_t find_init(const struct kit *k)
{
    char *path = arena_printf(k->arena, "/proc/%d/task/%d/children", (int)k->pid, (int)k->pid);
    char *children = NULL, *comm = NULL;
    pid_t found = 0;

    if (file_read(path, 1 << 16, &children, NULL, NULL) < 0)
        return 0;
    for (char *at = children, *end; !found && *at; at = *end ? end + 1 : end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (file_read(arena_printf(k->arena, "/proc/%d/comm", (int)pid), 64, &comm, NULL, NULL) < 0)
            continue;
        found = str_eq(comm, "crisp-pod-init\n") ? pid : 0;
        free(comm);
    }
    free(children);
    return found;
}

// Who may trace process 1 of a shared pid namespace must not come into the host's network by it.
static void test_shared_pid_namespaces(void **state)
{
    static const char *const kinds[] = {"net", "ipc", "uts"};
    struct kit *k = *state;
    struct stat own, st;
    pid_t init = 0;

    NEED_KIT(k);
    const Pod__Reply *reply = kit_make_pod(k, true);
    assert_null(reply->error);
    for (int i = 0; i < 100 && (init = find_init(k)) == 0; i++)
        (void)poll(NULL, 0, 10);
    assert_true(init > 0);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        assert_int_equal(stat(arena_printf(k->arena, "/proc/self/ns/%s", kinds[i]), &own), 0);
        assert_int_equal(stat(arena_printf(k->arena, "/proc/%d/ns/%s", (int)init, kinds[i]), &st), 0);
        assert_int_not_equal(own.st_ino, st.st_ino);
        if (i == 0)
            assert_int_equal(st.st_ino, reply->setup->net_inode);
    }
}

static void test_shared_pid(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    NEED_KIT(k);
    assert_null(kit_make_pod(k, true)->error);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "one", kit_plan_sh(k, "sleep 987"));
    r.start->pid_mode = POD__PID_MODE__PID_POD;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    r.start = kit_start_request(
        k, "two",
        kit_plan_sh(k, "for i in 1 2 3 4 5 6 7 8 9; do ps | grep -q 'sleep 98[7]' && break; "
                       "sleep 0.2; done; ps | grep -c 'sleep 98[7]'; cat /proc/1/comm; ls "
                       "/proc/1/root/ 2>&1 | wc -l; (sleep 0.01 &) ; sleep 0.1"));
    r.start->pid_mode = POD__PID_MODE__PID_POD;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    assert_int_equal(kit_wait_exit(k, "two")->exit_code, 0);
    assert_true(str_has_prefix(kit_log_text(k, "two"), "1\ncrisp-pod-init\n"));

    r.start = kit_start_request(k, "three", kit_plan_sh(k, "ps | grep -c 'sleep 98[7]'"));
    r.start->pid_mode = POD__PID_MODE__PID_TARGET;
    r.start->pid_target = (char *)(uintptr_t) "one";
    assert_null(kit_call(k, &r, NULL, 0)->error);
    (void)kit_wait_exit(k, "three");
    assert_string_equal(kit_log_text(k, "three"), "1\n");
    kit_kill(k, "one", SIGKILL, true);
    assert_int_equal(kit_wait_exit(k, "one")->exit_code, 137);
}

// The first stage is outside, the second one appears inside when all is dropped: also under a filter that
// forbids what that takes, and with a terminal.
static void test_shared_pid_stages(void **state)
{
    static const uint32_t denied[] = {SYS_clone3, SYS_setsid, SYS_prctl, SYS_capset, SYS_sendmsg, SYS_ptrace};
    struct sock_filter filter[ARRAY_SIZE(denied) + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    size_t n = 1;

    NEED_KIT(k);
    for (size_t i = 0; i < ARRAY_SIZE(denied); i++, n++)
        filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denied[i],
                                                 (uint8_t)(ARRAY_SIZE(denied) - i), 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    assert_null(kit_make_pod(k, true)->error);
    Pod__LaunchPlan *plan =
        kit_plan_sh(k, "read -r pid name state parent group session rest </proc/self/stat; "
                       "echo $((pid == $$)) $((group == pid)) $((session == pid)) $parent; "
                       "grep -c '^proc /proc proc rw,nosuid,nodev,noexec,relatime' /proc/mounts; "
                       "cat /proc/1/comm; grep Seccomp: /proc/self/status; exit 5");
    plan->process->seccomp.data = (uint8_t *)filter;
    plan->process->seccomp.len = n * sizeof(filter[0]);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", plan);
    r.start->pid_mode = POD__PID_MODE__PID_POD;
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 5);
    assert_string_equal(kit_log_text(k, "c1"), "1 1 1 0\n1\ncrisp-pod-init\nSeccomp:\t2\n");
    plan = kit_plan_sh(
        k, "read -r a b c d e f tty rest </proc/self/stat; test -t 0 && test $tty != 0 && echo has one");
    plan->process->tty = true;
    r.start = kit_start_request(k, "c2", plan);
    r.start->stdio->tty = true;
    r.start->pid_mode = POD__PID_MODE__PID_POD;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    assert_int_equal(kit_wait_exit(k, "c2")->exit_code, 0);
    assert_non_null(strstr(kit_log_text(k, "c2"), "has one"));
    // What a first stage can't do is told as ever, and what the second one can't.
    plan = kit_plan_sh(k, "true");
    plan->process->args[0] = (char *)(uintptr_t) "nosuch";
    r.start = kit_start_request(k, "c3", plan);
    r.start->pid_mode = POD__PID_MODE__PID_POD;
    reply = kit_call(k, &r, NULL, 0);
    assert_non_null(reply->error);
    assert_non_null(strstr(reply->error->message, "exec \"nosuch\""));
    plan = kit_plan_sh(k, "true");
    plan->process->cwd = (char *)(uintptr_t) "/nowhere";
    r.start = kit_start_request(k, "c4", plan);
    r.start->pid_mode = POD__PID_MODE__PID_POD;
    reply = kit_call(k, &r, NULL, 0);
    assert_non_null(reply->error);
    assert_non_null(strstr(reply->error->message, "working directory"));
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_shared_pid),
        POD_TEST(test_shared_pid_stages),
        POD_TEST(test_shared_pid_namespaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
