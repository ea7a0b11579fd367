// crisp-pod as a whole: pods, containers, logs, exits, reconnects. Needs root.
#include "runtime/pod/testkit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

static void test_hello(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    Pod__HelloRequest hello = POD__HELLO_REQUEST__INIT;
    uint64_t ticks;

    NEED_KIT(k);
    hello.version = 1;
    r.op_case = POD__REQUEST__OP_HELLO;
    r.hello = &hello;
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    assert_int_equal(reply->result_case, POD__REPLY__RESULT_HELLO);
    assert_string_equal(reply->hello->pod_id, "testpod");
    assert_int_equal(reply->hello->pid, k->pid);
    assert_int_equal(clock_process_start(k->pid, &ticks), 0);
    assert_int_equal(reply->hello->start_ticks, ticks);
    assert_false(reply->hello->ready);
    assert_true(reply->hello->n_features >= 1);
    assert_int_equal(kill(k->pid, SIGTERM), 0); // as everybody gets it on a node that shuts down
    assert_null(kit_call(k, &r, NULL, 0)->error);
}

static void test_namespaces(void **state)
{
    struct kit *k = *state;
    struct stat st, own;
    char *log;

    NEED_KIT(k);
    const Pod__Reply *reply = kit_make_pod(k, false);
    assert_null(reply->error);
    assert_int_equal(k->n_reply_fds, 1);
    assert_int_equal(fstat(k->reply_fds[0], &st), 0);
    assert_int_equal(st.st_ino, reply->setup->net_inode);
    assert_int_equal(stat("/proc/self/ns/net", &own), 0);
    assert_int_not_equal(own.st_ino, st.st_ino);
    char *link = arena_printf(k->arena, "net:[%ju]\n", (uintmax_t)st.st_ino);
    reply = kit_make_pod(k, false); // again: the same answer
    assert_null(reply->error);
    assert_int_equal(reply->setup->net_inode, st.st_ino);

    const Pod__ExitRecord *e =
        kit_run_sh(k, "c1", "hostname; readlink /proc/self/ns/net; echo $$; cat /proc/self/cgroup", &log);
    assert_int_equal(e->exit_code, 0);
    assert_true(str_has_prefix(log, "kit-host\n"));
    assert_non_null(strstr(log, link));
    assert_non_null(strstr(log, "\n1\n"));
    bool v2 = access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0;
    assert_non_null(strstr(log, v2 ? "0::/\n" : "freezer:/\n")); // a cgroup namespace of its own
}

