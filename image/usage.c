// What containers' writable layers take: measured by a thread that takes its time, told from memory.
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
#include "image/usage_walk.h"

#define PERIOD_NS      (10 * NS_PER_SEC) // while somebody asks
#define IDLE_PERIOD_NS (60 * NS_PER_SEC) // when nobody has asked for so long
#define FIRST_WAIT_NS  (2 * NS_PER_SEC)  // that the first answers wait for the first round
#define BATCH          64                // entries between two looks at the clock
#define QUICK_MAX      20000u            // entries; a container with more is measured beside the others
#define BUSY_NS        (4 * NS_PER_MS)   // of work at a time …
#define REST_FACTOR    50                // … and then so much more of rest;
#define FIRST_FACTOR   2                 // less in the first round, whose figures are waited for
#define REST_MAX_NS    (5 * NS_PER_SEC)

struct usage_entry {
    char *id;
    struct image_layer_usage value; // timestamp 0: not measured yet
    bool incomplete;                // more than value, and that has been told
};

struct usage {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct map *entries; // by container
    int64_t asked_mono_ns;
    bool closing, first_round_done;

    // The thread's own.
    pthread_t thread;
    bool started;
    int containers_fd;
    int64_t busy_since_mono_ns;
    struct usage_walk quick, slow; // slow: one container that holds too much for its turn
};

static void entry_free(struct usage_entry *e)
{
    free(e->id);
    free(e);
}

// Lock held. A container that is known already stays as it is.
static bool add_entry(struct usage *u, const char *id, const struct image_layer_usage *value)
{
    struct usage_entry *e = map_get(u->entries, id);

    if (e)
        return true;
    e = calloc(1, sizeof(*e));
    if (!e || !(e->id = strdup(id)) || map_set(u->entries, id, e) < 0) {
        if (e)
            entry_free(e);
        return false;
    }
    e->value = *value;
    return true;
}

// Lock held. Waits for a change, until then; false: it is over.
static bool wait_until(struct usage *u, int64_t until_mono_ns)
{
    struct timespec at = {.tv_sec = until_mono_ns / NS_PER_SEC, .tv_nsec = until_mono_ns % NS_PER_SEC};

    return pthread_cond_timedwait(&u->changed, &u->lock, &at) == 0;
}

static bool is_closing(struct usage *u)
{
    pthread_mutex_lock(&u->lock);
    bool closing = u->closing;
    pthread_mutex_unlock(&u->lock);
    return closing;
}

// Rests once some work is done: disk and CPU are the containers'.
static void rest(struct usage *u)
{
    int64_t now = clock_mono_ns();
    int64_t pause = now - u->busy_since_mono_ns;

    if (pause < BUSY_NS)
        return;
    pthread_mutex_lock(&u->lock);
    pause *= u->first_round_done ? REST_FACTOR : FIRST_FACTOR;
    while (!u->closing && wait_until(u, now + (pause < REST_MAX_NS ? pause : REST_MAX_NS)))
        continue;
    pthread_mutex_unlock(&u->lock);
    u->busy_since_mono_ns = clock_mono_ns();
}

static const char *why_incomplete(int errnum)
{
    return errnum == E2BIG    ? "they are too deep"
           : errnum == ESTALE ? "one was moved meanwhile"
                              : strerrordesc_np(errnum);
}

// Lock held. Once, not in each round.
static void tell_incomplete(struct usage_entry *e, int why)
{
    if (why < 0 && !e->incomplete)
        log_warn("a container takes more on disk than is told: its directories can't all be counted",
                 "container", e->id, "error", why_incomplete(-why));
    e->incomplete = why < 0;
}

static void publish(struct usage *u, struct usage_walk *w)
{
    pthread_mutex_lock(&u->lock);
    struct usage_entry *e = map_get(u->entries, w->id);
    if (e) {
        e->value = (struct image_layer_usage){.timestamp_ns = clock_wall_ns(),
                                              .bytes = (uint64_t)(w->bytes + 0.5),
                                              .inodes = (uint64_t)(w->inodes + 0.5)};
        tell_incomplete(e, w->incomplete);
    }
    pthread_mutex_unlock(&u->lock);
    usage_walk_end(w);
}

// True when it has come to its end, or has to.
static bool run_walk(struct usage *u, struct usage_walk *w, unsigned max)
{
    for (unsigned n = 0; n < max; n += BATCH) {
        if (is_closing(u))
            return true;
        if (usage_walk_step(w, u->containers_fd, BATCH)) {
            publish(u, w);
            return true;
        }
        rest(u);
    }
    return false;
}

