#include "runtime/cgroup_fixture.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "runtime/cgroup_extra.h"

static void expect_file(struct fixture *f, enum cgroup_controller controller, const char *path,
                        const char *file, const char *content)
{
    char text[4096];
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(f->host, controller);
    assert_non_null(root);
    assert_int_equal(cgroup_file_read(root, path, file, text, sizeof(text)), 0);
    assert_string_equal(text, content);
}

static void apply(struct fixture *f, const char *leaf, const struct cgroup_extra *extra)
{
    struct error err = ERROR_INIT;
    if (cgroup_apply_extra(f->host, leaf, extra, &err) < 0)
        fail_msg("%s", err.message);
}

static void refused(struct fixture *f, const char *leaf, const struct cgroup_extra *extra, enum status status,
                    const char *words)
{
    struct error err = ERROR_INIT;
    assert_true(cgroup_apply_extra(f->host, leaf, extra, &err) < 0);
    if (err.status != status || !strstr(err.message, words))
        fail_msg("%s: %s", error_status_name(err.status), err.message);
}

static void make_leaf(struct fixture *f, char pod[CGROUP_PATH_MAX], char leaf[CGROUP_PATH_MAX],
                      uint32_t *made)
{
    struct error err = ERROR_INIT;
    make_pod(f, pod, leaf, made);
    if (cgroup_create(f->host, leaf, NULL, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void memory_and_processes(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    struct cgroup_extra x = {
        .has_reservation = true, .reservation_bytes = 8 << 20, .has_pids = true, .pids = 33};
    make_leaf(f, pod, leaf, &made);
    apply(f, leaf, &x);
    expect_file(f, CGROUP_PIDS, leaf, "pids.max", "33");
    expect_file(f, CGROUP_MEMORY, leaf,
                cgroup_host_is_v2(f->host) ? "memory.low" : "memory.soft_limit_in_bytes", "8388608");
    x = (struct cgroup_extra){.has_pids = true};
    apply(f, leaf, &x);
    expect_file(f, CGROUP_PIDS, leaf, "pids.max", "max");
    x = (struct cgroup_extra){.has_swappiness = true, .swappiness = 7};
    if (cgroup_host_is_v2(f->host)) {
        refused(f, leaf, &x, STATUS_FAILED_PRECONDITION, "memory-swappiness\": cgroup v2");
        x = (struct cgroup_extra){.oom_kill_disable = true};
        refused(f, leaf, &x, STATUS_FAILED_PRECONDITION, "oom-kill-disable\": cgroup v2");
    } else {
        char text[256];
        x.oom_kill_disable = true;
        apply(f, leaf, &x);
        expect_file(f, CGROUP_MEMORY, leaf, "memory.swappiness", "7");
        assert_int_equal(cgroup_file_read(cgroup_root_of(f->host, CGROUP_MEMORY), leaf, "memory.oom_control",
                                          text, sizeof(text)),
                         0);
        assert_non_null(strstr(text, "oom_kill_disable 1"));
    }
    remove_pod(f, pod, leaf, made);
}

// A disk that is there, e.g. the root's, or (in containers) none.
static bool find_disk(unsigned *major_, unsigned *minor_)
{
    static const char *const paths[] = {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct stat st;
        if (stat(paths[i], &st) == 0 && S_ISBLK(st.st_mode)) {
            *major_ = major(st.st_rdev);
            *minor_ = minor(st.st_rdev);
            return true;
        }
    }
    return false;
}

static void disks(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], want[128];
    uint32_t made;
    unsigned ma = 0, mi = 0;
    struct cgroup_extra x = {0};
    assert_true(find_disk(&ma, &mi));
    for (int kind = 0; kind < CGROUP_THROTTLES; kind++) {
        x.throttles[kind][0] =
            (struct cgroup_device_limit){.major = ma, .minor = mi, .rate = 1000u + (unsigned)kind};
        x.n_throttles[kind] = 1;
    }
    make_leaf(f, pod, leaf, &made);
    apply(f, leaf, &x);
    if (cgroup_host_is_v2(f->host)) {
        (void)snprintf(want, sizeof(want), "%u:%u rbps=1000 wbps=1001 riops=1002 wiops=1003", ma, mi);
        expect_file(f, CGROUP_BLKIO, leaf, "io.max", want);
    } else {
        static const char *const files[] = {
            "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"};
        for (int kind = 0; kind < CGROUP_THROTTLES; kind++) {
            (void)snprintf(want, sizeof(want), "%u:%u %u", ma, mi, 1000u + (unsigned)kind);
            expect_file(f, CGROUP_BLKIO, leaf, files[kind], want);
        }
    }
    x = (struct cgroup_extra){.n_throttles = {1}};
    x.throttles[0][0] = (struct cgroup_device_limit){.major = 4095, .minor = 1, .rate = 1};
    refused(f, leaf, &x, STATUS_INVALID_ARGUMENT, "device-read-bps");
    remove_pod(f, pod, leaf, made);
}

// The weight is the scheduler's: where there is none for it, that is said.
static void disk_weight(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    struct cgroup_extra x = {.blkio_weight = 300};
    struct error err = ERROR_INIT;
    make_leaf(f, pod, leaf, &made);
    if (cgroup_apply_extra(f->host, leaf, &x, &err) < 0) {
        assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(err.message, "blkio-weight\": this host's kernel has no scheduler"));
    }
    remove_pod(f, pod, leaf, made);
}

static void real_time_budgets_come_from_above(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], second[CGROUP_PATH_MAX];
    uint32_t made;
    struct cgroup_extra x = {
        .has_rt_runtime = true, .rt_runtime_us = 10000, .has_rt_period = true, .rt_period_us = 500000};
    make_leaf(f, pod, leaf, &made);
    const struct cgroup_hierarchy_fd *cpu = cgroup_root_of(f->host, CGROUP_CPU);
    bool can = !cgroup_host_is_v2(f->host) && cpu && cgroup_file_exists(cpu, leaf, "cpu.rt_runtime_us");
    if (!can) { // most distributions' kernels, and cgroup v2
        refused(f, leaf, &x, STATUS_FAILED_PRECONDITION, "cpu-rt-runtime");
        remove_pod(f, pod, leaf, made);
        return;
    }
    apply(f, leaf, &x);
    expect_file(f, CGROUP_CPU, leaf, "cpu.rt_runtime_us", "10000");
    expect_file(f, CGROUP_CPU, leaf, "cpu.rt_period_us", "500000");
    expect_file(f, CGROUP_CPU, pod, "cpu.rt_runtime_us", "20000"); // of a second
    expect_file(f, CGROUP_CPU, f->parent, "cpu.rt_runtime_us", "20000");
    // A second container's share is added; one that takes the place of another takes no more.
    assert_int_equal(cgroup_leaf_path(pod, "second", second, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cgroup_create(f->host, second, NULL, NULL, NULL), 0);
        apply(f, second, &(struct cgroup_extra){.has_rt_runtime = true, .rt_runtime_us = 5000});
        expect_file(f, CGROUP_CPU, pod, "cpu.rt_runtime_us", "25000");
        expect_file(f, CGROUP_CPU, f->parent, "cpu.rt_runtime_us", "25000");
        assert_int_equal(cgroup_remove(f->host, second, NULL), 0);
        expect_file(f, CGROUP_CPU, pod, "cpu.rt_runtime_us", "20000");
        expect_file(f, CGROUP_CPU, f->parent, "cpu.rt_runtime_us", "20000");
    }
    x = (struct cgroup_extra){.has_rt_runtime = true, .rt_runtime_us = 1000000};
    refused(f, leaf, &x, STATUS_FAILED_PRECONDITION, "real-time budget");
    expect_file(f, CGROUP_CPU, f->parent, "cpu.rt_runtime_us", "20000");
    // Given back at its end, while the leaf is still there.
    cgroup_release_realtime(f->host, leaf);
    expect_file(f, CGROUP_CPU, leaf, "cpu.rt_runtime_us", "0");
    expect_file(f, CGROUP_CPU, pod, "cpu.rt_runtime_us", "0");
    expect_file(f, CGROUP_CPU, f->parent, "cpu.rt_runtime_us", "0");
    // One after the other in the same place, each with all that the levels above have.
    x.rt_runtime_us = 5000;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cgroup_create(f->host, second, NULL, NULL, NULL), 0);
        apply(f, second, &x);
        assert_int_equal(cgroup_remove(f->host, second, NULL), 0);
    }
    remove_pod(f, pod, leaf, made);
}

