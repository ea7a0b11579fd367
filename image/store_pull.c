// Who waits for which pull.
#include "image/store_pull.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/policy.h"

#define THREAD_STACK (256 * 1024)

void pull_op_free(struct pull_op *op)
{
    if (!op)
        return;
    reference_done(&op->ref);
    if (op->auth)
        explicit_bzero(op->auth, op->auth_len);
    free(op->auth);
    free(op->key);
    free(op->image_id);
    free(op->progress);
    strv_free(op->names);
    fd_closep(&op->done_fd);
    fd_closep(&op->cancel_fd);
    fd_closep(&op->wake_fd);
    free(op);
}

static void poke(int fd)
{
    uint64_t one = 1;

    (void)!write(fd, &one, sizeof(one));
}

void pull_ops_wake(struct image_store *s)
{
    for (struct pull_op *op = s->ops; op; op = op->next)
        poke(op->wake_fd);
}

void pull_ops_cancel_all(struct image_store *s)
{
    pthread_mutex_lock(&s->lock);
    for (struct pull_op *op = s->ops; op; op = op->next) {
        op->cancelled = true;
        poke(op->cancel_fd);
    }
    settle_wake_waiters(s);
    pthread_mutex_unlock(&s->lock);
}

// Takes one operation that can be joined off the list.
static struct pull_op *take_ended(struct image_store *s, bool all)
{
    struct pull_op **p, *op = NULL;

    pthread_mutex_lock(&s->lock);
    for (p = &s->ops; *p && !((*p)->waiters == 0 && ((*p)->ended || all)); p = &(*p)->next)
        ;
    if (*p) {
        op = *p;
        *p = op->next;
    }
    pthread_mutex_unlock(&s->lock);
    return op;
}

void pull_ops_reap(struct image_store *s, bool all)
{
    struct pull_op *op = NULL;

    while ((op = take_ended(s, all))) {
        pthread_join(op->thread, NULL);
        pull_op_free(op);
    }
}

void pull_op_answer(struct pull_op *op)
{
    struct image_store *s = op->store;

    pthread_mutex_lock(&s->lock);
    op->ended = true;
    poke(op->done_fd);
    pthread_mutex_unlock(&s->lock);
}

