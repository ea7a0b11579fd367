// What the v2 driver makes of resources. The files are ordinary ones.
#include "runtime/cgroup_fixture.h"
#include "base/testing.h"
#include <fcntl.h>
#include <sys/stat.h>

static void put(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
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
        cgroup_writes_done(&ws);
    }
    assert_int_equal(close(h.fds[0].fd), 0);
    assert_int_equal(rmdir(dir), 0);
}

// What an update must not do by `unified` either; the files are ordinary ones.
// Swap is limited by itself, beside a memory limit that is taken away: the CRI's field can't say that.
static void v2_swap_by_unified(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-cgroup-test-XXXXXX", path[64], text[64];
    static const char *const files[] = {"memory.max", "memory.swap.max", "memory.current"};
    assert_non_null(mkdtemp(dir));
    struct cgroup_host h = {.v2 = true, .n = 1, .driver = &cgroup_driver_v2};
    h.fds[0].fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/x", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(text, sizeof(text), "x/%s", files[i]);
        put(h.fds[0].fd, text, i == 1 ? "max\n" : "33554432\n");
    }
    Cri__LinuxContainerResources__UnifiedEntry entry = CRI__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT,
                                               *unified = &entry;
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    struct cgroup_undo *undo = NULL;
    struct error err = ERROR_INIT;
    r.memory_limit_in_bytes = -1;
    r.unified = &unified;
    r.n_unified = 1;
    entry.key = (char *)"memory.swap.max";
    entry.value = (char *)"1048576";
    if (cgroup_update(&h, "/x", &r, &undo, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(cgroup_file_read(&h.fds[0], "/x", "memory.swap.max", text, sizeof(text)), 0);
    assert_string_equal(text, "1048576");
    assert_int_equal(cgroup_file_read(&h.fds[0], "/x", "memory.max", text, sizeof(text)), 0);
    assert_int_equal(strncmp(text, "max", 3), 0); // a plain file keeps the rest of what was in it
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(text, sizeof(text), "x/%s", files[i]);
        assert_int_equal(unlinkat(h.fds[0].fd, text, 0), 0);
    }
    cgroup_undo_free(undo);
    assert_int_equal(rmdir(path) | close(h.fds[0].fd) | rmdir(dir), 0);
}

static void v2_changes_by_unified(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"cpuset.cpus.effective", "0-1"},
                                           {"x/memory.current", "20971520"},
                                           {"x/memory.max", "max"},
                                           {"x/cpuset.cpus", ""},
                                           {"x/cpu.max", "max 100000"}};
    char dir[] = "/tmp/crisp-cgroup-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct cgroup_host h = {.v2 = true, .n = 1, .driver = &cgroup_driver_v2};
    int fd = h.fds[0].fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(mkdirat(fd, "x", 0700), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        put(fd, files[i][0], files[i][1]);
    static const struct {
        const char *key, *value;
        bool fresh;
        enum status status;
        const char *text;
    } cases[] = {
        {"memory.max", "20971520", false, STATUS_OK, ""},
        {"memory.max", "20M\n", false, STATUS_OK, ""},
        {"memory.max", "max", false, STATUS_OK, ""},
        {"memory.max", "10485760", true, STATUS_OK, ""},
        {"memory.max", "10485760", false, STATUS_FAILED_PRECONDITION,
         "unified: memory.max: 10485760 is below the 20971520 bytes that are in use in cgroup /x"},
        {"memory.max", "10m", false, STATUS_FAILED_PRECONDITION, "is below the 20971520 bytes"},
        {"memory.max", "0", false, STATUS_FAILED_PRECONDITION, "is below the 20971520 bytes"},
        {"memory.max", "max\n1M", false, STATUS_INVALID_ARGUMENT, "is neither \"max\" nor a number"},
        {"memory.max", "0200000000", false, STATUS_INVALID_ARGUMENT, "is neither"}, // octal to the kernel
        {"memory.max", "0x4000000", false, STATUS_INVALID_ARGUMENT, "is neither"},
        {"memory.max", "16E", false, STATUS_INVALID_ARGUMENT, "is neither"}, // 0 to the kernel
        {"memory.max", " 64M", false, STATUS_INVALID_ARGUMENT, "is neither"},
        {"cpuset.cpus", "0-1\n", false, STATUS_OK, ""},
        {"cpuset.cpus", "0-9", false, STATUS_INVALID_ARGUMENT, "unified: cpuset.cpus: \"0-9\" is not within"},
        {"cpuset.cpus", "2", true, STATUS_INVALID_ARGUMENT, "\"2\" is not within \"0-1\""},
    };
    Cri__LinuxContainerResources__UnifiedEntry entry = CRI__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT,
                                               *unified = &entry;
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    r.unified = &unified;
    r.n_unified = 1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct cgroup_writes ws = {.n = 0};
        entry.key = (char *)cases[i].key;
        entry.value = (char *)cases[i].value;
        int rc = h.driver->compile(&h, "/x", &r, cases[i].fresh, &ws, &err);
        if ((rc < 0) != (cases[i].status != STATUS_OK) || err.status != cases[i].status ||
            !strstr(err.message, cases[i].text))
            fail_msg("%s \"%s\": %s", cases[i].key, cases[i].value, err.message);
        cgroup_writes_done(&ws);
    }
    // A field of its own is named; a cgroup that is gone is not a container that is gone.
    struct error err = ERROR_INIT;
    struct cgroup_writes ws = {.n = 0};
    r.n_unified = 0;
    r.cpu_period = 50000;
    assert_int_equal(h.driver->compile(&h, "/x", &r, false, &ws, &err), 0);
    assert_string_equal(ws.w[0].field, "linux.resources.cpu_period");
    assert_string_equal(ws.w[0].value, "max 50000");
    cgroup_writes_done(&ws);
    for (size_t i = sizeof(files) / sizeof(files[0]); i-- > 0;)
        assert_int_equal(unlinkat(fd, files[i][0], 0), 0);
    r.memory_limit_in_bytes = 1;
    assert_true(h.driver->compile(&h, "/x", &r, false, &ws, &err) < 0); // no memory.current
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    cgroup_writes_done(&ws);
    assert_int_equal(unlinkat(fd, "x", AT_REMOVEDIR), 0);
    assert_true(h.driver->compile(&h, "/x", &r, false, &ws, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "cgroup /x is gone"));
    cgroup_writes_done(&ws);
    assert_int_equal(close(fd), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v2_without_swap),
        cmocka_unit_test(v2_swap_by_unified),
        cmocka_unit_test(v2_changes_by_unified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
