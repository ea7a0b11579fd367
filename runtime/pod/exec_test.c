// Execs in a running container. Needs root.
#include "runtime/pod/testkit.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

struct streams {
    int ours[3], theirs[3]; // stdin, stdout, stderr
};

static void open_streams(struct streams *s)
{
    for (int i = 0; i < 3; i++) {
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        s->ours[i] = fds[i == 0 ? 1 : 0];
        s->theirs[i] = fds[i == 0 ? 0 : 1];
    }
}

static char *read_all(struct kit *k, int fd)
{
    struct buf b;
    long n;

    buf_init(&b, 1 << 20);
    do
        n = buf_read_fd(&b, fd, 4096);
    while (n > 0);
    assert_int_equal(n, 0);
    char *text = arena_strdup(k->arena, b.data ? b.data : "");
    buf_done(&b);
    return text;
}

static Pod__Reply *start_exec(struct kit *k, Pod__ExecRequest *e, const struct streams *s)
{
    Pod__Request r = POD__REQUEST__INIT;

    r.op_case = POD__REQUEST__OP_EXEC;
    r.exec = e;
    e->has_stdin = e->has_stdout = e->has_stderr = s != NULL;
    Pod__Reply *reply = kit_call(k, &r, s ? s->theirs : NULL, s ? 3 : 0);
    for (int i = 0; s && i < 3; i++)
        (void)close(s->theirs[i]);
    return reply;
}

static void close_ours(const struct streams *s)
{
    for (int i = 0; i < 3; i++)
        (void)close(s->ours[i]);
}

static Pod__Reply *kill_exec(struct kit *k, const char *id)
{
    Pod__Request r = POD__REQUEST__INIT;
    Pod__ExecKillRequest kill = POD__EXEC_KILL_REQUEST__INIT;

    kill.container_id = (char *)(uintptr_t) "c1";
    kill.exec_id = (char *)(uintptr_t)id;
    r.op_case = POD__REQUEST__OP_EXEC_KILL;
    r.exec_kill = &kill;
    return kit_call(k, &r, NULL, 0);
}

static bool start_container(struct kit *k)
{
    if (!k->pid)
        return false;
    assert_null(kit_make_pod(k, false)->error);
    const Pod__Reply *reply = kit_start(k, "c1", kit_plan_sh(k, "sleep 1000"));
    if (reply->error)
        fail_msg("%s", reply->error->message);
    return true;
}

static int execs_left(struct kit *k)
{
    _cleanup_(dir_closep) DIR *dir = opendir(kit_exec_dir(k, "c1"));
    int n = 0;

    for (const struct dirent *e; dir && (e = readdir(dir)) != NULL;)
        n += e->d_type == DT_DIR && e->d_name[0] != '.';
    return n;
}

static void test_streams_and_code(void **state)
{
    struct kit *k = *state;
    struct streams s;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    open_streams(&s);
    const Pod__Reply *reply = start_exec(
        k,
        kit_exec_request(k, "c1", "e1",
                         "cat; echo err >&2; hostname; cat /proc/1/cmdline | tr '\\0' ' '; exit 5"),
        &s);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_true(reply->exec->pid > 0);
    assert_int_equal(file_write_all(s.ours[0], "input\n", 6), 0);
    (void)close(s.ours[0]);
    s.ours[0] = -1;
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 5);
    assert_string_equal(read_all(k, s.ours[1]), "input\nkit-host\nsleep 1000 ");
    assert_string_equal(read_all(k, s.ours[2]), "err\n");
    close_ours(&s);
    assert_null(kill_exec(k, "none")->error); // the event comes first, the tidying right after it
    assert_int_equal(execs_left(k), 0);
}