// crispd makes crisp-pod's own cgroup while the namespaces are made, and then says so.
static void test_enter(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    Pod__EnterRequest enter = POD__ENTER_REQUEST__INIT;
    char *dirs[] = {str_printf("%s/fake", k->scratch), str_printf("%s/missing", k->scratch)};
    char *tasks = str_printf("%s/fake/tasks", k->scratch), text[8] = "";

    kit_need_pod(k);
    assert_int_equal(mkdir(dirs[0], 0755), 0);
    int fd = open(tasks, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    enter.cgroup_dirs = dirs;
    enter.n_cgroup_dirs = ARRAY_SIZE(dirs);
    r.op_case = POD__REQUEST__OP_ENTER;
    r.enter = &enter;
    assert_null(kit_call(k, &r, NULL, 0)->error); // one that is not there is only logged
    r.op_case = POD__REQUEST__OP_STATE;
    r.state = &(Pod__StateRequest)POD__STATE_REQUEST__INIT;
    assert_null(kit_call(k, &r, NULL, 0)->error); // it answers first, and joins then
    assert_int_equal(read(fd, text, sizeof(text)), 1);
    assert_string_equal(text, "0");
    (void)close(fd);
    free(tasks);
    free(dirs[0]);
    free(dirs[1]);
}

static void test_environment(void **state)
{
    struct kit *k = *state;
    char *log;

    NEED_KIT(k);
    kit_need_pod(k);
    (void)kit_run_sh(
        k, "c1",
        "echo $HOME $A; pwd; id; ls /proc/self/fd; readlink /dev/fd; echo x > /dev/null && echo null;"
        "grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs|Sig(Blk|Ign)' /proc/self/status; umask; cat "
        "/proc/1/oom_score_adj",
        &log);
    assert_true(str_has_prefix(
        log, "/root b\n/\nuid=0(root) gid=0(root) groups=0(root)\n0\n1\n2\n3\n/proc/self/fd\nnull\n"));
    assert_non_null(strstr(log, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
    assert_non_null(
        strstr(log, "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"));
    assert_non_null(strstr(log, "\n0022\n0\n"));
}

static void test_exit_codes(void **state)
{
    struct kit *k = *state;

    NEED_KIT(k);
    kit_need_pod(k);
    assert_int_equal(kit_run_sh(k, "zero", "exit 0", NULL)->exit_code, 0);
    assert_int_equal(kit_run_sh(k, "seven", "exit 7", NULL)->exit_code, 7);
    const Pod__Reply *reply = kit_start(k, "killed", kit_plan_sh(k, "sleep 1000 & sleep 1000"));
    assert_null(reply->error);
    assert_true(reply->start->pid > 0);
    kit_kill(k, "killed", SIGKILL, true);
    const Pod__ExitRecord *e = kit_wait_exit(k, "killed");
    assert_int_equal(e->exit_code, 137);
    assert_int_equal(e->signal, 9);
    assert_true(e->finished_at_ns > e->started_at_ns);
    assert_int_equal(e->started_at_ns, reply->start->started_at_ns);

    reply =
        kit_start(k, "term",
                  kit_plan_sh(k, "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done"));
    assert_null(reply->error);
    for (int i = 0; i < 100 && !strstr(kit_log_text(k, "term"), "ready"); i++)
        (void)poll(NULL, 0, 20);
    kit_kill(k, "term", SIGTERM, false);
    assert_int_equal(kit_wait_exit(k, "term")->exit_code, 3);
    assert_string_equal(kit_log_text(k, "term"), "ready\ngot it\n");
    char *path = arena_printf(k->arena, "%s/exits/term", k->dir);
    assert_int_equal(access(path, F_OK), 0);
}

// A stop right after the start, before there is a handler: the signal is neither lost nor sent twice.
static void test_early_signal(void **state)
{
    struct kit *k = *state;

    NEED_KIT(k);
    kit_need_pod(k);
    assert_null(
        kit_start(k, "c1",
                  kit_plan_sh(k, "n=0; sleep 0.3; trap 'n=$((n+1))' TERM; sleep 0.3; sleep 0.3; exit $n"))
            ->error);
    kit_kill(k, "c1", SIGTERM, false);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 1);
}

static void test_log_format(void **state)
{
    struct kit *k = *state;
    int lines = 0;

    NEED_KIT(k);
    kit_need_pod(k);
    (void)kit_run_sh(k, "c1",
                     "echo out; echo err >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; echo -n end", NULL);
    char *raw = kit_log_raw(k, "c1");
    for (char *line = raw; *line; lines++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_true(end - line <= 16384 + 60);
        assert_true(line[10] == 'T' && line[29] == 'Z' && line[30] == ' ');
        line = end + 1;
    }
    assert_non_null(strstr(raw, " stdout F out\n"));
    assert_non_null(strstr(raw, " stderr F err\n"));
    assert_non_null(strstr(raw, " stdout F end\n"));
    (void)lines;
}

static void test_reopen_log(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    Pod__ReopenLogRequest reopen = POD__REOPEN_LOG_REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    reopen.container_id = (char *)(uintptr_t) "c1";
    r.op_case = POD__REQUEST__OP_REOPEN_LOG;
    r.reopen_log = &reopen;
    assert_int_equal(kit_call(k, &r, NULL, 0)->error->status, STATUS_FAILED_PRECONDITION);

    Pod__LaunchPlan *plan = kit_plan_sh(k, "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done");
    assert_null(kit_start(k, "c1", plan)->error);
    char *from = arena_printf(k->arena, "%s/c1/0.log", k->log),
         *to = arena_printf(k->arena, "%s/c1/1.log", k->log);
    assert_int_equal(rename(from, to), 0);
    Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    (void)kit_wait_exit(k, "c1");
    char *first = NULL, *second = NULL;
    assert_int_equal(file_read(to, 1 << 20, &first, NULL, NULL), 0);
    if (!reply->error) // it may have ended meanwhile: then all is in the first
        assert_int_equal(file_read(from, 1 << 20, &second, NULL, NULL), 0);
    char *all = arena_printf(k->arena, "%s%s", first, second ? second : "");
    int count = 0;
    for (char *line = all; *line; line = strchr(line, '\n') + 1)
        assert_int_equal(atoi(strstr(line, " F ") + 3), count++); // nothing lost, nothing twice
    assert_int_equal(count, 3000);
    free(first);
    free(second);
    (void)unlink(from);
    assert_int_equal(kit_call(k, &r, NULL, 0)->error->status, STATUS_FAILED_PRECONDITION);
    assert_int_equal(access(from, F_OK), -1); // not running: no file is made
}

static void test_log_unwritable(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "echo 12345; echo 678; exit 4"));
    r.start->stdio->log_path = (char *)(uintptr_t) "/proc/nowhere/0.log";
    assert_null(kit_call(k, &r, NULL, 0)->error);
    const Pod__ExitRecord *e = kit_wait_exit(k, "c1");
    assert_int_equal(e->exit_code, 4);
    assert_int_equal(e->log_bytes_lost, 8);

    r.start = kit_start_request(k, "c2", kit_plan_sh(k, "yes | head -c 100000; exit 5"));
    r.start->stdio->log_path = (char *)(uintptr_t) "/dev/full";
    assert_null(kit_call(k, &r, NULL, 0)->error);
    e = kit_wait_exit(k, "c2");
    assert_int_equal(e->exit_code, 5);
    assert_true(e->log_bytes_lost >= 50000);
}