// A parent that is not ours is not given a budget.
static void others_budgets_are_left_alone(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    struct error err = ERROR_INIT;
    (void)snprintf(pod, sizeof(pod), "%s-kubelets", f->parent);
    assert_int_equal(cgroup_pod_create(f->host, pod, &made, &err), 0);
    assert_int_equal(cgroup_leaf_path(pod, "leaf", leaf, NULL), 0);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    refused(f, leaf, &(struct cgroup_extra){.has_rt_runtime = true, .rt_runtime_us = 10000},
            STATUS_FAILED_PRECONDITION, "cpu-rt-runtime");
    const struct cgroup_hierarchy_fd *cpu = cgroup_root_of(f->host, CGROUP_CPU);
    if (!cgroup_host_is_v2(f->host) && cpu && cgroup_file_exists(cpu, pod, "cpu.rt_runtime_us"))
        expect_file(f, CGROUP_CPU, pod, "cpu.rt_runtime_us", "0");
    remove_pod(f, pod, leaf, made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_and_processes, setup, teardown),
        cmocka_unit_test_setup_teardown(disks, setup, teardown),
        cmocka_unit_test_setup_teardown(disk_weight, setup, teardown),
        cmocka_unit_test_setup_teardown(real_time_budgets_come_from_above, setup, teardown),
        cmocka_unit_test_setup_teardown(others_budgets_are_left_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