static void test_errors(void **state)
{
    struct kit *k = *state;
    static const struct {
        const char *program, *cwd, *says;
    } cases[] = {
        {"nosuch", "/", "exec \"nosuch\": no such file or directory (not found in PATH)"},
        {"/etc/passwd", "/", "Permission denied"},
        {"/nosuch/file", "/", "exec \"/nosuch/file\": No such file or directory"},
        {"/tmp", "/", "Permission denied"},
        {"true", "/nowhere", "working directory \"/nowhere\": No such file or directory"},
        {"true", "tmp", "is not absolute"},
    };

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        Pod__ExecRequest *e = kit_exec_request(k, "c1", arena_printf(k->arena, "e%zu", i), "");
        e->process->n_args = 1;
        e->process->args[0] = (char *)(uintptr_t)cases[i].program;
        e->process->cwd = (char *)(uintptr_t)cases[i].cwd;
        const Pod__Reply *reply = start_exec(k, e, NULL);
        assert_non_null(reply->error);
        assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
        if (!strstr(reply->error->message, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", reply->error->message, cases[i].says);
    }
    Pod__ExecRequest *e = kit_exec_request(k, "nobody", "e1", "true");
    assert_int_equal(start_exec(k, e, NULL)->error->status, STATUS_FAILED_PRECONDITION);
    e = kit_exec_request(k, "c1", "../x", "true");
    assert_int_equal(start_exec(k, e, NULL)->error->status, STATUS_INVALID_ARGUMENT);
    for (int i = 0; i < 50 && execs_left(k); i++)
        (void)poll(NULL, 0, 20);
    assert_int_equal(execs_left(k), 0);
}

static void test_kill_tree(void **state)
{
    struct kit *k = *state;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    const Pod__Reply *reply = start_exec(
        k, kit_exec_request(k, "c1", "e1", "setsid sleep 1001 & setsid sleep 1002 & sleep 1003"), NULL);
    assert_null(reply->error);
    (void)poll(NULL, 0, 100);
    assert_null(kill_exec(k, "e1")->error);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 137);
    struct streams s;
    open_streams(&s);
    assert_null(
        start_exec(k, kit_exec_request(k, "c1", "e2", "ps | grep -c 'sleep 100[123]'; true"), &s)->error);
    (void)kit_wait_exec(k, "e2");
    assert_string_equal(read_all(k, s.ours[1]), "0\n");
    close_ours(&s);
    assert_null(kill_exec(k, "e1")->error); // gone already: fine
    for (int i = 0; i < 50 && execs_left(k); i++)
        (void)poll(NULL, 0, 20);
    assert_int_equal(execs_left(k), 0);
}

static void test_background_child(void **state)
{
    struct kit *k = *state;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    int64_t begin = clock_mono_ns();
    assert_null(start_exec(k, kit_exec_request(k, "c1", "e1", "sleep 1000 & exit 3"), NULL)->error);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 3); // not held up by what it has left behind
    assert_true(clock_mono_ns() - begin < testing_limit(NS_PER_SEC));
    assert_int_equal(execs_left(k), 1);
    kit_kill(k, "c1", SIGKILL, true);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 137);
    assert_int_equal(execs_left(k), 0);
}

static void test_lost_connection(void **state)
{
    struct kit *k = *state;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_null(start_exec(k, kit_exec_request(k, "c1", "e1", "sleep 1000"), NULL)->error);
    assert_int_equal(kit_connect(k), 0);
    for (int i = 0; i < 50 && execs_left(k); i++)
        (void)poll(NULL, 0, 20);
    assert_int_equal(execs_left(k), 0); // nobody was left to end it
}

static void test_user_and_privileges(void **state)
{
    struct kit *k = *state;
    struct streams s;
    uint32_t groups[] = {33, 50, 51};

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    open_streams(&s);
    Pod__ExecRequest *e = kit_exec_request(
        k, "c1", "e1",
        "id -u; id -G; echo $HOME; grep -E 'CapEff|CapPrm|NoNew' /proc/self/status; echo x > /dev/stdout");
    e->process->user->uid = 33;
    e->process->user->gid = 33;
    e->process->user->supplemental_groups = groups;
    e->process->user->n_supplemental_groups = 3;
    e->process->user->home = (char *)(uintptr_t) "/var/www";
    e->process->no_new_privileges = true;
    assert_null(start_exec(k, e, &s)->error);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 0);
    assert_string_equal(read_all(k, s.ours[1]), "33\n33 50 51\n/var/www\nCapPrm:\t0000000000000000\n"
                                                "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nx\n");
    close_ours(&s);
}

// Many at once: each its own code, nothing left.
// Is the text in what pid has in memory and could hand down to a child?
static bool is_in_memory(struct kit *k, pid_t pid, const char *text)
{
    char *maps = NULL, perms[5];
    unsigned long begin, end;
    bool found = false;

    _cleanup_fd_ int mem = open(arena_printf(k->arena, "/proc/%d/mem", (int)pid), O_RDONLY | O_CLOEXEC);
    assert_true(mem >= 0);
    assert_int_equal(file_read(arena_printf(k->arena, "/proc/%d/maps", (int)pid), 1 << 20, &maps, NULL, NULL),
                     0);
    for (char *line = maps; !found && *line; line = strchr(line, '\n') + 1) {
        if (sscanf(line, "%lx-%lx %4s", &begin, &end, perms) != 3 || strcmp(perms, "rw-p") != 0)
            continue;
        if (end - begin > (1ul << 28)) // a sanitizer's shadow
            continue;
        char *copy = malloc(end - begin);
        ssize_t n = copy ? pread(mem, copy, end - begin, (off_t)begin) : -1;
        found = n > 0 && memmem(copy, (size_t)n, text, strlen(text)) != NULL;
        free(copy);
    }
    free(maps);
    return found;
}

