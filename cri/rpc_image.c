// ListImages, StreamImages, ImageStatus, PullImage, RemoveImage, ImageFsInfo.
#include "cri/rpc_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc.h"
#include "cri/rpc_list.h"
#include "cri/rpc_util.h"

// A NULL-terminated vector into the arena; NULL when it is full.
static char **copy_strings(struct arena *arena, char *const *v, size_t *n)
{
    size_t len = strv_len(v);
    char **out = arena_alloc(arena, (len + 1) * sizeof(*out));

    for (size_t i = 0; out && i < len; i++) {
        out[i] = arena_strdup(arena, v[i]);
        if (!out[i])
            return NULL;
    }
    *n = len;
    return out;
}

// RunAsNonRoot is judged by these two: never both, and no group.
static bool set_user(struct arena *arena, const char *config_user, Cri__Image *out)
{
    int64_t uid;
    size_t name_len;

    if (image_user_parse(config_user, &uid, &name_len)) {
        out->uid = arena_alloc(arena, sizeof(*out->uid));
        if (!out->uid)
            return false;
        cri__int64_value__init(out->uid);
        out->uid->value = uid;
        return true;
    }
    if (name_len == 0)
        return true;
    out->username = arena_strndup(arena, config_user, name_len);
    return out->username != NULL;
}

static Cri__Image *describe(struct rpc_call *call, const struct image *image)
{
    struct arena *arena = call->arena;
    Cri__Image *out = RPC_NEW(call, cri__image, Cri__Image);

    if (!out)
        return NULL;
    out->id = arena_strdup(arena, image->id);
    out->repo_tags = copy_strings(arena, image->repo_tags, &out->n_repo_tags);
    out->repo_digests = copy_strings(arena, image->repo_digests, &out->n_repo_digests);
    // An image without files has its config at least, and kubelet takes no 0 for an answer.
    out->size =
        image->size_bytes > 0 ? image->size_bytes : pull__image_config__get_packed_size(image->config) + 1;
    out->pinned = image->pinned;
    out->spec = RPC_NEW(call, cri__image_spec, Cri__ImageSpec);
    if (out->spec)
        out->spec->image = out->id;
    if (!out->id || !out->repo_tags || !out->repo_digests || !out->spec ||
        !set_user(arena, image->config->user, out))
        return NULL;
    return out;
}

// One image by whatever names it (none: an empty list), or all.
static int find_images(struct rpc_call *call, const Cri__ImageFilter *filter, struct image ***images,
                       size_t *n, struct error *err)
{
    const Cri__ImageSpec *wanted = filter ? filter->image : NULL;

    if (!wanted || str_empty(wanted->image))
        return image_store_list(call->daemon->images, images, n, err);
    *images = calloc(1, sizeof(**images));
    if (!*images)
        return rpc_no_memory(err);
    *n = image_store_resolve(call->daemon->images, wanted->image, *images, NULL) == 0;
    return 0;
}

