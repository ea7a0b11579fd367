#include "image/pull/archive_source.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/archive_index.h"
#include "image/pull/digest.h"
#include "image/pull/json.h"
#include "image/pull/platform.h"
#include "image/pull/resolve.h"
#include "image/reference.h"

#define JSON_MAX    (4u << 20) // bytes of index.json and manifest.json
#define DOCKER_TYPE "application/vnd.docker.distribution.manifest.v2+json"
#define NAME_KEY    "org.opencontainers.image.ref.name" // OCI: a tag, or a name with one
#define FULL_KEY    "io.containerd.image.name"          // containerd, Docker: a normalised reference
#define BLOB_PREFIX "blobs/sha256/"

struct archive_image {
    const char *digest; // OCI: of the manifest or index
    // docker: members
    const char *config;
    const char **layers;
    size_t n_layers;

    char **names, **tags; // references; tags without a repository
    size_t n_names, n_tags;
};

struct archive_source {
    struct archive_index index;
    const Pull__PullRequest *request;
    struct platforms platforms;
    struct arena *arena;
    bool docker;
    struct archive_image images[ARCHIVE_IMAGES_MAX];
    size_t n_images;
    const struct archive_image *image; // the one that is resolved
    const struct manifest *manifest;
    char config_digest[DIGEST_TEXT_MAX]; // docker: of its config
};

static int no_memory(struct error *err)
{
    return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                     "what the archive says of its images is too long");
}

static int missing(const char *name, struct error *err)
{
    return error_set(err, STATUS_DATA_LOSS, ENOENT, "the archive has no \"%.200s\", which it refers to",
                     name);
}

static int load_json(struct archive_source *s, const char *name, json_t **out, struct error *err)
{
    _cleanup_(buf_done) struct buf body = {0};
    const struct archive_member *m = archive_index_find(&s->index, name);
    json_error_t why;

    if (!m)
        return missing(name, err);
    int r = archive_index_load(&s->index, m, JSON_MAX, &body, err);
    if (r < 0)
        return r;
    *out = json_loadb(body.data ? body.data : "", body.len, JSON_REJECT_DUPLICATES, &why);
    if (*out)
        return 0;
    return error_set(err, STATUS_DATA_LOSS, EPROTO, "the archive's %s is no JSON: %s", name, why.text);
}

static int add_name(struct archive_source *s, char ***list, size_t *n, const char *name, struct error *err)
{
    for (size_t i = 0; i < *n; i++)
        if (str_eq((*list)[i], name))
            return 0;
    if (!*list)
        *list = arena_alloc(s->arena, ARCHIVE_NAMES_MAX * sizeof(**list));
    if (!*list || *n == ARCHIVE_NAMES_MAX)
        return no_memory(err);
    (*list)[*n] = arena_strdup(s->arena, name);
    return (*list)[(*n)++] ? 0 : no_memory(err);
}

static int add_image(struct archive_source *s, struct archive_image **out, struct error *err)
{
    if (s->n_images == ARCHIVE_IMAGES_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "the archive has more than %d images",
                         ARCHIVE_IMAGES_MAX);
    *out = &s->images[s->n_images++];
    return 0;
}

// OCI image layout

static int check_layout(struct archive_source *s, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    int r = load_json(s, "oci-layout", &json, err);
    const char *version = r == 0 ? json_string_value(json_object_get(json, "imageLayoutVersion")) : NULL;

    if (r < 0 || (version && str_has_prefix(version, "1.")))
        return r;
    return error_set(err, STATUS_FAILED_PRECONDITION, EPROTONOSUPPORT,
                     "the archive's oci-layout is of version \"%.40s\"; this crisp knows 1.0.0",
                     version ? version : "");
}

// Those of Docker's builder that only tell how an image was built.
static bool is_attestation(const json_t *entry)
{
    const json_t *annotations = json_object_get(entry, "annotations");

    return json_is_string(json_object_get(annotations, "vnd.docker.reference.type"));
}

static int take_annotations(struct archive_source *s, struct archive_image *image, const json_t *entry,
                            struct error *err)
{
    const json_t *annotations = json_object_get(entry, "annotations");
    const char *full = json_string_value(json_object_get(annotations, FULL_KEY));
    const char *name = json_string_value(json_object_get(annotations, NAME_KEY));

