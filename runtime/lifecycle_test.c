// Pods and containers by the real crisp-pod: lives, ends, retries, restarts of the daemon.
#include "base/testing.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pb.h"
#include "runtime/store.h"
#include "runtime/test_world.h"

static const struct ctx none = CTX_NONE;

static int setup(void **state)
{
    static struct world w;
    world_open(&w);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    world_close(*state);
    return 0;
}

static void start(struct world *w, struct container *c)
{
    struct error err = ERROR_INIT;
    if (runtime_container_start(w->rt, c, &none, &err) < 0)
        fail_msg("%s", err.message);
}

static void exec_ok(struct world *w, struct container *c, const char *script, struct exec_result *result)
{
    struct error err = ERROR_INIT;
    char *args[] = {(char *)"sh", (char *)"-c", (char *)script};
    if (runtime_exec_sync(w->rt, c, args, 3, testing_limit(10), &none, result, &err) < 0)
        fail_msg("%s", err.message);
}

static void test_life(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "life");
    struct container *c = world_container(w, pod, "c", "echo hello; exit 3");
    struct container_view v;
    runtime_container_view(w->rt, c, &v);
    assert_int_equal(v.state, CONTAINER_CREATED);
    assert_int_equal(v.started_at_ns, 0);
    start(w, c);
    world_wait_exit(w, c, &v);
    assert_int_equal(v.exit_code, 3);
    assert_string_equal(v.reason, "Error");
    assert_true(c->created_at_ns < v.started_at_ns);
    assert_true(v.started_at_ns <= v.finished_at_ns);
    assert_non_null(v.user);
    assert_int_equal(v.user->uid, 0);
    // Not twice.
    struct error err = ERROR_INIT;
    assert_true(runtime_container_start(w->rt, c, &none, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_int_equal(runtime_container_stop(w->rt, c, 5, &none, &err), 0);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

// One whose next check is due tomorrow is not kept until then.
static void test_removed_with_a_health_check(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "health");
    struct error err = ERROR_INIT;
    struct container *c = NULL;
    Cri__ContainerConfig *config = world_container_config("c", "sleep 3600");
    config->annotations = calloc(1, sizeof(*config->annotations));
    config->annotations[0] = calloc(1, sizeof(*config->annotations[0]));
    cri__container_config__annotations_entry__init(config->annotations[0]);
    config->annotations[0]->key = strdup("crisp.run/health");
    config->annotations[0]->value = strdup("{\"test\": [\"CMD\", \"true\"], \"interval\": \"24h\"}");
    config->n_annotations = 1;
    assert_int_equal(world_create(w, pod, config, &c, &err), 0);
    cri__container_config__free_unpacked(config, NULL);
    start(w, c);
    char *health = runtime_container_health(w->rt, c);
    assert_non_null(health);
    free(health);
    world_remove_container(w, c);
    for (int i = 0; i < 500 && atomic_load(&c->private->refs) > 1; i++)
        (void)poll(NULL, 0, 10); // its cgroup's removal, too
    assert_int_equal(atomic_load(&c->private->refs), 1);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_start_error(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "bad");
    struct error err = ERROR_INIT;
    struct container_view v;
    Cri__ContainerConfig *config = world_container_config("c", "");
    struct container *c = NULL;
    free(config->command[0]);
    config->command[0] = strdup("/bin/nosuch");
    assert_int_equal(world_create(w, pod, config, &c, &err), 0);
    assert_true(runtime_container_start(w->rt, c, &none, &err) < 0);
    assert_int_not_equal(err.status, STATUS_NOT_FOUND);
    assert_non_null(strstr(err.message, "nosuch"));
    assert_non_null(strstr(err.message, c->id));
    runtime_container_view(w->rt, c, &v);
    assert_int_equal(v.state, CONTAINER_EXITED);
    assert_int_equal(v.exit_code, 128);
    assert_string_equal(v.reason, "StartError");
    assert_non_null(strstr(v.message, "nosuch"));
    assert_true(v.started_at_ns > c->created_at_ns && v.finished_at_ns >= v.started_at_ns);
    cri__container_config__free_unpacked(config, NULL);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_stop(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "stop");
    struct error err = ERROR_INIT;
    struct container_view v;
    struct container *polite =
        world_container(w, pod, "polite", "trap 'exit 7' TERM; while :; do sleep 0.05; done");
    struct container *deaf = world_container(w, pod, "deaf", "trap '' TERM; while :; do sleep 0.05; done");
    start(w, polite);
    start(w, deaf);
    (void)poll(NULL, 0, 200); // until the traps are set
    assert_int_equal(runtime_container_stop(w->rt, polite, 10, &none, &err), 0);
    runtime_container_view(w->rt, polite, &v);
    assert_int_equal(v.state, CONTAINER_EXITED);
    assert_int_equal(v.exit_code, 7);
    int64_t begin = clock_mono_ns();
    assert_int_equal(runtime_container_stop(w->rt, deaf, 1, &none, &err), 0);
    runtime_container_view(w->rt, deaf, &v);
    assert_int_equal(v.exit_code, 137);
    assert_string_equal(v.reason, "Error");
    int64_t took = clock_mono_ns() - begin;
    assert_true(took > 900 * NS_PER_MS && took < testing_limit(5 * NS_PER_SEC));
    container_unref(polite);
    container_unref(deaf);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

// A first process gets no signal that it has no handler for yet.
static void test_stop_at_once(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "quick");
    struct container_view v;
    struct container *c =
        world_container(w, pod, "c", "sleep 0.3; trap 'exit 7' TERM; while :; do sleep 0.05; done");
    start(w, c);
    int64_t begin = clock_mono_ns();
    assert_int_equal(runtime_container_stop(w->rt, c, 60, &none, NULL), 0);
    assert_true(clock_mono_ns() - begin < testing_limit(5 * NS_PER_SEC));
    runtime_container_view(w->rt, c, &v);
    assert_int_equal(v.exit_code, 7);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

struct stopper {
    struct world *w;
    struct container *c;
    int64_t timeout_s;
    int result;
};

static void *stop_main(void *data)
{
    struct stopper *s = data;
    s->result = runtime_container_stop(s->w->rt, s->c, s->timeout_s, &none, NULL);
    return NULL;
}

static void test_stop_preempted(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "preempt");
    struct container *c = world_container(w, pod, "c", "trap '' TERM; while :; do sleep 0.05; done");
    struct stopper slow = {w, c, 600, -1};
    pthread_t thread;
    start(w, c);
    int64_t begin = clock_mono_ns();
    assert_int_equal(pthread_create(&thread, NULL, stop_main, &slow), 0);
    (void)poll(NULL, 0, 200);
    assert_int_equal(runtime_container_stop(w->rt, c, 0, &none, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(slow.result, 0);
    assert_true(clock_mono_ns() - begin < testing_limit(5 * NS_PER_SEC));
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_exec(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "exec");
    struct container *c = world_container(w, pod, "c", "sleep 1000");
    struct exec_result result;
    struct error err = ERROR_INIT;
    char *sleeping[] = {(char *)"sleep", (char *)"100"}, *missing[] = {(char *)"nosuch"};
    assert_true(runtime_exec_sync(w->rt, c, sleeping, 2, 0, &none, &result, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION); // not started yet
    start(w, c);
    exec_ok(w, c, "echo out; echo err >&2; exit 5", &result);
    assert_int_equal(result.exit_code, 5);
    assert_string_equal(result.out.data, "out\n");
    assert_string_equal(result.err.data, "err\n");
    exec_result_done(&result);
    // A child that holds the pipes.
    int64_t begin = clock_mono_ns();
    exec_ok(w, c, "sleep 100 & echo early", &result);
    assert_string_equal(result.out.data, "early\n");
    assert_true(clock_mono_ns() - begin < testing_limit(2 * NS_PER_SEC));
    exec_result_done(&result);
    // More than is kept.
    exec_ok(w, c, "cat /dev/zero | busybox head -c 20000000", &result);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(result.out.len, RUNTIME_EXEC_OUTPUT_MAX);
    exec_result_done(&result);
    // Time-out.
    begin = clock_mono_ns();
    assert_true(runtime_exec_sync(w->rt, c, sleeping, 2, 1, &none, &result, &err) < 0);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    assert_true(clock_mono_ns() - begin < testing_limit(3 * NS_PER_SEC));
    assert_true(runtime_exec_sync(w->rt, c, missing, 1, 0, &none, &result, &err) < 0);
    assert_non_null(strstr(err.message, "nosuch"));
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_adoption(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "adopt");
    struct pod *again = world_pod(w, "adopt");
    struct error err = ERROR_INIT;
    bool made;
    assert_ptr_equal(pod, again);
    pod_unref(again);
    Cri__PodSandboxConfig *other = world_pod_config("adopt");
    free(other->hostname);
    other->hostname = strdup("another");
    assert_true(runtime_pod_claim(w->rt, other, "", &none, &again, &made, &err) < 0);
    assert_int_equal(err.status, STATUS_ALREADY_EXISTS);
    assert_non_null(strstr(err.message, pod->id));
    assert_non_null(strstr(err.message, "hostname"));
    cri__pod_sandbox_config__free_unpacked(other, NULL);

    struct container *c = world_container(w, pod, "c", "sleep 1000");
    struct container *same = world_container(w, pod, "c", "sleep 1000");
    assert_ptr_equal(c, same);
    container_unref(same);
    Cri__ContainerConfig *different = world_container_config("c", "sleep 2000");
    assert_true(world_create(w, pod, different, &same, &err) < 0);
    assert_int_equal(err.status, STATUS_ALREADY_EXISTS);
    assert_non_null(strstr(err.message, "command"));
    cri__container_config__free_unpacked(different, NULL);
    start(w, c);
    assert_true(runtime_container_start(w->rt, c, &none, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    Cri__ContainerConfig *late = world_container_config("c", "sleep 1000");
    assert_true(world_create(w, pod, late, &same, &err) < 0); // it isn't CREATED any more
    assert_int_equal(err.status, STATUS_ALREADY_EXISTS);
    cri__container_config__free_unpacked(late, NULL);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static struct container *find(struct world *w, const char *id)
{
    struct container *c;
    struct error err = ERROR_INIT;
    if (runtime_container_find(w->rt, id, &c, &err) < 0)
        fail_msg("%s", err.message);
    return c;
}

static bool is_dead(int pid)
{
    char path[64], line[512], state = '?';
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return true;
    if (fgets(line, sizeof(line), f) && strrchr(line, ')'))
        state = strrchr(line, ')')[2];
    (void)fclose(f);
    return state == 'Z'; // init hasn't come to it yet
}

static void test_restart(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "restart");
    char pod_id[RUNTIME_ID_LEN + 1], running_id[RUNTIME_ID_LEN + 1], ends_id[RUNTIME_ID_LEN + 1],
        created_id[RUNTIME_ID_LEN + 1];
    struct container *running = world_container(w, pod, "running", "sleep 1000");
    struct container *ends = world_container(w, pod, "ends", "sleep 0.3; exit 9");
    struct container *created = world_container(w, pod, "created", "exit 4");
    struct container_view v;
    struct pod_view pv;
    start(w, running);
    start(w, ends);
    runtime_container_view(w->rt, ends, &v);
    int ends_pid = v.pid;
    memcpy(pod_id, pod->id, sizeof(pod_id));
    memcpy(running_id, running->id, sizeof(running_id));
    memcpy(ends_id, ends->id, sizeof(ends_id));
    memcpy(created_id, created->id, sizeof(created_id));
    container_unref(running);
    container_unref(ends);
    container_unref(created);
    pod_unref(pod);
    world_stop(w);
    for (int i = 0; i < 1000 && !is_dead(ends_pid); i++) // one ends while nobody looks
        (void)poll(NULL, 0, 10);
    world_start(w);

    assert_int_equal(runtime_pod_find(w->rt, pod_id, &pod, NULL), 0);
    runtime_pod_view(w->rt, pod, &pv);
    assert_int_equal(pv.state, POD_READY);
    running = find(w, running_id);
    runtime_container_view(w->rt, running, &v);
    assert_int_equal(v.state, CONTAINER_RUNNING);
    assert_true(v.pid > 0);
    ends = find(w, ends_id);
    world_wait_exit(w, ends, &v); // its crisp-pod may be slower to hear of it than this runtime was to start
    assert_int_equal(v.exit_code, 9);
    created = find(w, created_id);
    start(w, created);
    world_wait_exit(w, created, &v);
    assert_int_equal(v.exit_code, 4);
    struct exec_result result;
    exec_ok(w, running, "echo still here", &result);
    assert_string_equal(result.out.data, "still here\n");
    exec_result_done(&result);
    container_unref(running);
    container_unref(ends);
    container_unref(created);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void wait_not_ready(struct world *w, struct pod *pod)
{
    struct pod_view pv;
    for (int i = 0; i < 1000; i++) {
        runtime_pod_view(w->rt, pod, &pv);
        if (pv.state == POD_NOTREADY && pv.pid == 0)
            return;
        (void)poll(NULL, 0, 10);
    }
    fail_msg("the pod is still ready after ten seconds");
}

static void assert_dead(int pid)
{
    assert_true(is_dead(pid));
}

static void test_supervisor_killed(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "killed");
    struct container *c = world_container(w, pod, "c", "sleep 1000");
    struct container_view v;
    struct pod_view pv;
    start(w, c);
    runtime_container_view(w->rt, c, &v);
    int container_pid = v.pid;
    runtime_pod_view(w->rt, pod, &pv);
    assert_int_equal(kill(pv.pid, SIGKILL), 0);
    wait_not_ready(w, pod);
    world_wait_exit(w, c, &v);
    assert_int_equal(v.exit_code, 137);
    assert_string_equal(v.reason, "SupervisorDied");
    assert_dead(container_pid);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_supervisor_killed_meanwhile(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "killed2");
    struct container *c = world_container(w, pod, "c", "sleep 1000");
    struct container_view v;
    struct pod_view pv;
    char id[RUNTIME_ID_LEN + 1];
    start(w, c);
    runtime_pod_view(w->rt, pod, &pv);
    memcpy(id, c->id, sizeof(id));
    container_unref(c);
    pod_unref(pod);
    world_stop(w);
    assert_int_equal(kill(pv.pid, SIGKILL), 0);
    (void)poll(NULL, 0, 50);
    world_start(w);
    c = find(w, id);
    world_wait_exit(w, c, &v);
    assert_int_equal(v.exit_code, 137);
    assert_string_equal(v.reason, "SupervisorDied");
    pod = pod_ref(c->pod);
    runtime_pod_view(w->rt, pod, &pv);
    assert_int_equal(pv.state, POD_NOTREADY);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_rebooted(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "reboot");
    struct container *c = world_container(w, pod, "c", "sleep 1000");
    struct container_view v;
    struct pod_view pv;
    struct error err = ERROR_INIT;
    char id[RUNTIME_ID_LEN + 1];
    start(w, c);
    runtime_pod_view(w->rt, pod, &pv);
    memcpy(id, c->id, sizeof(id));
    // As a reboot leaves it: processes are gone, the records are there and name another boot.
    assert_int_equal(supervisor_shutdown(w->rt, pod, &err), 0);
    world_wait_exit(w, c, &v);
    (void)poll(NULL, 0, 300); // the exit's record is written behind our back
    assert_int_equal(db_exec(w->db, &err, "UPDATE runtime_boot SET boot_id='another'", ""), 0);
    assert_int_equal(db_exec(w->db, &err,
                             "UPDATE runtime_container SET state=2, exit_code=0, finished_at_ns=0, reason=''",
                             ""),
                     0);
    assert_int_equal(db_exec(w->db, &err, "UPDATE runtime_pod SET state=1", ""), 0);
    container_unref(c);
    pod_unref(pod);
    world_restart(w);
    c = find(w, id);
    runtime_container_view(w->rt, c, &v);
    assert_int_equal(v.state, CONTAINER_EXITED);
    assert_int_equal(v.exit_code, 255);
    assert_string_equal(v.reason, "Unknown");
    assert_true(v.finished_at_ns >= v.started_at_ns && v.started_at_ns > 0);
    runtime_pod_view(w->rt, c->pod, &pv);
    assert_int_equal(pv.state, POD_NOTREADY);
    pod = pod_ref(c->pod);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_stop_pod_race(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "gone");
    struct container *c = world_container(w, pod, "c", "sleep 1000"), *late = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(runtime_pod_kill(w->rt, pod, &err), 0);
    assert_int_equal(runtime_pod_stop(w->rt, pod, &err), 0);
    assert_int_equal(runtime_pod_stop(w->rt, pod, &err), 0);
    assert_true(runtime_container_start(w->rt, c, &none, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    Cri__ContainerConfig *config = world_container_config("late", "true");
    assert_true(world_create(w, pod, config, &late, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    cri__container_config__free_unpacked(config, NULL);
    world_wait_gone(pod->dir);
    container_unref(c);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_stray(void **state)
{
    struct world *w = *state;
    struct pod *pod = world_pod(w, "stray");
    struct container *c = world_container(w, pod, "c", "sleep 1000");
    struct error err = ERROR_INIT;
    struct container_view v;
    struct pod_view pv;
    start(w, c);
    runtime_container_view(w->rt, c, &v);
    runtime_pod_view(w->rt, pod, &pv);
    char *dir = strdup(pod->dir);
    container_unref(c);
    pod_unref(pod);
    assert_int_equal(db_exec(w->db, &err, "DELETE FROM runtime_container", ""), 0);
    assert_int_equal(db_exec(w->db, &err, "DELETE FROM runtime_pod", ""), 0);
    world_restart(w);
    assert_int_equal(access(dir, F_OK), 0);
    runtime_sweep(w->rt);
    world_wait_gone(dir);
    assert_dead(v.pid);
    free(dir);
}

static void test_bad_records(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct pod *pod = world_pod(w, "good"), **pods;
    char id[RUNTIME_ID_LEN + 1];
    size_t n;
    memcpy(id, pod->id, sizeof(id));
    pod_unref(pod);
    assert_int_equal(
        db_exec(w->db, &err,
                "INSERT INTO runtime_pod(id, created_at_ns, state, handler, config) VALUES('x',1,1,'','')",
                ""),
        0);
    assert_int_equal(db_exec(w->db, &err,
                             "INSERT INTO runtime_pod(id, created_at_ns, state, handler, config) SELECT"
                             " replace(hex(zeroblob(32)),'0','a'), 2, 1, '', x'ffffff'",
                             ""),
                     0);
    assert_int_equal(
        db_exec(w->db, &err,
                "INSERT INTO runtime_container(id, pod_id, created_at_ns, state, image_id, stop_signal,"
                " config, start) VALUES(replace(hex(zeroblob(32)),'0','b'), 'nosuch', 1, 1, '', 15, '',"
                " '')",
                ""),
        0);
    world_restart(w);
    assert_int_equal(runtime_pod_list(w->rt, true, &pods, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_string_equal(pods[0]->id, id);
    runtime_pods_free(pods, n);
    world_restart(w); // they were set aside: nothing more to complain of
    assert_int_equal(runtime_pod_find(w->rt, id, &pod, &err), 0);
    world_remove_pod(w, pod);
    pod_unref(pod);
}

static void test_find(void **state)
{
    struct world *w = *state;
    struct pod *a = world_pod(w, "a"), *b = world_pod(w, "b"), *found = NULL, **all;
    struct error err = ERROR_INIT;
    char prefix[13];
    size_t n;
    snprintf(prefix, sizeof(prefix), "%.12s", a->id);
    assert_int_equal(runtime_pod_find(w->rt, prefix, &found, &err), 0);
    assert_ptr_equal(found, a);
    pod_unref(found);
    assert_true(runtime_pod_find(w->rt, "", &found, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_true(runtime_pod_find(w->rt, "nosuch", &found, &err) < 0);
    assert_int_equal(err.status, STATUS_NOT_FOUND);
    assert_int_equal(runtime_pod_list(w->rt, false, &all, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_ptr_equal(all[0], b); // newest first
    runtime_pods_free(all, n);
    world_remove_pod(w, a);
    world_remove_pod(w, b);
    pod_unref(a);
    pod_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_removed_with_a_health_check),
        cmocka_unit_test(test_start_error),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_at_once),
        cmocka_unit_test(test_stop_preempted),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_adoption),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_supervisor_killed),
        cmocka_unit_test(test_supervisor_killed_meanwhile),
        cmocka_unit_test(test_rebooted),
        cmocka_unit_test(test_stop_pod_race),
        cmocka_unit_test(test_stray),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_find),
    };
    if (getuid() != 0) {
        (void)fprintf(stderr, "lifecycle_test: skipped: has to be root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
