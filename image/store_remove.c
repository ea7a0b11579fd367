// Taking images and layers away.
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "image/store.h"

// Rows of the image's names, and of itself or a note that it is removed.
static int write_removal(struct image_store *s, const char *id, bool held, struct error *err)
{
    // Not synced: nothing on disk goes before the layers' rows are durably gone, and with them all that was
    // written before. A power cut until then brings the image back, whole.
    int r = db_begin(s->db, DB_SYNC_NORMAL, err);

    if (r < 0)
        return r;
    r = db_exec(s->db, err, "DELETE FROM image_name WHERE image_id = ?", "s", id);
    if (r == 0)
        r = db_exec(s->db, err,
                    held ? "UPDATE image SET removed = 1 WHERE id = ?" : "DELETE FROM image WHERE id = ?",
                    "s", id);
    if (r == 0 && !held)
        r = db_exec(s->db, err, "DELETE FROM image_source WHERE image_id = ?", "s", id);
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

// The record leaves memory, its layers lose a reference each. `lock` is held.
static void forget_record(struct image_store *s, struct image_record *record)
{
    (void)map_remove(s->records, record->id);
    for (char **d = record->diff_ids; *d; d++) {
        struct layer *layer = map_get(s->layers, *d);
        bool counted = true;
        for (char **m = record->missing; m && *m; m++)
            counted = counted && !str_eq(*m, *d);
        if (layer && counted)
            layer->refs--;
    }
}

int records_remove(struct image_store *s, struct image_record *record, struct error *err)
{
    int r;

    // From now on nobody can begin to hold it; whoever does already keeps its row.
    pthread_mutex_lock(&s->lock);
    bool kept = !s->settled || strv_len(record->holders) > 0;
    record->removed = true;
    pthread_mutex_unlock(&s->lock);
    r = write_removal(s, record->id, kept, err);
    pthread_mutex_lock(&s->lock);
    if (r < 0) {
        record->removed = false;
    } else {
        forget_names(s, record);
        image_unref(record->snapshot);
        record->snapshot = NULL;
        if (!kept)
            forget_record(s, record);
    }
    pthread_mutex_unlock(&s->lock);
    if (r < 0)
        return error_wrap(err, "remove image %s", record->id);
    if (!kept)
        image_record_free(record);
    return 0;
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
        forget_record(s, record);
        pthread_mutex_unlock(&s->lock);
        image_record_free(record);
    }
    return 0;
}

// `lock` is held.
static bool may_be_mounted(struct image_store *s, const struct layer *damaged)
{
    for (struct map_iter it = {0}; map_next(s->records, &it);) {
        const struct image_record *record = it.value;

        if (strv_len(record->holders) == 0)
            continue;
        for (char **d = record->diff_ids; *d; d++)
            if (str_eq(*d, damaged->diff_id))
                return true;
    }
    return false;
}

// `lock` is held. True: there were some.
static bool doom_condemned(struct image_store *s)
{
    bool any = false;

    for (struct layer **p = &s->condemned; *p;) {
        struct layer *layer = *p;

        if (layer->refs > 0 || may_be_mounted(s, layer)) { // a pull knows it
            p = &layer->next;
            continue;
        }
        *p = layer->next;
        layer->next = s->doomed;
        s->doomed = layer;
        any = true;
    }
    return any;
}

// Takes all layers that nothing refers to out of the map.
static int doom_layers(struct image_store *s)
{
    struct layer **taken;
    size_t n = 0;

    pthread_mutex_lock(&s->lock);
    taken = calloc(map_len(s->layers) + 1, sizeof(struct layer *));
    for (struct map_iter it = {0}; taken && map_next(s->layers, &it);) {
        struct layer *layer = it.value;
        if (layer->refs == 0 && !layer->fetcher)
            taken[n++] = layer;
    }
    for (size_t i = 0; i < n; i++) {
        (void)map_remove(s->layers, taken[i]->diff_id);
        taken[i]->next = s->doomed;
        s->doomed = taken[i];
    }
    bool any = doom_condemned(s) || n > 0;
    pthread_mutex_unlock(&s->lock);
    if (any)
        trash_wake(s);
    free(taken);
    return taken ? 0 : -ENOMEM;
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
    if (r == 0 && doom_layers(s) < 0)
        r = error_errno(err, ENOMEM, "delete layers");
    return r;
}

// The folder's name says which is meant: the same layer may have been fetched again meanwhile.
static int delete_layer_rows(struct image_store *s, const struct layer *layers, struct error *err)
{
    int r = db_begin(s->db, DB_SYNC_FULL, err);

    if (r < 0)
        return r;
    for (; r == 0 && layers; layers = layers->next) {
        r = db_exec(s->db, err, "DELETE FROM layer WHERE diff_id = ? AND dir = ?", "ss", layers->diff_id,
                    layers->dir);
        if (r == 0)
            r = db_exec(s->db, err, "DELETE FROM layer_damaged WHERE dir = ?", "s", layers->dir);
    }
    if (r < 0) {
        db_rollback(s->db);
        return r;
    }
    return db_commit(s->db, err);
}

static void give_back(struct image_store *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->burying) {
        struct layer *layer = s->burying;
        s->burying = layer->next;
        layer->next = s->doomed;
        s->doomed = layer;
    }
    pthread_mutex_unlock(&s->lock);
}

static int bury_first(struct image_store *s, struct error *err)
{
    struct layer *layer = s->burying;
    _cleanup_free_ char *path = str_printf("%s/%s", s->layers_dir, layer->dir);
    int r = path ? trash_put(s, path, err) : error_errno(err, ENOMEM, "delete layers");

    if (r < 0)
        return r;
    pthread_mutex_lock(&s->lock);
    s->burying = layer->next;
    pthread_mutex_unlock(&s->lock);
    image_layer_free(layer);
    return 0;
}

bool records_bury(struct image_store *s)
{
    struct error err = ERROR_INIT;
    int r;

    pthread_mutex_lock(&s->lock);
    s->burying = s->doomed;
    s->doomed = NULL;
    pthread_mutex_unlock(&s->lock);
    // The rows go first: a folder without a row is swept, a row without a folder is damage.
    r = s->burying ? delete_layer_rows(s, s->burying, &err) : 0;
    while (r == 0 && s->burying)
        r = bury_first(s, &err);
    if (r == 0)
        return true;
    log_warn("delete unneeded layers; will try again", "error", err.message);
    give_back(s);
    return false;
}
