// What comes after a pull and need not be waited for: published layers are brought to disk, then read once
// for their checksums. Until the first has been recorded a layer counts in this boot only, so a power cut
// leaves it whole or not there.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "image/store.h"

#define BUSY_NS     (5 * NS_PER_MS) // of reading at a time …
#define REST_FACTOR 9               // … and then so much more of rest: a tenth of a CPU, and of a disk
#define RETRY_NS    (30 * NS_PER_SEC)

struct settler {
    struct image_store *store;
    pthread_t thread;
    bool started;
    pthread_cond_t wanted; // with the store's lock, like the next three
    pthread_cond_t synced; // tried, well or not
    bool pending, closing;
    uint64_t begun, done;  // attempts to sync, also with the lock
    uint64_t lost_to;      // what was published until then and isn't synced may have lost writes
    int64_t retry_mono_ns; // of an attempt that failed; 0: none has
    int sync_fd; // of the store's file system: it hears of each write that has failed since the start
    int64_t busy_since_mono_ns;
};

// `lock` is held. False: the store closes.
static bool rest(struct settler *t, int64_t ns)
{
    int64_t at = clock_mono_ns() + ns;
    struct timespec until = {.tv_sec = at / NS_PER_SEC, .tv_nsec = at % NS_PER_SEC};

    while (!t->closing && !t->pending) {
        if (ns == 0)
            pthread_cond_wait(&t->wanted, &t->store->lock);
        else if (pthread_cond_timedwait(&t->wanted, &t->store->lock, &until) == ETIMEDOUT)
            break;
    }
    return !t->closing;
}

// ---- To disk ----

