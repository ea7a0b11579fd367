#include "image/pull/manifest.h"

#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/json.h"
#include "image/reference.h"

#define OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

static int parse_descriptor(const json_t *json, const char *what, struct arena *arena, struct descriptor *out,
                            struct error *err)
{
    const json_t *size;

    if (!json_is_object(json))
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "the manifest's %s is missing", what);
    out->digest = json_get_string(json, "digest", arena, err);
    out->media_type = json_get_string(json, "mediaType", arena, err);
    if (!out->digest || !out->media_type)
        return error_wrap(err, "the manifest's %s", what);
    if (!digest_is_valid(out->digest))
        return error_set(err, STATUS_DATA_LOSS, EPROTO,
                         "the manifest's %s has no digest of sha256: and 64 hex digits", what);
    size = json_object_get(json, "size");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "the manifest's %s has no valid size", what);
    out->size = (uint64_t)json_integer_value(size);
    return 0;
}

static int parse_entry(const json_t *json, struct arena *arena, struct index_entry *out, struct error *err)
{
    json_t *platform;
    int r = parse_descriptor(json, "entry", arena, &out->descriptor, err);

    if (r < 0)
        return r;
    r = json_get_object(json, "platform", &platform, err);
    if (r < 0)
        return r;
    out->os = json_get_string(platform, "os", arena, err);
    out->architecture = json_get_string(platform, "architecture", arena, err);
    out->variant = json_get_string(platform, "variant", arena, err);
    return out->os && out->architecture && out->variant ? 0 : error_wrap(err, "the index's platform");
}

static int parse_index(const json_t *json, struct arena *arena, struct manifest *out, struct error *err)
{
    json_t *entries;
    int r = json_get_array(json, "manifests", &entries, err);

    if (r < 0)
        return r;
    out->kind = MANIFEST_INDEX;
    out->n_entries = json_array_size(entries);
    if (out->n_entries == 0 || out->n_entries > MANIFEST_ENTRIES_MAX)
        return error_set(err, STATUS_DATA_LOSS, EPROTO,
                         "the image index has %zu entries (1 to %d are allowed)", out->n_entries,
                         MANIFEST_ENTRIES_MAX);
    out->entries = arena_alloc(arena, out->n_entries * sizeof(*out->entries));
    if (!out->entries)
        return error_errno(err, ENOMEM, "image index");
    for (size_t i = 0; i < out->n_entries; i++) {
        r = parse_entry(json_array_get(entries, i), arena, &out->entries[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_layer_type(const struct descriptor *layer, struct error *err)
{
    if (strstr(layer->media_type, "foreign") || strstr(layer->media_type, "nondistributable"))
        return error_set(err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
                         "layer %s is not distributed by registries (%s)", layer->digest, layer->media_type);
    if (str_has_suffix(layer->media_type, "+encrypted"))
        return error_set(err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
                         "layer %s is encrypted, which is not supported", layer->digest);
    return 0;
}

static int parse_image(const json_t *json, struct arena *arena, struct manifest *out, struct error *err)
{
    json_t *layers;
    int r = parse_descriptor(json_object_get(json, "config"), "config", arena, &out->config, err);

    if (r < 0)
        return r;
    if (!strstr(out->config.media_type, "vnd.oci.image.config.v1+json") &&
        !strstr(out->config.media_type, "vnd.docker.container.image.v1+json"))
        return error_set(err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
                         "this is no container image: the manifest's config is of type \"%.100s\"",
                         out->config.media_type);
    r = json_get_array(json, "layers", &layers, err);
    if (r < 0)
        return r;
    out->kind = MANIFEST_IMAGE;
    out->n_layers = json_array_size(layers);
    if (out->n_layers > MANIFEST_LAYERS_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, E2BIG,
                         "the image has %zu layers; %d are the most that can be mounted", out->n_layers,
                         MANIFEST_LAYERS_MAX);
    out->layers = arena_alloc(arena, (out->n_layers + 1) * sizeof(*out->layers));
    if (!out->layers)
        return error_errno(err, ENOMEM, "image manifest");
    for (size_t i = 0; i < out->n_layers; i++) {
        r = parse_descriptor(json_array_get(layers, i), "layer", arena, &out->layers[i], err);
        if (r == 0)
            r = check_layer_type(&out->layers[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

// A header's media type without its parameters.
static bool type_is(const char *type, const char *wanted)
{
    size_t len = strlen(wanted);

    return strncmp(type, wanted, len) == 0 && (type[len] == '\0' || type[len] == ';' || type[len] == ' ');
}

int manifest_parse(const char *data, size_t len, const char *content_type, struct arena *arena,
                   struct manifest *out, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    const char *type;
    bool has_entries, has_layers;

    *out = (struct manifest){0};
    json = json_load_object(data, len, "manifest", err);
    if (!json)
        return -EPROTO;
    if (json_integer_value(json_object_get(json, "schemaVersion")) == 1)
        return error_set(
            err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
            "the manifest is of Docker's obsolete schema 1; push the image again with a newer tool");
    type = json_get_string(json, "mediaType", arena, err);
    if (!type)
        return -EPROTO;
    if (*type == '\0' && content_type)
        type = content_type;
    has_entries = json_object_get(json, "manifests") != NULL;
    has_layers = json_object_get(json, "layers") != NULL || json_object_get(json, "config") != NULL;
    // One digest must not stand for an image here and an index there (CVE-2021-41190).
    if (has_entries && has_layers)
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "the manifest claims to be an image and an index");
    if (has_entries && !type_is(type, OCI_MANIFEST) && !type_is(type, DOCKER_MANIFEST))
        return parse_index(json, arena, out, err);
    if (has_layers && !type_is(type, OCI_INDEX) && !type_is(type, DOCKER_LIST))
        return parse_image(json, arena, out, err);
    return error_set(err, STATUS_DATA_LOSS, EPROTO,
                     "the manifest is neither an image nor an index (type \"%.100s\")", type);
}

static bool platform_matches(const struct index_entry *entry, const Pull__Platform *platform)
{
    return str_eq(entry->os, platform->os) && str_eq(entry->architecture, platform->architecture);
}

int manifest_choose(const struct manifest *index, const Pull__Platform *platform,
                    const struct index_entry **out, struct error *err)
{
    _cleanup_(buf_done) struct buf there;

    buf_init(&there, 512);
    *out = NULL;
    for (size_t i = 0; i < index->n_entries; i++) {
        const struct index_entry *entry = &index->entries[i];

        if (platform_matches(entry, platform)) {
            // The first one, unless a later one is of exactly this variant.
            if (!*out ||
                (str_eq(entry->variant, platform->variant) && !str_eq((*out)->variant, platform->variant)))
                *out = entry;
        } else if (*entry->os && !str_eq(entry->os, "unknown")) {
            (void)buf_printf(&there, "%s%s/%s%s%s", there.len ? ", " : "", entry->os, entry->architecture,
                             *entry->variant ? "/" : "", entry->variant);
        }
    }
    if (*out)
        return 0;
    return error_set(err, STATUS_FAILED_PRECONDITION, ENOEXEC, "no image for platform %s/%s; there are: %s",
                     platform->os, platform->architecture, there.len ? there.data : "none");
}
