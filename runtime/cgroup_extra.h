// Limits of a container's cgroup that CRI has no field for: they come from annotations
// (runtime/annotation.h).
#ifndef RUNTIME_CGROUP_EXTRA_H
#define RUNTIME_CGROUP_EXTRA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CGROUP_THROTTLED_MAX 8 // devices of one kind of limit

enum cgroup_throttle {
    CGROUP_READ_BPS,
    CGROUP_WRITE_BPS,
    CGROUP_READ_IOPS,
    CGROUP_WRITE_IOPS,
    CGROUP_THROTTLES, // how many
};

struct cgroup_device_limit {
    unsigned major, minor;
    uint64_t rate; // bytes or operations a second
};

struct cgroup_extra {
    bool has_rt_period, has_rt_runtime, has_reservation, has_swappiness, has_pids;
    uint64_t rt_period_us, rt_runtime_us;
    uint64_t reservation_bytes;
    uint64_t swappiness; // 0..100
    uint64_t pids;       // processes and threads; 0: no limit, whatever the configuration says
    bool oom_kill_disable;
    uint64_t blkio_weight; // 10..1000; 0: not set
    struct cgroup_device_limit throttles[CGROUP_THROTTLES][CGROUP_THROTTLED_MAX];
    size_t n_throttles[CGROUP_THROTTLES];
};

struct cgroup_host;

// Writes them to a leaf that is there. Real-time budgets of our own levels above it (the configuration's
// parent and what is below) are raised as far as needed; others' never. What this host or its version of
// cgroups lacks is FAILED_PRECONDITION, what the kernel refuses INVALID_ARGUMENT; both name the annotation.
// On failure some may have been written: the caller removes the leaf.
int cgroup_apply_extra(struct cgroup_host *h, const char *path, const struct cgroup_extra *extra,
                       struct error *err);
// Of a place in which nothing runs any more: gives its real-time budget back, and what our levels above had
// for it. Does nothing where there is none.
void cgroup_release_realtime(struct cgroup_host *h, const char *path);

#endif
