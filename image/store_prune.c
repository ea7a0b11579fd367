// Removing images that nobody uses.
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "image/store.h"

static bool is_held(const struct image_record *record)
{
    return record->holders && record->holders[0];
}

bool image_store_is_held(struct image_store *s, const char *image_id)
{
    const struct image_record *record;
    bool held;

    pthread_mutex_lock(&s->lock);
    record = map_get(s->records, image_id);
    held = record && is_held(record);
    pthread_mutex_unlock(&s->lock);
    return held;
}

static bool is_wanted(const struct image_record *record, const struct image_prune_options *o)
{
    const struct image *image = record->snapshot;

    return image && !is_held(record) && !image->pinned && (o->all || !image->repo_tags[0]) &&
           (o->pulled_before_ns == 0 || image->pulled_ns < o->pulled_before_ns);
}

// What the chosen ones' layers take that nothing else refers to. `lock` is held. 0 or -ENOMEM.
static int count_freed(struct image_store *s, struct image *const *images, size_t n, uint64_t *bytes)
{
    struct map *counts = map_new(); // diffID -> how many references of a layer are theirs
    int r = counts ? 0 : -ENOMEM;

    *bytes = 0;
    for (size_t i = 0; i < n; i++) {
        for (char **d = images[i]->diff_ids; r == 0 && *d; d++) {
            const struct layer *layer = map_get(s->layers, *d);
            uintptr_t count = (uintptr_t)map_get(counts, *d) + 1;

            r = map_set(counts, *d, (void *)count); // NOLINT(performance-no-int-to-ptr): a small number
            if (r == 0 && layer && count == layer->refs)
                *bytes += layer->bytes;
        }
    }
    map_free(counts);
    return r < 0 ? -ENOMEM : 0;
}

// Referenced snapshots of those to go; NULL on ENOMEM.
static struct image **choose(struct image_store *s, const struct image_prune_options *o, size_t *n,
                             uint64_t *freed)
{
    struct image **images;

    *n = 0;
    pthread_mutex_lock(&s->lock);
    images = calloc(map_len(s->records) + 1, sizeof(*images));
    // Before the daemon's start is over nobody knows who uses what.
    for (struct map_iter it = {0}; images && s->settled && map_next(s->records, &it);) {
        const struct image_record *record = it.value;
        if (is_wanted(record, o))
            images[(*n)++] = image_ref(record->snapshot);
    }
    if (images && count_freed(s, images, *n, freed) < 0) {
        image_list_free(images, *n);
        images = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    return images;
}

static int remove_one(struct image_store *s, const struct image *image, struct error *err)
{
    struct image_record *record;
    bool held;

    pthread_mutex_lock(&s->lock);
    record = map_get(s->records, image->id);
    held = record && is_held(record); // since a moment ago; what is held later stays on disk as long
    pthread_mutex_unlock(&s->lock);
    return record && !held ? records_remove(s, record, err) : 0;
}

int image_store_prune(struct image_store *s, const struct image_prune_options *o, struct image ***images,
                      size_t *n, uint64_t *freed_bytes, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&s->write);
    *images = choose(s, o, n, freed_bytes);
    if (!*images)
        r = error_errno(err, ENOMEM, "prune images");
    for (size_t i = 0; r == 0 && !o->dry_run && i < *n; i++)
        r = remove_one(s, (*images)[i], err);
    if (r == 0 && !o->dry_run)
        r = records_collect(s, err);
    pthread_mutex_unlock(&s->write);
    if (r < 0 && *images) {
        image_list_free(*images, *n);
        *images = NULL;
        *n = 0;
    }
    return r;
}