// A container's secrets must not lie in the memory that the next container's child gets a copy of.
static void test_secrets_are_wiped(void **state)
{
    struct kit *k = *state;
    static char secret[] = "PASSWORD=crisp-secret-4711", id[] = "crisp-public-4712";
    char *env[] = {(char *)(uintptr_t) "PATH=/bin", secret};
    Pod__Request r = POD__REQUEST__INIT;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__ExecRequest *e = kit_exec_request(k, "c1", id, "sleep 100; : crisp-secret-4711");
    e->process->env = env;
    e->process->n_env = 2;
    assert_null(start_exec(k, e, NULL)->error);
    assert_true(is_in_memory(k, k->pid, id)); // it is looked for in the right place
    assert_false(is_in_memory(k, k->pid, "crisp-secret-4711"));
    assert_null(kill_exec(k, id)->error);
    (void)kit_wait_exec(k, id);

    Pod__LaunchPlan *plan = kit_plan_sh(k, "exit 0; : crisp-secret-4713");
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c2", plan);
    assert_null(kit_call(k, &r, NULL, 0)->error);
    (void)kit_wait_exit(k, "c2");
    assert_false(is_in_memory(k, k->pid, "crisp-secret-4713"));
}

// Children get a copy of crisp-pod's memory: what a container has written must not stay there.
static void test_output_is_wiped(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c2",
                                kit_plan_sh(k, "echo crisp-told-$((4000 + 715)); sleep 0.2;"
                                               "printf crisp-held-$((4000 + 716)); sleep 100"));
    assert_null(kit_call(k, &r, NULL, 0)->error);
    for (int i = 0; i < 100 && !is_in_memory(k, k->pid, "crisp-held-4716"); i++)
        (void)poll(NULL, 0, 50);
    assert_true(is_in_memory(k, k->pid, "crisp-held-4716")); // the end of that line is waited for
    assert_false(is_in_memory(k, k->pid, "crisp-told-4715"));
    kit_kill(k, "c2", SIGKILL, true);
    (void)kit_wait_exit(k, "c2");
    assert_non_null(strstr(kit_log_text(k, "c2"), "crisp-told-4715\ncrisp-held-4716"));
    assert_false(is_in_memory(k, k->pid, "crisp-held-4716"));
}

static void test_many(void **state)
{
    struct kit *k = *state;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    for (int i = 0; i < 30; i++) {
        Pod__Request r = POD__REQUEST__INIT;
        r.op_case = POD__REQUEST__OP_EXEC;
        r.exec = kit_exec_request(k, "c1", arena_printf(k->arena, "many-%d", i),
                                  arena_printf(k->arena, "sleep 0.1; exit %d", i));
        assert_null(kit_call(k, &r, NULL, 0)->error);
    }
    for (int i = 0; i < 30; i++)
        assert_int_equal(kit_wait_exec(k, arena_printf(k->arena, "many-%d", i))->exit_code, i);
    assert_null(kill_exec(k, "none")->error); // the event comes first, the tidying right after it
    assert_int_equal(execs_left(k), 0);
}

#define SYS_PTRACE_BIT (UINT64_C(1) << CAP_SYS_PTRACE)

