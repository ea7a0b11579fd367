// Parsing of the kernel's files, rates, and reading a cgroup that comes and goes.
#include "runtime/cgroup_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "runtime/stats_cache.h"

static void test_v1_files(void **state)
{
    (void)state;
    struct cgroup_usage u;
    cgroup_usage_reset(&u);
    cgroup_usage_parse(false, CGROUP_USAGE_CPU, "123456789\n", &u);
    assert_int_equal(u.cpu_ns, 123456789);
    cgroup_usage_parse(false, CGROUP_USAGE_MEMORY_STAT,
                       "cache 1\nrss 2\nswap 3\npgfault 4\ninactive_file 5\nhierarchical_memory_limit 77\n"
                       "total_cache 10\ntotal_rss 20\ntotal_rss_huge 21\ntotal_swap 30\ntotal_pgfault 40\n"
                       "total_pgmajfault 41\ntotal_inactive_file 50\n",
                       &u);
    assert_int_equal(u.rss_bytes, 20);
    assert_int_equal(u.swap_bytes, 30);
    assert_int_equal(u.page_faults, 40);
    assert_int_equal(u.major_page_faults, 41);
    assert_int_equal(u.inactive_file_bytes, 50);
    assert_int_equal(u.memory_bound, 77);
    // "No limit" is a page counter's maximum; that of swap is of both together.
    cgroup_usage_parse(false, CGROUP_USAGE_MEMORY_LIMIT, "9223372036854771712\n", &u);
    assert_true(u.memory_limit_bytes == CGROUP_UNKNOWN);
    cgroup_usage_parse(false, CGROUP_USAGE_SWAP_LIMIT, "9223372036854771712\n", &u);
    assert_true(u.swap_limit_bytes == CGROUP_UNKNOWN);
    cgroup_usage_parse(false, CGROUP_USAGE_MEMORY_LIMIT, "1000\n", &u);
    cgroup_usage_parse(false, CGROUP_USAGE_SWAP_LIMIT, "1500\n", &u);
    assert_int_equal(u.memory_limit_bytes, 1000);
    assert_int_equal(u.swap_limit_bytes, 500);
}

static void test_v2_files(void **state)
{
    (void)state;
    struct cgroup_usage u;
    cgroup_usage_reset(&u);
    cgroup_usage_parse(true, CGROUP_USAGE_CPU, "usage_usec 2500\nuser_usec 1\nsystem_usec 2\n", &u);
    assert_int_equal(u.cpu_ns, 2500000);
    cgroup_usage_parse(true, CGROUP_USAGE_MEMORY, "4096\n", &u);
    cgroup_usage_parse(true, CGROUP_USAGE_MEMORY_STAT,
                       "anon 20\nfile 3\nanon_thp 9\ninactive_file 5\npgfault 6\npgmajfault 7", &u);
    assert_int_equal(u.memory_bytes, 4096);
    assert_int_equal(u.rss_bytes, 20);
    assert_int_equal(u.inactive_file_bytes, 5);
    assert_int_equal(u.page_faults, 6);
    assert_int_equal(u.major_page_faults, 7);
    cgroup_usage_parse(true, CGROUP_USAGE_MEMORY_LIMIT, "max\n", &u);
    assert_true(u.memory_limit_bytes == CGROUP_UNKNOWN);
    cgroup_usage_parse(true, CGROUP_USAGE_SWAP, "8192\n", &u);
    cgroup_usage_parse(true, CGROUP_USAGE_SWAP_LIMIT, "0\n", &u);
    cgroup_usage_parse(true, CGROUP_USAGE_PIDS, "12\n", &u);
    assert_int_equal(u.swap_bytes, 8192);
    assert_int_equal(u.swap_limit_bytes, 0);
    assert_int_equal(u.pids, 12);
    cgroup_usage_parse(true, CGROUP_USAGE_CPU_PSI,
                       "some avg10=1.25 avg60=0.50 avg300=0.07 total=4711\n"
                       "full avg10=0.25 avg60=0.00 avg300=0.00 total=11\n",
                       &u);
    assert_true(u.cpu_psi.known && !u.memory_psi.known && !u.io_psi.known);
    assert_true(u.cpu_psi.some.avg10 == 1.25 && u.cpu_psi.some.avg60 == 0.5 && u.cpu_psi.some.avg300 == 0.07);
    assert_int_equal(u.cpu_psi.some.total_ns, 4711000);
    assert_int_equal(u.cpu_psi.full.total_ns, 11000);
    // 5.15 has no "full" line for the CPU.
    cgroup_usage_parse(true, CGROUP_USAGE_IO_PSI, "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", &u);
    assert_true(u.io_psi.known && u.io_psi.some.total_ns == 1000 && u.io_psi.full.total_ns == 0);
}

