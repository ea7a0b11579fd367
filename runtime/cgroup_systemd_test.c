#include <stdatomic.h>

#include "runtime/cgroup_fakesd.h"

#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/testing.h"
#include "runtime/cgroup_bus.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// ---- Names ----

static void slices_are_expanded(void **state)
{
    (void)state;
    static const struct {
        const char *parent, *want;
    } good[] = {
        {"crisp.slice", "/crisp.slice"},
        {"kubepods-burstable-podX.slice",
         "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice"},
        // kubelet sends the path.
        {"/kubepods.slice/kubepods-podX_1.slice", "/kubepods.slice/kubepods-podX_1.slice"},
        {"a\\x2db.slice", "/a\\x2db.slice"},
    };
    char long_name[300], deep_name[260], out[CGROUP_PATH_MAX];
    memset(long_name, 'a', sizeof(long_name));
    memcpy(long_name + sizeof(long_name) - 7, ".slice", 7);
    for (size_t i = 0; i < 240; i++)
        deep_name[i] = i % 2 ? '-' : 'a';
    memcpy(deep_name + 239, ".slice", 7);
    const char *const bad[] = {"/kubepods/burstable",
                               "kubepods",
                               "-.slice",
                               ".slice",
                               "-a.slice",
                               "a-.slice",
                               "a--b.slice",
                               "../a.slice",
                               "/a.slice/../b.slice",
                               "/a.slice/b.slice",
                               "/x/a.slice",
                               "//a.slice",
                               "a.slice/",
                               "a b.slice",
                               "a@b.slice",
                               "..slice",
                               "a.scope",
                               "\xff.slice",
                               "a\n.slice",
                               long_name,
                               deep_name};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(cgroup_path_of_slice(good[i].parent, out, NULL), 0);
        assert_string_equal(out, good[i].want);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;
        if (cgroup_path_of_slice(bad[i], out, &err) != -EINVAL)
            fail_msg("%s", bad[i]);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        assert_int_equal(strncmp(err.message, "linux.cgroup_parent \"", 21), 0);
    }
    assert_true(cgroup_pod_owns("/crisp.slice/crisp-" ID ".scope", ID));
    assert_true(cgroup_pod_owns("/crisp/" ID, ID));
    assert_false(cgroup_pod_owns("/kubepods/pod" ID, ID));
    assert_false(cgroup_pod_owns("/crisp.slice/crisp-" ID ".slice", ID));
}

// ---- The connection ----

static struct cgroup_bus *connect_to(struct fakesd *f)
{
    struct cgroup_bus *b;
    struct error err = ERROR_INIT;
    if (cgroup_bus_open(f->address, &b, &err) < 0)
        fail_msg("%s", err.message);
    return b;
}

static const struct cgroup_bus_scope scope = {
    .name = "crisp-x.scope", .slice = "crisp.slice", .description = "x", .pid = 77};

static int start(struct cgroup_bus *b, int64_t timeout_ns, struct error *err)
{
    *err = ERROR_INIT;
    return cgroup_bus_start_scope(b, &scope, timeout_ns, err);
}

static void units_are_started_and_stopped(void **state)
{
    (void)state;
    struct fakesd f;
    struct error err = ERROR_INIT;
    fakesd_open(&f);
    struct cgroup_bus *b = connect_to(&f);
    assert_int_equal(start(b, 5 * NS_PER_SEC, &err), 0);
    assert_non_null(fakesd_unit(&f, "crisp-x.scope"));
    assert_true(f.delegate && f.tasks_free && f.no_dependencies);
    assert_string_equal(f.slice, "crisp.slice");
    assert_int_equal(start(b, 5 * NS_PER_SEC, &err), -EEXIST);
    assert_int_equal(err.status, STATUS_ALREADY_EXISTS);
    assert_int_equal(cgroup_bus_stop_unit(b, "crisp-x.scope", 5 * NS_PER_SEC, &err), 0);
    assert_null(fakesd_unit(&f, "crisp-x.scope"));
    assert_int_equal(cgroup_bus_stop_unit(b, "crisp-x.scope", 5 * NS_PER_SEC, &err), 0); // absent is fine
    assert_int_equal(cgroup_bus_reset_failed(b, "crisp-x.scope", 5 * NS_PER_SEC, &err), 0);
    // One that nobody waits for is sent all the same, also when the connection is closed right behind it.
    assert_int_equal(start(b, 5 * NS_PER_SEC, &err), 0);
    assert_int_equal(cgroup_bus_stop_unit(b, "crisp-x.scope", 0, &err), 0);
    cgroup_bus_close(b);
    assert_null(fakesd_unit(&f, "crisp-x.scope"));
    assert_int_equal(f.connections, 1);
    fakesd_close(&f);
}

