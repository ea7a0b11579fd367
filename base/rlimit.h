// Resource limits (setrlimit(2)) that the configuration gives to all containers.
#ifndef BASE_RLIMIT_H
#define BASE_RLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define RLIMIT_LIST_MAX 16 // the kernel has so many

struct rlimit_spec {
    uint32_t resource;   // RLIMIT_*
    uint64_t soft, hard; // RLIM_INFINITY: none
};

struct rlimit_list {
    struct rlimit_spec items[RLIMIT_LIST_MAX]; // one per resource
    size_t n;
};

// "nofile=1024:1048576" (soft:hard), "core=0", "memlock=unlimited": bytes, seconds or numbers, as
// setrlimit(2) takes them. false: not one of these.
bool rlimit_parse(const char *text, struct rlimit_spec *out);
// All of them (NULL-terminated; NULL: none); of one resource the last one counts. INVALID_ARGUMENT names the
// bad one.
int rlimit_parse_list(const char *const *texts, struct rlimit_list *out, struct error *err);
const char *rlimit_name(uint32_t resource); // "nofile"; NULL for what isn't there

// What of a hard limit can't be had on this host: true, and in *got what containers get instead. Raising one
// beyond the daemon's own takes CAP_SYS_RESOURCE (can_raise), and nofile ends at fs.nr_open.
bool rlimit_is_out_of_reach(const struct rlimit_spec *wanted, bool can_raise, uint64_t *got);

#endif
