// What `crisp run` can be asked for: docker's names and notation. The words are argv's until run_config.h
// makes CRI's messages of them.
#ifndef CRI_CLIENT_RUN_OPTIONS_H
#define CRI_CLIENT_RUN_OPTIONS_H

#include <stdbool.h>

#include "cri/client/options.h"

// Texts are NULL where an option wasn't given; lists end with a NULL, or are NULL.
struct resource_options { // `crisp update` has them, too
    const char *cpus, *cpu_period, *cpu_quota, *cpu_shares, *cpuset_cpus, *cpuset_mems;
    const char *memory, *memory_swap, *pids_limit, *oom_score_adj;
    char **cgroup_conf;
};

// By annotations: CRI has no field.
struct extra_options {
    const char *cpu_rt_period, *cpu_rt_runtime, *memory_reservation, *memory_swappiness, *blkio_weight;
    const char *shm_size;
    bool oom_kill_disable;
    char **device_read_bps, **device_write_bps, **device_read_iops, **device_write_iops;
    char **storage_opt, **ulimit, **tmpfs;
    const char *health_cmd, *health_interval, *health_timeout, *health_start_period, *health_start_interval,
        *health_retries;
};

struct process_options {
    const char *entrypoint, *user, *workdir, *stop_signal, *stop_timeout;
    char **env, **env_file, **group_add;
};

struct security_options {
    char **cap_add, **cap_drop, **security_opt;
    bool privileged, read_only;
};

struct pod_options {
    const char *hostname, *cgroup_parent, *runtime;
    const char *pid, *ipc, *network, *userns;
    char **sysctl, **publish, **dns, **dns_search, **dns_option;
};

struct run_options {
    bool remove, detach;
    const char *name, *cidfile, *pull;
    char **label, **annotation;
    char **volume, **mount, **device;
    struct resource_options resources;
    struct extra_options extra;
    struct process_options process;
    struct security_options security;
    struct pod_options pod;
};

// The table's rows of struct resource_options within another struct.
#define RESOURCE_ROWS(type)                                                                                  \
    OPTION_ROW(type, resources.cpus, "cpus", 0, OPTION_TEXT, "N", "at most so many CPUs' time: 0.5, 2"),     \
        OPTION_ROW(type, resources.cpu_period, "cpu-period", 0, OPTION_TEXT, "USEC",                         \
                   "length of a period (100000)"),                                                           \
        OPTION_ROW(type, resources.cpu_quota, "cpu-quota", 0, OPTION_TEXT, "USEC",                           \
                   "CPU time per period; -1: no limit"),                                                     \
        OPTION_ROW(type, resources.cpu_shares, "cpu-shares", 'c', OPTION_TEXT, "N",                          \
                   "weight against others, 2 to 262144 (1024)"),                                             \
        OPTION_ROW(type, resources.cpuset_cpus, "cpuset-cpus", 0, OPTION_TEXT, "LIST",                       \
                   "on these CPUs only: 0-2,4"),                                                             \
        OPTION_ROW(type, resources.cpuset_mems, "cpuset-mems", 0, OPTION_TEXT, "LIST",                       \
                   "memory of these nodes only"),                                                            \
        OPTION_ROW(type, resources.memory, "memory", 'm', OPTION_TEXT, "SIZE", "memory limit: 100m, 1.5g"),  \
        OPTION_ROW(type, resources.memory_swap, "memory-swap", 0, OPTION_TEXT, "SIZE",                       \
                   "limit of memory and swap together; -1: no limit"),                                       \
        OPTION_ROW(type, resources.oom_score_adj, "oom-score-adj", 0, OPTION_TEXT, "N",                      \
                   "-1000 (last to be killed) to 1000"),                                                     \
        OPTION_ROW(type, resources.pids_limit, "pids-limit", 0, OPTION_TEXT, "N",                            \
                   "at most so many processes and threads; -1: no limit"),                                   \
        OPTION_ROW(type, resources.cgroup_conf, "cgroup-conf", 0, OPTION_LIST, "FILE=VALUE",                 \
                   "a file of cgroup v2: memory.high=50000000")

extern const struct options run_options_table;

void run_options_done(struct run_options *o);

#endif
