// Removing images that nobody uses.
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
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

// A damaged image is in no list, so nobody else removes it; a pull may make it whole again.
static bool is_lost(const struct image_record *record)
{
    return record->damaged && !record->removed && !is_held(record);
}

// only: the ids of o->only; NULL: any.
static bool is_wanted(const struct image_record *record, const struct image_prune_options *o,
                      const struct map *only)
{
    const struct image *image = record->snapshot;

    return image && !is_held(record) && !image->pinned && (o->all || !image->repo_tags[0]) &&
           (o->pulled_before_ns == 0 || image->pulled_ns < o->pulled_before_ns) &&
           (!only || map_get(only, image->id));
}

static bool is_missing(const struct image_record *record, const char *diff_id)
{
    for (char **m = record->missing; m && *m; m++)
        if (str_eq(*m, diff_id))
            return true;
    return false;
}

// Adds what of the record's layers nothing else refers to: counts has how many references of a layer (diffID)
// are of those to go. `lock` is held. 0 or -ENOMEM.
static int count_freed(struct image_store *s, const struct image_record *record, struct map *counts,
                       uint64_t *bytes)
{
    int r = 0;

    for (char **d = record->diff_ids; r == 0 && *d; d++) {
        const struct layer *layer = map_get(s->layers, *d);
        if (!layer || is_missing(record, *d))
            continue;
        uintptr_t count = (uintptr_t)map_get(counts, *d) + 1;
        r = map_set(counts, *d, (void *)count); // NOLINT(performance-no-int-to-ptr): a small number
        if (r == 0 && count == layer->refs)
            *bytes += layer->bytes;
    }
    return r;
}

// Referenced snapshots of those to go, damaged ones left out; NULL on ENOMEM.
static struct image **choose(struct image_store *s, const struct image_prune_options *o,
                             const struct map *only, size_t *n, uint64_t *freed)
{
    struct map *counts = map_new();
    struct image **images;
    int r = 0;

    *n = 0;
    *freed = 0;
    pthread_mutex_lock(&s->lock);
    images = counts ? calloc(map_len(s->records) + 1, sizeof(*images)) : NULL;
    // Before the daemon's start is over nobody knows who uses what.
    for (struct map_iter it = {0}; images && s->settled && r == 0 && map_next(s->records, &it);) {
        const struct image_record *record = it.value;
        if (is_wanted(record, o, only))
            images[(*n)++] = image_ref(record->snapshot);
        else if (!is_lost(record))
            continue;
        r = count_freed(s, record, counts, freed);
    }
    if (images && r < 0) {
        image_list_free(images, *n);
        images = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    map_free(counts);
    return images;
}

static struct image_record *find_lost(struct image_store *s)
{
    struct image_record *found = NULL;

    pthread_mutex_lock(&s->lock);
    for (struct map_iter it = {0}; s->settled && !found && map_next(s->records, &it);)
        found = is_lost(it.value) ? it.value : NULL;
    pthread_mutex_unlock(&s->lock);
    return found;
}

static int remove_lost(struct image_store *s, struct error *err)
{
    struct image_record *record;
    int r = 0;

    while (r == 0 && (record = find_lost(s))) {
        log_info("a damaged image is removed", "image", record->id);
        r = records_remove(s, record, err);
    }
    return r;
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

// A map that has the ids; NULL on ENOMEM.
static struct map *make_set(char *const *ids, size_t n)
{
    struct map *set = map_new();

    for (size_t i = 0; set && i < n; i++) {
        if (map_set(set, ids[i], (void *)(uintptr_t)ids) < 0) {
            map_free(set);
            return NULL;
        }
    }
    return set;
}

int image_store_prune(struct image_store *s, const struct image_prune_options *o, struct image ***images,
                      size_t *n, uint64_t *freed_bytes, struct error *err)
{
    struct map *only = o->n_only > 0 ? make_set(o->only, o->n_only) : NULL;
    int r = 0;

    pthread_mutex_lock(&s->write);
    *images = o->n_only > 0 && !only ? NULL : choose(s, o, only, n, freed_bytes);
    if (!*images)
        r = error_errno(err, ENOMEM, "prune images");
    for (size_t i = 0; r == 0 && !o->dry_run && i < *n; i++)
        r = remove_one(s, (*images)[i], err);
    if (r == 0 && !o->dry_run)
        r = remove_lost(s, err);
    if (r == 0 && !o->dry_run)
        r = records_collect(s, err);
    pthread_mutex_unlock(&s->write);
    map_free(only);
    if (r < 0 && *images) {
        image_list_free(*images, *n);
        *images = NULL;
        *n = 0;
    }
    return r;
}
