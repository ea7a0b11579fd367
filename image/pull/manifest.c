#include "image/pull/manifest.h"

#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/json.h"
#include "image/reference.h"

#define OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define OLD_TYPE        "application/octet-stream"

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

// What is inside is told by its first bytes; the type says whether it is a layer at all. Layers that are "not
// distributable" are fetched from the registry like others; the URLs beside them are never followed: an
// image's author must not choose whom a node talks to.
static int check_layer_type(const struct descriptor *layer, struct error *err)
{
    static const char *const prefixes[] = {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    };
    static const char *const suffixes[] = {"", "+gzip", "+zstd", ".gzip", ".zstd"};
    const char *type = layer->media_type;

    if (str_has_suffix(type, "+encrypted"))
        return error_set(err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
                         "layer %s is encrypted, which is not supported", layer->digest);
    if (str_eq(type, OLD_TYPE) || *type == '\0')
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        for (size_t j = 0; str_has_prefix(type, prefixes[i]) && j < ARRAY_SIZE(suffixes); j++)
            if (str_eq(type + strlen(prefixes[i]), suffixes[j]))
                return 0;
    return error_set(err, STATUS_FAILED_PRECONDITION, EOPNOTSUPP,
                     "this is no container image: \"%.100s\" (%s) is no layer", type, layer->digest);
}

static bool config_type_is_image(const char *type)
{
    // The last one: manifests that Docker wrote before 1.11, which registries still have.
    return str_eq(type, "application/vnd.oci.image.config.v1+json") ||
           str_eq(type, "application/vnd.docker.container.image.v1+json") || str_eq(type, OLD_TYPE);
}

static int parse_image(const json_t *json, struct arena *arena, struct manifest *out, struct error *err)
{
    json_t *layers;
    int r = parse_descriptor(json_object_get(json, "config"), "config", arena, &out->config, err);

    if (r < 0)
        return r;
    if (!config_type_is_image(out->config.media_type))
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

bool manifest_type_is_known(const char *type)
{
    static const char *const types[] = {OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, ""};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (str_eq(type, types[i]))
            return true;
    return false;
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
    out->media_type = arena_strndup(arena, type, strcspn(type, "; "));
    if (!out->media_type)
        return error_errno(err, ENOMEM, "manifest");
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