static void test_nonsense_is_unknown(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "\n", "x", "some", "some avg10=", "anon\n\nanon", "usage_usec max\n", "18446744073709551616000"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        for (int file = 0; file < CGROUP_USAGE_FILES; file++) {
            struct cgroup_usage u;
            cgroup_usage_reset(&u);
            cgroup_usage_parse(true, (enum cgroup_usage_file)file, texts[i], &u);
            cgroup_usage_parse(false, (enum cgroup_usage_file)file, texts[i], &u);
            assert_true(u.cpu_ns == CGROUP_UNKNOWN && u.memory_bytes == CGROUP_UNKNOWN);
            assert_true(u.rss_bytes == CGROUP_UNKNOWN && !u.cpu_psi.known && u.pids == CGROUP_UNKNOWN);
        }
    }
}

static void test_rate(void **state)
{
    (void)state;
    const int64_t start = 100 * NS_PER_SEC, s = NS_PER_SEC;
    struct cpu_rate rate = {0};
    // The first time: since the start.
    assert_int_equal(cpu_rate_add(&rate, start + 2 * s, (uint64_t)s, start), s / 2);
    // Soon afterwards: the same window, longer by a little.
    assert_int_equal(cpu_rate_add(&rate, start + 2 * s + s / 10, (uint64_t)(s + s / 20), start), s / 2);
    // Later: since the last sample that counted.
    assert_int_equal(cpu_rate_add(&rate, start + 3 * s, (uint64_t)(3 * s), start), 2 * s);
    assert_int_equal(cpu_rate_add(&rate, start + 4 * s, (uint64_t)(3 * s), start), 0);
    // A counter that goes back is another cgroup's: told once it can be.
    assert_int_equal(cpu_rate_add(&rate, start + 5 * s, (uint64_t)s, start + 4 * s), s);
    struct cpu_rate fresh = {0};
    assert_true(cpu_rate_add(&fresh, start + 1000, 500, start) == CGROUP_UNKNOWN);
    struct cpu_rate large = {0}; // years of 64 cores don't overflow
    assert_int_equal(
        cpu_rate_add(&large, 300000000 * s, UINT64_C(64) * 280000000 * (uint64_t)s, 20000000 * s), 64 * s);
}

static void test_interface_lines(void **state)
{
    (void)state;
    struct interface_stats i;
    assert_true(stats_net_parse_line("  eth0: 1000 2 3 4 5 6 7 8 9000 10 11 12 13 14 15 16\n", &i));
    assert_string_equal(i.name, "eth0");
    assert_int_equal(i.rx_bytes, 1000);
    assert_int_equal(i.rx_errors, 3);
    assert_int_equal(i.tx_bytes, 9000);
    assert_int_equal(i.tx_errors, 11);
    assert_true(stats_net_parse_line("fifteen_letters:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12", &i));
    assert_true(i.rx_bytes == UINT64_MAX);
    static const char *const bad[] = {
        "Inter-|   Receive                                                |  Transmit\n",
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo\n",
        "eth0: 1 2 3\n",
        ": 1 2 3 4 5 6 7 8 9 10 11 12\n",
        "sixteen_letters_: 1 2 3 4 5 6 7 8 9 10 11 12\n",
        ""};
    for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
        assert_false(stats_net_parse_line(bad[k], &i));
}

static void test_interfaces_are_bounded(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/crisp-net-dev.XXXXXX";
    _cleanup_fd_ int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    dprintf(fd, "Inter-|\n face |\n");
    for (int i = 0; i < 3000; i++)
        dprintf(fd, "%6s%d: %7d 0 0 0 0 0 0 0 %7d 0 0 0 0 0 0 0\n", "d", i, i, i);
    struct interface_stats *list;
    size_t n;
    assert_int_equal(stats_net_read(fd, f->arena, &list, &n), 0);
    assert_int_equal(n, STATS_INTERFACES_MAX);
    assert_string_equal(list[n - 1].name, "d255");
    assert_int_equal(list[n - 1].tx_bytes, 255);
}

