#include "image/pull/resolve.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/digest.h"
#include "image/pull/platform.h"

#define CONFIG_MAX    (8u << 20) // bytes of an image config's JSON
#define RECORDED_MAX  (1u << 20) // of a manifest or config that is handed on: a frame has 4 MiB
#define DEPTH_MAX     4          // indexes within indexes
#define MANIFESTS_MAX 32         // fetched in all

struct resolver {
    const struct resolve_source *source;
    const Pull__PullRequest *request;
    struct platforms platforms;
    struct arena *arena;
    struct manifest *manifest;
    Pull__PullResolved *out;
    unsigned n_fetched;
};

static char *digest_in_arena(struct resolver *r, const struct buf *body, struct error *err)
{
    char *digest = arena_alloc(r->arena, DIGEST_TEXT_MAX);

    if (digest && digest_of(body->data ? body->data : "", body->len, digest) == 0)
        return digest;
    error_set(err, STATUS_INTERNAL, EIO, "hash the manifest");
    return NULL;
}

static int copy_recorded(struct resolver *r, const struct buf *body, ProtobufCBinaryData *out,
                         struct error *err)
{
    *out = (ProtobufCBinaryData){0}; // of a candidate before, which was for others
    if (body->len == 0 || body->len > RECORDED_MAX)
        return 0;
    out->data = arena_memdup(r->arena, body->data, body->len);
    out->len = out->data ? body->len : 0;
    return out->data ? 0 : error_errno(err, ENOMEM, "the manifest");
}

// size: what a descriptor says; UINT64_MAX: nothing.
static int get_manifest(struct resolver *r, const char *reference, uint64_t size, struct manifest *out,
                        char **digest, struct error *err)
{
    _cleanup_(buf_done) struct buf body = {0};
    _cleanup_free_ char *type = NULL;
    int rc;

    if (++r->n_fetched > MANIFESTS_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, ELOOP,
                         "the image's indexes lead to more than %d manifests", MANIFESTS_MAX);
    rc = r->source->get_manifest(r->source->data, reference, &body, &type, err);
    if (rc < 0)
        return rc;
    *digest = digest_in_arena(r, &body, err);
    if (!*digest)
        return -EIO;
    if (size != UINT64_MAX && size != body.len)
        return error_set(err, STATUS_DATA_LOSS, EPROTO,
                         "manifest %s has %zu bytes; the image index says %llu", *digest, body.len,
                         (unsigned long long)size);
    rc = manifest_parse(body.data ? body.data : "", body.len, type, r->arena, out, err);
    if (rc < 0 || out->kind == MANIFEST_INDEX)
        return rc;
    r->out->platform_type = (char *)out->media_type;
    return copy_recorded(r, &body, &r->out->manifest_json, err);
}

static int check_layers(const struct resolver *r, struct error *err)
{
    if (r->out->config->n_diff_ids == r->manifest->n_layers)
        return 0;
    return error_set(err, STATUS_DATA_LOSS, EPROTO,
                     "the manifest has %zu layers, but the image config has %zu diff_ids",
                     r->manifest->n_layers, r->out->config->n_diff_ids);
}

static int get_config(struct resolver *r, struct error *err)
{
    _cleanup_(buf_done) struct buf body = {0};
    const struct descriptor *desc = &r->manifest->config;
    Pull__ImageConfig *config;
    int rc = r->source->get_blob(r->source->data, desc->digest, CONFIG_MAX, &body, err);

    if (rc == 0)
        rc = image_config_parse(body.data ? body.data : "", body.len, r->arena, &config, err);
    if (rc < 0)
        return rc;
    if (!platform_is_runnable(config->os, config->architecture, &r->platforms))
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOEXEC,
                         "no image for platform %s/%s; there are: %.64s/%.64s", r->platforms.list[0]->os,
                         r->platforms.list[0]->architecture, config->os, config->architecture);
    r->out->config = config;
    r->out->config_bytes = body.len;
    r->out->config_digest = (char *)desc->digest;
    rc = check_layers(r, err);
    return rc < 0 ? rc : copy_recorded(r, &body, &r->out->config_json, err);
}

static int choose(struct resolver *r, const struct manifest *index, int depth, struct error *err);

static int take_manifest(struct resolver *r, const struct manifest *m, char *digest, int depth,
                         struct error *err)
{
    if (m->kind == MANIFEST_INDEX)
        return choose(r, m, depth + 1, err);
    *r->manifest = *m;
    r->out->platform_digest = digest;
    return get_config(r, err);
}

// Of entries for our platform the best that is there, looking into indexes within the index. What turns out
// to be for others is passed over; any other fault is the pull's.
static int choose(struct resolver *r, const struct manifest *index, int depth, struct error *err)
{
    const struct index_entry **entries;
    size_t n;
    int rc;

    if (depth > DEPTH_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, ELOOP, "more than %d image indexes in each other",
                         DEPTH_MAX);
    rc = platform_choose(index, &r->platforms, r->arena, &entries, &n, err);
    for (size_t i = 0; i < n; i++) {
        const struct descriptor *desc = &entries[i]->descriptor;
        struct manifest inner;
        char *digest;

        rc = get_manifest(r, desc->digest, desc->size, &inner, &digest, err);
        if (rc == 0)
            rc = take_manifest(r, &inner, digest, depth, err);
        if (rc != -ENOEXEC)
            return rc;
    }
    return rc;
}

// chain(1) = diff_id(1); chain(n) = digest of "chain(n-1) diff_id(n)".
static int set_chain_id(struct resolver *r, struct error *err)
{
    const Pull__ImageConfig *config = r->out->config;
    char *chain = arena_alloc(r->arena, DIGEST_TEXT_MAX);

    if (!chain)
        return error_errno(err, ENOMEM, "the image's layers");
    for (size_t i = 0; i < config->n_diff_ids; i++) {
        char text[2 * DIGEST_TEXT_MAX];
        int len = snprintf(text, sizeof(text), "%s%s%s", chain, i ? " " : "", config->diff_ids[i]);

        if (i == 0)
            memcpy(chain, text, (size_t)len + 1); // diff_ids were checked: as long as any digest
        else if (digest_of(text, (size_t)len, chain) < 0)
            return error_set(err, STATUS_INTERNAL, EIO, "hash the layers' names");
    }
    r->out->chain_id = chain;
    return 0;
}

int resolve_image(const struct resolve_source *source, const char *reference,
                  const Pull__PullRequest *request, struct arena *arena, struct manifest *manifest,
                  Pull__PullResolved *out, struct error *err)
{
    struct resolver r = {.source = source,
                         .request = request,
                         .platforms = {request->platforms, request->n_platforms},
                         .arena = arena,
                         .manifest = manifest,
                         .out = out};
    struct manifest first;
    int rc;

    pull__pull_resolved__init(out);
    rc = get_manifest(&r, reference, UINT64_MAX, &first, &out->manifest_digest, err);
    if (rc == 0)
        rc = take_manifest(&r, &first, out->manifest_digest, 0, err);
    return rc < 0 ? rc : set_chain_id(&r, err);
}