static int list(struct rpc_call *call, const Cri__ImageFilter *filter, const ProtobufCMessageDescriptor *type,
                bool stream, ProtobufCMessage **response, struct error *err)
{
    struct image **images;
    struct rpc_list l;
    size_t n;
    int r = find_images(call, filter, &images, &n, err);

    if (r < 0)
        return r;
    r = rpc_list_begin(&l, call, type, stream, n, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = rpc_list_add(&l, describe(&l.call, images[i]), err);
    image_list_free(images, n);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_images)
{
    const Cri__ListImagesRequest *in = (const Cri__ListImagesRequest *)request;

    return list(call, in->filter, &cri__list_images_response__descriptor, false, response, err);
}

RPC_HANDLER(rpc_stream_images)
{
    const Cri__StreamImagesRequest *in = (const Cri__StreamImagesRequest *)request;

    return list(call, in->filter, &cri__stream_images_response__descriptor, true, response, err);
}

// The reference of a request; INVALID_ARGUMENT when there is none.
static const char *spec_reference(const Cri__ImageSpec *spec, struct error *err)
{
    if (spec && !str_empty(spec->image))
        return spec->image;
    error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the request names no image (image.image)");
    return NULL;
}

static int add_info(struct rpc_call *call, const struct image *image, Cri__ImageStatusResponse *out,
                    struct error *err)
{
    _cleanup_(image_source_done) struct image_source source = {0};
    int r = image_store_source(call->daemon->images, image->id, &source, err);
    Cri__ImageStatusResponse__InfoEntry *entry =
        RPC_NEW(call, cri__image_status_response__info_entry, Cri__ImageStatusResponse__InfoEntry);

    out->info = arena_alloc(call->arena, sizeof(*out->info));
    if (r < 0 && r != -ENOENT)
        return r;
    if (!entry || !out->info)
        return rpc_no_memory(err);
    entry->key = arena_strdup(call->arena, "info");
    entry->value = image_info_json(image, r == 0 ? &source : NULL, call->arena);
    if (!entry->key || !entry->value)
        return rpc_no_memory(err);
    out->info[out->n_info++] = entry;
    return 0;
}

int rpc_image_status(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                     struct error *err)
{
    const Cri__ImageStatusRequest *in = (const Cri__ImageStatusRequest *)request;
    Cri__ImageStatusResponse *out = RPC_NEW(call, cri__image_status_response, Cri__ImageStatusResponse);
    const char *ref = spec_reference(in->image, err);
    _cleanup_(image_unrefp) struct image *image = NULL;
    int r;

    if (!ref)
        return -EINVAL;
    if (in->verbose && !call->may_block)
        return RPC_DEFER; // more than what is in memory
    if (!out)
        return rpc_no_memory(err);
    r = image_store_resolve(call->daemon->images, ref, &image, err);
    if (r < 0 && r != -ENOENT)
        return r;
    if (image) { // absent: an answer without one
        out->image = describe(call, image);
        if (!out->image)
            return rpc_no_memory(err);
        r = in->verbose ? add_info(call, image, out, err) : 0;
        if (r < 0)
            return r;
    }
    *response = &out->base;
    return 0;
}

// kubelet tells these two apart, to its users and in its metrics, by how the text of an error of code UNKNOWN
// begins; it knows no other sign.
static void use_kubelets_word(struct error *err)
{
    static const struct {
        const char *word;
        enum status status, or ;
    } words[] = {{"RegistryUnavailable: ", STATUS_UNAVAILABLE, STATUS_UNAVAILABLE},
                 {"SignatureValidationFailed: ", STATUS_PERMISSION_DENIED, STATUS_FAILED_PRECONDITION}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const struct error was = *err;
        const char *at = strstr(was.message, words[i].word);

        if (!at || (was.status != words[i].status && was.status != words[i].or))
            continue;
        error_set(err, STATUS_UNKNOWN, was.errnum, "%s%.*s%s", words[i].word, (int)(at - was.message),
                  was.message, at + strlen(words[i].word));
        return;
    }
}

int rpc_pull_image(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                   struct error *err)
{
    const Cri__PullImageRequest *in = (const Cri__PullImageRequest *)request;
    Cri__PullImageResponse *out = RPC_NEW(call, cri__pull_image_response, Cri__PullImageResponse);
    const char *ref = spec_reference(in->image, err);
    _cleanup_free_ char *id = NULL;
    int r;

    if (!ref)
        return -EINVAL;
    if (!out)
        return rpc_no_memory(err);
    r = image_store_pull(call->daemon->images, ref, in->auth, &call->ctx, &id, err);
    if (r < 0) {
        use_kubelets_word(err);
        return r;
    }
    out->image_ref = arena_strdup(call->arena, id);
    if (!out->image_ref)
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}

int rpc_remove_image(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                     struct error *err)
{
    const Cri__RemoveImageRequest *in = (const Cri__RemoveImageRequest *)request;
    Cri__RemoveImageResponse *out = RPC_NEW(call, cri__remove_image_response, Cri__RemoveImageResponse);
    const char *ref = spec_reference(in->image, err);
    int r;

    if (!ref)
        return -EINVAL;
    if (!out)
        return rpc_no_memory(err);
    r = image_store_remove(call->daemon->images, ref, err);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

Cri__FilesystemUsage *rpc_filesystem_usage(struct rpc_call *call, const char *mountpoint,
                                           int64_t timestamp_ns, uint64_t bytes, uint64_t inodes)
{
    Cri__FilesystemUsage *u = RPC_NEW(call, cri__filesystem_usage, Cri__FilesystemUsage);

    if (!u || !(u->fs_id = RPC_NEW(call, cri__filesystem_identifier, Cri__FilesystemIdentifier)) ||
        !(u->used_bytes = rpc_u64(call, bytes)) || !(u->inodes_used = rpc_u64(call, inodes)))
        return NULL;
    u->fs_id->mountpoint = rpc_str(mountpoint);
    u->timestamp = timestamp_ns;
    return u;
}

RPC_HANDLER(rpc_image_fs_info)
{
    Cri__ImageFsInfoResponse *out = RPC_NEW(call, cri__image_fs_info_response, Cri__ImageFsInfoResponse);
    struct image_fs_usage u;

    (void)request;
    if (!out)
        return rpc_no_memory(err);
    image_fs_usage(call->daemon->images, &u);
    out->image_filesystems = arena_alloc(call->arena, sizeof(*out->image_filesystems));
    out->container_filesystems = arena_alloc(call->arena, sizeof(*out->container_filesystems));
    if (!out->image_filesystems || !out->container_filesystems)
        return rpc_no_memory(err);
    out->image_filesystems[0] =
        rpc_filesystem_usage(call, u.mountpoint, u.timestamp_ns, u.image_bytes, u.image_inodes);
    out->container_filesystems[0] = rpc_filesystem_usage(call, u.mountpoint, u.container_timestamp_ns,
                                                         u.container_bytes, u.container_inodes);
    if (!out->image_filesystems[0] || !out->container_filesystems[0])
        return rpc_no_memory(err);
    out->n_image_filesystems = out->n_container_filesystems = 1;
    *response = &out->base;
    return 0;
}