static const Pod__StateReply *state_of(struct kit *k)
{
    Pod__Request r = POD__REQUEST__INIT;
    Pod__StateRequest s = POD__STATE_REQUEST__INIT;

    r.op_case = POD__REQUEST__OP_STATE;
    r.state = &s;
    return kit_call(k, &r, NULL, 0)->state;
}

static void test_reconnect(void **state)
{
    struct kit *k = *state;

    NEED_KIT(k);
    kit_need_pod(k);
    assert_null(kit_start(k, "long", kit_plan_sh(k, "sleep 1000"))->error);
    assert_null(kit_start(k, "short", kit_plan_sh(k, "sleep 0.2; exit 9"))->error);
    (void)close(k->sock);
    k->sock = -1;
    (void)poll(NULL, 0, (int)testing_limit(500)); // it exits while nobody listens
    assert_int_equal(kit_connect(k), 0);
    const Pod__StateReply *s = state_of(k);
    assert_int_equal(s->n_containers, 2);
    for (size_t i = 0; i < s->n_containers; i++) {
        const Pod__ContainerState *c = s->containers[i];
        if (str_eq(c->container_id, "long")) {
            assert_true(c->running && c->pid > 0 && !c->exit);
        } else {
            assert_false(c->running);
            assert_int_equal(c->exit->exit_code, 9);
        }
    }
    kit_kill(k, "long", SIGKILL, false);
    assert_int_equal(kit_wait_exit(k, "long")->exit_code, 137);
}

static void test_start_again_and_forget(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT, f = POD__REQUEST__INIT;
    Pod__ForgetRequest forget = POD__FORGET_REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "sleep 1000"));
    const Pod__Reply *first = kit_call(k, &r, NULL, 0), *second = kit_call(k, &r, NULL, 0);
    assert_null(second->error);
    assert_int_equal(first->start->pid, second->start->pid);
    forget.container_id = (char *)(uintptr_t) "c1";
    f.op_case = POD__REQUEST__OP_FORGET;
    f.forget = &forget;
    assert_int_equal(kit_call(k, &f, NULL, 0)->error->status, STATUS_FAILED_PRECONDITION);
    kit_kill(k, "c1", SIGKILL, true);
    (void)kit_wait_exit(k, "c1");
    assert_int_equal(kit_call(k, &r, NULL, 0)->error->status, STATUS_FAILED_PRECONDITION);
    assert_null(kit_call(k, &f, NULL, 0)->error);
    assert_null(kit_call(k, &f, NULL, 0)->error);
    assert_int_equal(state_of(k)->n_containers, 0);
    char *path = arena_printf(k->arena, "%s/exits/c1", k->dir);
    assert_int_equal(access(path, F_OK), -1);
}

// What was written before the time for the end was over is in the log, though crisp-pod could not read it
// then.
static void test_late_output(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "(sleep 0.6; seq 1 9000) & exit 0"));
    r.start->pid_mode = POD__PID_MODE__PID_HOST; // and in no cgroup: the one in the background lives on
    r.start->cgroup = NULL;
    assert_null(kit_call(k, &r, NULL, 0)->error);
    (void)poll(NULL, 0, 300); // the first process has ended
    assert_int_equal(kill(k->pid, SIGSTOP), 0);
    (void)poll(NULL, 0, 1200);
    assert_int_equal(kill(k->pid, SIGCONT), 0);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 0);
    const char *log = kit_log_text(k, "c1");
    assert_true(str_has_prefix(log, "1\n2\n"));
    assert_true(strlen(log) > 6 && str_eq(log + strlen(log) - 6, "\n9000\n"));
}

