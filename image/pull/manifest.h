// Manifests as registries serve them: OCI image manifest and index, Docker schema 2 and manifest list.
// All input is hostile; what is parsed is bounded and checked, and its digest was verified before.
#ifndef IMAGE_PULL_MANIFEST_H
#define IMAGE_PULL_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/error.h"

#define MANIFEST_BYTES_MAX   (4u << 20) // as other registries' clients have it
#define MANIFEST_ENTRIES_MAX 1024       // platforms in an index
#define MANIFEST_LAYERS_MAX  127

// What an Accept header asks for.
#define MANIFEST_ACCEPT                                                                                      \
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "   \
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

struct descriptor {
    const char *digest; // valid
    const char *media_type;
    uint64_t size;
};

struct index_entry {
    struct descriptor descriptor;
    const char *os, *architecture, *variant; // "" when not given
};

struct manifest {
    enum { MANIFEST_IMAGE, MANIFEST_INDEX } kind;
    const char *media_type;    // "" if nobody said it
    struct descriptor config;  // of an image
    struct descriptor *layers; // bottom first
    size_t n_layers;
    struct index_entry *entries; // of an index
    size_t n_entries;
};

// Parses a manifest; the results live in arena. content_type: the response's header, may be NULL.
int manifest_parse(const char *data, size_t len, const char *content_type, struct arena *arena,
                   struct manifest *out, struct error *err);
// Is this the type of an image's manifest or index (or none at all)?
bool manifest_type_is_known(const char *type);

// An image's config, parsed and bounded; in arena. Its platform isn't compared with anything.
int image_config_parse(const char *data, size_t len, struct arena *arena, Pull__ImageConfig **out,
                       struct error *err);

#endif
