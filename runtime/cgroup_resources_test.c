#include "runtime/cgroup_fixture.h"

#include "base/testing.h"

#include <fcntl.h>

static void expect(struct fixture *f, enum cgroup_controller c, const char *leaf, const char *file,
                   const char *want)
{
    char text[4096];
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(f->host, c);
    assert_non_null(root);
    assert_int_equal(cgroup_file_read(root, leaf, file, text, sizeof(text)), 0);
    assert_string_equal(text, want);
}

static void v1_resources(void **state)
{
    struct fixture *f = *state;
    static const char *const controllers[] = {"cpu", "cpuset", "memory", NULL};
    if (!needs(f, controllers))
        TESTING_SKIP("these v1 controllers aren't mounted");
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], cpus[256];
    uint32_t made;
    struct error err = ERROR_INIT;
    make_pod(f, pod, leaf, &made);
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT, *now;
    r.cpu_shares = 512;
    r.cpu_period = 50000;
    r.cpu_quota = 20000;
    r.memory_limit_in_bytes = 64 << 20;
    r.memory_swap_limit_in_bytes = 64 << 20;
    r.cpuset_cpus = (char *)"0";
    Cri__HugepageLimit none = CRI__HUGEPAGE_LIMIT__INIT, *hugepages = &none;
    none.page_size = (char *)"2MB";
    r.hugepage_limits = &hugepages; // a limit of 0 is fine without the controller
    r.n_hugepage_limits = 1;
    if (cgroup_create(f->host, leaf, &r, NULL, &err) < 0)
        fail_msg("%s", err.message);
    expect(f, CGROUP_CPU, leaf, "cpu.shares", "512");
    expect(f, CGROUP_CPU, leaf, "cpu.cfs_period_us", "50000");
    expect(f, CGROUP_CPU, leaf, "cpu.cfs_quota_us", "20000");
    expect(f, CGROUP_MEMORY, leaf, "memory.limit_in_bytes", "67108864");
    expect(f, CGROUP_CPUSET, leaf, "cpuset.cpus", "0");
    assert_int_equal(
        cgroup_file_read(cgroup_root_of(f->host, CGROUP_CPUSET), "", "cpuset.cpus", cpus, sizeof(cpus)), 0);
    expect(f, CGROUP_CPUSET, pod, "cpuset.cpus", cpus); // inherited

    // Raising memory past the swap limit goes from the outside in; lowering the other way.
    Cri__LinuxContainerResources more = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    more.memory_limit_in_bytes = more.memory_swap_limit_in_bytes = (128 << 20) + 1;
    more.cpu_period = 100000;
    more.cpu_quota = 30000;
    if (cgroup_update(f->host, leaf, &more, &err) < 0)
        fail_msg("%s", err.message);
    expect(f, CGROUP_CPU, leaf, "cpu.shares", "512"); // not set, not changed
    more.memory_limit_in_bytes = more.memory_swap_limit_in_bytes = 32 << 20;
    assert_int_equal(cgroup_update(f->host, leaf, &more, &err), 0);
    expect(f, CGROUP_MEMORY, leaf, "memory.limit_in_bytes", "33554432");
    more.memory_limit_in_bytes = (32 << 20) - 1;
    more.memory_swap_limit_in_bytes = 0;
    assert_int_equal(cgroup_update(f->host, leaf, &more, &err), 0);
    assert_int_equal(cgroup_read_resources(f->host, leaf, &more, f->arena, &now, &err), 0);
    assert_int_equal(now->memory_limit_in_bytes, (32 << 20) - 4096); // the kernel counts pages
    assert_int_equal(now->cpu_quota, 30000);
    assert_int_equal(now->cpu_period, 100000);
    assert_int_equal(now->cpu_shares, 512);

    // Whole or not at all: the CPU values are put back when the cpuset is refused.
    Cri__LinuxContainerResources bad = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    bad.cpu_shares = 100;
    bad.cpuset_cpus = (char *)"4095";
    assert_true(cgroup_update(f->host, leaf, &bad, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(
        strstr(err.message, "linux.resources.cpuset_cpus: write \"4095\" to cpuset.cpus of cgroup "));
    expect(f, CGROUP_CPU, leaf, "cpu.shares", "512");
    assert_int_equal(cgroup_oom_kills(f->host, leaf), 0);
    remove_pod(f, pod, leaf, made);

    // A create that fails leaves nothing.
    make_pod(f, pod, leaf, &made);
    assert_true(cgroup_create(f->host, leaf, &bad, NULL, &err) < 0);
    for (size_t i = 0; i < f->host->n; i++)
        assert_false(cgroup_file_exists(&f->host->fds[i], leaf, ""));
    none.limit = 1;
    if (!cgroup_host_has(f->host, "hugetlb")) {
        assert_true(cgroup_create(f->host, leaf, &r, NULL, &err) < 0);
        assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(err.message, "linux.resources.hugepage_limits: "));
    }
    remove_pod(f, pod, leaf, made);
}

