// What pods and containers use at this moment: the one reader behind the stats RPCs. Files are opened when
// they are first asked for and stay open until the container or the pod goes.
#ifndef RUNTIME_STATS_H
#define RUNTIME_STATS_H

#include <net/if.h>

#include "base/arena.h"
#include "runtime/cgroup_usage.h"
#include "runtime/runtime.h"

struct container_stats {
    int64_t timestamp_ns; // of the reading, wall time
    struct cgroup_usage usage;
    uint64_t nano_cores; // since the last reading (at least half a second ago), or since its cgroup was made
};

struct interface_stats {
    char name[IFNAMSIZ];
    uint64_t rx_bytes, rx_errors, tx_bytes, tx_errors;
};

struct pod_stats {
    int64_t timestamp_ns;
    struct cgroup_usage usage; // of the pod's whole place: what has ended there still counts
    uint64_t nano_cores;
    bool has_network; // false with the host's network
    struct interface_stats *interfaces;
    size_t n_interfaces;
};

// -ENOENT, without an error text: it doesn't run (any more). Other failures set err.
int runtime_container_stats(struct runtime *rt, struct container *c, struct container_stats *out,
                            struct error *err);
// As above, for pods that aren't READY. The interfaces are in the arena.
int runtime_pod_stats(struct runtime *rt, struct pod *pod, struct arena *arena, struct pod_stats *out,
                      struct error *err);

// Many at once. It is the kernel that takes its time to print all those files, so they are read by as many
// threads as there are CPUs for them, the caller's among them.
#define STATS_THREADS_MAX 4

struct stats_item {
    struct container *container; // the caller's: this one is to be read,
    struct pod *pod;             // or this one
    bool runs;                   // else nothing of what follows is set
    union {
        struct container_stats of_container;
        struct pod_stats of_pod;
    };
};

struct stats_batch {
    struct stats_item *items; // the caller's
    size_t n;
    struct arena *arenas[STATS_THREADS_MAX]; // of the interfaces
};
// 0, or the first failure. In any case ended by runtime_stats_done(), before which the interfaces are there.
int runtime_stats_read(struct runtime *rt, struct stats_batch *batch, struct error *err);
void runtime_stats_done(struct stats_batch *batch);

#endif
