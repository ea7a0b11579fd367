// The folder that mend.h's work for an image is kept in: one more layer, of this image alone. Its `loose`
// says which parts it has; without it is one.
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/mend.h"
#include "image/store.h"

// The image's layers as mend_make() wants them. They are held by the pull, and don't change.
static struct mend_layer *list_layers(struct image_store *s, char **diff_ids, size_t n, bool *loose)
{
    struct mend_layer *layers = calloc(n + 1, sizeof(*layers));

    *loose = false;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; layers && i < n; i++) {
        const struct layer *layer = map_get(s->layers, diff_ids[i]);
        layers[i] = (struct mend_layer){.dir = layer->dir, .loose = layer->loose};
        *loose = *loose || layer->loose;
    }
    pthread_mutex_unlock(&s->lock);
    return layers;
}

// Takes over parts.
static int publish_mend(struct image_store *s, char *key, const char *from, const struct mend_stats *stats,
                        Pull__Loose *parts, struct error *err)
{
    struct layer *layer = calloc(1, sizeof(*layer));
    int r = layer ? 0 : -ENOMEM;

    if (layer)
        *layer = (struct layer){.diff_id = strdup(key),
                                .bytes = stats->bytes,
                                .inodes = stats->inodes,
                                .loose = parts,
                                .refs = 1};
    else if (parts)
        pull__loose__free_unpacked(parts, NULL);
    if (layer && !layer->diff_id)
        r = -ENOMEM;
    pthread_mutex_lock(&s->lock);
    if (r == 0) {
        layer->fetcher = (const struct pull_op *)s; // nobody's to fetch
        r = map_set(s->layers, key, layer);
    }
    pthread_mutex_unlock(&s->lock);
    if (r == 0) {
        r = layer_publish(s, layer, from, err);
        if (r == 0)
            return 0;
        pthread_mutex_lock(&s->lock);
        (void)map_remove(s->layers, key);
        pthread_mutex_unlock(&s->lock);
    } else {
        r = error_errno(err, ENOMEM, "mend an image");
    }
    if (layer)
        image_layer_free(layer);
    return r;
}

// It is there already, and is not needed again: 1; 0: nobody has looked yet; `lock` is held.
static bool find_mend(struct image_store *s, const char *id, const char *key, bool *found)
{
    const struct image_record *record = map_get(s->records, id);
    struct layer *layer = map_get(s->layers, key);

    *found = layer != NULL;
    if (layer)
        layer->refs++;
    return layer || (record && record->snapshot);
}

int store_mend(struct image_store *s, const char *id, char **diff_ids, size_t n, const char *staging,
               char **key, struct error *err)
{
    _cleanup_free_ char *name = str_printf("mend:%s", id);
    _cleanup_free_ char *to = str_printf("%s/mend", staging);
    _cleanup_free_ struct mend_layer *layers = NULL;
    struct mend_stats stats;
    Pull__Loose *parts = NULL;
    bool found, loose;
    int r;

    *key = NULL;
    if (!name || !to)
        return error_errno(err, ENOMEM, "mend an image");
    pthread_mutex_lock(&s->lock);
    bool known = find_mend(s, id, name, &found);
    pthread_mutex_unlock(&s->lock);
    if (!known) {
        layers = list_layers(s, diff_ids, n, &loose);
        if (!layers)
            return error_errno(err, ENOMEM, "mend an image");
        r = loose ? mend_make(s->layers_dir, layers, n, to, &stats, &parts, err) : 0;
        if (r > 0)
            r = publish_mend(s, name, to, &stats, parts, err);
        else if (r == 0)
            return 0;
        if (r < 0)
            return r;
        found = true;
    }
    *key = found ? steal_ptr(&name) : NULL;
    return 0;
}

void store_mend_release(struct image_store *s, const char *key)
{
    struct layer *layer;

    pthread_mutex_lock(&s->lock);
    layer = map_get(s->layers, key);
    if (layer)
        layer->refs--;
    pthread_mutex_unlock(&s->lock);
}
