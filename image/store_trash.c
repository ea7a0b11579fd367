// The background worker: deletes layers that nothing needs and what was renamed into the trash, joins pulls
// that have ended, and keeps a crisp-pull ready after them.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "image/store.h"

// A child of a pull that was killed may still be writing for a moment; other failures are worth some
// patience.
#define RETRY_MIN_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS (30 * NS_PER_SEC)

int trash_put(struct image_store *s, const char *path, struct error *err)
{
    char suffix[17];
    _cleanup_free_ char *to = NULL;
    int r = str_random_hex(suffix, 16);

    if (r < 0)
        return error_errno(err, -r, "remove %s", path);
    to = str_printf("%s/%s", s->trash_dir, suffix);
    if (!to)
        return error_errno(err, ENOMEM, "remove %s", path);
    if (rename(path, to) < 0 && errno != ENOENT)
        return error_errno(err, errno, "move %s to %s", path, s->trash_dir);
    trash_wake(s);
    return 0;
}

void trash_wake(struct image_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->trash_pending = true;
    pthread_cond_signal(&s->worker_wanted);
    pthread_mutex_unlock(&s->lock);
}

// False when something could not be deleted (an unpacking child may still have been writing).
static bool empty_trash(struct image_store *s, bool again)
{
    _cleanup_(dir_closep) DIR *dir = opendir(s->trash_dir);
    struct dirent *d;
    bool all = true;

    while (dir && (d = readdir(dir))) {
        struct error err = ERROR_INIT;
        _cleanup_free_ char *path = NULL;

        if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
            continue;
        path = str_printf("%s/%s", s->trash_dir, d->d_name);
        if (!path || file_remove_tree(path, &err) < 0) {
            if (again)
                log_warn("delete from the image trash; will try again", "path", path, "error", err.message);
            all = false;
        }
    }
    return all;
}

// Waits until there is work, until `at` (CLOCK_MONOTONIC) at most unless it is 0; false when the store
// closes. `lock` is held.
static bool wait_for_work(struct image_store *s, int64_t at)
{
    struct timespec until = {.tv_sec = at / NS_PER_SEC, .tv_nsec = at % NS_PER_SEC};

    while (!s->trash_pending && !s->closing) {
        if (at == 0)
            pthread_cond_wait(&s->worker_wanted, &s->lock);
        else if (pthread_cond_timedwait(&s->worker_wanted, &s->lock, &until) == ETIMEDOUT)
            break;
    }
    s->trash_pending = false;
    return !s->closing;
}

static void *worker_main(void *data)
{
    struct image_store *s = data;
    int64_t retry_ns = 0, retry_at = 0, spares_at = 0;

    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool more = wait_for_work(s, retry_at && (!spares_at || retry_at < spares_at) ? retry_at : spares_at);
        pthread_mutex_unlock(&s->lock);
        if (!more)
            return NULL;
        pull_ops_reap(s, false);
        spares_at = spares_tend(s);
        bool done = records_bury(s);
        done = empty_trash(s, retry_ns > 0) && done;
        retry_ns = done ? 0 : retry_ns == 0 ? RETRY_MIN_NS : 2 * retry_ns;
        retry_ns = retry_ns < RETRY_MAX_NS ? retry_ns : RETRY_MAX_NS;
        retry_at = retry_ns ? clock_mono_ns() + retry_ns : 0;
    }
}

int trash_start(struct image_store *s, struct error *err)
{
    int rc = pthread_create(&s->worker, NULL, worker_main, s);

    if (rc != 0)
        return error_errno(err, rc, "start the background worker");
    s->worker_started = true;
    trash_wake(s);
    return 0;
}

void trash_stop(struct image_store *s)
{
    if (!s->worker_started)
        return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->worker_wanted);
    settle_wake_waiters(s);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->worker, NULL);
    s->worker_started = false;
}
