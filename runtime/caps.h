// Capabilities: names, and the sets that a container gets.
#ifndef RUNTIME_CAPS_H
#define RUNTIME_CAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"
#include "base/error.h"

#define CAPS_BIT(cap) (UINT64_C(1) << (cap))

// "CAP_NET_ADMIN", "net_admin": the number, or -1.
int caps_parse(const char *name);
const char *caps_name(int cap); // "NET_ADMIN"; NULL past the last one we know
int caps_count(void);
// What this process could give away: permitted and in the bounding set. 0 or -errno.
int caps_held(uint64_t *out, struct error *err);
// The 14 that a container has by default.
uint64_t caps_default(void);

// The sets of a container. held: what there is to give. asked may be NULL. Order as peers have it: add ALL,
// drop ALL, add, drop. A capability asked for by name that isn't held: FAILED_PRECONDITION naming it.
int caps_compute(const Cri__Capability *asked, bool privileged, uint64_t held, Pod__Capabilities *out,
                 struct error *err);

#endif
