// What a cgroup uses, from its files: cgroup_usage_read() opens each of them once and reads it anew from then
// on, as long as all that are kept open are less than half of RLIMIT_NOFILE. Not thread-safe for one struct
// cgroup_usage_files.
#ifndef RUNTIME_CGROUP_USAGE_H
#define RUNTIME_CGROUP_USAGE_H

#include "runtime/cgroup.h"

#define CGROUP_UNKNOWN UINT64_MAX // of a value that this host, or this cgroup, doesn't have; or no limit

// A line of a *.pressure file (Documentation/accounting/psi.rst): averages in percent.
struct cgroup_psi_line {
    double avg10, avg60, avg300;
    uint64_t total_ns;
};

struct cgroup_psi { // v2 on kernels with PSI only
    bool known;
    struct cgroup_psi_line some, full;
};

struct cgroup_usage {
    uint64_t cpu_ns;
    uint64_t memory_bytes, memory_limit_bytes; // usage with caches; the cgroup's own limit
    uint64_t rss_bytes, inactive_file_bytes;   // anonymous memory; file cache that goes first
    uint64_t page_faults, major_page_faults;
    uint64_t swap_bytes, swap_limit_bytes; // the limit is of swap alone on v1, too
    uint64_t pids;                         // tasks, threads included
    uint64_t memory_bound,
        swap_bound; // v1: the lowest limit of the cgroup and all above, as the kernel has it
    struct cgroup_psi cpu_psi, memory_psi, io_psi;
};

enum cgroup_usage_file {
    CGROUP_USAGE_CPU,
    CGROUP_USAGE_MEMORY,
    CGROUP_USAGE_MEMORY_STAT,
    CGROUP_USAGE_MEMORY_LIMIT,
    CGROUP_USAGE_SWAP,
    CGROUP_USAGE_SWAP_LIMIT,
    CGROUP_USAGE_PIDS,
    CGROUP_USAGE_CPU_PSI,
    CGROUP_USAGE_MEMORY_PSI,
    CGROUP_USAGE_IO_PSI,
    CGROUP_USAGE_FILES, // how many
};
#define CGROUP_USAGE_CONTAINER ((1u << CGROUP_USAGE_FILES) - 1 - (1u << CGROUP_USAGE_PIDS))
#define CGROUP_USAGE_POD       ((1u << CGROUP_USAGE_FILES) - 1)

struct cgroup_usage_files {
    int fds[CGROUP_USAGE_FILES]; // -1: not open
    uint32_t absent;             // bits of files that this cgroup doesn't have
};
void cgroup_usage_files_init(struct cgroup_usage_files *f);
void cgroup_usage_files_close(struct cgroup_usage_files *f); // may be used again afterwards

// Reads what `which` (bits of enum cgroup_usage_file) names. 0; -ENOENT: there is no such cgroup (any more).
int cgroup_usage_read(const struct cgroup_host *h, const char *path, uint32_t which,
                      struct cgroup_usage_files *f, struct cgroup_usage *out);

// For tests: one file's text (NUL-terminated) into the values that it tells.
void cgroup_usage_parse(bool v2, enum cgroup_usage_file file, const char *text, struct cgroup_usage *out);
void cgroup_usage_reset(struct cgroup_usage *out); // all unknown

#endif