static void *op_main(void *data)
{
    struct pull_op *op = data;
    struct image_store *s = op->store;

    pull_op_run(op);
    pull_op_answer(op);
    spares_want(s);
    pthread_mutex_lock(&s->lock);
    s->trash_pending = true; // the worker joins this thread
    pthread_cond_signal(&s->worker_wanted);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct pull_op *pull_op_new(struct image_store *s, const struct reference *ref, const char *key,
                            const uint8_t *auth, size_t auth_len)
{
    struct pull_op *op = calloc(1, sizeof(*op));

    if (!op)
        return NULL;
    op->store = s;
    op->archive_fd = -1;
    op->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    op->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    op->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    op->key = strdup(key);
    op->auth = malloc(auth_len + 1);
    op->auth_len = auth_len;
    op->ref.domain = ref->domain ? strdup(ref->domain) : NULL;
    op->ref.path = ref->path ? strdup(ref->path) : NULL;
    op->ref.tag = ref->tag ? strdup(ref->tag) : NULL;
    op->ref.digest = ref->digest ? strdup(ref->digest) : NULL;
    if (op->auth)
        memcpy(op->auth, auth, auth_len);
    if (op->done_fd < 0 || op->cancel_fd < 0 || op->wake_fd < 0 || !op->key || !op->auth ||
        !op->ref.domain != !ref->domain || !op->ref.path != !ref->path || !op->ref.tag != !ref->tag ||
        !op->ref.digest != !ref->digest) {
        pull_op_free(op);
        return NULL;
    }
    return op;
}

int pull_op_start(struct image_store *s, struct pull_op *op, struct error *err)
{
    pthread_attr_t attr;
    int rc;

    if (s->closing)
        return error_set(err, STATUS_UNAVAILABLE, ESHUTDOWN, "the daemon is shutting down");
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    rc = pthread_create(&op->thread, &attr, op_main, op);
    pthread_attr_destroy(&attr);
    if (rc != 0)
        return error_errno(err, rc, "start the pull of %s", op->key);
    op->next = s->ops;
    s->ops = op;
    op->waiters++;
    return 0;
}

// The running pull of the same thing, or a new one; the caller is counted as waiting.
static int join_op(struct image_store *s, const struct reference *ref, const char *key, const uint8_t *auth,
                   size_t auth_len, struct pull_op **out, struct error *err)
{
    struct pull_op *op = NULL;
    int r = 0;

    pthread_mutex_lock(&s->lock);
    for (op = s->ops; op; op = op->next)
        if (!op->cancelled && !op->ended && str_eq(op->key, key) && op->auth_len == auth_len &&
            memcmp(op->auth, auth, auth_len) == 0)
            break;
    if (op) {
        op->waiters++;
    } else {
        op = pull_op_new(s, ref, key, auth, auth_len);
        r = op ? pull_op_start(s, op, err) : error_errno(err, ENOMEM, "start the pull of %s", key);
        if (r < 0)
            pull_op_free(op);
    }
    pthread_mutex_unlock(&s->lock);
    *out = op;
    return r;
}

void pull_op_leave(struct image_store *s, struct pull_op *op)
{
    pthread_mutex_lock(&s->lock);
    op->waiters--;
    if (op->waiters == 0 && !op->ended) {
        op->cancelled = true;
        poke(op->cancel_fd);
        settle_wake_waiters(s);
    }
    s->trash_pending = true; // ended: the worker may join it now
    pthread_cond_signal(&s->worker_wanted);
    pthread_mutex_unlock(&s->lock);
}

static int op_result(struct image_store *s, const struct pull_op *op, char **image_id, struct error *err)
{
    // done_fd told that it has ended; the lock brings what its thread wrote over to this one.
    pthread_mutex_lock(&s->lock);
    pthread_mutex_unlock(&s->lock);
    if (op->result < 0) {
        if (err)
            *err = op->error;
        return op->result;
    }
    *image_id = strdup(op->image_id);
    return *image_id ? 0 : error_errno(err, ENOMEM, "pull %s", op->key);
}

int image_store_pull(struct image_store *s, const char *ref, const Cri__AuthConfig *auth,
                     const struct ctx *ctx, char **image_id, struct error *err)
{
    return image_store_pull_watched(s, ref, auth, ctx, NULL, image_id, err);
}

int image_store_pull_watched(struct image_store *s, const char *ref, const Cri__AuthConfig *auth,
                             const struct ctx *ctx, const struct image_watch *watch, char **image_id,
                             struct error *err)
{
    struct reference parsed;
    _cleanup_free_ char *key = NULL;
    _cleanup_free_ uint8_t *packed = NULL;
    size_t packed_len = 0;
    const struct policy_entry *require;
    struct pull_op *op = NULL;
    int r = reference_parse(ref, &parsed, err);

    if (r < 0)
        return r;
    r = policy_check_pull(s->policies, s->allowed, &parsed, &require, err);
    if (r < 0) {
        reference_done(&parsed);
        return error_wrap(err, "pull %s", ref);
    }
    key = reference_format(&parsed);
    if (!key || (auth && pb_pack(&auth->base, &packed, &packed_len) < 0))
        r = error_errno(err, ENOMEM, "pull %s", ref);
    if (r == 0)
        r = ctx_check(ctx, err);
    if (r == 0)
        r = join_op(s, &parsed, key, packed ? packed : (const uint8_t *)"", packed_len, &op, err);
    reference_done(&parsed);
    if (packed)
        explicit_bzero(packed, packed_len);
    if (r < 0)
        return r;
    r = pull_watch_wait(op, ctx, watch, err);
    r = r > 0 ? op_result(s, op, image_id, err) : error_wrap(err, "pull %s", key);
    pull_op_leave(s, op);
    return r;
}
