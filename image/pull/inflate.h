// One pass over a layer's blob: bytes from a pipe, decompressed as their first bytes say (gzip by ISA-L, or
// zlib where that is missing; zstd; none), hashed into the diffID.
#ifndef IMAGE_PULL_INFLATE_H
#define IMAGE_PULL_INFLATE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "image/pull/digest.h"

struct inflate;

// Reads fd (the caller's, blocking) to its end; gives up after max_bytes of output. Everything that needs
// loading or allocating is done here, before the sandbox closes.
int inflate_new(int fd, uint64_t max_bytes, struct inflate **out, struct error *err);
void inflate_free(struct inflate *in);
void inflate_freep(struct inflate **in);
// The next piece of output: its length and *data (valid until the next call), 0 at the end, -errno.
ssize_t inflate_read(struct inflate *in, const void **data, struct error *err);
// Reads what is left (a tar may be followed by padding) and returns the hash of all output.
int inflate_finish(struct inflate *in, char diff_id[DIGEST_TEXT_MAX], struct error *err);

// Spent in decompressing and hashing, and in waiting for bytes.
void inflate_times(const struct inflate *in, int64_t *busy_ns, int64_t *wait_ns);

#endif
