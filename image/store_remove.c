// Taking images and layers away.
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/store.h"

// Rows of the image's names, and of itself or a note that it is removed.
static int write_removal(struct image_store *s, const char *id, bool held, struct error *err)
{
    int r = db_begin(s->db, DB_SYNC_FULL, err);

    if (r < 0)
        return r;
    r = db_exec(s->db, err, "DELETE FROM image_name WHERE image_id = ?", "s", id);
    if (r == 0)
        r = db_exec(s->db, err,
                    held ? "UPDATE image SET removed = 1 WHERE id = ?" : "DELETE FROM image WHERE id = ?",
                    "s", id);
    if (r < 0) {
        db_rollback(s->db);
        return r;
    }
    return db_commit(s->db, err);
}

// `lock` is held.
static void forget_names(struct image_store *s, const struct image_record *record)
{
    for (bool more = true; more;) {
        more = false;
        for (struct map_iter it = {0}; map_next(s->names, &it);) {
            if (it.value != record)
                continue;
            (void)map_remove(s->names, it.key); // ends this walk: the map has changed
            more = true;
            break;
        }
    }
}

int records_remove(struct image_store *s, struct image_record *record, struct error *err)
{
    int r = write_removal(s, record->id, true, err);

    if (r < 0)
        return error_wrap(err, "remove image %s", record->id);
    pthread_mutex_lock(&s->lock);
    forget_names(s, record);
    record->removed = true;
    r = record_refresh(s, record);
    pthread_mutex_unlock(&s->lock);
    return r < 0 ? error_errno(err, -r, "remove image") : 0;
}

static struct image_record *find_unheld(struct image_store *s)
{
    struct image_record *found = NULL;

    pthread_mutex_lock(&s->lock);
    for (struct map_iter it = {0}; !found && map_next(s->records, &it);) {
        struct image_record *record = it.value;
        if (record->removed && (!record->holders || !record->holders[0]))
            found = record;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static int collect_images(struct image_store *s, struct error *err)
{
    struct image_record *record;

    while ((record = find_unheld(s))) {
        int r = write_removal(s, record->id, false, err);

        if (r < 0)
            return error_wrap(err, "delete image %s", record->id);
        pthread_mutex_lock(&s->lock);
        (void)map_remove(s->records, record->id);
        for (char **d = record->diff_ids; *d; d++) {
            struct layer *layer = map_get(s->layers, *d);
            bool counted = true;
            for (char **m = record->missing; m && *m; m++)
                counted = counted && !str_eq(*m, *d);
            if (layer && counted)
                layer->refs--;
        }
        pthread_mutex_unlock(&s->lock);
        image_record_free(record);
    }
    return 0;
}

// Takes all layers that nothing refers to out of the map; *n of them, in fresh memory.
static struct layer **take_unneeded_layers(struct image_store *s, size_t *n)
{
    struct layer **taken;

    *n = 0;
    pthread_mutex_lock(&s->lock);
    taken = calloc(map_len(s->layers) + 1, sizeof(struct layer *));
    for (struct map_iter it = {0}; taken && map_next(s->layers, &it);) {
        struct layer *layer = it.value;
        if (layer->refs == 0 && !layer->fetcher)
            taken[(*n)++] = layer;
    }
    for (size_t i = 0; i < *n; i++)
        (void)map_remove(s->layers, taken[i]->diff_id);
    pthread_mutex_unlock(&s->lock);
    return taken;
}

static int delete_layer_rows(struct image_store *s, struct layer *const *layers, size_t n, struct error *err)
{
    int r = db_begin(s->db, DB_SYNC_FULL, err);

    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = db_exec(s->db, err, "DELETE FROM layer WHERE diff_id = ?", "s", layers[i]->diff_id);
    if (r < 0) {
        db_rollback(s->db);
        return r;
    }
    return db_commit(s->db, err);
}

static int collect_layers(struct image_store *s, struct error *err)
{
    size_t n;
    _cleanup_free_ struct layer **layers = take_unneeded_layers(s, &n);
    int r;

    if (!layers)
        return error_errno(err, ENOMEM, "delete layers");
    // The rows go first: a folder without a row is swept, a row without a folder is damage.
    r = n > 0 ? delete_layer_rows(s, layers, n, err) : 0;
    for (size_t i = 0; i < n; i++) {
        _cleanup_free_ char *path = r == 0 ? str_printf("%s/%s", s->layers_dir, layers[i]->dir) : NULL;

        if (r == 0)
            r = path ? trash_put(s, path, err) : error_errno(err, ENOMEM, "delete layers");
        image_layer_free(layers[i]);
    }
    return r;
}

int records_collect(struct image_store *s, struct error *err)
{
    bool settled;
    int r;

    pthread_mutex_lock(&s->lock);
    settled = s->settled;
    pthread_mutex_unlock(&s->lock);
    if (!settled)
        return 0;
    r = collect_images(s, err);
    return r < 0 ? r : collect_layers(s, err);
}