static void failures_are_told(void **state)
{
    (void)state;
    struct fakesd f;
    struct error err = ERROR_INIT;
    fakesd_open(&f);
    struct cgroup_bus *b = connect_to(&f);
    f.fail_job = 1;
    assert_int_equal(start(b, 5 * NS_PER_SEC, &err), -EIO);
    assert_string_equal(err.message, "start crisp-x.scope: systemd: the job ended with \"failed\"");
    assert_int_equal(cgroup_bus_stop_unit(b, "crisp-x.scope", 5 * NS_PER_SEC, &err), 0);
    f.hang = 1;
    int64_t before = clock_mono_ns();
    assert_int_equal(start(b, 100 * NS_PER_MS, &err), -ETIMEDOUT);
    assert_int_equal(err.status, STATUS_DEADLINE_EXCEEDED);
    assert_true(clock_mono_ns() - before >= 100 * NS_PER_MS);
    assert_int_equal(start(b, 5 * NS_PER_SEC, &err), 0); // and it goes on
    cgroup_bus_close(b);
    fakesd_close(&f);
}

// Restarted before it does what it was asked for, and after.
static void lost_connections_are_made_anew(void **state)
{
    (void)state;
    struct fakesd f;
    struct error err = ERROR_INIT;
    fakesd_open(&f);
    struct cgroup_bus *b = connect_to(&f);
    f.hang_up = 2;
    assert_int_equal(start(b, 10 * NS_PER_SEC, &err), 0);
    assert_int_equal(f.starts, 3);
    assert_int_equal(f.connections, 3);
    f.late_hang_up = 1;
    assert_int_equal(cgroup_bus_stop_unit(b, "crisp-x.scope", 10 * NS_PER_SEC, &err), 0);
    f.late_hang_up = 1;
    assert_int_equal(start(b, 10 * NS_PER_SEC, &err), -EEXIST); // the caller looks what there is
    fakesd_close(&f);
    assert_int_equal(start(b, 300 * NS_PER_MS, &err), -ENOTCONN);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    cgroup_bus_close(b);
}

static void *start_many(void *data)
{
    struct cgroup_bus *b = data;
    static atomic_int next;
    for (int i = 0; i < 20; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "crisp-%d.scope", next++);
        const struct cgroup_bus_scope s = {
            .name = name, .slice = "crisp.slice", .description = "", .pid = 77};
        if (cgroup_bus_start_scope(b, &s, 20 * NS_PER_SEC, NULL) < 0 ||
            cgroup_bus_stop_unit(b, name, 20 * NS_PER_SEC, NULL) < 0)
            return b;
    }
    return NULL;
}

static void many_call_at_once(void **state)
{
    (void)state;
    struct fakesd f;
    pthread_t threads[8];
    void *failed;
    fakesd_open(&f);
    struct cgroup_bus *b = connect_to(&f);
    f.hang_up = 1;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_many, b), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(f.connections, 2); // one, and one more after the loss
    cgroup_bus_close(b);
    fakesd_close(&f);
}

static void nobody_listens(void **state)
{
    (void)state;
    struct cgroup_bus *b;
    struct error err = ERROR_INIT;
    assert_int_equal(cgroup_bus_open("unix:path=/tmp/crisp-no-such-socket", &b, &err), -ENOTCONN);
    assert_non_null(strstr(err.message, "talk to systemd: systemd: no connection: No such file"));
}

// ---- The driver: real cgroups, and the fake makes the scopes ----

