// The folder that mend.h's work for an image is kept in: one more layer, of this image alone. Its `loose`
// says which parts it has; without it is one.
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/mend.h"
#include "image/store.h"

// Each is looked for in all layers.
#define LOOSE_LINKS_MAX 4096
#define LOOSE_DIRS_MAX  65536

static int check_numbers(size_t n_links, size_t n_dirs, struct error *err)
{
    if (n_links <= LOOSE_LINKS_MAX && n_dirs <= LOOSE_DIRS_MAX)
        return 0;
    return error_set(
        err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
        "the image's layers have %zu hard links to what is in other layers (%d are possible) and "
        "%zu directories without an entry of their own (%d are possible): the image has to be built "
        "otherwise",
        n_links, LOOSE_LINKS_MAX, n_dirs, LOOSE_DIRS_MAX);
}

// The image's layers as mend_make() wants them. They are held by the pull, and don't change.
static int list_layers(struct image_store *s, char **diff_ids, size_t n, struct mend_layer **out, bool *loose,
                       struct error *err)
{
    struct mend_layer *layers = *out = calloc(n + 1, sizeof(*layers));
    size_t n_links = 0, n_dirs = 0;
    bool there = true;

    if (!layers)
        return error_errno(err, ENOMEM, "mend an image");
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; there && i < n; i++) {
        const struct layer *layer = map_get(s->layers, diff_ids[i]);
        if (!(there = layer != NULL))
            break;
        layers[i] = (struct mend_layer){.dir = layer->dir, .loose = layer->loose};
        *loose = *loose || layer->loose;
        n_links += layer->loose ? layer->loose->n_links : 0;
        n_dirs += layer->loose ? layer->loose->n_implicit_dirs : 0;
    }
    pthread_mutex_unlock(&s->lock);
    if (!there) // it was found damaged meanwhile
        return error_set(err, STATUS_INTERNAL, ENOENT, "a layer is missing or damaged; pull again");
    return check_numbers(n_links, n_dirs, err);
}

// Takes over parts.
static int publish_mend(struct image_store *s, char *key, uint64_t epoch, const char *from,
                        const struct mend_stats *stats, Pull__Loose *parts, struct layer **out,
                        struct error *err)
{
    struct layer *layer = calloc(1, sizeof(*layer));
    int r = layer ? 0 : -ENOMEM;

    if (layer)
        *layer = (struct layer){.diff_id = strdup(key),
                                .epoch = epoch,
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
        if (r == 0) {
            *out = layer;
            return 0;
        }
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

// With a reference, if it is there. `lock` is held.
static struct layer *find_mend(struct image_store *s, const char *key)
{
    struct layer *layer = map_get(s->layers, key);

    if (!layer || layer->fetcher)
        return NULL;
    layer->refs++;
    return layer;
}

int store_mend_prepare(struct image_store *s, const char *id, char **diff_ids, size_t n, const char *staging,
                       int cancel_fd, struct mending *m, struct error *err)
{
    _cleanup_free_ struct mend_layer *layers = NULL;
    bool loose = false;

    m->key = str_printf("mend:%s", id);
    m->dir = str_printf("%s/mend", staging);
    if (!m->key || !m->dir)
        return error_errno(err, ENOMEM, "mend an image");
    pthread_mutex_lock(&s->lock);
    m->layer = find_mend(s, m->key);
    m->epoch = s->lost_epoch;
    pthread_mutex_unlock(&s->lock);
    if (m->layer)
        return 0;
    int r = list_layers(s, diff_ids, n, &layers, &loose, err);
    if (r == 0 && loose)
        r = mend_make(s->layers_dir, layers, n, m->dir, cancel_fd, &m->stats, &m->parts, err);
    m->made = r > 0;
    return r < 0 ? r : 0;
}

int store_mend_publish(struct image_store *s, struct mending *m, struct error *err)
{
    int r = 0;

    if (m->layer || !m->made)
        return 0;
    pthread_mutex_lock(&s->lock);
    // Perhaps another pull of the image was faster; ours goes with the staging folder.
    m->layer = find_mend(s, m->key);
    bool compared = !m->layer && map_get(s->layers, m->key);
    pthread_mutex_unlock(&s->lock);
    if (compared)
        return error_set(err, STATUS_UNAVAILABLE, EAGAIN,
                         "the layer that mends the image is being compared with its record; pull again");
    if (!m->layer)
        r = publish_mend(s, m->key, m->epoch, m->dir, &m->stats, steal_ptr(&m->parts), &m->layer, err);
    return r;
}

void store_mend_done(struct image_store *s, struct mending *m)
{
    layers_release(s, &m->layer, 1);
    if (m->parts)
        pull__loose__free_unpacked(m->parts, NULL);
    free(m->key);
    free(m->dir);
    *m = (struct mending){0};
}
