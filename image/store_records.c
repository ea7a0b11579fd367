// Images, names and layers: the tables, the maps in memory, and how the two change together.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/store.h"

static const char *const migrations[] = {
    "CREATE TABLE image (id TEXT PRIMARY KEY, config BLOB NOT NULL, pulled_ns INTEGER NOT NULL,"
    "                    removed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE image_name (name TEXT PRIMARY KEY, image_id TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE layer (diff_id TEXT PRIMARY KEY, dir TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL,"
    "                    inodes INTEGER NOT NULL) WITHOUT ROWID;",
    // What registries had, byte for byte. Images of before have none until they are pulled again.
    "CREATE TABLE image_source (image_id TEXT PRIMARY KEY, manifest_digest TEXT NOT NULL,"
    "                           manifest_type TEXT NOT NULL, chain_id TEXT NOT NULL, manifest BLOB NOT NULL,"
    "                           config BLOB NOT NULL);",
    "ALTER TABLE layer ADD COLUMN boot TEXT NOT NULL DEFAULT '';" // what they are: store_layers.c
    "ALTER TABLE layer ADD COLUMN ino INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE layer ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE layer ADD COLUMN sum BLOB;"
    "CREATE TABLE layer_damaged (dir TEXT PRIMARY KEY, diff_id TEXT NOT NULL) WITHOUT ROWID;",
    // What of a layer depends on those below it (Pull__Loose); has an image a layer that mends this?
    "ALTER TABLE layer ADD COLUMN loose BLOB;",
    "ALTER TABLE image ADD COLUMN mended INTEGER NOT NULL DEFAULT 0;",
    // Of layers unpacked until then that isn't known: images have them as they were, and new pulls get their
    // own.
    ("UPDATE layer SET diff_id = 'old:' || diff_id WHERE diff_id NOT LIKE 'mend:%';"
     "ALTER TABLE image ADD COLUMN old INTEGER NOT NULL DEFAULT 0;"
     "UPDATE image SET old = 1;"),
};

const struct db_module image_db_module = {"image", migrations, ARRAY_SIZE(migrations)};

void image_record_free(struct image_record *record)
{
    if (!record)
        return;
    free(record->id);
    strv_free(record->diff_ids);
    strv_free(record->holders);
    strv_free(record->missing);
    free(record->source_digest);
    if (record->config)
        pull__image_config__free_unpacked(record->config, NULL);
    image_unref(record->snapshot);
    free(record);
}

static void free_layers(struct layer *list)
{
    while (list) {
        struct layer *layer = list;
        list = layer->next;
        image_layer_free(layer);
    }
}

void records_free(struct image_store *s)
{
    for (struct map_iter it = {0}; s->records && map_next(s->records, &it);)
        image_record_free(it.value);
    for (struct map_iter it = {0}; s->layers && map_next(s->layers, &it);)
        image_layer_free(it.value);
    free_layers(s->doomed); // their rows stay: the next start finds that nothing needs them
    free_layers(s->condemned);
    s->doomed = s->condemned = NULL;
    map_free(s->records);
    map_free(s->names);
    map_free(s->layers);
    s->records = s->names = s->layers = NULL;
}

static struct image_record *record_new(const char *id, Pull__ImageConfig *config, int64_t pulled_ns)
{
    struct image_record *record = calloc(1, sizeof(*record));

