// From a reference to an image: manifests (through indexes, to the one for this machine) and the config, all
// verified by digest, parsed and bounded.
#ifndef IMAGE_PULL_RESOLVE_H
#define IMAGE_PULL_RESOLVE_H

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "image/pull/manifest.h"

// Where manifests and blobs come from: a registry, or an archive.
struct resolve_source {
    void *data;
    // The manifest of a tag or digest, a digest verified; *type (its media type, "" if unknown) in fresh
    // memory.
    int (*get_manifest)(void *data, const char *reference, struct buf *out, char **type, struct error *err);
    // A blob of at most max bytes, verified.
    int (*get_blob)(void *data, const char *digest, size_t max, struct buf *out, struct error *err);
};

// Finds what `reference` (a tag or a digest) names and fills in all of *out but its layers; they are in
// *manifest, one for each of out->config->diff_ids. All in arena.
// FAILED_PRECONDITION: no image for our platforms, an artifact, an obsolete form. DATA_LOSS: damaged.
int resolve_image(const struct resolve_source *source, const char *reference,
                  const Pull__PullRequest *request, struct arena *arena, struct manifest *manifest,
                  Pull__PullResolved *out, struct error *err);

#endif
