// Is the image signed as the policy wants it? Asked before any layer is fetched.
#ifndef IMAGE_PULL_SIGNATURE_H
#define IMAGE_PULL_SIGNATURE_H

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "image/pull/registry.h"

// Where signatures come from. -ENOENT for what isn't there. Blobs are verified by digest.
struct signature_source {
    void *data;
    int (*get_manifest)(void *data, const char *reference, struct buf *out, struct error *err);
    int (*get_referrers)(void *data, const char *digest, struct buf *out, struct error *err);
    int (*get_blob)(void *data, const char *digest, size_t max, struct buf *out, struct error *err);
};

// Looks for signatures of the manifest that the reference named, and of the one for our platform: in the tag
// sha256-<hex>.sig, among the referrers that the registry tells, and in the tag sha256-<hex>, which lists
// them where it can't. Either manifest's signature will do: both say by digest what is run. PERMISSION_DENIED
// "SignatureValidationFailed: …" (kubelet's word) with what was found and what is missing; UNAVAILABLE when
// the registry couldn't be asked; FAILED_PRECONDITION for a key that can't be read.
int signature_verify(const struct signature_source *source, const Pull__SignaturePolicy *policy,
                     const Pull__PullResolved *resolved, struct arena *arena, struct error *err);

// The same with a registry; nothing to do when the request asks for no signature.
int signature_verify_registry(struct registry *registry, const Pull__PullRequest *request,
                              struct arena *arena, const Pull__PullResolved *resolved, struct error *err);

#endif
