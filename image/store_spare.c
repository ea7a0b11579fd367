#include "image/store_spare.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define UNUSED_DEFAULT_NS (30 * NS_PER_SEC)
#define AGE_MAX_NS        (300 * NS_PER_SEC) // of one that is used again: addresses and certificates change

// At most two: one that has seen nothing, and the one that answered last.
struct spares {
    int64_t unused_ns; // how long one may wait
    bool wanted;       // under `lock`, like all that follow
    struct pull_program fresh;
    struct pull_program kept;
    int64_t kept_since_ns;
    char *key; // of the pull that `kept` answered, and its credentials: it has seen these, and no others
    uint8_t *auth;
    size_t auth_len;
};

int spares_open(struct image_store *s, int64_t unused_ns, struct error *err)
{
    s->spares = calloc(1, sizeof(*s->spares));
    if (!s->spares)
        return error_errno(err, ENOMEM, "open the image store");
    s->spares->unused_ns = unused_ns > 0 ? unused_ns : UNUSED_DEFAULT_NS;
    s->spares->fresh = s->spares->kept = PULL_PROGRAM_NONE;
    return 0;
}

// Forgets `kept`, which is the caller's to end then. `lock` is held.
static struct pull_program drop_kept(struct spares *spares)
{
    struct pull_program kept = spares->kept;

    spares->kept = PULL_PROGRAM_NONE;
    if (spares->auth)
        explicit_bzero(spares->auth, spares->auth_len);
    free(spares->auth);
    free(spares->key);
    spares->auth = NULL;
    spares->key = NULL;
    return kept;
}

void spares_close(struct image_store *s)
{
    if (!s->spares)
        return;
    struct pull_program kept = drop_kept(s->spares);

    pull_program_end(&kept, false);
    pull_program_end(&s->spares->fresh, false);
    free(s->spares);
    s->spares = NULL;
}

void spares_want(struct image_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->spares->wanted = true;
    pthread_cond_signal(&s->worker_wanted);
    pthread_mutex_unlock(&s->lock);
}

static bool is_same_question(const struct spares *spares, const struct pull_op *op)
{
    return spares->key && op->archive_fd < 0 && str_eq(spares->key, op->key) &&
           spares->auth_len == op->auth_len && memcmp(spares->auth, op->auth, op->auth_len) == 0;
}

bool spare_take(struct pull_op *op, struct pull_program *out)
{
    struct image_store *s = op->store;
    struct pull_program dead = PULL_PROGRAM_NONE;
    bool found;

    pthread_mutex_lock(&s->lock);
    if (is_same_question(s->spares, op)) {
        *out = drop_kept(s->spares);
    } else {
        *out = s->spares->fresh;
        s->spares->fresh = PULL_PROGRAM_NONE;
    }
    pthread_mutex_unlock(&s->lock);
    found = pull_program_is_current(s, out);
    if (!found) {
        dead = *out;
        *out = PULL_PROGRAM_NONE;
    }
    pull_program_end(&dead, false);
    return found;
}

void spare_keep(const struct pull_op *op, struct pull_program *p)
{
    struct image_store *s = op->store;
    struct spares *spares = s->spares;
    struct pull_program old = PULL_PROGRAM_NONE;
    int64_t now = clock_mono_ns();
    char *key = strdup(op->key);
    uint8_t *auth = malloc(op->auth_len + 1);

    if (auth)
        memcpy(auth, op->auth, op->auth_len);
    pthread_mutex_lock(&s->lock);
    if (key && auth && p->lasting && !s->closing && now - p->started_ns < AGE_MAX_NS) {
        old = drop_kept(spares);
        spares->kept = *p;
        *p = PULL_PROGRAM_NONE;
        spares->kept_since_ns = now;
        spares->key = steal_ptr(&key);
        spares->auth = steal_ptr(&auth);
        spares->auth_len = op->auth_len;
    }
    pthread_mutex_unlock(&s->lock);
    pull_program_end(&old, false);
    if (auth)
        explicit_bzero(auth, op->auth_len);
    free(auth);
    free(key);
}

static void start_fresh(struct image_store *s)
{
    struct pull_program p = PULL_PROGRAM_NONE;
    struct error err = ERROR_INIT;

    if (pull_program_start(s, &p, &err) < 0)
        log_debug("no spare crisp-pull", "error", err.message); // the next pull says what is wrong
    p.lasting = true;
    pthread_mutex_lock(&s->lock);
    s->spares->fresh = p; // only the worker, which this is, puts one there
    pthread_mutex_unlock(&s->lock);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

int64_t spares_tend(struct image_store *s)
{
    struct spares *spares = s->spares;
    struct pull_program fresh = PULL_PROGRAM_NONE, kept = PULL_PROGRAM_NONE;
    int64_t now = clock_mono_ns(), next = 0;
    bool start;

    pthread_mutex_lock(&s->lock);
    if (spares->fresh.pid > 0 && now - spares->fresh.started_ns >= spares->unused_ns) {
        fresh = spares->fresh;
        spares->fresh = PULL_PROGRAM_NONE;
    }
    if (spares->kept.pid > 0 && now - spares->kept_since_ns >= spares->unused_ns)
        kept = drop_kept(spares);
    start = spares->wanted && spares->fresh.pid <= 0 && !s->closing;
    spares->wanted = false;
    pthread_mutex_unlock(&s->lock);
    pull_program_end(&fresh, false);
    pull_program_end(&kept, false);
    if (start)
        start_fresh(s);
    pthread_mutex_lock(&s->lock);
    if (spares->fresh.pid > 0)
        next = spares->fresh.started_ns + spares->unused_ns;
    if (spares->kept.pid > 0)
        next = earlier(next, spares->kept_since_ns + spares->unused_ns);
    pthread_mutex_unlock(&s->lock);
    return next;
}
