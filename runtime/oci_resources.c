// A container's limits in the words of the OCI runtime specification.
#include "runtime/oci_config.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_extra.h"

static void set_int(json_t *object, const char *key, bool wanted, int64_t value)
{
    if (wanted)
        (void)json_object_set_new(object, key, json_integer(value));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (!str_empty(text))
        (void)json_object_set_new(object, key, json_string(text)); // ASCII: policy has looked
}

// A part that says nothing is left out.
static void set_part(json_t *object, const char *key, json_t *part)
{
    bool says = json_is_array(part) ? json_array_size(part) > 0 : json_object_size(part) > 0;
    if (says)
        (void)json_object_set_new(object, key, part);
    else
        json_decref(part);
}

static json_t *memory(const Cri__LinuxContainerResources *r, const struct cgroup_extra *x)
{
    json_t *out = json_object();
    set_int(out, "limit", r->memory_limit_in_bytes != 0, r->memory_limit_in_bytes);
    set_int(out, "swap", r->memory_swap_limit_in_bytes != 0, r->memory_swap_limit_in_bytes);
    set_int(out, "reservation", x->has_reservation, (int64_t)x->reservation_bytes);
    set_int(out, "swappiness", x->has_swappiness, (int64_t)x->swappiness);
    if (x->oom_kill_disable)
        (void)json_object_set_new(out, "disableOOMKiller", json_true());
    return out;
}

static json_t *cpu(const Cri__LinuxContainerResources *r, const struct cgroup_extra *x)
{
    json_t *out = json_object();
    set_int(out, "shares", r->cpu_shares != 0, r->cpu_shares);
    set_int(out, "quota", r->cpu_quota != 0, r->cpu_quota);
    set_int(out, "period", r->cpu_period != 0, r->cpu_period);
    set_int(out, "realtimeRuntime", x->has_rt_runtime, (int64_t)x->rt_runtime_us);
    set_int(out, "realtimePeriod", x->has_rt_period, (int64_t)x->rt_period_us);
    set_text(out, "cpus", r->cpuset_cpus);
    set_text(out, "mems", r->cpuset_mems);
    return out;
}

static json_t *block_io(const struct cgroup_extra *x)
{
    static const char *const keys[CGROUP_THROTTLES] = {
        [CGROUP_READ_BPS] = "throttleReadBpsDevice",
        [CGROUP_WRITE_BPS] = "throttleWriteBpsDevice",
        [CGROUP_READ_IOPS] = "throttleReadIOPSDevice",
        [CGROUP_WRITE_IOPS] = "throttleWriteIOPSDevice",
    };
    json_t *out = json_object();
    set_int(out, "weight", x->blkio_weight != 0, (int64_t)x->blkio_weight);
    for (int kind = 0; kind < CGROUP_THROTTLES; kind++) {
        json_t *list = json_array();
        for (size_t i = 0; i < x->n_throttles[kind]; i++) {
            const struct cgroup_device_limit *d = &x->throttles[kind][i];
            (void)json_array_append_new(list, json_pack("{s:i, s:i, s:I}", "major", (int)d->major, "minor",
                                                        (int)d->minor, "rate", (json_int_t)d->rate));
        }
        set_part(out, keys[kind], list);
    }
    return out;
}

static json_t *hugepages(const Cri__LinuxContainerResources *r)
{
    json_t *out = json_array();
    for (size_t i = 0; i < r->n_hugepage_limits; i++)
        (void)json_array_append_new(out, json_pack("{s:s, s:I}", "pageSize", r->hugepage_limits[i]->page_size,
                                                   "limit", (json_int_t)r->hugepage_limits[i]->limit));
    return out;
}

static json_t *unified(const Cri__LinuxContainerResources *r)
{
    json_t *out = json_object();
    for (size_t i = 0; i < r->n_unified; i++)
        set_text(out, r->unified[i]->key, r->unified[i]->value);
    return out;
}

json_t *oci_resources_json(const Cri__LinuxContainerResources *asked, const struct cgroup_extra *extra,
                           int64_t pids)
{
    static const struct cgroup_extra no_extra;
    const Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    const Cri__LinuxContainerResources *r = asked ? asked : &none;
    const struct cgroup_extra *x = extra ? extra : &no_extra;
    json_t *out = json_object(), *processes = json_object();
    if (x->has_pids)
        pids = x->pids > 0 ? (int64_t)x->pids : -1;
    set_int(processes, "limit", pids != 0, pids);
    set_part(out, "memory", memory(r, x));
    set_part(out, "cpu", cpu(r, x));
    set_part(out, "pids", processes);
    set_part(out, "blockIO", block_io(x));
    set_part(out, "hugepageLimits", hugepages(r));
    set_part(out, "unified", unified(r));
    return out;
}
