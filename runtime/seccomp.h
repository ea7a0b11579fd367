// Seccomp profiles compiled to BPF.
//
// The default profile (seccomp_default.c) is an allow-list. What it knows and does not allow fails with
// EPERM; what it doesn't know (newer kernels' system calls) with ENOSYS, so that C libraries fall back.
#ifndef RUNTIME_SECCOMP_H
#define RUNTIME_SECCOMP_H

#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "base/arena.h"
#include "base/error.h"

struct seccomp_cache;

struct seccomp_filter {
    const uint8_t *bpf; // an array of struct sock_filter
    size_t len;         // bytes; 0: unconfined
    uint32_t flags;     // SECCOMP_FILTER_FLAG_*
};

struct seccomp_cache *seccomp_cache_new(void); // NULL on ENOMEM
void seccomp_cache_free(struct seccomp_cache *c);

// The filter for a profile and a container's capabilities (bounding set: some system calls are allowed only
// with the capability that they need), in arena. profile NULL: unconfined, as CRI has it. Localhost profiles
// are read from their file each time. Thread-safe.
int seccomp_cache_get(struct seccomp_cache *c, const Cri__SecurityProfile *profile, uint64_t caps,
                      struct arena *arena, struct seccomp_filter *out, struct error *err);

#endif