// Where somebody may trace, execs are made in two stages: the second one leads a session of its own, also
// where the filter forbids all that the stages do, and nothing is lost of commands that end at once.
static void test_two_stages(void **state)
{
    static const uint32_t denied[] = {SYS_clone,  SYS_clone3,  SYS_setsid, SYS_prctl,
                                      SYS_capset, SYS_sendmsg, SYS_ioctl};
    struct sock_filter filter[ARRAY_SIZE(denied) + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    struct kit *k = *state;
    struct streams s;
    size_t n = 1;

    for (size_t i = 0; i < ARRAY_SIZE(denied); i++, n++)
        filter[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denied[i],
                                                 (uint8_t)(ARRAY_SIZE(denied) - i), 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    open_streams(&s);
    Pod__ExecRequest *e =
        kit_exec_request(k, "c1", "e1",
                         "read -r pid name state parent group session rest </proc/self/stat; "
                         "echo $((pid == $$)) $((group == pid)) $((session == pid)) $parent; "
                         "(true); exit 7");
    e->process->capabilities->bounding |= SYS_PTRACE_BIT;
    e->process->seccomp.data = (uint8_t *)filter;
    e->process->seccomp.len = n * sizeof(filter[0]);
    Pod__Reply *reply = start_exec(k, e, &s);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 2); // the shell could not fork
    assert_string_equal(read_all(k, s.ours[1]), "1 1 1 0\n");
    assert_non_null(strstr(read_all(k, s.ours[2]), "fork"));
    close_ours(&s);
    for (int i = 0; i < 60; i++) {
        const char *id = arena_printf(k->arena, "quick-%d", i);
        e = kit_exec_request(k, "c1", id, arena_printf(k->arena, "exit %d", i));
        e->process->capabilities->bounding |= SYS_PTRACE_BIT;
        assert_null(start_exec(k, e, NULL)->error);
        assert_int_equal(kit_wait_exec(k, id)->exit_code, i);
    }
    e = kit_exec_request(k, "c1", "e2", "true");
    e->process->capabilities->bounding |= SYS_PTRACE_BIT;
    e->process->args[0] = (char *)(uintptr_t) "nosuch";
    reply = start_exec(k, e, NULL);
    if (!reply->error || !strstr(reply->error->message, "exec \"nosuch\""))
        fail_msg("%s", reply->error ? reply->error->message : "no error");
    for (int i = 0; i < 50 && execs_left(k); i++) // the first stage may take longer to end than the second
        (void)poll(NULL, 0, 20);
    assert_int_equal(execs_left(k), 0);
}

// The same with a v2 cgroup: cloned straight into it, an exec into a child of it, killed by cgroup.kill.
static void test_cgroup_v2(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    struct streams s;

    if (!k->pid)
        TESTING_SKIP("needs root and /bin/busybox");
    assert_null(kit_make_pod(k, false)->error);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "setsid sleep 1000 & sleep 1000"));
    r.start->cgroup = kit_place_v2(k, "c1");
    if (!r.start->cgroup)
        TESTING_SKIP("no cgroup v2 hierarchy");
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    char *own = arena_printf(k->arena, "/proc/%d/cgroup", reply->start->pid), *text = NULL;
    assert_int_equal(file_read(own, 4096, &text, NULL, NULL), 0);
    assert_non_null(strstr(text, arena_printf(k->arena, "0::/%s/c1\n", k->cgroup_name)));
    free(text);
    open_streams(&s);
    reply = start_exec(
        k, kit_exec_request(k, "c1", "e1", "grep 0:: /proc/self/cgroup; setsid sleep 1001 & sleep 1002"), &s);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    char line[64] = "";
    assert_true(read(s.ours[1], line, sizeof(line) - 1) > 0);
    assert_string_equal(line, "0::/exec-e1\n");
    assert_null(kill_exec(k, "e1")->error);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 137);
    close_ours(&s);
    kit_kill(k, "c1", SIGKILL, true);
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 137);
}

// Garbage ends the connection that it came on, and nothing else.
static void test_garbage(void **state)
{
    struct kit *k = *state;
    char byte;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    int first = dup(k->sock);
    assert_int_equal(kit_connect(k), 0);
    assert_int_equal(file_write_all(k->sock, "\xff\xff\xff\xff garbage", 12), 0);
    assert_true(read(k->sock, &byte, 1) <= 0);
    assert_int_equal(kit_connect(k), 0);
    assert_int_equal(file_write_all(k->sock, "\x04\0\0\0\xff\xff\xff\xff", 8), 0);
    assert_true(read(k->sock, &byte, 1) <= 0);
    (void)close(k->sock);
    k->sock = first;
    assert_null(start_exec(k, kit_exec_request(k, "c1", "e1", "exit 3"), NULL)->error);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 3);
}

// A client that asks and never reads is dropped; the others don't notice.
static void test_slow_reader(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    Pod__StateRequest s = POD__STATE_REQUEST__INIT;
    uint8_t frame[64] = {0};
    int sent = 0;

    if (!start_container(k))
        TESTING_SKIP("needs root and /bin/busybox");
    int first = dup(k->sock);
    assert_int_equal(kit_connect(k), 0);
    r.op_case = POD__REQUEST__OP_STATE;
    r.state = &s;
    r.id = 1;
    frame[0] = (uint8_t)protobuf_c_message_pack(&r.base, frame + 4);
    while (sent < 1000000 && send(k->sock, frame, 4u + frame[0], MSG_NOSIGNAL) > 0)
        sent++;
    assert_true(sent > 100 && sent < 1000000);
    (void)close(k->sock);
    k->sock = first;
    assert_null(start_exec(k, kit_exec_request(k, "c1", "e1", "exit 3"), NULL)->error);
    assert_int_equal(kit_wait_exec(k, "e1")->exit_code, 3);
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_streams_and_code),
        POD_TEST(test_errors),
        POD_TEST(test_kill_tree),
        POD_TEST(test_background_child),
        POD_TEST(test_lost_connection),
        POD_TEST(test_user_and_privileges),
        POD_TEST(test_many),
        POD_TEST(test_two_stages),
        POD_TEST(test_secrets_are_wiped),
        POD_TEST(test_output_is_wiped),
        POD_TEST(test_cgroup_v2),
        POD_TEST(test_garbage),
        POD_TEST(test_slow_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
