// The inside of the image store; only image/*.c include this.
//
// Two mutexes. `write` serialises everything that changes records or folders and is held over disk work.
// `lock` guards the maps and is held for moments only: readers never wait for a disk. Order: write, then
// lock.
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <pthread.h>

#include "base/map.h"
#include "image/image.h"
#include "image/layer_sum.h"
#include "image/mend.h"

#define LAYER_DIR_LEN 8

struct pull_op;
struct spares;
struct schemes;

// A layer on disk, or being fetched. In store->layers by diffID.
struct layer {
    char *diff_id;
    char dir[LAYER_DIR_LEN + 1]; // "" while it is being fetched
    uint64_t bytes, inodes;
    Pull__Loose *loose; // what of it depends on the layers below; NULL: nothing
    uint64_t seq;       // when it was published: synced if that is not after store->synced_seq
    uint64_t ino;       // of its folder, and when that was last changed: a start compares them
    int64_t ctime_ns;
    bool checked; // at the start
    bool suspect; // its content is to be compared first: until then nobody gets it (fetcher is set)
    bool summed, unsummable; // sum is there; can't be
    uint8_t sum[LAYER_SUM_LEN];
    uint64_t epoch;                // store->lost_epoch when its files were begun
    bool condemned;                // in no map any more; refs are pulls' alone
    unsigned refs;                 // images (each position in each of them) and pulls under way
    const struct pull_op *fetcher; // NULL: it is there
    struct layer *next;            // in store->doomed
};

// What a row of `image` says; struct image is made from it and from the names.
struct image_record {
    char *id;
    char **diff_ids; // bottom first; NULL-terminated. The last one may be "mend:<id>" (store_mend.c)
    bool old;        // its layers are "old:<diffID>", of which isn't known what depends on those below
    Pull__ImageConfig *config;
    int64_t pulled_ns;
    char *source_digest;    // of the manifest in image_source, "" when only the config is there; NULL: no row
    bool removed;           // no longer an image to anybody but its holders
    bool damaged;           // a layer is missing on disk
    char **missing;         // the diffIDs of such layers; NULL: none
    char **holders;         // NULL-terminated; NULL: none
    struct image *snapshot; // what readers get; NULL while removed or damaged
};

struct image_store {
    char *root, *layers_dir, *containers_dir, *staging_dir, *trash_dir, *crisp_pull_path;
    struct db *db;
    const struct registry_config *registries;
    const struct policy_config *policies;
    char *const *allowed;
    char **pinned; // normalised references
    bool sync_before_answer;
    unsigned parallel_layers; // of a pull
    unsigned node_layers;     // of all pulls
    uint32_t stall_ms;        // of a transfer below min_rate (bytes a second)
    uint64_t min_rate;

    pthread_mutex_t write;
    pthread_mutex_t lock;
    struct map *records;     // id -> struct image_record, in the order of their first pull
    struct map *names;       // "repo:tag", "repo@digest" -> struct image_record
    struct map *layers;      // diffID -> struct layer
    struct layer *doomed;    // in no map any more; the worker deletes their rows, then their folders:
    struct layer *burying;   // these just now; changed by it alone, under `lock`
    struct layer *condemned; // damaged: their folders stay while a container may use them
    uint64_t publish_seq, synced_seq;
    uint64_t lost_epoch; // how often the disk has lost writes
    unsigned slots_used; // of node_layers
    struct pull_op *ops; // running and ended ones; the worker joins the latter
    bool settled;        // holds were taken again: what nobody holds may go
    bool closing;

    struct spares *spares;   // store_spare.c
    struct schemes *schemes; // store_scheme.c

    pthread_t worker; // deletes the trash, joins ended pulls, keeps a crisp-pull ready
    bool worker_started;
    pthread_cond_t worker_wanted; // with lock
    bool trash_pending;

    struct usage *usage;     // usage.c
    struct settler *settler; // store_settle.c
    char boot_id[37];
};

// store_records.c: rows and maps. The store's `write` is held; those that change maps take `lock`.
int records_load(struct image_store *s, struct error *err);
void records_free(struct image_store *s);
// Records an image with all its layers (which are all there) and gives it the names. names: NULL-terminated.
int records_commit(struct image_store *s, const Pull__PullResolved *resolved, char **names, bool mended,
                   struct error *err);
void image_record_free(struct image_record *record); // NULL is fine
void image_layer_free(struct layer *layer);
// Makes the snapshot anew after a change of names; `lock` is held.
int record_refresh(struct image_store *s, struct image_record *record);

// store_source.c
// May what crisp-pull tells of the manifest and config be kept?
bool source_is_sane(const Pull__PullResolved *resolved);
// Is it more than what is recorded?
bool source_is_news(const struct image_record *record, const Pull__PullResolved *resolved);
int source_write(struct image_store *s, const char *id, const Pull__PullResolved *resolved,
                 struct error *err);
int sources_load(struct image_store *s, struct error *err);

