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

#endif
