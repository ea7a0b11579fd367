// Which platforms this machine runs images of.
#ifndef IMAGE_PLATFORM_H
#define IMAGE_PLATFORM_H

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/error.h"

// The host's platforms in Go's and OCI's words, the best first: the highest level of amd64 that the CPU has
// and those below it, then 386; arm64, then what 32-bit ARM it runs; armv7l: v7, v6, v5. In arena.
int platform_list_host(struct arena *arena, Pull__Platform ***out, size_t *n, struct error *err);
// The same for uname's machine, and a level of amd64 from 1 to 4. For tests.
int platform_list(const char *machine, int amd64_level, struct arena *arena, Pull__Platform ***out, size_t *n,
                  struct error *err);

#endif