// store_layers.c: the layers' rows. Under `write`.
// All that can be used. `undurable` gets the diffIDs of those that a power cut may have taken.
int layers_load(struct image_store *s, struct map *undurable, struct error *err);
bool layers_are_synced(struct image_store *s, char **diff_ids);
// Gives back references to them; NULL ones are skipped.
void layers_release(struct image_store *s, struct layer *const *layers, size_t n);
// The rows of these, which are all there; within a transaction.
int layers_insert(struct image_store *s, char **diff_ids, struct error *err);
// A damaged layer is not served any more, nor are images that have it, until they are pulled again.
int layer_condemn(struct image_store *s, struct layer *layer, const char *why, struct error *err);
// What became of a suspect one: why is NULL when its content is what was unpacked.
int layer_judge(struct image_store *s, const char *diff_id, const char *dir, const char *why,
                struct error *err);
int layer_note_witness(const struct image_store *s, struct layer *layer, struct error *err);

// store_settle.c: brings published layers to disk and takes their checksums, in the background.
int settle_start(struct image_store *s, struct error *err);
void settle_stop(struct image_store *s);
void settle_wake(struct image_store *s);
// Until these layers, and the records of them that were written before, are on disk for good; -EIO: one never
// will be, or they can't be now. The layers are held by the caller. *cancelled (under `lock`) calls it off,
// with settle_wake_waiters().
int settle_wait(struct image_store *s, struct layer *const *layers, size_t n, const bool *cancelled,
                struct error *err);
void settle_wake_waiters(struct image_store *s); // `lock` is held
// Notes a layer's checksum (NULL: there can't be one), if dir is still its folder. Takes `write`.
int layer_record_sum(struct image_store *s, const char *diff_id, const char *dir,
                     const uint8_t sum[LAYER_SUM_LEN], struct error *err);

// store_remove.c, under `write` too.
// Takes an image away: its names at once, its row and layers when nobody holds it. `record` may be gone then.
int records_remove(struct image_store *s, struct image_record *record, struct error *err);
// Deletes removed images that nobody holds, and hands layers that nothing needs to the worker. Does nothing
// before `settled`.
int records_collect(struct image_store *s, struct error *err);
// The worker's: rows of doomed layers, then their folders. Without `write`. False: to be tried again.
bool records_bury(struct image_store *s);

// store_publish.c, without `write`.
// Moves what is unpacked at `from` into a folder of its own; it is there for others from then on, but only
// the settler makes sure that a power cut leaves it whole.
int layer_publish(struct image_store *s, struct layer *layer, const char *from, struct error *err);

// store_mend.c: the layer that mends an image, if it needs one.
struct mending {
    char *key; // among the layers
    char *dir;
    uint64_t epoch;      // store->lost_epoch when it was begun
    bool made;           // there is work in dir
    struct layer *layer; // it is there, with a reference; NULL: there is none
    struct mend_stats stats;
    Pull__Loose *parts; // of dir
};
// Finds it or makes it in the staging folder; the image's own layers are held. Without `write`, for it takes
// time.
int store_mend_prepare(struct image_store *s, const char *id, char **diff_ids, size_t n, const char *staging,
                       int cancel_fd, struct mending *m, struct error *err);
// Makes it the store's: one, even if several pulls have made it. `write` is held.
int store_mend_publish(struct image_store *s, struct mending *m, struct error *err);
void store_mend_done(struct image_store *s, struct mending *m);

// store_trash.c
int trash_start(struct image_store *s, struct error *err);
void trash_stop(struct image_store *s);
// Renames path (absent is fine) into the trash, to be deleted soon.
int trash_put(struct image_store *s, const char *path, struct error *err);
void trash_wake(struct image_store *s);

// store_spare.c: crisp-pull, started ahead. unused_ns: how long one waits; 0: half a minute.
int spares_open(struct image_store *s, int64_t unused_ns, struct error *err);
void spares_close(struct image_store *s); // after the worker and all pulls
void spares_want(struct image_store *s);  // a pull has ended: another one may follow
// The worker's: starts one if it is wanted, ends those that have waited too long. When to come again at the
// latest (CLOCK_MONOTONIC); 0: when called.
int64_t spares_tend(struct image_store *s);

// store_scheme.c: registries on the machine itself that answered by http, for ten minutes, a few of them.
int schemes_open(struct image_store *s, struct error *err);
void schemes_close(struct image_store *s);
bool scheme_is_plain(struct image_store *s, const char *domain);
// It did, or did not. Other machines' registries are not noted.
void scheme_note(struct image_store *s, const char *domain, bool plain);

// usage.c: what writable layers take. Its own lock, which is taken last.
int usage_start(struct image_store *s, struct error *err); // lists what is there, starts the thread
void usage_stop(struct image_store *s);
void usage_add(struct image_store *s, const char *container_id);  // its folders were just made
void usage_drop(struct image_store *s, const char *container_id); // and are gone

// store_pull.c
void pull_ops_cancel_all(struct image_store *s);
// Joins ended operations; with `all` waits for the others too. `lock` is not held.
void pull_ops_reap(struct image_store *s, bool all);
void pull_ops_wake(struct image_store *s); // `lock` is held: a layer's state has changed

#endif
