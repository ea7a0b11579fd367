// LinuxContainerResources, of `crisp run` and `crisp update`.
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "base/str.h"
#include "cri/client/run_config.h"
#include "cri/client/values.h"

#define PERIOD_DEFAULT_US 100000
#define PERIOD_MIN_US     1000 // the kernel's limits
#define PERIOD_MAX_US     1000000

// Does this host have cgroup v2 alone? The runtime's is the same one: its socket is a file here.
static bool host_has_v2(void)
{
    struct statfs fs;

    return statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static void add_unified(struct arena *a, Cri__LinuxContainerResources *r, const char *key, const char *value)
{
    Cri__LinuxContainerResources__UnifiedEntry *entry = run_config_alloc(a, sizeof(*entry));

    cri__linux_container_resources__unified_entry__init(entry);
    entry->key = (char *)key;
    entry->value = (char *)value;
    RUN_CONFIG_ADD(a, r->unified, r->n_unified, entry);
}

static int fill_cpu(Cri__LinuxContainerResources *r, const struct resource_options *o, struct error *err)
{
    int64_t nano = 0;
    int rc = 0;

    if (o->cpus && (o->cpu_quota || o->cpu_period))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--cpus and --%s exclude each other: --cpus sets quota and period",
                         o->cpu_quota ? "cpu-quota" : "cpu-period");
    if (o->cpus) {
        rc = value_cpus(o->cpus, &nano);
        r->cpu_period = PERIOD_DEFAULT_US;
        r->cpu_quota = nano / (NS_PER_SEC / PERIOD_DEFAULT_US);
        if (rc < 0 || r->cpu_quota < PERIOD_MIN_US)
            return run_config_bad(err, "cpus", o->cpus, "a number of CPUs of at least 0.01: 0.5, 2");
    }
    if (o->cpu_period)
        rc =
            run_config_number("cpu-period", o->cpu_period, PERIOD_MIN_US, PERIOD_MAX_US, &r->cpu_period, err);
    if (rc == 0 && o->cpu_quota)
        rc = run_config_number("cpu-quota", o->cpu_quota, -1, INT64_MAX, &r->cpu_quota, err);
    if (rc == 0 && r->cpu_quota >= 0 && o->cpu_quota && r->cpu_quota < PERIOD_MIN_US)
        return run_config_bad(err, "cpu-quota", o->cpu_quota, "-1 or at least 1000 (microseconds)");
    if (rc == 0 && o->cpu_shares)
        rc = run_config_number("cpu-shares", o->cpu_shares, 2, 262144, &r->cpu_shares, err);
    if (rc == 0 && o->cpuset_cpus)
        r->cpuset_cpus = (char *)o->cpuset_cpus;
    if (rc == 0 && o->cpuset_mems)
        r->cpuset_mems = (char *)o->cpuset_mems;
    return rc;
}

static int fill_memory(Cri__LinuxContainerResources *r, const struct resource_options *o, struct error *err)
{
    int rc = o->memory ? run_config_size("memory", o->memory, &r->memory_limit_in_bytes, err) : 0;

    if (rc < 0 || !o->memory_swap)
        return rc;
    if (str_eq(o->memory_swap, "-1")) {
        r->memory_swap_limit_in_bytes = -1;
        return 0;
    }
    rc = run_config_size("memory-swap", o->memory_swap, &r->memory_swap_limit_in_bytes, err);
    if (rc < 0)
        return rc;
    if (!o->memory)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--memory-swap %s: is the limit of memory and swap together, so it needs --memory",
                         o->memory_swap);
    if (r->memory_swap_limit_in_bytes < r->memory_limit_in_bytes)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--memory-swap %s: is the limit of memory and swap together, so it must not be less "
                         "than --memory %s",
                         o->memory_swap, o->memory);
    return 0;
}

// CRI has no field: on cgroup v2 it is a file that can be named, on v1 crispd takes an annotation.
static int fill_pids(struct arena *a, Cri__LinuxContainerResources *r, const struct resource_options *o,
                     const char **annotation, struct error *err)
{
    int64_t limit = 0;

    int rc = run_config_number("pids-limit", o->pids_limit, -1, INT32_MAX, &limit, err);
    if (rc < 0)
        return rc;
    if (limit == 0)
        return run_config_bad(err, "pids-limit", o->pids_limit, "at least 1, or -1 for no limit");
    char *text = run_config_printf(a, "%" PRId64, limit);
    if (host_has_v2())
        add_unified(a, r, "pids.max", limit < 0 ? "max" : text);
    else
        *annotation = text;
    return 0;
}

int run_config_resources(struct arena *a, Cri__LinuxContainerResources *r, const struct resource_options *o,
                         const char **pids_annotation, struct error *err)
{
    int rc = fill_cpu(r, o, err);

    if (rc == 0)
        rc = fill_memory(r, o, err);
    if (rc == 0 && o->oom_score_adj)
        rc = run_config_number("oom-score-adj", o->oom_score_adj, -1000, 1000, &r->oom_score_adj, err);
    if (rc == 0 && o->pids_limit)
        rc = fill_pids(a, r, o, pids_annotation, err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->cgroup_conf); i++) {
        char *key, *value;
        rc = run_config_pair(a, o->cgroup_conf[i], &key, &value);
        if (rc < 0)
            return run_config_bad(err, "cgroup-conf", o->cgroup_conf[i],
                                  "a file of cgroup v2 and what is written to it: memory.high=50000000");
        add_unified(a, r, key, value);
    }
    return rc;
}
