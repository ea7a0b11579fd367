#include "runtime/cgroup_fixture.h"

#include "base/testing.h"

#include <fcntl.h>
#include <sys/stat.h>

static void expect(struct fixture *f, enum cgroup_controller c, const char *leaf, const char *file,
                   const char *want)
{
    char text[4096];
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(f->host, c);
    assert_non_null(root);
    assert_int_equal(cgroup_file_read(root, leaf, file, text, sizeof(text)), 0);
    assert_string_equal(text, want);
}

static const char *const v1_controllers[] = {"cpu", "cpuset", "memory", NULL};

struct v1 {
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    Cri__HugepageLimit none, *hugepages;
    Cri__LinuxContainerResources r;
};

// A leaf with limits of all kinds.
static void v1_begin(struct fixture *f, struct v1 *v)
{
    struct error err = ERROR_INIT;
    make_pod(f, v->pod, v->leaf, &v->made);
    cri__linux_container_resources__init(&v->r);
    v->r.cpu_shares = 512;
    v->r.cpu_period = 50000;
    v->r.cpu_quota = 20000;
    v->r.memory_limit_in_bytes = 64 << 20;
    v->r.memory_swap_limit_in_bytes = 64 << 20;
    v->r.cpuset_cpus = (char *)"0";
    cri__hugepage_limit__init(&v->none);
    v->none.page_size = (char *)"2MB";
    v->hugepages = &v->none; // a limit of 0 is fine without the controller
    v->r.hugepage_limits = &v->hugepages;
    v->r.n_hugepage_limits = 1;
    if (cgroup_create(f->host, v->leaf, &(struct cgroup_limits){.resources = &v->r}, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void v1_resources(void **state)
{
    struct fixture *f = *state;
    if (!needs(f, v1_controllers))
        TESTING_SKIP("these v1 controllers aren't mounted");
    struct v1 v;
    char cpus[256];
    struct error err = ERROR_INIT;
    Cri__LinuxContainerResources *now;
    v1_begin(f, &v);
    expect(f, CGROUP_CPU, v.leaf, "cpu.shares", "512");
    expect(f, CGROUP_CPU, v.leaf, "cpu.cfs_period_us", "50000");
    expect(f, CGROUP_CPU, v.leaf, "cpu.cfs_quota_us", "20000");
    expect(f, CGROUP_MEMORY, v.leaf, "memory.limit_in_bytes", "67108864");
    expect(f, CGROUP_CPUSET, v.leaf, "cpuset.cpus", "0");
    assert_int_equal(
        cgroup_file_read(cgroup_root_of(f->host, CGROUP_CPUSET), "", "cpuset.cpus", cpus, sizeof(cpus)), 0);
    expect(f, CGROUP_CPUSET, v.pod, "cpuset.cpus", cpus); // inherited

    // Raising memory past the swap limit goes from the outside in; lowering the other way.
    Cri__LinuxContainerResources more = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    more.memory_limit_in_bytes = more.memory_swap_limit_in_bytes = (128 << 20) + 1;
    more.cpu_period = 100000;
    more.cpu_quota = 30000;
    if (cgroup_update(f->host, v.leaf, &more, NULL, &err) < 0)
        fail_msg("%s", err.message);
    expect(f, CGROUP_CPU, v.leaf, "cpu.shares", "512"); // not set, not changed
    more.memory_limit_in_bytes = more.memory_swap_limit_in_bytes = 32 << 20;
    assert_int_equal(cgroup_update(f->host, v.leaf, &more, NULL, &err), 0);
    expect(f, CGROUP_MEMORY, v.leaf, "memory.limit_in_bytes", "33554432");
    more.memory_limit_in_bytes = (32 << 20) - 1;
    more.memory_swap_limit_in_bytes = 0;
    assert_int_equal(cgroup_update(f->host, v.leaf, &more, NULL, &err), 0);
    assert_int_equal(cgroup_read_resources(f->host, v.leaf, &more, f->arena, &now, &err), 0);
    assert_int_equal(now->memory_limit_in_bytes, (32 << 20) - 4096); // the kernel counts pages
    assert_int_equal(now->cpu_quota, 30000);
    assert_int_equal(now->cpu_period, 100000);
    assert_int_equal(now->cpu_shares, 512);
    remove_pod(f, v.pod, v.leaf, v.made);
}

// Whole or not at all, and what was changed can be put back; no limit is told as it was asked for.
static void v1_changes_are_put_back(void **state)
{
    struct fixture *f = *state;
    if (!needs(f, v1_controllers))
        TESTING_SKIP("these v1 controllers aren't mounted");
    struct v1 v;
    struct error err = ERROR_INIT;
    Cri__LinuxContainerResources *now;
    v1_begin(f, &v);
    Cri__LinuxContainerResources bad = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    bad.cpu_shares = 100;
    bad.cpuset_cpus = (char *)"4095";
    assert_true(cgroup_update(f->host, v.leaf, &bad, NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(
        strstr(err.message, "linux.resources.cpuset_cpus: write \"4095\" to cpuset.cpus of cgroup "));
    expect(f, CGROUP_CPU, v.leaf, "cpu.shares", "512");
    assert_int_equal(cgroup_oom_kills(f->host, v.leaf), 0);
    struct cgroup_undo *undo = NULL;
    Cri__LinuxContainerResources none_at_all = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    none_at_all.cpu_quota = none_at_all.memory_swap_limit_in_bytes = -1;
    assert_int_equal(cgroup_update(f->host, v.leaf, &none_at_all, &undo, &err), 0);
    assert_int_equal(cgroup_read_resources(f->host, v.leaf, &none_at_all, f->arena, &now, &err), 0);
    assert_int_equal(now->cpu_quota, -1);
    assert_int_equal(now->memory_limit_in_bytes, 64 << 20); // others' limit is told too
    assert_string_equal(now->cpuset_cpus, "0");
    assert_int_equal(cgroup_undo_update(f->host, undo, &err), 0);
    expect(f, CGROUP_CPU, v.leaf, "cpu.cfs_quota_us", "20000");
    cgroup_undo_free(undo);
    none_at_all.memory_limit_in_bytes = -1;
    assert_int_equal(cgroup_update(f->host, v.leaf, &none_at_all, NULL, &err), 0);
    assert_int_equal(cgroup_read_resources(f->host, v.leaf, NULL, f->arena, &now, &err), 0);
    assert_int_equal(now->cpu_quota, 0);
    assert_int_equal(now->memory_limit_in_bytes, 0);
    assert_int_equal(now->memory_swap_limit_in_bytes, 0);
    remove_pod(f, v.pod, v.leaf, v.made);
}

// A create that fails leaves nothing; swap without memory is what the kernel wouldn't say as well.
static void v1_what_cannot_be_is_not_made(void **state)
{
    struct fixture *f = *state;
    if (!needs(f, v1_controllers))
        TESTING_SKIP("these v1 controllers aren't mounted");
    struct v1 v;
    struct error err = ERROR_INIT;
    v1_begin(f, &v);
    remove_pod(f, v.pod, v.leaf, v.made);
    Cri__LinuxContainerResources swap = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    swap.memory_swap_limit_in_bytes = 1 << 20;
    make_pod(f, v.pod, v.leaf, &v.made);
    assert_true(cgroup_create(f->host, v.leaf, &(struct cgroup_limits){.resources = &swap}, NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "only where memory has a limit"));
    remove_pod(f, v.pod, v.leaf, v.made);
    Cri__LinuxContainerResources bad = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    bad.cpu_shares = 100;
    bad.cpuset_cpus = (char *)"4095";
    make_pod(f, v.pod, v.leaf, &v.made);
    assert_true(cgroup_create(f->host, v.leaf, &(struct cgroup_limits){.resources = &bad}, NULL, &err) < 0);
    for (size_t i = 0; i < f->host->n; i++)
        assert_false(cgroup_file_exists(&f->host->fds[i], v.leaf, ""));
    v.none.limit = 1;
    if (!cgroup_host_has(f->host, "hugetlb")) {
        assert_true(cgroup_create(f->host, v.leaf, &(struct cgroup_limits){.resources = &v.r}, NULL, &err) <
                    0);
        assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(err.message, "linux.resources.hugepage_limits: "));
    }
    remove_pod(f, v.pod, v.leaf, v.made);
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
    if (cgroup_create(f->host, leaf, &(struct cgroup_limits){.resources = &r}, NULL, &err) < 0)
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
    assert_int_equal(cgroup_update(f->host, leaf, &more, NULL, &err), 0);
    expect(f, CGROUP_CPU, leaf, "cpu.max", "20000 50000"); // the quota stays
    more.cpu_quota = -1;
    more.memory_limit_in_bytes = (32 << 20) + 1;
    assert_int_equal(cgroup_update(f->host, leaf, &more, NULL, &err), 0);
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
    assert_true(cgroup_update(f->host, leaf, &bad, NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "linux.resources.unified: write \"many\" to memory.high of cgroup "));
    expect(f, CGROUP_CPU, leaf, "cpu.weight", "100");
    expect(f, CGROUP_MEMORY, leaf, "memory.max", "33554432");
    high.key = (char *)"memory.nosuch";
    assert_true(cgroup_update(f->host, leaf, &bad, NULL, &err) < 0);
    assert_non_null(
        strstr(err.message, "linux.resources.unified: this kernel's cgroups have no \"memory.nosuch\""));
    assert_int_equal(cgroup_oom_kills(f->host, leaf), 0);
    remove_pod(f, pod, leaf, made);
}

// The published curve's values, beside what the straight line would give.
static void shares_become_weight(void **state)
{
    (void)state;
    static const struct {
        int64_t shares;
        uint64_t weight; // the line's: 1, 1, 1, 4, 8, 20, 39, 79, 391, 2500, 10000
    } table[] = {{1, 1},      {2, 1},      {3, 2},       {102, 17},     {204, 29},       {512, 59},
                 {1024, 100}, {2048, 174}, {10240, 639}, {65536, 3023}, {262144, 10000}, {INT64_MAX, 10000}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(cgroup_weight_of_shares(table[i].shares), table[i].weight);
        assert_int_equal(cgroup_shares_of_weight(table[i].weight, table[i].shares), table[i].shares);
    }
    for (int64_t shares = 3; shares < 262144; shares += 97)
        assert_true(cgroup_weight_of_shares(shares) >= cgroup_weight_of_shares(shares - 1));
    for (uint64_t weight = 1; weight <= 10000; weight++) {
        int64_t shares = cgroup_shares_of_weight(weight, 0);
        assert_true(cgroup_weight_of_shares(shares) >= weight);
        assert_true(shares == 2 || weight == 100 || cgroup_weight_of_shares(shares - 1) < weight);
    }
    assert_int_equal(cgroup_shares_of_weight(100, 0), 1024);
    assert_int_equal(cgroup_shares_of_weight(59, 1024), cgroup_shares_of_weight(59, 0)); // changed by others
}

static void lists_within_lists(void **state)
{
    (void)state;
    static const struct {
        const char *list, *all;
        bool within;
    } cases[] = {
        {"0", "0-1", true},       {"0-1", "0-1", true},      {"1,0", "0-1", true},
        {"2", "0-1", false},      {"0-3,7", "0-7", true},    {"0-3,7", "0-6", false},
        {"8191", "0-8191", true}, {"8192", "0-8191", false}, {"", "0", false},
        {"0,", "0", false},       {"1-0", "0-1", false},     {"0--1", "0-1", false},
        {"0", "", false},         {"-1", "0-1", false},      {"99999999999999999999999", "0-1", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (cgroup_list_within(cases[i].list, cases[i].all) != cases[i].within)
            fail_msg("\"%s\" in \"%s\"", cases[i].list, cases[i].all);
    }
}

// What files of several lines are put back to; the files are ordinary ones.
static void keyed_files_are_put_back(void **state)
{
    (void)state;
    static const struct {
        const char *file, *before, *value, *after;
    } cases[] = {
        {"io.max", "8:0 rbps=1 wbps=2\n8:16 rbps=3 wbps=4", "8:16 rbps=9", "8:16 rbps=3 wbps=4"},
        {"io.max", "8:160 rbps=3", "8:16 rbps=9", "8:16 rbps=max wbps=max riops=max wiops=max"},
        {"io.weight", "default 100\n8:0 20", "500", "default 100"},
        {"io.weight", "default 100", "8:0 20", "8:0 default"},
        {"io.latency", "", "8:0 target=5", "8:0 target=0"},
        {"memory.high", "max", "4096", "max"},
        {"cpuset.cpus", "", "0", "\n"},
    };
    char dir[] = "/tmp/crisp-cgroup-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct cgroup_hierarchy_fd root = {.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    assert_true(root.fd >= 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct cgroup_writes ws = {.n = 0};
        char text[256];
        int fd = openat(root.fd, cases[i].file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, cases[i].before, strlen(cases[i].before)), strlen(cases[i].before));
        assert_int_equal(close(fd), 0);
        assert_int_equal(cgroup_writes_add(&ws, &root, "x", &err, cases[i].file, "%s", cases[i].value), 0);
        assert_int_equal(cgroup_writes_run("/", &ws, true, &err), 0);
        assert_int_equal(cgroup_writes_undo("/", &ws, &err), 0);
        fd = openat(root.fd, cases[i].file, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, text, sizeof(text) - 1);
        assert_true(n >= (ssize_t)strlen(cases[i].after)); // an ordinary file isn't cut by a write
        assert_memory_equal(text, cases[i].after, strlen(cases[i].after));
        assert_int_equal(close(fd), 0);
        assert_int_equal(unlinkat(root.fd, cases[i].file, 0), 0);
        cgroup_writes_done(&ws);
    }
    // A file that can't be read can't be put back: nothing is written then.
    struct error err = ERROR_INIT;
    struct cgroup_writes ws = {.n = 0};
    int fd = openat(root.fd, "a", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "old", 3), 3);
    assert_int_equal(close(fd), 0);
    assert_int_equal(cgroup_writes_add(&ws, &root, "x", &err, "a", "new"), 0);
    assert_int_equal(cgroup_writes_add(&ws, &root, "field", &err, "missing", "1"), 0);
    assert_true(cgroup_writes_run("/", &ws, true, &err) < 0);
    assert_non_null(strstr(err.message, "field: read missing of cgroup /"));
    char text[8];
    assert_int_equal(cgroup_file_read(&root, "/", "a", text, sizeof(text)), 0);
    assert_string_equal(text, "old");
    cgroup_writes_done(&ws);
    assert_int_equal(unlinkat(root.fd, "a", 0), 0);
    assert_int_equal(close(root.fd), 0);
    assert_int_equal(rmdir(dir), 0);
}

// Values beyond CRI's resources, on either version.
static void settings(void **state)
{
    struct fixture *f = *state;
    if (!cgroup_host_has(f->host, "pids") || !cgroup_host_has(f->host, "memory"))
        TESTING_SKIP("no pids or memory controller");
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    make_pod(f, pod, leaf, &made);
    struct cgroup_setting s[] = {{"the first", "pids", "pids.max", "77"},
                                 {"the second", "pids", "pids.max", "78"}};
    struct cgroup_limits limits = {.settings = s, .n_settings = 2};
    struct error err = ERROR_INIT;
    if (cgroup_create(f->host, leaf, &limits, NULL, &err) < 0)
        fail_msg("%s", err.message);
    expect(f, CGROUP_PIDS, leaf, "pids.max", "78");
    remove_pod(f, pod, leaf, made);
    static const struct {
        struct cgroup_setting setting;
        enum status status;
        const char *text;
    } bad[] = {
        {{"the third", "nosuch", "x", "1"},
         STATUS_FAILED_PRECONDITION,
         "the third: this host has no nosuch cgroup controller"},
        {{"the third", "memory", "memory.nosuch", "1"},
         STATUS_FAILED_PRECONDITION,
         "the third: this kernel's cgroups have no memory.nosuch"},
        {{"the third", "pids", "pids.max", "many"},
         STATUS_INVALID_ARGUMENT,
         "the third: write \"many\" to pids.max of cgroup "},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        make_pod(f, pod, leaf, &made);
        s[1] = bad[i].setting;
        assert_true(cgroup_create(f->host, leaf, &limits, NULL, &err) < 0);
        assert_int_equal(err.status, bad[i].status);
        assert_non_null(strstr(err.message, bad[i].text));
        remove_pod(f, pod, leaf, made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v1_resources, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_changes_are_put_back, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_what_cannot_be_is_not_made, setup, teardown),
        cmocka_unit_test_setup_teardown(v2_resources, setup, teardown),
        cmocka_unit_test(shares_become_weight),
        cmocka_unit_test(keyed_files_are_put_back),
        cmocka_unit_test(lists_within_lists),
        cmocka_unit_test_setup_teardown(settings, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
