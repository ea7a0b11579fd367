// What is kept between two readings of a pod's or container's statistics (runtime/stats.c).
#ifndef RUNTIME_STATS_CACHE_H
#define RUNTIME_STATS_CACHE_H

#include <pthread.h>

#include "runtime/cgroup_usage.h"
#include "runtime/stats.h"

struct cpu_sample {
    int64_t mono_ns;
    uint64_t usage_ns;
};

struct cpu_rate {
    struct cpu_sample before, last; // mono_ns 0: none
};

// CPU nanoseconds per second, over the time since the last sample that is old enough; the first time since
// since_mono_ns, when the usage was 0. CGROUP_UNKNOWN when that is too short to tell.
uint64_t cpu_rate_add(struct cpu_rate *rate, int64_t now_mono_ns, uint64_t usage_ns, int64_t since_mono_ns);

struct stats_cache {
    pthread_mutex_t lock; // taken last; held while the files are read, which only statistics do
    struct cgroup_usage_files files;
    struct cpu_rate rate;
    int net_fd;  // /proc/thread-self/net/dev of the pod's network namespace; -1: not open
    bool closed; // nothing is opened any more
};
void stats_cache_init(struct stats_cache *s);
void stats_cache_done(struct stats_cache *s);
// Lets go of the files for good: an open one of the network namespace would keep that alive.
void stats_cache_close(struct stats_cache *s);

#define STATS_INTERFACES_MAX 256 // of one pod; a container that may make interfaces can make any number

// stats_net.c: a descriptor of net/dev of the network namespace that a path pins, or -errno.
int stats_net_open(const char *netns_path);
// Reads it. 0 or -errno.
int stats_net_read(int fd, struct arena *arena, struct interface_stats **out, size_t *n);
// One line ("  eth0: 1 2 …"); false when it isn't one.
bool stats_net_parse_line(const char *line, struct interface_stats *out);

#endif