// A network namespace pinned to a file, as network/ does it.
static void test_another_network_namespace(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/crisp-netns.XXXXXX";
    _cleanup_fd_ int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    pid_t child = fork();
    if (child == 0)
        _exit(unshare(CLONE_NEWNET) < 0 || mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    _cleanup_fd_ int dev = stats_net_open(path);
    assert_true(dev >= 0);
    struct interface_stats *list;
    size_t n;
    for (int i = 0; i < 3; i++) { // one descriptor for many readings
        assert_int_equal(stats_net_read(dev, f->arena, &list, &n), 0);
        assert_true(n >= 1); // lo, and tunnels where their modules are there
        assert_string_equal(list[0].name, "lo");
    }
    assert_int_equal(umount2(path, MNT_DETACH), 0);
    assert_int_equal(stats_net_open(path), -EINVAL);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(stats_net_open(path), -ENOENT);
}

static void test_a_real_cgroup(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    struct cgroup_usage_files files;
    struct cgroup_usage u;
    uint32_t made;
    cgroup_usage_files_init(&files);
    make_pod(f, pod, leaf, &made);
    assert_int_equal(cgroup_usage_read(f->host, leaf, CGROUP_USAGE_CONTAINER, &files, &u), -ENOENT);
    for (int i = 0; i < 2; i++) { // the second time through the same descriptors, of a leaf made anew
        assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
        assert_int_equal(cgroup_usage_read(f->host, leaf, CGROUP_USAGE_POD, &files, &u), 0);
        assert_int_equal(cgroup_usage_read(f->host, leaf, CGROUP_USAGE_POD, &files, &u), 0);
        assert_true(files.fds[CGROUP_USAGE_CPU] >= 0);
        assert_true(u.cpu_ns == 0);
        assert_true(!cgroup_host_has(f->host, "memory") || u.rss_bytes == 0);
        assert_true(!cgroup_host_has(f->host, "pids") || u.pids == 0);
        assert_true(u.memory_limit_bytes == CGROUP_UNKNOWN);
        assert_int_equal(cgroup_remove(f->host, leaf, NULL), 0);
    }
    assert_int_equal(cgroup_usage_read(f->host, leaf, CGROUP_USAGE_CONTAINER, &files, &u), -ENOENT);
    for (int i = 0; i < CGROUP_USAGE_FILES; i++)
        assert_int_equal(files.fds[i], -1);
    assert_int_equal(cgroup_pod_remove(f->host, pod, made, NULL), 0);
}

// Beyond half of the limit files are read all the same, but not kept.
static void test_few_descriptors(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    struct cgroup_usage_files files;
    struct cgroup_usage u;
    struct rlimit before, few;
    uint32_t made;
    cgroup_usage_files_init(&files);
    make_pod(f, pod, leaf, &made);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 4; // descriptors from 4 on are open already, so that none can be had
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int r = cgroup_usage_read(f->host, leaf, CGROUP_USAGE_POD, &files, &u);
    few.rlim_cur = before.rlim_cur < 200 ? before.rlim_cur : 200;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(r, -EMFILE);
    struct cgroup_usage_files many[120];
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        cgroup_usage_files_init(&many[i]);
        assert_int_equal(cgroup_usage_read(f->host, leaf, 1u << CGROUP_USAGE_CPU, &many[i], &u), 0);
        assert_int_equal(u.cpu_ns, 0);
        assert_int_equal(many[i].fds[CGROUP_USAGE_CPU] >= 0, i < 100);
    }
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        cgroup_usage_files_close(&many[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(cgroup_usage_read(f->host, leaf, CGROUP_USAGE_POD, &files, &u), 0);
    assert_true(files.fds[CGROUP_USAGE_CPU] >= 0);
    cgroup_usage_files_close(&files);
    remove_pod(f, pod, leaf, made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1_files),
        cmocka_unit_test(test_v2_files),
        cmocka_unit_test(test_nonsense_is_unknown),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_interface_lines),
        cmocka_unit_test_setup_teardown(test_interfaces_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_network_namespace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_real_cgroup, setup, teardown),
        cmocka_unit_test_setup_teardown(test_few_descriptors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