static void test_host_pid_leaves_nothing(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "setsid sleep 1000 & sleep 1000 & echo $$; exit 2"));
    r.start->pid_mode = POD__PID_MODE__PID_HOST;
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    assert_null(reply->error);
    int64_t begin = clock_mono_ns();
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 2);
    assert_true(clock_mono_ns() - begin < testing_limit(2 * NS_PER_SEC));
    assert_int_equal(atoi(kit_log_text(k, "c1")), reply->start->pid); // the host's numbers
}

static void test_tty(void **state)
{
    struct kit *k = *state;

    NEED_KIT(k);
    kit_need_pod(k);
    Pod__LaunchPlan *plan =
        kit_plan_sh(k, "tty; test -t 0 && test -t 2 && echo all; echo err >&2; echo hi > /dev/console");
    plan->process->tty = true;
    const Pod__Reply *reply = kit_start(k, "c1", plan);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 0);
    assert_string_equal(kit_log_text(k, "c1"), "/dev/pts/0\r\nall\r\nerr\r\nhi\r\n");
    assert_null(strstr(kit_log_raw(k, "c1"), "stderr"));
}

static void test_oom(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    NEED_KIT(k);
    kit_need_pod(k);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "dd if=/dev/zero of=/dev/null bs=100M count=1"));
    if (!kit_limit_memory(k, r.start->cgroup, "15728640"))
        TESTING_SKIP("no memory controller that can be used");
    assert_null(kit_call(k, &r, NULL, 0)->error);
    const Pod__ExitRecord *e = kit_wait_exit(k, "c1");
    assert_true(e->oom_killed);
    assert_int_equal(e->exit_code, 137);
}

// There is nobody to shut down for the teardown.
static void nobody_is_left(struct kit *k)
{
    if (k->sock >= 0)
        (void)close(k->sock);
    pb_frame_reader_done(&k->reader);
    k->pid = 0;
    testing_scratch_remove(k->scratch);
    for (size_t i = 0; i < k->n_reply_fds; i++)
        (void)close(k->reply_fds[i]);
    kit_remove_cgroups(k);
    arena_free(k->arena);
}

// A crispd that is killed between starting crisp-pod and recording it: nobody will ever ask for that one.
static void test_unused_ends(void **state)
{
    struct kit *k = *state;
    pid_t gone = 0;
    int status = -1;

    NEED_KIT(k);
    (void)close(k->sock);
    k->sock = -1;
    for (int i = 0; i < 500 && (gone = waitpid(k->pid, &status, WNOHANG)) == 0; i++)
        (void)poll(NULL, 0, 10);
    assert_int_equal(gone, k->pid);
    assert_int_equal(status, 0);
    nobody_is_left(k);
}

static void test_killed_supervisor(void **state)
{
    struct kit *k = *state;

    NEED_KIT(k);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); // to see its orphans die
    kit_need_pod(k);
    const Pod__Reply *reply = kit_start(k, "c1", kit_plan_sh(k, "sleep 1000"));
    assert_null(reply->error);
    pid_t pid = reply->start->pid;
    assert_int_equal(kill(k->pid, SIGKILL), 0);
    assert_int_equal(waitpid(k->pid, NULL, 0), k->pid);
    int status = 0;
    for (int i = 0; i < 200 && waitpid(pid, &status, WNOHANG) == 0; i++)
        (void)poll(NULL, 0, 10);
    assert_int_equal(status, SIGKILL); // its containers end with it, whoever else is there or not
    nobody_is_left(k);
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_hello),        POD_TEST(test_namespaces),
        POD_TEST(test_environment),  POD_TEST(test_exit_codes),
        POD_TEST(test_early_signal), POD_TEST(test_log_format),
        POD_TEST(test_reopen_log),   POD_TEST(test_log_unwritable),
        POD_TEST(test_reconnect),    POD_TEST(test_start_again_and_forget),
        POD_TEST(test_late_output),  POD_TEST(test_host_pid_leaves_nothing),
        POD_TEST(test_tty),          POD_TEST(test_oom),
        POD_TEST(test_unused_ends),  POD_TEST(test_killed_supervisor),
        POD_TEST(test_enter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