    if (!str_empty(full))
        return add_name(s, &image->names, &image->n_names, full, err);
    if (str_empty(name))
        return 0;
    if (strpbrk(name, ":@/"))
        return add_name(s, &image->names, &image->n_names, name, err);
    return add_name(s, &image->tags, &image->n_tags, name, err);
}

// *other: the platform of an entry that isn't for this machine.
static int take_entry(struct archive_source *s, const json_t *entry, const char **other, struct error *err)
{
    const char *digest = json_get_string(entry, "digest", s->arena, err);
    struct archive_image *image = NULL;
    json_t *platform;
    int r = digest ? json_get_object(entry, "platform", &platform, err) : -EPROTO;

    if (r < 0)
        return error_wrap(err, "the archive's index.json");
    if (!digest_is_valid(digest))
        return error_set(
            err, STATUS_DATA_LOSS, EPROTO,
            "the archive's index.json has an entry without a digest of sha256: and 64 hex digits");
    const char *os = json_string_value(json_object_get(platform, "os"));
    const char *architecture = json_string_value(json_object_get(platform, "architecture"));
    if (is_attestation(entry))
        return 0;
    if (!str_empty(os) && !str_empty(architecture) &&
        !platform_is_runnable(os, architecture, &s->platforms)) {
        *other = arena_printf(s->arena, "%.64s/%.64s", os, architecture);
        return *other ? 0 : no_memory(err);
    }
    for (size_t i = 0; i < s->n_images; i++)
        if (str_eq(s->images[i].digest, digest))
            image = &s->images[i]; // one more name
    if (!image)
        r = add_image(s, &image, err);
    if (r < 0)
        return r;
    image->digest = digest;
    return take_annotations(s, image, entry, err);
}

static int read_layout(struct archive_source *s, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    const char *other = NULL;
    json_t *entries, *entry;
    size_t i;
    int r = check_layout(s, err);

    if (r == 0)
        r = load_json(s, "index.json", &json, err);
    if (r < 0)
        return r;
    if (!json_is_object(json) || json_get_array(json, "manifests", &entries, err) < 0 || !entries)
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "the archive's index.json has no list of manifests");
    if (json_array_size(entries) > MANIFEST_ENTRIES_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
                         "the archive's index.json has %zu entries, more than %d", json_array_size(entries),
                         MANIFEST_ENTRIES_MAX);
    json_array_foreach(entries, i, entry)
    {
        r = take_entry(s, entry, &other, err);
        if (r < 0)
            return r;
    }
    if (s->n_images == 0 && other)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOEXEC,
                         "no image of the archive is for this machine; there is: %s", other);
    return 0;
}

// docker save

static int take_layers(struct archive_source *s, struct archive_image *image, const json_t *layers,
                       struct error *err)
{
    size_t n = json_array_size(layers);

    if (n > MANIFEST_LAYERS_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, E2BIG,
                         "the image has %zu layers; %d are the most that can be mounted", n,
                         MANIFEST_LAYERS_MAX);
    image->layers = arena_alloc(s->arena, (n + 1) * sizeof(*image->layers));
    for (size_t i = 0; image->layers && i < n; i++) {
        const char *name = json_string_value(json_array_get(layers, i));
        if (!name || !archive_index_find(&s->index, name))
            return missing(name ? name : "layer", err);
        image->layers[i] = arena_strdup(s->arena, name);
        if (!image->layers[i])
            return no_memory(err);
    }
    image->n_layers = n;
    return image->layers ? 0 : no_memory(err);
}

static int take_docker_image(struct archive_source *s, const json_t *item, struct error *err)
{
    json_t *layers, *tags;
    struct archive_image *image = NULL;
    int r = add_image(s, &image, err);

    if (r < 0)
        return r;
    image->config = json_is_object(item) ? json_get_string(item, "Config", s->arena, err) : NULL;
    if (str_empty(image->config) || json_get_array(item, "Layers", &layers, err) < 0 ||
        json_get_array(item, "RepoTags", &tags, err) < 0)
        return error_set(
            err, STATUS_DATA_LOSS, EPROTO,
            "the archive's manifest.json has an entry that is no image (Config, Layers, RepoTags)");
    if (!archive_index_find(&s->index, image->config))
        return missing(image->config, err);
    r = take_layers(s, image, layers, err);
    for (size_t i = 0; r == 0 && i < json_array_size(tags); i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        r = tag ? add_name(s, &image->names, &image->n_names, tag, err)
                : error_set(err, STATUS_DATA_LOSS, EPROTO,
                            "the archive's manifest.json has a tag that is no string");
    }
    return r;
}