    if (!record)
        return NULL;
    record->id = strdup(id);
    record->diff_ids = strv_new(0);
    record->config = config;
    record->pulled_ns = pulled_ns;
    for (size_t i = 0; record->diff_ids && i < config->n_diff_ids; i++)
        if (strv_append(&record->diff_ids, config->diff_ids[i]) < 0)
            strv_freep(&record->diff_ids);
    if (!record->id || !record->diff_ids) {
        record->config = NULL; // stays the caller's
        image_record_free(record);
        return NULL;
    }
    return record;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int take_names(struct image_store *s, const struct image_record *record, struct image *image)
{
    for (struct map_iter it = {0}; map_next(s->names, &it);) {
        if (it.value != record)
            continue;
        if (strv_append(strchr(it.key, '@') ? &image->repo_digests : &image->repo_tags, it.key) < 0)
            return -ENOMEM;
        for (char **pin = s->pinned; pin && *pin; pin++)
            image->pinned = image->pinned || str_eq(*pin, it.key);
    }
    qsort(image->repo_tags, strv_len(image->repo_tags), sizeof(char *), compare_strings);
    qsort(image->repo_digests, strv_len(image->repo_digests), sizeof(char *), compare_strings);
    return 0;
}

// The folder of the mending layer, or those of its parts: overlay's above the layer of that number, or above
// all.
static int take_mend(const struct layer *mend, const char *part, struct image *image)
{
    _cleanup_free_ char *dir = str_printf("%s/%s", mend->dir, part);

    return dir ? strv_append(&image->layers, dir) : -ENOMEM;
}

static int take_part(const struct layer *mend, size_t number, struct image *image)
{
    const Pull__Loose *loose = mend ? mend->loose : NULL;
    char name[24];

    (void)snprintf(name, sizeof(name), "%zu", number);
    for (size_t i = 0; loose && i < loose->n_parts; i++)
        if (loose->parts[i] == number)
            return take_mend(mend, name, image);
    return 0;
}

static int take_dir(const struct layer *layer, bool is_mend, struct image *image)
{
    if (!is_mend || !layer->loose || layer->loose->n_parts == 0)
        return strv_append(&image->layers, layer->dir);
    return layer->loose->top ? take_mend(layer, "top", image) : 0;
}

static int take_layers(struct image_store *s, const struct image_record *record, struct image *image)
{
    bool hidden = false; // by a layer whose root is opaque, which overlay has no word for
    const struct layer *mend = NULL;
    int r;

    for (size_t i = strv_len(record->diff_ids); i-- > 0;) {
        const struct layer *layer = map_get(s->layers, record->diff_ids[i]);

        if (!layer || layer->fetcher)
            return -ENOENT;
        image->size_bytes += layer->bytes;
        bool is_mend = i >= record->config->n_diff_ids;
        mend = is_mend ? layer : mend;
        r = hidden || is_mend ? 0 : take_part(mend, i, image);
        if (r == 0 && !hidden)
            r = take_dir(layer, is_mend, image);
        if (r < 0 || strv_append(&image->diff_ids, layer->diff_id) < 0)
            return -ENOMEM;
        hidden = hidden || (layer->loose && layer->loose->opaque_root);
    }
    return 0;
}

static bool has_suspect(const struct image_store *s, const struct image_record *record)
{
    for (char **d = record->diff_ids; *d; d++) {
        const struct layer *layer = map_get(s->layers, *d);
        if (layer && layer->suspect)
            return true;
    }
    return false;
}

int record_refresh(struct image_store *s, struct image_record *record)
{
    struct image *image = NULL;
    int r = 0;

    if (!record->removed && !record->damaged && !has_suspect(s, record)) {
        image = calloc(1, sizeof(*image));
        if (!image)
            return -ENOMEM;
        image->refs = 1;
        image->id = strdup(record->id);
        image->repo_tags = strv_new(0);
        image->repo_digests = strv_new(0);
        image->layers = strv_new(0);
        image->diff_ids = strv_new(0);
        image->config = (const Pull__ImageConfig *)pb_dup(&record->config->base, NULL);
        image->pulled_ns = record->pulled_ns;
        if (!image->id || !image->repo_tags || !image->repo_digests || !image->layers || !image->diff_ids ||
            !image->config)
            r = -ENOMEM;
        if (r == 0)
            r = take_names(s, record, image);
        if (r == 0)
            r = take_layers(s, record, image);
    }
    if (r < 0) {
        image_unref(image);
        return r;
    }
    image_unref(record->snapshot);
    record->snapshot = image;
    return 0;
}

// Loading

// "mend:<id>": in store->layers as a layer's diffID is.
static int add_mend(struct image_record *record)
{
    _cleanup_free_ char *key = str_printf("mend:%s", record->id);

    return key ? strv_append(&record->diff_ids, key) : -ENOMEM;
}

static int rename_layers(struct image_record *record)
{
    for (char **d = record->diff_ids; *d; d++) {
        char *key = str_printf("old:%s", *d);

        if (!key)
            return -ENOMEM;
        free(*d);
        *d = key;
    }
    record->old = true;
    return 0;
}

static int ref_layers(struct image_store *s, struct image_record *record)
{
    for (char **d = record->diff_ids; *d; d++) {
        struct layer *layer = map_get(s->layers, *d);
        if (layer)
            layer->refs++;
        else if (strv_append(&record->missing, *d) < 0)
            return -ENOMEM;
    }
    record->damaged = record->missing != NULL;
    return 0;
}

static int load_image(struct db_row *row, void *data, struct error *err)
{
    struct image_store *s = data;
    const char *id = db_row_text(row, 0);
    struct image_record *record;
    Pull__ImageConfig *config;
    size_t len;
    const void *blob = db_row_blob(row, 1, &len);

    config = pull__image_config__unpack(NULL, len, blob);
    if (!digest_is_valid(id) || !config) {
        log_error("an image's record can't be read: the image is not served until it is pulled again",
                  "image", id);
        if (config)
            pull__image_config__free_unpacked(config, NULL);
        return 0;
    }
    record = record_new(id, config, db_row_int(row, 2));
    if (!record || map_set(s->records, id, record) < 0) {
        if (!record)
            pull__image_config__free_unpacked(config, NULL);
        image_record_free(record);
        return error_errno(err, ENOMEM, "load images");
    }
    record->removed = db_row_int(row, 3) != 0;
    if ((db_row_int(row, 5) && rename_layers(record) < 0) || (db_row_int(row, 4) && add_mend(record) < 0) ||
        ref_layers(s, record) < 0)
        return error_errno(err, ENOMEM, "load images");
    if (record->damaged)
        log_error("an image lacks a layer: it is not served until it is pulled again", "image", id);
    return 0;
}

static int load_name(struct db_row *row, void *data, struct error *err)
{
    struct image_store *s = data;
    struct image_record *record = map_get(s->records, db_row_text(row, 1));

    if (record && map_set(s->names, db_row_text(row, 0), record) < 0)
        return error_errno(err, ENOMEM, "load image names");
    return 0;
}

// An image whose layers were not on disk when the last boot ended is one that was never pulled.
static int drop_undurable(struct image_store *s, const struct map *undurable, struct error *err)
{
    for (struct map_iter it = {0}; map_next(s->records, &it);) {
        struct image_record *record = it.value;
        bool lost = false;

        for (char **d = record->missing; d && *d; d++)
            lost = lost || map_get(undurable, *d);
        if (!lost || record->removed)
            continue;
        log_info("an image's pull was not on disk when the machine went down: it is to be pulled again",
                 "image", record->id);
        int r = records_remove(s, record, err); // stays in the map: nothing is settled yet
        if (r < 0)
            return r;
    }
    return 0;
}

int records_load(struct image_store *s, struct error *err)
{
    struct map *undurable = map_new();
    int r = undurable ? layers_load(s, undurable, err) : error_errno(err, ENOMEM, "load images");

    if (r == 0)
        r = db_query(s->db, err, load_image, s,
                     "SELECT id, config, pulled_ns, removed, mended, old FROM image ORDER BY pulled_ns", "");
    if (r == 0)
        r = db_query(s->db, err, load_name, s, "SELECT name, image_id FROM image_name", "");
    if (r == 0)
        r = sources_load(s, err);
    if (r == 0)
        r = drop_undurable(s, undurable, err);
    map_free(undurable);
    if (r < 0)
        return r;
    for (struct map_iter it = {0}; map_next(s->records, &it);)
        if (record_refresh(s, it.value) < 0)
            return error_errno(err, ENOMEM, "load images");
    return 0;
}

// Committing

static int insert_names(struct image_store *s, const char *id, char **names, struct error *err)
{
    int r = 0;

    for (; r == 0 && *names; names++)
        r = db_exec(s->db, err, "INSERT OR REPLACE INTO image_name (name, image_id) VALUES (?, ?)", "ss",
                    *names, id);
    return r;
}

static bool is_mended(const struct image_record *record)
{
    return strv_len(record->diff_ids) > record->config->n_diff_ids;
}

static int write_image(struct image_store *s, const struct image_record *record,
                       const Pull__PullResolved *resolved, char **names, struct error *err)
{
    _cleanup_free_ uint8_t *blob = NULL;
    size_t len;
    int r;

    if (pb_pack(&record->config->base, &blob, &len) < 0)
        return error_errno(err, ENOMEM, "record image %s", record->id);
    // Layers that are not on disk yet don't count in the next boot, nor need this: the settler syncs both.
    r = db_begin(s->db, layers_are_synced(s, record->diff_ids) ? DB_SYNC_FULL : DB_SYNC_NORMAL, err);
    if (r < 0)
        return r;
    r = db_exec(s->db, err,
                "INSERT OR REPLACE INTO image (id, config, pulled_ns, removed, mended, old)"
                " VALUES (?, ?, ?, 0, ?, ?)",
                "sbiii", record->id, blob, len, record->pulled_ns, (int64_t)is_mended(record),
                (int64_t)record->old);
    if (r == 0)
        r = layers_insert(s, record->diff_ids, err);
    if (r == 0)
        r = insert_names(s, record->id, names, err);
    if (r == 0 && source_is_news(record, resolved))
        r = source_write(s, record->id, resolved, err);
    if (r < 0) {
        db_rollback(s->db);
        return r;
    }
    return db_commit(s->db, err);
}

// Points names to record; the images that had them before are refreshed. `lock` is held.
static int move_names(struct image_store *s, struct image_record *record, char **names)
{
    for (; *names; names++) {
        struct image_record *before = map_get(s->names, *names);

        if (map_set(s->names, *names, record) < 0)
            return -ENOMEM;
        if (before && before != record && record_refresh(s, before) < 0)
            return -ENOMEM;
    }
    return record_refresh(s, record);
}

// Layers that a record had until now.
struct layer_keys {
    char **diff_ids;
    bool old;
};

// Does the image get other layers than it is recorded with? Those of an older crispd are replaced by fresh
// ones (unless containers have them mounted); and then it may have, or have no longer, one that mends them.
// `lock` is held.
static bool is_to_change(const struct image_store *s, const struct image_record *record, bool mended)
{
    if (record->old)
        return s->settled && strv_len(record->holders) == 0;
    return is_mended(record) != mended;
}

static bool is_unchanged(struct image_store *s, const struct image_record *record,
                         const Pull__PullResolved *resolved, char **names, bool mended)
{
    if (!record || !record->snapshot || source_is_news(record, resolved) || is_to_change(s, record, mended))
        return false;
    for (; *names; names++)
        if (map_get(s->names, *names) != record)
            return false;
    return true;
}

// An existing record that is whole again or was removed meanwhile, or a new one. *before (the caller's): the
// layers that an existing one had, if it gets others.
static struct image_record *prepare_record(struct image_store *s, const char *id,
                                           const Pull__ImageConfig *config, bool mended,
                                           struct layer_keys *before)
{
    struct image_record *record = map_get(s->records, id), *fresh;
    Pull__ImageConfig *copy;

