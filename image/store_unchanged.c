// Pulling what is here already: the registry is asked what the reference means, and for nothing else.
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/store_pull.h"

// What the records say of a name, if it is whole; `lock` is held.
static const struct image_record *find_whole(const struct image_store *s, const char *name)
{
    const struct image_record *record = map_get(s->names, name);

    return record && record->snapshot && record->source_digest ? record : NULL;
}

int unchanged_digests(const struct pull_op *op, struct arena *arena, Pull__PullRequest *request,
                      struct error *err)
{
    struct image_store *s = op->store;
    _cleanup_free_ char *name = reference_name(&op->ref);
    const struct image_record *record;
    int r = name ? 0 : -ENOMEM;

    pthread_mutex_lock(&s->lock);
    record = op->in_full ? NULL : find_whole(s, op->key);
    size_t n = record && r == 0 ? strv_len(record->snapshot->repo_digests) : 0;
    request->known_digests = n > 0 ? arena_alloc(arena, n * sizeof(char *)) : NULL;
    for (size_t i = 0; i < n && request->known_digests && r == 0; i++) {
        const char *known = record->snapshot->repo_digests[i];
        char *copy;

        if (!str_has_prefix(known, name) || known[strlen(name)] != '@')
            continue;
        copy = arena_strdup(arena, known + strlen(name) + 1);
        if (copy)
            request->known_digests[request->n_known_digests++] = copy;
        else
            r = -ENOMEM;
    }
    pthread_mutex_unlock(&s->lock);
    return r < 0 ? error_errno(err, -r, "pull %s", op->key) : 0;
}

char *unchanged_image(const struct pull_op *op, const char *digest)
{
    struct image_store *s = op->store;
    _cleanup_free_ char *name = reference_name(&op->ref);
    _cleanup_free_ char *by_digest = name ? str_printf("%s@%s", name, digest) : NULL;
    const struct image_record *record;
    char *id = NULL;

    pthread_mutex_lock(&s->lock);
    record = by_digest ? find_whole(s, op->key) : NULL;
    if (record && map_get(s->names, by_digest) == record)
        id = strdup(record->id);
    pthread_mutex_unlock(&s->lock);
    return id;
}

// Its layers, with references that are the caller's; NULL: it has gone, or there is no memory.
static struct layer **hold_layers(struct image_store *s, const char *id, size_t *n)
{
    struct layer **layers = NULL;

    pthread_mutex_lock(&s->lock);
    const struct image_record *record = map_get(s->records, id);
    *n = record && record->snapshot ? strv_len(record->diff_ids) : 0;
    if (record && record->snapshot)
        layers = calloc(*n + 1, sizeof(struct layer *));
    for (size_t i = 0; layers && i < *n; i++) {
        layers[i] = map_get(s->layers, record->diff_ids[i]);
        layers[i]->refs++;
    }
    pthread_mutex_unlock(&s->lock);
    return layers;
}

int unchanged_wait(struct pull_op *op, struct error *err)
{
    size_t n;
    _cleanup_free_ struct layer **layers = hold_layers(op->store, op->image_id, &n);

    if (!layers) { // pulled in full
        free(steal_ptr(&op->image_id));
        return 0;
    }
    int r = settle_wait(op->store, layers, n, &op->cancelled, err);
    layers_release(op->store, layers, n);
    return r;
}
