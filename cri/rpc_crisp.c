// crisp's own service: Pull with progress, List, Prune. Archives are in rpc_crisp_archive.c.
#include <stdlib.h>
#include <string.h>

#include "api/crisp/images.pb-c.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc.h"
#include "cri/rpc_crisp.h"
#include "cri/rpc_util.h"
#include "image/image.h"

// A NULL-terminated vector into the arena; NULL when that is full.
static char **copy_strings(struct arena *arena, char *const *v, size_t *n)
{
    char **out = arena_alloc(arena, (strv_len(v) + 1) * sizeof(*out));

    for (*n = 0; out && v[*n]; (*n)++) {
        out[*n] = arena_strdup(arena, v[*n]);
        if (!out[*n])
            return NULL;
    }
    return out;
}

static Crisp__ImageFacts *describe(struct rpc_call *call, const struct image *image)
{
    Crisp__ImageFacts *out = RPC_NEW(call, crisp__image_facts, Crisp__ImageFacts);

    if (!out)
        return NULL;
    out->id = arena_strdup(call->arena, image->id);
    out->repo_tags = copy_strings(call->arena, image->repo_tags, &out->n_repo_tags);
    out->repo_digests = copy_strings(call->arena, image->repo_digests, &out->n_repo_digests);
    out->os = arena_strdup(call->arena, image->config->os);
    out->architecture = arena_strdup(call->arena, image->config->architecture);
    if (!out->id || !out->repo_tags || !out->repo_digests || !out->os || !out->architecture)
        return NULL;
    out->size = image->size_bytes;
    out->created_at = image->config->created_ns;
    out->pulled_at = image->pulled_ns;
    out->pinned = image->pinned;
    out->in_use = image_store_is_held(call->daemon->images, image->id);
    return out;
}

// n images into a repeated field.
static int describe_all(struct rpc_call *call, struct image *const *images, size_t n,
                        Crisp__ImageFacts ***out, size_t *n_out, struct error *err)
{
    *out = arena_alloc(call->arena, (n + 1) * sizeof(**out));
    for (size_t i = 0; *out && i < n; i++) {
        (*out)[i] = describe(call, images[i]);
        if (!(*out)[i])
            return rpc_no_memory(err);
    }
    *n_out = n;
    return *out ? 0 : rpc_no_memory(err);
}

RPC_HANDLER(rpc_crisp_list)
{
    Crisp__ListResponse *out = RPC_NEW(call, crisp__list_response, Crisp__ListResponse);
    struct image **images;
    size_t n;
    int r;

    (void)request;
    if (!out)
        return rpc_no_memory(err);
    r = image_store_list(call->daemon->images, &images, &n, err);
    if (r < 0)
        return r;
    r = describe_all(call, images, n, &out->images, &out->n_images, err);
    image_list_free(images, n);
    *response = r == 0 ? &out->base : NULL;
    return r;
}

RPC_HANDLER(rpc_crisp_prune)
{
    const Crisp__PruneRequest *in = (const Crisp__PruneRequest *)request;
    const struct image_prune_options o = {
        .all = in->all,
        .dry_run = in->dry_run,
        .pulled_before_ns = in->pulled_before,
        .only = in->only,
        .n_only = in->n_only,
    };
    Crisp__PruneResponse *out = RPC_NEW(call, crisp__prune_response, Crisp__PruneResponse);
    struct image **images;
    size_t n;
    int r;

    if (!out)
        return rpc_no_memory(err);
    if (in->pulled_before < 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "pulled_before is before 1970");
    r = image_store_prune(call->daemon->images, &o, &images, &n, &out->freed_bytes, err);
    if (r < 0)
        return r;
    r = describe_all(call, images, n, &out->images, &out->n_images, err);
    image_list_free(images, n);
    *response = r == 0 ? &out->base : NULL;
    return r;
}

Crisp__LayerProgress **rpc_layer_progress(struct arena *arena, const struct image_layer_progress *layers,
                                          size_t n)
{
    _Static_assert((int)IMAGE_LAYER_PRESENT == (int)CRISP__LAYER_STATE__LAYER_PRESENT, "the same numbers");
    Crisp__LayerProgress *items = arena_alloc(arena, (n + 1) * sizeof(*items));
    Crisp__LayerProgress **out = arena_alloc(arena, (n + 1) * sizeof(*out));

    for (size_t i = 0; items && out && i < n; i++) {
        crisp__layer_progress__init(&items[i]);
        items[i].digest = (char *)layers[i].digest;
        items[i].size = layers[i].size;
        items[i].fetched = layers[i].fetched;
        items[i].state = (Crisp__LayerState)layers[i].state;
        out[i] = &items[i];
    }
    return items ? out : NULL;
}

static int send_progress(void *data, const struct image_layer_progress *layers, size_t n, struct error *err)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(RPC_PROGRESS_MAX);
    Crisp__PullProgress message = CRISP__PULL_PROGRESS__INIT;

    message.layers = arena ? rpc_layer_progress(arena, layers, n) : NULL;
    if (!message.layers)
        return rpc_no_memory(err);
    message.n_layers = n;
    return rpc_send(data, &message.base, arena, err);
}

RPC_HANDLER(rpc_crisp_pull)
{
    const Crisp__PullRequest *in = (const Crisp__PullRequest *)request;
    const struct image_watch watch = {send_progress, call};
    Crisp__PullProgress last = CRISP__PULL_PROGRESS__INIT;
    _cleanup_free_ char *id = NULL;
    int r;

    (void)response;
    if (str_empty(in->image))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the request names no image (image)");
    r = image_store_pull_watched(call->daemon->images, in->image, in->auth, &call->ctx, &watch, &id, err);
    if (r < 0)
        return r;
    last.image_id = id;
    return rpc_send(call, &last.base, call->arena, err);
}