    if (record && !is_to_change(s, record, mended))
        return record;
    copy = (Pull__ImageConfig *)pb_dup(&config->base, NULL);
    fresh = copy ? record_new(id, copy, clock_wall_unique_ns()) : NULL;
    if (!fresh && copy)
        pull__image_config__free_unpacked(copy, NULL);
    if (fresh && mended && add_mend(fresh) < 0) {
        image_record_free(fresh);
        return NULL;
    }
    if (!record || !fresh)
        return fresh;
    *before = (struct layer_keys){.diff_ids = record->diff_ids, .old = record->old};
    record->diff_ids = fresh->diff_ids;
    record->old = false;
    fresh->diff_ids = NULL;
    image_record_free(fresh);
    return record;
}

// The record's layers, in the place of none (NULL) or of those before; each that isn't missing is referred
// to.
static void move_references(struct image_store *s, const struct image_record *record, char **before)
{
    // Held since a moment ago: then they stay until the next start.
    for (char **d = strv_len(record->holders) == 0 ? before : NULL; d && *d; d++) {
        struct layer *layer = map_get(s->layers, *d);
        bool missing = false;
        for (char **m = record->missing; m && *m; m++)
            missing = missing || str_eq(*m, *d);
        if (layer && !missing)
            layer->refs--;
    }
    for (char **d = record->diff_ids; *d; d++) {
        struct layer *layer = map_get(s->layers, *d);
        layer->refs++;
    }
}

static int publish_record(struct image_store *s, struct image_record *record,
                          const Pull__PullResolved *resolved, char **names, const struct layer_keys *before)
{
    bool is_new = map_get(s->records, record->id) == NULL;

    if (source_is_news(record, resolved)) {
        free(record->source_digest); // without memory: NULL, and it is written again the next time
        record->source_digest = strdup(resolved->platform_digest);
    }

    if (is_new && map_set(s->records, record->id, record) < 0)
        return -ENOMEM;
    if (is_new || before->diff_ids)
        move_references(s, record, before->diff_ids);
    // A damaged record never referred to the layers that were missing.
    for (char **d = is_new || before->diff_ids ? NULL : record->missing; d && *d; d++) {
        struct layer *layer = map_get(s->layers, *d);
        layer->refs++;
    }
    strv_freep(&record->missing);
    record->damaged = record->removed = false;
    return move_names(s, record, names);
}

int records_commit(struct image_store *s, const Pull__PullResolved *resolved, char **names, bool mended,
                   struct error *err)
{
    const char *id = resolved->config_digest;
    struct layer_keys before = {0};
    struct image_record *record;
    bool unchanged;
    int r;

    pthread_mutex_lock(&s->lock);
    record = map_get(s->records, id);
    unchanged = is_unchanged(s, record, resolved, names, mended);
    record = unchanged ? NULL : prepare_record(s, id, resolved->config, mended, &before);
    bool is_new = record && !map_get(s->records, id);
    pthread_mutex_unlock(&s->lock);
    if (unchanged)
        return 0;
    if (!record)
        return error_errno(err, ENOMEM, "record image %s", id);
    r = write_image(s, record, resolved, names, err);
    pthread_mutex_lock(&s->lock);
    if (r == 0) {
        r = publish_record(s, record, resolved, names, &before);
        if (r < 0)
            error_errno(err, -r, "publish");
    } else if (is_new) {
        image_record_free(record);
    } else if (before.diff_ids) {
        strv_freep(&record->diff_ids);
        record->diff_ids = before.diff_ids;
        record->old = before.old;
        before.diff_ids = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    strv_freep(&before.diff_ids);
    return r < 0 ? error_wrap(err, "record image %s", id) : 0;
}