struct world {
    struct fakesd sd;
    struct cgroup_host *host;
    char slice[64], slice_path[80];
};

static void open_world(struct world *w)
{
    struct error err = ERROR_INIT;
    fakesd_open(&w->sd);
    (void)snprintf(w->slice, sizeof(w->slice), "crisptest%d.slice", getpid());
    (void)snprintf(w->slice_path, sizeof(w->slice_path), "/%s", w->slice);
    struct cgroup_options o = {.driver = "systemd", .parent = w->slice, .bus = w->sd.address};
    if (cgroup_host_open(&o, &w->host, &err) < 0)
        fail_msg("%s", err.message);
    w->sd.host = w->host;
}

static void close_world(struct world *w)
{
    struct cgroup_host *host = w->host;
    bool left = false;
    for (size_t i = 0; i < host->n; i++) {
        (void)unlinkat(host->fds[i].fd, w->slice_path + 1, AT_REMOVEDIR); // systemd's to remove
        left = left || cgroup_file_exists(&host->fds[i], w->slice_path, "");
    }
    w->host = NULL;
    cgroup_host_close(host);
    fakesd_close(&w->sd);
    assert_false(left);
}

static pid_t sleeper(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close_range(0, ~0U, 0); // a copy of a connection would keep it open
        for (;;)
            (void)pause();
    }
    return pid;
}

static void count(pid_t pid, void *arg)
{
    (void)pid;
    (*(int *)arg)++;
}

static void end_pod(struct world *w, const char *pod, const char *leaf, uint32_t made, pid_t pid)
{
    struct error err = ERROR_INIT;
    int r = -EBUSY;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < TRIES && (r = cgroup_remove(w->host, leaf, &err)) == -EBUSY; i++)
        pause_ms();
    if (r < 0 || cgroup_pod_remove(w->host, pod, made, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < w->host->n; i++)
        assert_false(cgroup_file_exists(&w->host->fds[i], pod, ""));
}

static void a_pod_has_its_scope(struct world *w, const char *cgroup_parent)
{
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], container[CGROUP_PATH_MAX];
    uint32_t made;
    struct error err = ERROR_INIT;
    pid_t pid = sleeper();
    if (cgroup_pod_path(w->host, cgroup_parent, ID, pod, &err) < 0 ||
        cgroup_leaf_path(pod, ID, leaf, &err) < 0 || cgroup_pod_create(w->host, pod, &made, &err) < 0 ||
        cgroup_pod_enter(w->host, pod, leaf, pid, &err) < 0 ||
        cgroup_create(w->host, leaf, NULL, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(cgroup_pod_owns(pod, ID));
    int n = 0;
    assert_true(cgroup_each_pid(fakesd_root(&w->sd), pod, count, &n) == 1 && n == 1);
    for (size_t i = 0; i < w->host->n; i++)
        assert_true(cgroup_file_exists(&w->host->fds[i], leaf, ""));
    // A container's leaf beside it, as with the other driver.
    assert_int_equal(cgroup_leaf_path(pod, "c", container, NULL), 0);
    assert_int_equal(cgroup_create(w->host, container, NULL, NULL, &err), 0);
    assert_int_equal(cgroup_remove(w->host, container, &err), 0);
    end_pod(w, pod, leaf, made, pid);
}

static void pods_have_scopes(void **state)
{
    struct world w;
    char nested[96], path[CGROUP_PATH_MAX];
    (void)state;
    open_world(&w);
    if (!fakesd_root(&w.sd)) {
        close_world(&w);
        TESTING_SKIP("no hierarchy of systemd's");
    }
    a_pod_has_its_scope(&w, "");
    a_pod_has_its_scope(&w, w.slice);
    // Slices that systemd has made on the way go, too; the configured one stays for the next pod.
    (void)snprintf(nested, sizeof(nested), "crisptest%d-a-b.slice", getpid());
    a_pod_has_its_scope(&w, nested);
    assert_int_equal(cgroup_path_of_slice(nested, path, NULL), 0);
    cgroup_path_prefix(path, 2, path);
    for (size_t i = 0; i < w.host->n; i++)
        assert_false(cgroup_file_exists(&w.host->fds[i], path, ""));
    assert_true(cgroup_file_exists(fakesd_root(&w.sd), w.slice_path, ""));
    close_world(&w);
}

static pid_t begin_pod(struct world *w, const char *slice, const char *id, char pod[CGROUP_PATH_MAX],
                       char leaf[CGROUP_PATH_MAX], uint32_t *made)
{
    struct error err = ERROR_INIT;
    pid_t pid = sleeper();
    if (cgroup_pod_path(w->host, slice, id, pod, &err) < 0 || cgroup_leaf_path(pod, id, leaf, &err) < 0 ||
        cgroup_pod_create(w->host, pod, made, &err) < 0 ||
        cgroup_pod_enter(w->host, pod, leaf, pid, &err) < 0 ||
        cgroup_create(w->host, leaf, NULL, NULL, &err) < 0)
        fail_msg("%s", err.message);
    return pid;
}

// The first pod has made the slice that both are in.
static void shared_slices_go_with_the_last(void **state)
{
    struct world w;
    static const char *const ids[] = {"first", "second"};
    char slice[96], top[CGROUP_PATH_MAX], pods[2][CGROUP_PATH_MAX], leaves[2][CGROUP_PATH_MAX];
    uint32_t made[2];
    pid_t pids[2];
    (void)state;
    open_world(&w);
    if (!fakesd_root(&w.sd)) {
        close_world(&w);
        TESTING_SKIP("no hierarchy of systemd's");
    }
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(slice, sizeof(slice), "crisptest%dx-%s.slice", getpid(), ids[i]);
        pids[i] = begin_pod(&w, slice, ids[i], pods[i], leaves[i], &made[i]);
        assert_int_equal(made[i], i == 0 ? 3 : 2);
    }
    cgroup_path_prefix(pods[0], 1, top);
    end_pod(&w, pods[0], leaves[0], made[0], pids[0]);
    assert_true(cgroup_file_exists(fakesd_root(&w.sd), pods[1], ""));
    end_pod(&w, pods[1], leaves[1], made[1], pids[1]);
    for (size_t i = 0; i < w.host->n; i++)
        assert_false(cgroup_file_exists(&w.host->fds[i], top, ""));
    close_world(&w);
}

