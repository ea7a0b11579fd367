// How far a pull is: written by its own thread, read by those who wait for it and want to know.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "image/store_pull.h"

#define PERIOD_NS (100 * NS_PER_MS) // between two times that a watcher is told

// `lock` is held.
static void tell(struct pull_op *op)
{
    uint64_t one = 1;

    for (struct pull_watcher *w = op->watchers; w; w = w->next)
        (void)!write(w->fd, &one, sizeof(one));
}

int pull_progress_begin(struct pull_op *op, const Pull__PullResolved *resolved)
{
    struct image_layer_progress *progress = calloc(resolved->n_layers + 1, sizeof(*progress));

    if (!progress)
        return -ENOMEM;
    for (size_t i = 0; i < resolved->n_layers; i++) {
        (void)snprintf(progress[i].digest, sizeof(progress[i].digest), "%s", resolved->layers[i]->digest);
        progress[i].size = resolved->layers[i]->size;
    }
    pthread_mutex_lock(&op->store->lock);
    op->progress = progress;
    op->n_progress = resolved->n_layers;
    tell(op);
    pthread_mutex_unlock(&op->store->lock);
    return 0;
}

void pull_progress_set(struct pull_op *op, size_t layer, enum image_layer_state state)
{
    pthread_mutex_lock(&op->store->lock);
    if (layer < op->n_progress) {
        op->progress[layer].state = state;
        if (state == IMAGE_LAYER_DONE)
            op->progress[layer].fetched = op->progress[layer].size;
        tell(op);
    }
    pthread_mutex_unlock(&op->store->lock);
}

void pull_progress_amounts(struct pull_op *op, const Pull__Amounts *amounts)
{
    pthread_mutex_lock(&op->store->lock);
    for (size_t i = 0; i < amounts->n_layers; i++) {
        const Pull__LayerAmount *amount = amounts->layers[i];
        struct image_layer_progress *p = amount->index < op->n_progress ? &op->progress[amount->index] : NULL;

        if (!p || p->state != IMAGE_LAYER_FETCHING)
            continue;
        p->fetched = amount->received < p->size ? amount->received : p->size;
        if (p->fetched == p->size)
            p->state = IMAGE_LAYER_UNPACKING;
    }
    tell(op);
    pthread_mutex_unlock(&op->store->lock);
}

// A copy that is the caller's; NULL when nothing is known yet, or memory is short.
static struct image_layer_progress *copy_progress(struct pull_op *op, size_t *n)
{
    struct image_layer_progress *copy = NULL;

    pthread_mutex_lock(&op->store->lock);
    *n = op->n_progress;
    if (op->progress)
        copy = malloc((*n + 1) * sizeof(*copy));
    if (copy)
        memcpy(copy, op->progress, *n * sizeof(*copy));
    pthread_mutex_unlock(&op->store->lock);
    return copy;
}

// 1: told; 0: nothing is known yet.
static int call_watch(struct pull_op *op, const struct image_watch *watch, struct error *err)
{
    size_t n;
    _cleanup_free_ struct image_layer_progress *now = copy_progress(op, &n);

    if (!now)
        return 0;
    return watch->fn(watch->data, now, n, err) < 0 ? -err->errnum : 1;
}

// Until the end, the bounds of ctx, or news, which wait for their time (monotonic): 1 at the end, 0 for news.
static int wait_news(const struct pull_op *op, const struct ctx *ctx, int news_fd, int64_t not_before_ns,
                     struct error *err)
{
    for (;;) {
        int64_t early_ms = (not_before_ns - clock_mono_ns() + NS_PER_MS - 1) / NS_PER_MS;
        int ms = ctx_poll_ms(ctx);
        struct pollfd fds[] = {{.fd = op->done_fd, .events = POLLIN},
                               {.fd = early_ms > 0 ? -1 : news_fd, .events = POLLIN},
                               {.fd = ctx->cancel_fd, .events = POLLIN}};
        uint64_t count;
        int r = ctx_check(ctx, err);

        if (r < 0)
            return r;
        if (early_ms > 0 && (ms < 0 || early_ms < ms))
            ms = (int)early_ms;
        if (poll(fds, ARRAY_SIZE(fds), ms) < 0 && errno != EINTR)
            return error_errno(err, errno, "poll");
        if (fds[0].revents)
            return 1;
        if (fds[1].revents) {
            (void)!read(news_fd, &count, sizeof(count));
            return 0;
        }
    }
}

static void stop_watching(struct pull_op *op, const struct pull_watcher *watcher)
{
    pthread_mutex_lock(&op->store->lock);
    for (struct pull_watcher **p = &op->watchers; *p; p = &(*p)->next) {
        if (*p == watcher) {
            *p = watcher->next;
            break;
        }
    }
    pthread_mutex_unlock(&op->store->lock);
}

int pull_watch_wait(struct pull_op *op, const struct ctx *ctx, const struct image_watch *watch,
                    struct error *err)
{
    _cleanup_fd_ int news_fd = -1;
    struct pull_watcher watcher = {.fd = -1};
    int64_t next_ns = 0;
    int r = 0;

    if (!watch)
        return ctx_wait_fd(ctx, op->done_fd, POLLIN, err);
    news_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); // what is known already is news, too
    if (news_fd < 0)
        return error_errno(err, errno, "watch a pull");
    watcher.fd = news_fd;
    pthread_mutex_lock(&op->store->lock);
    watcher.next = op->watchers;
    op->watchers = &watcher;
    pthread_mutex_unlock(&op->store->lock);
    while (r == 0) {
        r = wait_news(op, ctx, news_fd, next_ns, err);
        int told = r < 0 ? 0 : call_watch(op, watch, err);
        if (told > 0)
            next_ns = clock_mono_ns() + PERIOD_NS;
        if (told < 0)
            r = told;
    }
    stop_watching(op, &watcher);
    return r;
}
