// CRI's resources as values: one upon the other, one and another.
#include "runtime/resources.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

// The row of `size`, or the next free one.
static size_t hugepage_row(const Cri__LinuxContainerResources *r, const char *size)
{
    size_t i = 0;
    while (i < r->n_hugepage_limits && !str_eq(r->hugepage_limits[i]->page_size, size))
        i++;
    return i;
}

static size_t unified_row(const Cri__LinuxContainerResources *r, const char *key)
{
    size_t i = 0;
    while (i < r->n_unified && !str_eq(r->unified[i]->key, key))
        i++;
    return i;
}

static void add_lists(Cri__LinuxContainerResources *out, const Cri__LinuxContainerResources *r)
{
    for (size_t i = 0; i < r->n_hugepage_limits; i++) {
        size_t row = hugepage_row(out, r->hugepage_limits[i]->page_size);
        out->hugepage_limits[row] = r->hugepage_limits[i];
        out->n_hugepage_limits += row == out->n_hugepage_limits;
    }
    for (size_t i = 0; i < r->n_unified; i++) { // of a key that comes twice the last one counts
        size_t row = unified_row(out, r->unified[i]->key);
        out->unified[row] = r->unified[i];
        out->n_unified += row == out->n_unified;
    }
}

static void take_number(int64_t *to, int64_t from)
{
    if (from != 0)
        *to = from;
}

static void take_text(char **to, char *from)
{
    if (!str_empty(from))
        *to = from;
}

Cri__LinuxContainerResources *resources_merge(const Cri__LinuxContainerResources *old,
                                              const Cri__LinuxContainerResources *change, struct arena *arena)
{
    static const Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    old = old ? old : &none;
    size_t hugepages = old->n_hugepage_limits + change->n_hugepage_limits;
    size_t unified = old->n_unified + change->n_unified;
    Cri__LinuxContainerResources *out = arena_alloc(arena, sizeof(*out));
    Cri__HugepageLimit **limits = arena_alloc(arena, (hugepages + 1) * sizeof(*limits));
    Cri__LinuxContainerResources__UnifiedEntry **entries =
        arena_alloc(arena, (unified + 1) * sizeof(*entries));
    if (!out || !limits || !entries)
        return NULL;
    *out = *old;
    out->hugepage_limits = limits;
    out->unified = entries;
    out->n_hugepage_limits = out->n_unified = 0;
    add_lists(out, old);
    add_lists(out, change);
    take_number(&out->cpu_period, change->cpu_period);
    take_number(&out->cpu_quota, change->cpu_quota);
    take_number(&out->cpu_shares, change->cpu_shares);
    take_number(&out->memory_limit_in_bytes, change->memory_limit_in_bytes);
    take_number(&out->memory_swap_limit_in_bytes, change->memory_swap_limit_in_bytes);
    take_number(&out->oom_score_adj, change->oom_score_adj);
    take_text(&out->cpuset_cpus, change->cpuset_cpus);
    take_text(&out->cpuset_mems, change->cpuset_mems);
    return out;
}

#define DEFAULT_PERIOD_US 100000

static int64_t period_of(const Cri__LinuxContainerResources *r)
{
    return r->cpu_period > 0 ? r->cpu_period : DEFAULT_PERIOD_US;
}

static int64_t add_limits(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b > 0 ? b : 0, &sum) ? INT64_MAX : sum;
}

// As with memory: no limit stays none.
static int add_hugepages(Cri__LinuxContainerResources *out, const Cri__LinuxContainerResources *o,
                         struct arena *arena)
{
    for (size_t i = 0; i < o->n_hugepage_limits; i++) {
        size_t row = hugepage_row(out, o->hugepage_limits[i]->page_size);
        if (row == out->n_hugepage_limits)
            continue;
        Cri__HugepageLimit *sum = arena_alloc(arena, sizeof(*sum));
        if (!sum)
            return -ENOMEM;
        *sum = *out->hugepage_limits[row]; // the row itself is the caller's
        if (__builtin_add_overflow(sum->limit, o->hugepage_limits[i]->limit, &sum->limit))
            sum->limit = UINT64_MAX;
        out->hugepage_limits[row] = sum;
    }
    return 0;
}

Cri__LinuxContainerResources *resources_sum(const Cri__LinuxContainerResources *containers,
                                            const Cri__LinuxContainerResources *overhead, struct arena *arena)
{
    static const Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    const Cri__LinuxContainerResources *o = overhead ? overhead : &none;
    Cri__LinuxContainerResources *out = resources_merge(NULL, containers ? containers : &none, arena);
    if (!out || add_hugepages(out, o, arena) < 0)
        return NULL;
    if (o->cpu_shares > 0)
        out->cpu_shares = add_limits(o->cpu_shares, out->cpu_shares);
    if (out->cpu_quota > 0 && o->cpu_quota > 0)
        out->cpu_quota = add_limits(
            out->cpu_quota, (int64_t)((double)o->cpu_quota * (double)period_of(out) / (double)period_of(o)));
    if (out->memory_limit_in_bytes > 0)
        out->memory_limit_in_bytes = add_limits(out->memory_limit_in_bytes, o->memory_limit_in_bytes);
    if (out->memory_swap_limit_in_bytes > 0) // memory and swap together: at least the memory's part
        out->memory_swap_limit_in_bytes = add_limits(
            out->memory_swap_limit_in_bytes,
            o->memory_swap_limit_in_bytes > 0 ? o->memory_swap_limit_in_bytes : o->memory_limit_in_bytes);
    return out;
}