static void a_leftover_scope_is_replaced(void **state)
{
    struct world w;
    (void)state;
    open_world(&w);
    if (!fakesd_root(&w.sd)) {
        close_world(&w);
        TESTING_SKIP("no hierarchy of systemd's");
    }
    (void)snprintf(w.sd.units[3], sizeof(w.sd.units[3]), "crisp-" ID ".scope");
    (void)snprintf(w.sd.slice, sizeof(w.sd.slice), "%s", w.slice);
    a_pod_has_its_scope(&w, "");
    assert_int_equal(w.sd.resets, 1);
    // And one that the lost first try of the same call has made is taken.
    w.sd.late_hang_up = 1;
    int resets = w.sd.resets;
    a_pod_has_its_scope(&w, "");
    assert_int_equal(w.sd.resets, resets);
    close_world(&w);
}

static void hosts_without_systemd_are_told(void **state)
{
    (void)state;
    struct cgroup_host *host;
    struct error err = ERROR_INIT;
    struct cgroup_options o = {.driver = "systemd", .parent = "/crisp"};
    assert_int_equal(cgroup_host_open(&o, &host, &err), -EINVAL);
    assert_non_null(strstr(err.message, "is not a systemd slice"));
    if (access("/run/systemd/system", F_OK) == 0)
        return;
    o.parent = "crisp.slice";
    assert_int_equal(cgroup_host_open(&o, &host, &err), -ENOTSUP);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "set cgroup.driver to cgroupfs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_expanded),
        cmocka_unit_test(units_are_started_and_stopped),
        cmocka_unit_test(failures_are_told),
        cmocka_unit_test(lost_connections_are_made_anew),
        cmocka_unit_test(many_call_at_once),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(pods_have_scopes),
        cmocka_unit_test(shared_slices_go_with_the_last),
        cmocka_unit_test(a_leftover_scope_is_replaced),
        cmocka_unit_test(hosts_without_systemd_are_told),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