static int read_docker(struct archive_source *s, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    json_t *item;
    size_t i;
    int r = load_json(s, "manifest.json", &json, err);

    if (r < 0)
        return r;
    if (!json_is_array(json))
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "the archive's manifest.json is no list");
    s->docker = true;
    json_array_foreach(json, i, item)
    {
        r = take_docker_image(s, item, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int archive_source_open(int fd, const Pull__PullRequest *request, struct arena *arena,
                        struct archive_source **out, struct error *err)
{
    struct archive_source *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return error_errno(err, ENOMEM, "read the archive");
    s->request = request;
    s->arena = arena;
    s->platforms = (struct platforms){request->platforms, request->n_platforms};
    r = archive_index_read(&s->index, fd, arena, err);
    if (r == 0 && archive_index_find(&s->index, "index.json"))
        r = read_layout(s, err);
    else if (r == 0 && archive_index_find(&s->index, "manifest.json"))
        r = read_docker(s, err);
    else if (r == 0)
        r = error_set(
            err, STATUS_INVALID_ARGUMENT, ENOENT,
            "this is no image archive: it has neither an index.json (OCI) nor a manifest.json (docker "
            "save)");
    if (r == 0 && s->n_images == 0)
        r = error_set(err, STATUS_DATA_LOSS, ENODATA, "the archive has no image");
    if (r == 0 && request->archive_index >= s->n_images)
        r = error_set(err, STATUS_INTERNAL, ERANGE, "the archive has %zu images only", s->n_images);
    if (r < 0) {
        archive_source_free(s);
        return r;
    }
    s->image = &s->images[request->archive_index];
    *out = s;
    return 0;
}

void archive_source_free(struct archive_source *s)
{
    if (!s)
        return;
    archive_index_done(&s->index);
    free(s);
}

// For resolve_image()

static const struct archive_member *find_blob(const struct archive_source *s, const char *digest)
{
    char name[sizeof(BLOB_PREFIX) + DIGEST_TEXT_MAX];

    (void)snprintf(name, sizeof(name), BLOB_PREFIX "%s", digest + strlen("sha256:")); // it was checked
    return archive_index_find(&s->index, name);
}

static int load_blob(void *data, const char *digest, size_t max, struct buf *out, struct error *err)
{
    const struct archive_source *s = data;
    const struct archive_member *m =
        s->docker ? archive_index_find(&s->index, s->image->config) : find_blob(s, digest);
    char actual[DIGEST_TEXT_MAX];
    int r = m ? archive_index_load(&s->index, m, max, out, err) : missing(digest, err);

    if (r < 0)
        return r;
    if (digest_of(out->data ? out->data : "", out->len, actual) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash the archive's \"%.200s\"", m->name);
    if (str_eq(actual, digest))
        return 0;
    return error_set(err, STATUS_DATA_LOSS, EBADMSG, "digest mismatch: the archive's \"%.200s\" is %s",
                     m->name, actual);
}

static int copy_type(const char *type, char **out, struct error *err)
{
    *out = strdup(type);
    return *out ? 0 : error_errno(err, ENOMEM, "read the archive");
}

static json_t *descriptor_json(const char *type, const char *digest, uint64_t size)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)size);
}