static void v2_resources(void **state)
{
    struct fixture *f = *state;
    if (!cgroup_host_is_v2(f->host) || !cgroup_host_has(f->host, "memory") ||
        !cgroup_host_has(f->host, "cpu"))
        TESTING_SKIP("cgroup v2 has no memory and cpu controllers here");
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    struct error err = ERROR_INIT;
    make_pod(f, pod, leaf, &made);
    Cri__LinuxContainerResources__UnifiedEntry high = CRI__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT,
                                               *unified = &high;
    high.key = (char *)"memory.high";
    high.value = (char *)"33554432";
    Cri__HugepageLimit huge = CRI__HUGEPAGE_LIMIT__INIT, *hugepages = &huge;
    huge.page_size = (char *)"2MB";
    huge.limit = 4 << 20;
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT, *now;
    r.cpu_shares = 1024;
    r.cpu_quota = 20000;
    r.memory_limit_in_bytes = 64 << 20;
    r.memory_swap_limit_in_bytes = 96 << 20;
    r.cpuset_cpus = (char *)"0";
    r.unified = &unified;
    r.n_unified = 1;
    r.hugepage_limits = &hugepages;
    r.n_hugepage_limits = cgroup_host_has(f->host, "hugetlb");
    if (cgroup_create(f->host, leaf, &r, NULL, &err) < 0)
        fail_msg("%s", err.message);
    expect(f, CGROUP_CPU, leaf, "cpu.weight", "100");
    expect(f, CGROUP_CPU, leaf, "cpu.max", "20000 100000");
    expect(f, CGROUP_MEMORY, leaf, "memory.max", "67108864");
    expect(f, CGROUP_MEMORY, leaf, "memory.swap.max", "33554432");
    expect(f, CGROUP_MEMORY, leaf, "memory.high", "33554432");
    expect(f, CGROUP_CPUSET, leaf, "cpuset.cpus", "0");
    if (r.n_hugepage_limits)
        expect(f, CGROUP_HUGETLB, leaf, "hugetlb.2MB.max", "4194304");

    Cri__LinuxContainerResources more = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    more.cpu_period = 50000;
    assert_int_equal(cgroup_update(f->host, leaf, &more, &err), 0);
    expect(f, CGROUP_CPU, leaf, "cpu.max", "20000 50000"); // the quota stays
    more.cpu_quota = -1;
    more.memory_limit_in_bytes = (32 << 20) + 1;
    assert_int_equal(cgroup_update(f->host, leaf, &more, &err), 0);
    expect(f, CGROUP_CPU, leaf, "cpu.max", "max 50000");
    assert_int_equal(cgroup_read_resources(f->host, leaf, &more, f->arena, &now, &err), 0);
    assert_int_equal(now->memory_limit_in_bytes, 32 << 20);
    assert_int_equal(now->cpu_quota, -1);
    assert_int_equal(now->cpu_period, 50000);

    Cri__LinuxContainerResources bad = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    bad.cpu_shares = 2;
    bad.memory_limit_in_bytes = 1 << 20;
    bad.unified = &unified;
    bad.n_unified = 1;
    high.value = (char *)"many";
    assert_true(cgroup_update(f->host, leaf, &bad, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "linux.resources.unified: write \"many\" to memory.high of cgroup "));
    expect(f, CGROUP_CPU, leaf, "cpu.weight", "100");
    expect(f, CGROUP_MEMORY, leaf, "memory.max", "33554432");
    high.key = (char *)"memory.nosuch";
    assert_true(cgroup_update(f->host, leaf, &bad, &err) < 0);
    assert_non_null(
        strstr(err.message, "linux.resources.unified: this kernel's cgroups have no \"memory.nosuch\""));
    assert_int_equal(cgroup_oom_kills(f->host, leaf), 0);
    remove_pod(f, pod, leaf, made);
}

// Files of a place that isn't one: a kernel without swap accounting has no memory.swap.max.
static void v2_without_swap(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-cgroup-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct cgroup_host h = {.v2 = true, .n = 1, .driver = &cgroup_driver_v2};
    h.fds[0].fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(h.fds[0].fd >= 0);
    static const struct {
        int64_t limit, swap;
        size_t writes; // 0: an error
        enum status status;
        const char *text;
    } cases[] = {{64, 64, 1, STATUS_OK, ""},
                 {64, -1, 1, STATUS_OK, ""},
                 {64, 65, 0, STATUS_FAILED_PRECONDITION, "this kernel doesn't account swap"},
                 {64, 63, 0, STATUS_INVALID_ARGUMENT, "63 is below the memory limit"},
                 {0, 64, 0, STATUS_INVALID_ARGUMENT, "only where memory has a limit"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct cgroup_writes ws = {.n = 0};
        Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
        r.memory_limit_in_bytes = cases[i].limit;
        r.memory_swap_limit_in_bytes = cases[i].swap;
        int rc = h.driver->compile(&h, "/x", &r, true, &ws, &err);
        assert_int_equal(rc < 0, cases[i].writes == 0);
        assert_int_equal(err.status, cases[i].status);
        assert_non_null(strstr(err.message, cases[i].text));
        if (rc == 0)
            assert_int_equal(ws.n, cases[i].writes);
    }
    assert_int_equal(close(h.fds[0].fd), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void shares_become_weight(void **state)
{
    (void)state;
    assert_int_equal(cgroup_weight_of_shares(0), 1);
    assert_int_equal(cgroup_weight_of_shares(2), 1);
    assert_int_equal(cgroup_weight_of_shares(1024), 100);
    assert_int_equal(cgroup_weight_of_shares(262144), 10000);
    assert_int_equal(cgroup_weight_of_shares(INT64_MAX), 10000);
    for (int64_t shares = 3; shares < 262144; shares += 97)
        assert_true(cgroup_weight_of_shares(shares) >= cgroup_weight_of_shares(shares - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v1_resources, setup, teardown),
        cmocka_unit_test_setup_teardown(v2_resources, setup, teardown),
        cmocka_unit_test(v2_without_swap),
        cmocka_unit_test(shares_become_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