static void measure(struct usage *u, const char *id)
{
    if (u->slow.id && str_eq(u->slow.id, id))
        return;
    if (usage_walk_begin(&u->quick, id) && !run_walk(u, &u->quick, QUICK_MAX) && !u->slow.id) {
        u->slow = u->quick;
        u->quick = (struct usage_walk){0};
    }
    usage_walk_end(&u->quick); // one too large while another is: the next round comes to it first
}

static int oldest_first(const void *a, const void *b)
{
    const struct usage_entry *x = a, *y = b;

    return x->value.timestamp_ns < y->value.timestamp_ns   ? -1
           : x->value.timestamp_ns > y->value.timestamp_ns ? 1
                                                           : 0;
}

// Copies, as the containers come and go meanwhile.
static struct usage_entry *list_entries(struct usage *u, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&u->lock);
    struct usage_entry *list = calloc(map_len(u->entries) + 1, sizeof(*list));
    for (struct map_iter it = {0}; list && map_next(u->entries, &it);) {
        const struct usage_entry *e = it.value;
        list[*n] = *e;
        list[*n].id = strdup(e->id);
        *n += list[*n].id != NULL;
    }
    pthread_mutex_unlock(&u->lock);
    return list;
}

static void measure_all(struct usage *u)
{
    size_t n;
    struct usage_entry *list = list_entries(u, &n);

    if (list)
        qsort(list, n, sizeof(*list), oldest_first);
    u->busy_since_mono_ns = clock_mono_ns();
    for (size_t i = 0; i < n; i++) {
        if (!is_closing(u))
            measure(u, list[i].id);
        if (u->slow.id)
            (void)run_walk(u, &u->slow, BATCH);
        rest(u);
        free(list[i].id);
    }
    free(list);
}

// Lock held. When the round that comes after one begun at that time is due.
static int64_t next_round(const struct usage *u, int64_t begun_mono_ns)
{
    bool asked = clock_mono_ns() - u->asked_mono_ns < IDLE_PERIOD_NS;

    return begun_mono_ns + (asked ? PERIOD_NS : IDLE_PERIOD_NS);
}

// Until the next round is due, somebody begins to ask, or the store closes.
static void wait_for_round(struct usage *u, int64_t begun_mono_ns)
{
    pthread_mutex_lock(&u->lock);
    u->first_round_done = true;
    pthread_cond_broadcast(&u->changed);
    while (!u->closing && clock_mono_ns() < next_round(u, begun_mono_ns)) {
        if (!u->slow.id) {
            (void)wait_until(u, next_round(u, begun_mono_ns));
            continue;
        }
        pthread_mutex_unlock(&u->lock);
        (void)run_walk(u, &u->slow, 16 * BATCH);
        pthread_mutex_lock(&u->lock);
    }
    pthread_mutex_unlock(&u->lock);
}

static void *usage_main(void *arg)
{
    struct usage *u = arg;

    while (!is_closing(u)) {
        int64_t begun = clock_mono_ns();
        measure_all(u);
        wait_for_round(u, begun);
    }
    usage_walk_end(&u->slow);
    return NULL;
}

// ---- Beginning and end ----

static struct usage *usage_new(void)
{
    struct usage *u = calloc(1, sizeof(*u));
    pthread_condattr_t attr;

    if (!u)
        return NULL;
    pthread_mutex_init(&u->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&u->changed, &attr);
    pthread_condattr_destroy(&attr);
    u->entries = map_new();
    u->containers_fd = -1;
    return u;
}

static int list_dir(struct usage *u, const char *path, struct error *err)
{
    static const struct image_layer_usage unknown = {0};
    _cleanup_(dir_closep) DIR *dir = opendir(path);
    struct dirent *d;

    u->containers_fd = dir ? fcntl(dirfd(dir), F_DUPFD_CLOEXEC, 0) : -1;
    if (u->containers_fd < 0)
        return error_errno(err, errno, "read %s", path);
    while ((d = readdir(dir))) // NOLINT(concurrency-mt-unsafe): own stream
        if (d->d_name[0] != '.' && !add_entry(u, d->d_name, &unknown))
            return error_errno(err, ENOMEM, "read %s", path);
    return 0;
}

