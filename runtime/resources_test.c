#include "runtime/resources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

typedef Cri__LinuxContainerResources__UnifiedEntry Entry;

static struct arena *room(void)
{
    struct arena *arena = arena_new(1 << 20);
    assert_non_null(arena);
    return arena;
}

static void merging_takes_what_is_set(void **state)
{
    (void)state;
    struct arena *arena = room();
    Cri__HugepageLimit small = CRI__HUGEPAGE_LIMIT__INIT, big = small, changed = small;
    Cri__HugepageLimit *old_limits[] = {&small, &big}, *new_limits[] = {&changed};
    Entry high = CRI__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT, low = high, twice = high;
    Entry *old_unified[] = {&high}, *new_unified[] = {&low, &twice};
    small.page_size = (char *)"2MB";
    small.limit = 1;
    big.page_size = (char *)"1GB";
    big.limit = 2;
    changed.page_size = (char *)"2MB";
    changed.limit = 0; // a limit of none is a limit
    high.key = low.key = twice.key = (char *)"memory.high";
    high.value = (char *)"1";
    low.value = (char *)"2";
    twice.value = (char *)"3";
    Cri__LinuxContainerResources old = CRI__LINUX_CONTAINER_RESOURCES__INIT, change = old;
    old.cpu_shares = 512;
    old.cpu_quota = 10000;
    old.memory_limit_in_bytes = 1 << 20;
    old.oom_score_adj = -5;
    old.cpuset_cpus = (char *)"0-1";
    old.hugepage_limits = old_limits;
    old.n_hugepage_limits = 2;
    old.unified = old_unified;
    old.n_unified = 1;
    change.cpu_quota = -1;
    change.cpu_period = 50000;
    change.memory_swap_limit_in_bytes = 2 << 20;
    change.cpuset_mems = (char *)"0";
    change.hugepage_limits = new_limits;
    change.n_hugepage_limits = 1;
    change.unified = new_unified;
    change.n_unified = 2;
    const Cri__LinuxContainerResources *r = resources_merge(&old, &change, arena);
    assert_non_null(r);
    assert_int_equal(r->cpu_shares, 512);
    assert_int_equal(r->cpu_quota, -1);
    assert_int_equal(r->cpu_period, 50000);
    assert_int_equal(r->memory_limit_in_bytes, 1 << 20);
    assert_int_equal(r->memory_swap_limit_in_bytes, 2 << 20);
    assert_int_equal(r->oom_score_adj, -5);
    assert_string_equal(r->cpuset_cpus, "0-1");
    assert_string_equal(r->cpuset_mems, "0");
    assert_int_equal(r->n_hugepage_limits, 2);
    assert_int_equal(r->hugepage_limits[0]->limit, 0);
    assert_int_equal(r->hugepage_limits[1]->limit, 2);
    assert_int_equal(r->n_unified, 1);
    assert_string_equal(r->unified[0]->value, "3");
    r = resources_merge(NULL, &old, arena);
    assert_int_equal(r->cpu_shares, 512);
    assert_int_equal(r->n_hugepage_limits, 2);
    arena_free(arena);
}

static void a_pod_is_its_containers_and_its_overhead(void **state)
{
    (void)state;
    struct arena *arena = room();
    Cri__LinuxContainerResources containers = CRI__LINUX_CONTAINER_RESOURCES__INIT, overhead = containers;
    overhead.cpu_shares = 256;
    overhead.cpu_quota = 5000; // of 50,000: 0.1 CPUs
    overhead.cpu_period = 50000;
    overhead.memory_limit_in_bytes = 10;
    const Cri__LinuxContainerResources *r = resources_sum(&containers, &overhead, arena);
    assert_int_equal(r->cpu_shares, 256);
    assert_int_equal(r->cpu_quota, 0); // no limit stays none
    assert_int_equal(r->memory_limit_in_bytes, 0);
    containers.cpu_shares = 1024;
    containers.cpu_quota = 20000;
    containers.memory_limit_in_bytes = 100;
    containers.memory_swap_limit_in_bytes = 150;
    r = resources_sum(&containers, &overhead, arena);
    assert_int_equal(r->cpu_shares, 1280);
    assert_int_equal(r->cpu_quota, 30000); // of 100,000: 0.2 and 0.1 CPUs
    assert_int_equal(r->memory_limit_in_bytes, 110);
    assert_int_equal(r->memory_swap_limit_in_bytes, 160);
    Cri__HugepageLimit small = CRI__HUGEPAGE_LIMIT__INIT, more = small, other = small;
    Cri__HugepageLimit *of_containers[] = {&small}, *of_overhead[] = {&other, &more};
    small.page_size = more.page_size = (char *)"2MB";
    other.page_size = (char *)"1GB";
    small.limit = 4;
    more.limit = other.limit = 2;
    containers.hugepage_limits = of_containers;
    containers.n_hugepage_limits = 1;
    overhead.hugepage_limits = of_overhead;
    overhead.n_hugepage_limits = 2;
    r = resources_sum(&containers, &overhead, arena);
    assert_int_equal(r->n_hugepage_limits, 1); // no limit stays none
    assert_int_equal(r->hugepage_limits[0]->limit, 6);
    assert_int_equal(small.limit, 4);
    more.limit = UINT64_MAX;
    assert_true(resources_sum(&containers, &overhead, arena)->hugepage_limits[0]->limit == UINT64_MAX);
    containers.memory_limit_in_bytes = INT64_MAX - 1;
    assert_int_equal(resources_sum(&containers, &overhead, arena)->memory_limit_in_bytes, INT64_MAX);
    containers.memory_limit_in_bytes = -1;
    assert_int_equal(resources_sum(&containers, &overhead, arena)->memory_limit_in_bytes, -1);
    assert_int_equal(resources_sum(NULL, &overhead, arena)->cpu_shares, 256);
    assert_int_equal(resources_sum(&containers, NULL, arena)->cpu_shares, 1024);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_takes_what_is_set),
        cmocka_unit_test(a_pod_is_its_containers_and_its_overhead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
