// The layers' rows: what a start believes of them, and what becomes of a damaged one.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/loose.h"
#include "image/store.h"

// In the rows: `boot` is empty once the layer is on disk for good; until then it says in which boot that was
// not yet so. `ino` and `ctime_ns` are its folder's (0: not known), `sum` is of layer_sum.h. The folders in
// layer_damaged are those that containers may still have mounted, though nobody else gets them.

void image_layer_free(struct layer *layer)
{
    free(layer->diff_id);
    if (layer->loose)
        pull__loose__free_unpacked(layer->loose, NULL);
    free(layer);
}

static struct layer *layer_new(const char *diff_id, const char *dir)
{
    struct layer *layer = calloc(1, sizeof(*layer));

    if (!layer)
        return NULL;
    layer->diff_id = strdup(diff_id);
    (void)snprintf(layer->dir, sizeof(layer->dir), "%s", dir);
    if (!layer->diff_id) {
        free(layer);
        return NULL;
    }
    return layer;
}

// 0, -ENOENT when the folder isn't there, or -errno.
static int look_at(const struct image_store *s, const struct layer *layer, uint64_t *ino, int64_t *ctime_ns)
{
    _cleanup_free_ char *path = str_printf("%s/%s", s->layers_dir, layer->dir);
    struct stat st;

    if (!path)
        return -ENOMEM;
    if (lstat(path, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOENT;
    *ino = st.st_ino;
    *ctime_ns = st.st_ctim.tv_sec * NS_PER_SEC + st.st_ctim.tv_nsec;
    return 0;
}

int layer_note_witness(const struct image_store *s, struct layer *layer, struct error *err)
{
    int r = look_at(s, layer, &layer->ino, &layer->ctime_ns);

    return r < 0 ? error_errno(err, -r, "look at layer %s/%s", s->layers_dir, layer->dir) : 0;
}

// ---- Loading ----

struct loading {
    struct image_store *store;
    struct map *undurable;
};

static int take_loose(struct layer *layer, const void *packed, size_t len)
{
    layer->loose = pull__loose__unpack(NULL, len, packed);
    return layer->loose ? loose_check(layer->loose, str_has_prefix(layer->diff_id, "mend:"), NULL) : -EBADMSG;
}

static int load_layer(struct db_row *row, void *data, struct error *err)
{
    const struct loading *l = data;
    const char *diff_id = db_row_text(row, 0), *boot = db_row_text(row, 4);
    size_t len, loose_len;
    const void *sum = db_row_blob(row, 7, &len), *loose = db_row_blob(row, 8, &loose_len);

    if (!str_empty(boot) && !str_eq(boot, l->store->boot_id))
        return map_set(l->undurable, diff_id, l->store) < 0 ? error_errno(err, ENOMEM, "load layers") : 0;
    struct layer *layer = layer_new(diff_id, db_row_text(row, 1));
    if (!layer || map_set(l->store->layers, diff_id, layer) < 0) {
        if (layer)
            image_layer_free(layer);
        return error_errno(err, ENOMEM, "load layers");
    }
    layer->bytes = (uint64_t)db_row_int(row, 2);
    layer->inodes = (uint64_t)db_row_int(row, 3);
    layer->ino = (uint64_t)db_row_int(row, 5);
    layer->ctime_ns = db_row_int(row, 6);
    layer->summed = len == LAYER_SUM_LEN;
    if (layer->summed)
        memcpy(layer->sum, sum, LAYER_SUM_LEN);
    if (loose && loose_len > 0 && take_loose(layer, loose, loose_len) < 0) {
        log_error("a layer's record can't be read: it is to be fetched again", "layer", diff_id);
        (void)map_remove(l->store->layers, diff_id);
        image_layer_free(layer);
        return 0;
    }
    if (!str_empty(boot))
        layer->seq = ++l->store->publish_seq;
    return 0;
}

static int load_damaged(struct db_row *row, void *data, struct error *err)
{
    struct image_store *s = data;
    struct layer *layer = layer_new(db_row_text(row, 1), db_row_text(row, 0));

    if (!layer)
        return error_errno(err, ENOMEM, "load layers");
    layer->condemned = true;
    layer->next = s->condemned;
    s->condemned = layer;
    return 0;
}

// What is wrong with it, or NULL. Cheap: a folder that is the same inode, and was not changed since, was not
// replaced by anybody. One that was (a backup that was restored, a root that was moved) is read whole, in the
// background: nobody gets it until then.
static const char *find_fault(struct image_store *s, struct layer *layer)
{
    uint64_t ino = 0;
    int64_t ctime_ns = 0;
    int r = look_at(s, layer, &ino, &ctime_ns);

    if (r < 0)
        return r == -ENOENT ? "its folder is missing" : "its folder can't be looked at";
    if (layer->ino == 0 || (layer->ino == ino && layer->ctime_ns == ctime_ns))
        return NULL;
    if (!layer->summed)
        return "its folder was replaced";
    log_info("a layer's folder is not the one that was recorded: its content is compared", "layer",
             layer->diff_id, "folder", layer->dir);
    layer->suspect = true;
    layer->fetcher = (const struct pull_op *)s; // nobody's to fetch
    return NULL;
}

static int check_layers(struct image_store *s, struct error *err)
{
    for (bool more = true; more;) {
        struct layer *bad = NULL;
        const char *why = NULL;

        for (struct map_iter it = {0}; !why && map_next(s->layers, &it);) {
            bad = it.value;
            why = bad->checked ? NULL : find_fault(s, bad);
            bad->checked = true;
        }
        more = why != NULL; // the walk ends with a change of the map
        int r = more ? layer_condemn(s, bad, why, err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

int layers_load(struct image_store *s, struct map *undurable, struct error *err)
{
    struct loading l = {.store = s, .undurable = undurable};
    int r = db_query(s->db, err, load_layer, &l,
                     "SELECT diff_id, dir, bytes, inodes, boot, ino, ctime_ns, sum, loose FROM layer", "");

    if (r == 0)
        r = db_query(s->db, err, load_damaged, s, "SELECT dir, diff_id FROM layer_damaged", "");
    if (r == 0 && map_len(undurable) > 0)
        r = db_exec(s->db, err, "DELETE FROM layer WHERE boot <> '' AND boot <> ?", "s", s->boot_id);
    return r < 0 ? r : check_layers(s, err);
}

// ---- Recording ----

static int insert_row(struct image_store *s, const char *diff_id, struct error *err)
{
    const struct layer *layer;
    struct layer copy = {0};
    bool synced = false;

    pthread_mutex_lock(&s->lock);
    layer = map_get(s->layers, diff_id);
    if (layer) {
        copy = *layer;
        synced = layer->seq <= s->synced_seq;
    }
    pthread_mutex_unlock(&s->lock);
    if (!layer || copy.fetcher) // the pull holds them: it was found damaged meanwhile
        return error_set(err, STATUS_INTERNAL, ENOENT, "layer %s is missing or damaged; pull again", diff_id);
    if (copy.summed)
        return db_exec(s->db, err,
                       "INSERT OR REPLACE INTO layer (diff_id, dir, bytes, inodes, boot, ino, ctime_ns, sum)"
                       " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                       "ssiisiib", diff_id, copy.dir, (int64_t)copy.bytes, (int64_t)copy.inodes,
                       synced ? "" : s->boot_id, (int64_t)copy.ino, copy.ctime_ns, copy.sum,
                       (size_t)LAYER_SUM_LEN);
    return db_exec(s->db, err,
                   "INSERT OR REPLACE INTO layer (diff_id, dir, bytes, inodes, boot, ino, ctime_ns)"
                   " VALUES (?, ?, ?, ?, ?, ?, ?)",
                   "ssiisii", diff_id, copy.dir, (int64_t)copy.bytes, (int64_t)copy.inodes,
                   synced ? "" : s->boot_id, (int64_t)copy.ino, copy.ctime_ns);
}

bool layers_are_synced(struct image_store *s, char **diff_ids)
{
    bool synced = true;

    pthread_mutex_lock(&s->lock);
    for (; *diff_ids; diff_ids++) {
        const struct layer *layer = map_get(s->layers, *diff_ids);
        synced = synced && (!layer || layer->seq <= s->synced_seq);
    }
    pthread_mutex_unlock(&s->lock);
    return synced;
}

void layers_release(struct image_store *s, struct layer *const *layers, size_t n)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < n; i++)
        if (layers[i])
            layers[i]->refs--;
    pthread_mutex_unlock(&s->lock);
}

static int insert_layer(struct image_store *s, const char *diff_id, struct error *err)
{
    _cleanup_free_ uint8_t *loose = NULL;
    const struct layer *layer;
    size_t len = 0;
    int r;

    pthread_mutex_lock(&s->lock);
    layer = map_get(s->layers, diff_id);
    const Pull__Loose *from = layer ? layer->loose : NULL; // doesn't change, and the pull holds the layer
    pthread_mutex_unlock(&s->lock);
    r = from ? pb_pack(&from->base, &loose, &len) : 0; // may be large: not under `lock`
    if (r < 0)
        return error_errno(err, ENOMEM, "record layer %s", diff_id);
    r = insert_row(s, diff_id, err);
    if (r < 0 || !loose)
        return r;
    return db_exec(s->db, err, "UPDATE layer SET loose = ? WHERE diff_id = ?", "bs", loose, len, diff_id);
}

int layers_insert(struct image_store *s, char **diff_ids, struct error *err)
{
    int r = 0;

    for (; r == 0 && *diff_ids; diff_ids++)
        r = insert_layer(s, *diff_ids, err);
    return r;
}

// ---- Damage ----

static int write_condemned(struct image_store *s, const struct layer *layer, struct error *err)
{
    int r = db_begin(s->db, DB_SYNC_FULL, err);

    if (r < 0)
        return r;
    r = db_exec(s->db, err, "DELETE FROM layer WHERE diff_id = ? AND dir = ?", "ss", layer->diff_id,
                layer->dir);
    if (r == 0)
        r = db_exec(s->db, err, "INSERT OR REPLACE INTO layer_damaged (dir, diff_id) VALUES (?, ?)", "ss",
                    layer->dir, layer->diff_id);
    if (r < 0) {
        db_rollback(s->db);
        return r;
    }
    return db_commit(s->db, err);
}

static bool has_layer(const struct image_record *record, const char *diff_id)
{
    for (char **d = record->diff_ids; *d; d++)
        if (str_eq(*d, diff_id))
            return true;
    return false;
}

static bool lacks_layer(const struct image_record *record, const char *diff_id)
{
    for (char **m = record->missing; m && *m; m++)
        if (str_eq(*m, diff_id))
            return true;
    return false;
}

// `lock` is held.
static int stop_serving(struct image_store *s, struct layer *layer)
{
    const char *diff_id = layer->diff_id;

    for (struct map_iter it = {0}; map_next(s->records, &it);) {
        struct image_record *record = it.value;

        if (!has_layer(record, diff_id) || lacks_layer(record, diff_id)) // another's, fetched since
            continue;
        for (char **d = record->diff_ids; *d; d++) { // as often as it has it: so many references are gone
            if (!str_eq(*d, diff_id))
                continue;
            if (strv_append(&record->missing, *d) < 0)
                return -ENOMEM;
            layer->refs -= layer->refs > 0; // a start condemns before images refer to it
        }
        record->damaged = true;
        image_unref(record->snapshot);
        record->snapshot = NULL;
        log_error("an image has a damaged layer: it is not served until it is pulled again", "image",
                  record->id, "layer", diff_id);
    }
    return 0;
}

int layer_condemn(struct image_store *s, struct layer *layer, const char *why, struct error *err)
{
    log_error("a layer is damaged", "layer", layer->diff_id, "folder", layer->dir, "fault", why);
    int r = write_condemned(s, layer, err);
    if (r < 0)
        return error_wrap(err, "layer %s is damaged", layer->diff_id);
    pthread_mutex_lock(&s->lock);
    (void)map_remove(s->layers, layer->diff_id);
    layer->condemned = true;
    layer->suspect = false;
    layer->fetcher = NULL;
    layer->next = s->condemned;
    s->condemned = layer;
    pull_ops_wake(s);
    r = stop_serving(s, layer);
    pthread_mutex_unlock(&s->lock);
    return r < 0 ? error_errno(err, -r, "layer %s is damaged", layer->diff_id) : 0;
}

// `lock` is held.
static int serve_again(struct image_store *s, const char *diff_id)
{
    int r = 0;

    for (struct map_iter it = {0}; r == 0 && map_next(s->records, &it);)
        if (has_layer(it.value, diff_id))
            r = record_refresh(s, it.value);
    return r;
}

int layer_judge(struct image_store *s, const char *diff_id, const char *dir, const char *why,
                struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&s->write);
    pthread_mutex_lock(&s->lock);
    struct layer *layer = map_get(s->layers, diff_id);
    bool bad = layer && layer->suspect && str_eq(layer->dir, dir) && why;
    if (layer && layer->suspect && str_eq(layer->dir, dir) && !why) {
        layer->suspect = false;
        layer->fetcher = NULL;
        layer->ino = 0; // taken anew with the next checksum
        layer->summed = false;
        pull_ops_wake(s);
        r = serve_again(s, diff_id);
    }
    pthread_mutex_unlock(&s->lock);
    if (r < 0)
        error_errno(err, -r, "serve layer %s", diff_id);
    if (bad)
        r = layer_condemn(s, layer, why, err);
    if (r == 0)
        r = records_collect(s, err); // images may have been removed meanwhile
    pthread_mutex_unlock(&s->write);
    return r;
}