// `docker save` has no manifest: one is made up of what it says. Its layers go by their diffIDs, by which
// they are verified when they are unpacked.
static int make_manifest(struct archive_source *s, struct buf *out, struct error *err)
{
    static const char config_type[] = "application/vnd.docker.container.image.v1+json";
    static const char layer_type[] = "application/vnd.docker.image.rootfs.diff.tar";
    const struct archive_member *config = archive_index_find(&s->index, s->image->config);
    _cleanup_(buf_done) struct buf body = {0};
    _cleanup_json_ json_t *json = NULL;
    Pull__ImageConfig *parsed;
    json_t *layers = json_array();
    int r = archive_index_load(&s->index, config, MANIFEST_BYTES_MAX, &body, err);

    if (r == 0 && digest_of(body.data ? body.data : "", body.len, s->config_digest) < 0)
        r = error_set(err, STATUS_INTERNAL, EIO, "hash the image config");
    if (r == 0)
        r = image_config_parse(body.data ? body.data : "", body.len, s->arena, &parsed, err);
    if (r == 0 && parsed->n_diff_ids != s->image->n_layers)
        r = error_set(err, STATUS_DATA_LOSS, EPROTO,
                      "the archive's manifest.json has %zu layers, but the image config has %zu diff_ids",
                      s->image->n_layers, parsed->n_diff_ids);
    for (size_t i = 0; r == 0 && i < s->image->n_layers; i++)
        (void)json_array_append_new(
            layers, descriptor_json(layer_type, parsed->diff_ids[i],
                                    archive_index_find(&s->index, s->image->layers[i])->size));
    json = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", DOCKER_TYPE, "config",
                     descriptor_json(config_type, s->config_digest, body.len), "layers", layers);
    if (r < 0)
        return r;
    _cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    buf_done(out);
    buf_init(out, MANIFEST_BYTES_MAX);
    return text && buf_append_str(out, text) == 0 ? 0 : error_errno(err, ENOMEM, "read the archive");
}

static int load_manifest(void *data, const char *reference, struct buf *out, char **type, struct error *err)
{
    struct archive_source *s = data;
    int r = s->docker ? make_manifest(s, out, err) : load_blob(s, reference, MANIFEST_BYTES_MAX, out, err);

    return r < 0 ? r : copy_type(s->docker ? DOCKER_TYPE : "", type, err);
}

// A config that is named by its digest, as Docker does, has that digest.
static int check_config_name(const struct archive_source *s, struct error *err)
{
    const char *slash = strrchr(s->image->config, '/'), *name = slash ? slash + 1 : s->image->config;
    size_t len = strspn(name, "0123456789abcdef");

    if (len != 64 || (name[len] != '.' && name[len] != '\0') ||
        memcmp(name, s->config_digest + strlen("sha256:"), 64) == 0)
        return 0;
    return error_set(err, STATUS_DATA_LOSS, EBADMSG, "digest mismatch: the archive's \"%.200s\" is %s",
                     s->image->config, s->config_digest);
}

int archive_source_resolve(struct archive_source *s, struct manifest *manifest, Pull__PullResolved *out,
                           struct error *err)
{
    const struct resolve_source source = {s, load_manifest, load_blob};
    int r =
        resolve_image(&source, s->docker ? "" : s->image->digest, s->request, s->arena, manifest, out, err);

    if (r == 0 && s->docker)
        r = check_config_name(s, err);
    if (r < 0)
        return error_wrap(err, "image %u of the archive", s->request->archive_index + 1);
    if (s->docker) { // nobody else has this manifest
        out->manifest_digest = out->platform_digest = out->platform_type = (char *)"";
        out->manifest_json = (ProtobufCBinaryData){0};
    }
    s->manifest = manifest;
    out->archive_images = (uint32_t)s->n_images;
    out->archive_names = s->image->names;
    out->n_archive_names = s->image->n_names;
    out->archive_tags = s->image->tags;
    out->n_archive_tags = s->image->n_tags;
    return 0;
}

int archive_source_place(struct archive_source *s, struct layer *layers, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const char *digest = s->manifest->layers[i].digest;
        const struct archive_member *m =
            s->docker ? archive_index_find(&s->index, s->image->layers[i]) : find_blob(s, digest);

        if (!m)
            return missing(digest, err);
        if (m->size != layers[i].desc->size)
            return error_set(err, STATUS_DATA_LOSS, EPROTO,
                             "the archive's \"%.200s\" has %llu bytes; the manifest says %llu", m->name,
                             (unsigned long long)m->size, (unsigned long long)layers[i].desc->size);
        layers[i].file_fd = s->index.fd;
        layers[i].file_offset = m->offset;
        layers[i].file_verified = s->docker;
    }
    return 0;
}
