// What containers use at a moment, as `crisp top` and `crisp stats` show it.
#ifndef CRI_CLIENT_USAGE_H
#define CRI_CLIENT_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cri/client/cli.h"

#define USAGE_UNKNOWN UINT64_MAX // the runtime didn't tell

struct usage {
    char *id, *name, *pod, *namespace;
    int64_t time_ns;     // when the CPU's counter was read
    uint64_t cpu_ns;     // used since the container's start
    uint64_t nano_cores; // as the runtime has it
    double cpu_percent;  // of one CPU; negative: unknown
    uint64_t memory, memory_limit;
    uint64_t disk, inodes; // of the writable layer
    uint64_t rx, tx, pids; // of the container's pod
};

struct usage_list {
    struct usage *items;
    size_t n;
};

// ids: NULL-terminated ids of containers to keep; NULL: all. previous: an earlier list, from which the share
// of the CPU follows; or NULL: it is the runtime's own figure, if it has one.
int usage_read(struct cli *cli, char *const *ids, const struct usage_list *previous, struct usage_list *out,
               struct error *err);
void usage_free(struct usage_list *list);

enum usage_order { USAGE_BY_CPU, USAGE_BY_MEMORY, USAGE_BY_NAME };
void usage_sort(struct usage_list *list, enum usage_order order);

#endif