// Those that are synced now and were not recorded as such. `write` is held.
static int record_synced(struct image_store *s, uint64_t from, uint64_t to, struct error *err)
{
    size_t n = 0;
    int r = 0;

    pthread_mutex_lock(&s->lock);
    char(*dirs)[LAYER_DIR_LEN + 1] = calloc(map_len(s->layers) + 1, sizeof(*dirs));
    for (struct map_iter it = {0}; dirs && map_next(s->layers, &it);) {
        const struct layer *layer = it.value;
        if (!layer->fetcher && layer->seq > from && layer->seq <= to)
            memcpy(dirs[n++], layer->dir, sizeof(*dirs));
    }
    pthread_mutex_unlock(&s->lock);
    if (!dirs)
        return error_errno(err, ENOMEM, "record layers");
    if (n > 0)
        r = db_begin(s->db, DB_SYNC_FULL, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = db_exec(s->db, err, "UPDATE layer SET boot = '' WHERE dir = ?", "s", dirs[i]);
    if (n > 0 && r == 0)
        r = db_commit(s->db, err);
    else if (n > 0)
        db_rollback(s->db);
    free(dirs);
    return r;
}

// What the kernel could not write it has dropped, and tells nobody twice.
static int condemn_unsynced(struct image_store *s, uint64_t from, uint64_t to, struct error *err)
{
    struct layer *bad;
    int r = 0;

    do {
        bad = NULL;
        pthread_mutex_lock(&s->lock);
        for (struct map_iter it = {0}; !bad && map_next(s->layers, &it);) {
            struct layer *layer = it.value;
            if (!layer->fetcher && layer->seq > from && layer->seq <= to)
                bad = layer;
        }
        pthread_mutex_unlock(&s->lock);
        if (bad)
            r = layer_condemn(s, bad, "it could not be written to disk", err);
    } while (bad && r == 0);
    return r;
}

static uint64_t note_loss(struct image_store *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t to = s->publish_seq;
    s->lost_epoch++;
    pthread_mutex_unlock(&s->lock);
    return to;
}

static int sync_layers(struct settler *t, struct error *err)
{
    struct image_store *s = t->store;

    pthread_mutex_lock(&s->lock);
    uint64_t from = s->synced_seq, to = s->publish_seq;
    pthread_mutex_unlock(&s->lock);
    if (from == to)
        return 0;
    // Of the whole file system: one for all files and folders, and their renames too.
    bool ok = syncfs(t->sync_fd) == 0;
    pthread_mutex_lock(&s->write); // commits look at synced_seq under it
    if (!ok) // whose writes were lost isn't known: also what came meanwhile, and what is still unpacked
        t->lost_to = note_loss(s);
    bool lost = t->lost_to > from; // perhaps before, and could not be recorded then
    to = lost ? t->lost_to : to;
    int r = lost ? condemn_unsynced(s, from, to, err) : record_synced(s, from, to, err);
    if (r == 0) {
        pthread_mutex_lock(&s->lock);
        s->synced_seq = to;
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_unlock(&s->write);
    return r;
}

// One attempt; those who wait get to know.
static void settle_round(struct settler *t)
{
    struct error err = ERROR_INIT;

    pthread_mutex_lock(&t->store->lock);
    t->pending = false;
    t->begun++;
    pthread_mutex_unlock(&t->store->lock);
    int r = sync_layers(t, &err);
    t->retry_mono_ns = r < 0 ? clock_mono_ns() + RETRY_NS : 0;
    if (r < 0)
        log_error("layers could not be brought to disk; will try again", "error", err.message);
    pthread_mutex_lock(&t->store->lock);
    t->done = t->begun;
    pthread_cond_broadcast(&t->synced);
    pthread_mutex_unlock(&t->store->lock);
}

// ---- Checksums ----

// Somebody who waits for the disk doesn't wait for checksums.
static bool pause_reading(void *data)
{
    struct settler *t = data;
    int64_t now = clock_mono_ns(), busy = now - t->busy_since_mono_ns;

    if (busy < BUSY_NS)
        return false;
    pthread_mutex_lock(&t->store->lock);
    bool more = rest(t, busy * REST_FACTOR);
    bool due = t->pending || (t->retry_mono_ns && now >= t->retry_mono_ns);
    pthread_mutex_unlock(&t->store->lock);
    if (more && due)
        settle_round(t);
    t->busy_since_mono_ns = clock_mono_ns();
    return !more;
}

// A layer without one that is on disk; its diffID and folder in fresh memory. False: there is none.
static bool find_unsummed(struct image_store *s, char **diff_id, char dir[LAYER_DIR_LEN + 1])
{
    *diff_id = NULL;
    pthread_mutex_lock(&s->lock);
    for (struct map_iter it = {0}; !*diff_id && map_next(s->layers, &it);) {
        struct layer *layer = it.value;
        if (layer->fetcher || layer->summed || layer->unsummable || layer->seq > s->synced_seq)
            continue;
        *diff_id = strdup(layer->diff_id);
        memcpy(dir, layer->dir, LAYER_DIR_LEN + 1);
    }
    pthread_mutex_unlock(&s->lock);
    return *diff_id != NULL;
}

int layer_record_sum(struct image_store *s, const char *diff_id, const char *dir,
                     const uint8_t sum[LAYER_SUM_LEN], struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&s->write);
    pthread_mutex_lock(&s->lock);
    struct layer *layer = map_get(s->layers, diff_id);
    bool same = layer && str_eq(layer->dir, dir);
    if (same) {
        layer->summed = sum != NULL;
        layer->unsummable = sum == NULL;
        if (sum)
            memcpy(layer->sum, sum, LAYER_SUM_LEN);
    }
    pthread_mutex_unlock(&s->lock);
    if (same)
        r = layer_note_witness(s, layer, err);
    if (same && sum && r == 0)
        r = db_exec(s->db, err, "UPDATE layer SET sum = ?, ino = ?, ctime_ns = ? WHERE dir = ?", "biis", sum,
                    (size_t)LAYER_SUM_LEN, (int64_t)layer->ino, layer->ctime_ns, dir);
    pthread_mutex_unlock(&s->write);
    return r;
}

// Not at rest: images wait for it.
static bool pause_comparing(void *data)
{
    struct settler *t = data;

    pthread_mutex_lock(&t->store->lock);
    bool closing = t->closing, pending = t->pending;
    pthread_mutex_unlock(&t->store->lock);
    if (pending && !closing)
        settle_round(t);
    return closing;
}

// A layer that is to be compared, those that mend images first, for pulls don't wait for them. *copy has its
// own diffID. False: there is none.
static bool find_suspect(struct image_store *s, struct layer *copy)
{
    const struct layer *found = NULL;

    pthread_mutex_lock(&s->lock);
    for (struct map_iter it = {0}; map_next(s->layers, &it);) {
        const struct layer *layer = it.value;
        if (layer->suspect && (!found || str_has_prefix(layer->diff_id, "mend:")))
            found = layer;
    }
    if (found) {
        *copy = *found;
        copy->diff_id = strdup(found->diff_id);
    }
    pthread_mutex_unlock(&s->lock);
    return found && copy->diff_id;
}

static int compare_layers(struct settler *t, struct error *err)
{
    struct image_store *s = t->store;
    struct layer copy;
    int r = 0;

    while (r == 0 && find_suspect(s, &copy)) {
        _cleanup_free_ char *diff_id = copy.diff_id;
        _cleanup_free_ char *path = str_printf("%s/%s", s->layers_dir, copy.dir);
        uint8_t sum[LAYER_SUM_LEN];
        const char *why = NULL;

        r = path ? layer_sum(path, pause_comparing, t, sum, err) : -ENOMEM;
        if (r == -ECANCELED)
            return 0;
        if (r < 0)
            why = "its content can't be read";
        else if (memcmp(sum, copy.sum, LAYER_SUM_LEN) != 0)
            why = "its content has changed";
        r = layer_judge(s, diff_id, copy.dir, why, err);
    }
    return r;
}

static int sum_layers(struct settler *t, struct error *err)
{
    struct image_store *s = t->store;
    char dir[LAYER_DIR_LEN + 1], *found;
    int r = 0;

    t->busy_since_mono_ns = clock_mono_ns();
    while (r == 0 && find_unsummed(s, &found, dir)) {
        _cleanup_free_ char *diff_id = found;
        _cleanup_free_ char *path = str_printf("%s/%s", s->layers_dir, dir);
        uint8_t sum[LAYER_SUM_LEN];

        if (!path)
            return error_errno(err, ENOMEM, "check a layer");
        r = layer_sum(path, pause_reading, t, sum, err);
        if (r == -ECANCELED)
            return 0;
        if (r < 0 && r != -ENOENT) // removed meanwhile
            log_warn("a layer has no checksum", "layer", diff_id, "error", err->message);
        r = layer_record_sum(s, diff_id, dir, r < 0 ? NULL : sum, err);
        if (pause_reading(t))
            return r;
    }
    return r;
}

// ---- The thread ----

static void *settle_main(void *data)
{
    struct settler *t = data;
    struct image_store *s = t->store;
    int64_t wait_ns = 0;

    for (;;) {
        struct error err = ERROR_INIT;

        pthread_mutex_lock(&s->lock);
        bool more = rest(t, wait_ns);
        pthread_mutex_unlock(&s->lock);
        if (!more)
            break;
        settle_round(t);
        int r = compare_layers(t, &err);
        if (r == 0 && !t->retry_mono_ns)
            r = sum_layers(t, &err);
        if (r < 0)
            log_error("a checksum could not be recorded; will try again", "error", err.message);
        wait_ns = r < 0 || t->retry_mono_ns ? RETRY_NS : 0;
    }
    return NULL;
}

int settle_start(struct image_store *s, struct error *err)
{
    struct settler *t = s->settler = calloc(1, sizeof(*t));
    pthread_condattr_t attr;

    if (!t)
        return error_errno(err, ENOMEM, "open the image store");
    t->store = s;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wanted, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&t->synced, NULL);
    t->pending = true; // what the last daemon left
    t->sync_fd = open(s->layers_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->sync_fd < 0)
        return error_errno(err, errno, "open %s", s->layers_dir);
    int r = pthread_create(&t->thread, NULL, settle_main, t);
    if (r != 0)
        return error_errno(err, r, "start the thread that settles layers");
    t->started = true;
    return 0;
}

