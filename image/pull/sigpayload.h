// What is signed, and where signatures lie: cosign's "simple signing" payload, and the manifests that carry
// it. All of it is hostile until a key has been found for it.
#ifndef IMAGE_PULL_SIGPAYLOAD_H
#define IMAGE_PULL_SIGPAYLOAD_H

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

#define SIGPAYLOAD_MAX   (64u << 10) // bytes of a payload
#define SIGPAYLOAD_N_MAX 64          // signatures looked at in one manifest
#define SIGPAYLOAD_ARTIFACT                                                                                  \
    "application/vnd.dev.cosign.artifact.sig.v1+json" // type of referrers with signatures

// What a signature must say.
struct sigpayload_wanted {
    const char *digest;     // of the manifest
    const char *repository; // "registry.example.com/team/app"; "": any
    const char *tag;        // that was asked for; "": none. Compared only if the signature names one
};

// Is this payload about the wanted image? PERMISSION_DENIED with what differs. Unknown members of "critical"
// are refused: the format wants them to be understood. What is "optional" is nobody's business.
int sigpayload_check(const char *data, size_t len, const struct sigpayload_wanted *wanted, struct error *err);

// A signature that a manifest tells of.
struct sigpayload_entry {
    const char *digest;             // of the payload's blob
    const unsigned char *signature; // decoded
    size_t signature_len;
};

// The signatures of a manifest, the first SIGPAYLOAD_N_MAX; entries of other types, or without a signature,
// are passed over. In arena.
int sigpayload_parse_manifest(const char *data, size_t len, struct arena *arena,
                              struct sigpayload_entry **out, size_t *n, struct error *err);
// The digests of an index's entries that hold signatures (at most max), in arena.
int sigpayload_parse_referrers(const char *data, size_t len, struct arena *arena, const char **out,
                               size_t max, size_t *n, struct error *err);

#endif
