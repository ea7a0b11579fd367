// How long a start and an exec take from crispd's side of the socket, and what crisp-pod weighs. Not a test:
//   pod_launch_bench [N [REST_MS [userns]]]
// The program that is launched is static and does nothing, so that what is measured is ours.
#include "runtime/pod/testkit.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define RUNS_MAX    2000
#define MEMORY_PODS 20

static int rest_ms; // between two calls: an idle kernel is slower in places

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void print_times(const char *what, int64_t *ns, size_t n)
{
    qsort(ns, n, sizeof(*ns), compare);
    (void)printf("%-28s p50 %7.3f ms  p99 %7.3f ms\n", what, (double)ns[n / 2] / 1e6,
                 (double)ns[n * 99 / 100] / 1e6);
}

static void print_memory(const struct kit *k)
{
    char *path = str_printf("/proc/%d/smaps_rollup", (int)k->pid), *text = NULL;

    if (file_read(path, 65536, &text, NULL, NULL) == 0) {
        for (char *line = strtok_r(text, "\n", &text); line; line = strtok_r(NULL, "\n", &text))
            if (str_has_prefix(line, "Pss:") || str_has_prefix(line, "Private_Dirty:"))
                (void)printf("%s\n", line);
    }
    free(path);
}

// Twenty pods of one container each, at rest.
static void bench_memory(void)
{
    static const char *const argv[] = {"/bin/sleep", "1000", NULL};
    void *states[MEMORY_PODS];

    for (int i = 0; i < MEMORY_PODS; i++) {
        (void)kit_setup(&states[i]);
        assert_null(kit_make_pod(states[i], false)->error);
        assert_null(kit_start(states[i], "box", kit_plan(states[i], argv))->error);
    }
    (void)poll(NULL, 0, 3000);
    (void)printf("one of %d pods with a container:\n", MEMORY_PODS);
    print_memory(states[MEMORY_PODS / 2]);
    for (int i = 0; i < MEMORY_PODS; i++)
        (void)kit_teardown(&states[i]);
}

static void bench_start(struct kit *k, size_t n, bool prepare)
{
    static const char *const argv[] = {"/true", NULL};
    int64_t start[RUNS_MAX], whole[RUNS_MAX];

    for (size_t i = 0; i < n; i++) {
        Pod__Request r = POD__REQUEST__INIT, p = POD__REQUEST__INIT;
        Pod__PrepareRequest prep = POD__PREPARE_REQUEST__INIT;
        char *id = arena_printf(k->arena, "%s%zu", prepare ? "p" : "s", i);
        r.op_case = POD__REQUEST__OP_START;
        r.start = kit_start_request(k, id, kit_plan(k, argv));
        prep.container_id = id;
        prep.cgroup = r.start->cgroup;
        prep.plan = r.start->plan;
        p.op_case = POD__REQUEST__OP_PREPARE;
        p.prepare = &prep;
        if (prepare)
            (void)kit_call(k, &p, NULL, 0);
        if (prepare || rest_ms)
            (void)poll(NULL, 0, rest_ms ? rest_ms : 5);
        int64_t begin = clock_mono_ns();
        const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
        start[i] = clock_mono_ns() - begin;
        if (reply->error)
            fail_msg("%s", reply->error->message);
        (void)kit_wait_exit(k, id);
        whole[i] = clock_mono_ns() - begin;
        k->n_events = 0;
        Pod__Request f = POD__REQUEST__INIT;
        Pod__ForgetRequest forget = POD__FORGET_REQUEST__INIT;
        forget.container_id = id;
        f.op_case = POD__REQUEST__OP_FORGET;
        f.forget = &forget;
        (void)kit_call(k, &f, NULL, 0);
    }
    print_times(prepare ? "start, prepared" : "start", start, n);
    print_times(prepare ? "  to the exit event" : "  to the exit event", whole, n);
}

static void bench_exec(struct kit *k, size_t n)
{
    static const char *const argv[] = {"/bin/sleep", "1000", NULL};
    int64_t spawn[RUNS_MAX], whole[RUNS_MAX];

    assert_null(kit_start(k, "box", kit_plan(k, argv))->error);
    for (size_t i = 0; i < n; i++) {
        Pod__Request r = POD__REQUEST__INIT;
        char *id = arena_printf(k->arena, "e%zu", i);
        r.op_case = POD__REQUEST__OP_EXEC;
        r.exec = kit_exec_request(k, "box", id, "");
        r.exec->process->n_args = 1;
        r.exec->process->args[0] = (char *)(uintptr_t) "/true";
        if (rest_ms)
            (void)poll(NULL, 0, rest_ms);
        int64_t begin = clock_mono_ns();
        const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
        spawn[i] = clock_mono_ns() - begin;
        if (reply->error)
            fail_msg("%s", reply->error->message);
        (void)kit_wait_exec(k, id);
        whole[i] = clock_mono_ns() - begin;
        k->n_events = 0;
    }
    print_times("exec", spawn, n);
    print_times("  to the exit event", whole, n);
}

// The smallest program there is: it exits.
static void make_true(const struct kit *k)
{
    char *command =
        str_printf("printf '.globl _start\\n_start: mov $60,%%%%eax\\n xor %%%%edi,%%%%edi\\n syscall\\n' |"
                   "cc -x assembler -nostdlib -static -o '%s/base/true' -",
                   k->layers);
    char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", command, NULL};

    kit_run_tool((const char *const *)(void *)argv);
    free(command);
}

int main(int argc, char **argv)
{
    void *state = NULL;
    size_t n = argc > 1 ? (size_t)atoi(argv[1]) : 200;

    rest_ms = argc > 2 ? atoi(argv[2]) : 0;
    if (n < 1 || n > RUNS_MAX || !kit_possible())
        return 2;
    (void)kit_setup(&state);
    struct kit *k = state;
    k->user_ns = argc > 3;
    make_true(k);
    assert_null(kit_make_pod(k, false)->error);
    bench_start(k, n, false);
    bench_start(k, n, true);
    bench_exec(k, n);
    print_memory(k);
    (void)kit_teardown(&state);
    bench_memory();
    return 0;
}