void settle_wake(struct image_store *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->settler) {
        s->settler->pending = true;
        pthread_cond_signal(&s->settler->wanted);
    }
    pthread_mutex_unlock(&s->lock);
}

void settle_wake_waiters(struct image_store *s)
{
    if (s->settler)
        pthread_cond_broadcast(&s->settler->synced);
}

// `lock` is held. 1: all of them are on disk for good; 0: not yet; -EIO: one never will be.
static int are_durable(const struct image_store *s, struct layer *const *layers, size_t n)
{
    bool synced = true;

    for (size_t i = 0; i < n; i++) {
        if (layers[i] && layers[i]->condemned)
            return -EIO;
        synced = synced && (!layers[i] || layers[i]->seq <= s->synced_seq);
    }
    return synced;
}

int settle_wait(struct image_store *s, struct layer *const *layers, size_t n, const bool *cancelled,
                struct error *err)
{
    struct settler *t = s->settler;
    int r;

    pthread_mutex_lock(&s->lock);
    uint64_t round = t->begun + 1; // knows of all of them, whatever one that is under way does
    if ((r = are_durable(s, layers, n)) == 0) {
        t->pending = true;
        pthread_cond_signal(&t->wanted);
    }
    while (r == 0 && !*cancelled && !s->closing && t->done < round) {
        pthread_cond_wait(&t->synced, &s->lock);
        r = are_durable(s, layers, n);
    }
    bool given_up = *cancelled, tried = t->done >= round;
    pthread_mutex_unlock(&s->lock);
    if (r > 0)
        return 0;
    if (r < 0 || (tried && !given_up))
        return error_set(err, STATUS_INTERNAL, EIO, "a layer could not be brought to disk below %s", s->root);
    if (given_up)
        return error_set(err, STATUS_CANCELLED, ECANCELED, "nobody waits for it any more");
    return error_set(err, STATUS_UNAVAILABLE, ESHUTDOWN, "the daemon is shutting down");
}

void settle_stop(struct image_store *s)
{
    struct settler *t = s->settler;

    if (!t)
        return;
    pthread_mutex_lock(&s->lock);
    t->closing = true;
    pthread_cond_signal(&t->wanted);
    pthread_cond_broadcast(&t->synced);
    pthread_mutex_unlock(&s->lock);
    if (t->started)
        pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->wanted);
    pthread_cond_destroy(&t->synced);
    fd_closep(&t->sync_fd);
    free(t);
    s->settler = NULL;
}