int usage_start(struct image_store *s, struct error *err)
{
    struct usage *u = s->usage = usage_new();
    int r;

    if (!u || !u->entries)
        return error_errno(err, ENOMEM, "measure containers");
    r = list_dir(u, s->containers_dir, err);
    if (r < 0)
        return r;
    r = pthread_create(&u->thread, NULL, usage_main, u);
    if (r != 0)
        return error_errno(err, r, "start the thread that measures containers");
    u->started = true;
    return 0;
}

void usage_stop(struct image_store *s)
{
    struct usage *u = s->usage;

    if (!u)
        return;
    pthread_mutex_lock(&u->lock);
    u->closing = true;
    pthread_cond_broadcast(&u->changed);
    pthread_mutex_unlock(&u->lock);
    if (u->started)
        pthread_join(u->thread, NULL);
    for (struct map_iter it = {0}; u->entries && map_next(u->entries, &it);)
        entry_free(it.value);
    map_free(u->entries);
    fd_closep(&u->containers_fd);
    pthread_cond_destroy(&u->changed);
    pthread_mutex_destroy(&u->lock);
    free(u);
    s->usage = NULL;
}

// ---- Containers come and go ----

// Its upper directory is all that it has as yet: what that takes is known without a walk.
void usage_add(struct image_store *s, const char *container_id)
{
    struct usage *u = s->usage;
    struct usage_walk w = {0};
    struct image_layer_usage value = {0};

    if (usage_walk_begin(&w, container_id) && usage_walk_step(&w, u->containers_fd, BATCH))
        value = (struct image_layer_usage){.timestamp_ns = clock_wall_ns(),
                                           .bytes = (uint64_t)(w.bytes + 0.5),
                                           .inodes = (uint64_t)(w.inodes + 0.5)};
    usage_walk_end(&w);
    pthread_mutex_lock(&u->lock);
    if (!add_entry(u, container_id, &value))
        log_warn("what a container takes on disk won't be known: no memory", "container", container_id);
    pthread_mutex_unlock(&u->lock);
}

void usage_drop(struct image_store *s, const char *container_id)
{
    struct usage *u = s->usage;

    pthread_mutex_lock(&u->lock);
    struct usage_entry *e = map_remove(u->entries, container_id);
    pthread_mutex_unlock(&u->lock);
    if (e)
        entry_free(e);
}

// ---- Telling ----

// Lock held. Somebody who asks after a pause makes the next round come early.
static void note_question(struct usage *u)
{
    int64_t now = clock_mono_ns();

    if (now - u->asked_mono_ns >= IDLE_PERIOD_NS)
        pthread_cond_broadcast(&u->changed);
    u->asked_mono_ns = now;
}

bool image_rootfs_usage(struct image_store *s, const char *container_id, struct image_layer_usage *out)
{
    struct usage *u = s->usage;

    pthread_mutex_lock(&u->lock);
    note_question(u);
    const struct usage_entry *e = map_get(u->entries, container_id);
    bool known = e && e->value.timestamp_ns != 0;
    if (known)
        *out = e->value;
    pthread_mutex_unlock(&u->lock);
    return known;
}

const char *image_fs_mountpoint(const struct image_store *s)
{
    return s->root;
}

void image_fs_usage(struct image_store *s, struct image_fs_usage *out)
{
    struct usage *u = s->usage;
    int64_t now = clock_wall_ns(), until = clock_mono_ns() + FIRST_WAIT_NS;

    *out = (struct image_fs_usage){
        .timestamp_ns = now, .container_timestamp_ns = now, .mountpoint = image_fs_mountpoint(s)};
    pthread_mutex_lock(&s->lock);
    for (struct map_iter it = {0}; map_next(s->layers, &it);) {
        const struct layer *layer = it.value;
        out->image_bytes += layer->bytes;
        out->image_inodes += layer->inodes;
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&u->lock);
    note_question(u);
    while (!u->first_round_done && !u->closing && wait_until(u, until))
        continue;
    for (struct map_iter it = {0}; map_next(u->entries, &it);) {
        const struct usage_entry *e = it.value;
        if (e->value.timestamp_ns == 0)
            continue;
        out->container_bytes += e->value.bytes;
        out->container_inodes += e->value.inodes;
        if (e->value.timestamp_ns < out->container_timestamp_ns)
            out->container_timestamp_ns = e->value.timestamp_ns;
    }
    pthread_mutex_unlock(&u->lock);
}
