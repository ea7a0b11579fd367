// Tear-downs that a plugin failed are tried again, with back-off, until they succeed: one thread, which also
// runs those that a restart left over.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "network/internal.h"

void network_pending_add(struct network *net, const char *pod_id, const struct error *why)
{
    (void)pthread_mutex_lock(&net->lock);
    struct pending *p = map_get(net->pending, pod_id);
    if (!p && (p = calloc(1, sizeof(*p))) != NULL && map_set(net->pending, pod_id, p) < 0) {
        free(p);
        p = NULL; // its record stays: the next start finds it
    }
    if (p && why) {
        int64_t next = p->backoff_ns ? p->backoff_ns * 2 : NETWORK_RETRY_FIRST_NS;
        p->backoff_ns = next < NETWORK_RETRY_MAX_NS ? next : NETWORK_RETRY_MAX_NS;
        p->attempts++;
        (void)snprintf(p->last_error, sizeof(p->last_error), "%.200s", why->message);
    }
    if (p)
        p->due_mono_ns = clock_mono_ns() + p->backoff_ns;
    (void)pthread_cond_broadcast(&net->changed);
    (void)pthread_mutex_unlock(&net->lock);
}

void network_pending_drop(struct network *net, const char *pod_id)
{
    (void)pthread_mutex_lock(&net->lock);
    free(map_remove(net->pending, pod_id));
    (void)pthread_mutex_unlock(&net->lock);
}

// The pending one that is due first; NULL if there is none. The lock is held.
static const char *first_due(const struct network *net, int64_t *due_mono_ns)
{
    const char *id = NULL;
    for (struct map_iter it = {0}; map_next(net->pending, &it);) {
        const struct pending *p = it.value;
        if (!id || p->due_mono_ns < *due_mono_ns) {
            id = it.key;
            *due_mono_ns = p->due_mono_ns;
        }
    }
    return id;
}

// Waits until something is to be done. True: GC or, in *id (the caller frees), a tear-down; false: the end.
static bool wait_for_work(struct network *net, char **id, bool *gc)
{
    bool found = false;
    *id = NULL;
    (void)pthread_mutex_lock(&net->lock);
    while (!net->stopping && !found) {
        int64_t due = INT64_MAX;
        const char *first = first_due(net, &due);
        if (first && due <= clock_mono_ns()) {
            found = (*id = strdup(first)) != NULL;
        } else if (net->gc_due && !first && net->adding == 0) { // after the tear-downs: those DELs know more
            net->gc_due = false;
            net->collecting = found = *gc = true;
        }
        if (found)
            break;
        if (first) {
            struct timespec until = {.tv_sec = due / NS_PER_SEC, .tv_nsec = due % NS_PER_SEC};
            (void)pthread_cond_clockwait(&net->changed, &net->lock, CLOCK_MONOTONIC, &until);
        } else {
            (void)pthread_cond_wait(&net->changed, &net->lock);
        }
    }
    bool stopping = net->stopping;
    (void)pthread_mutex_unlock(&net->lock);
    return !stopping;
}

static void retry_one(struct network *net, const char *id)
{
    const struct ctx until_stop = {.deadline_mono_ns = INT64_MAX, .cancel_fd = net->stop_fd};
    struct error err = ERROR_INIT;
    struct turn *turn = NULL;
    if (network_turn_take(net, id, &until_stop, &turn, &err) < 0) {
        network_pending_add(net, id, &err);
        return;
    }
    (void)pthread_mutex_lock(&net->lock);
    bool wanted = map_get(net->pending, id) != NULL; // a StopPodSandbox may have come first
    (void)pthread_mutex_unlock(&net->lock);
    int r = wanted ? network_tear_down(net, id, &until_stop, &err) : 0;
    network_turn_give(net, turn);
    if (r < 0 && err.status != STATUS_CANCELLED)
        log_warn("network tear-down failed, will be tried again", "pod", id, "error", err.message);
    else if (r == 0 && wanted)
        log_info("network torn down", "pod", id);
}

void network_adding_begin(struct network *net)
{
    (void)pthread_mutex_lock(&net->lock);
    net->adding++;
    if (net->collecting)
        (void)eventfd_write(net->gc_fd, 1);
    while (net->collecting)
        (void)pthread_cond_wait(&net->changed, &net->lock);
    (void)pthread_mutex_unlock(&net->lock);
}

void network_adding_end(struct network *net)
{
    (void)pthread_mutex_lock(&net->lock);
    if (--net->adding == 0 && net->gc_due)
        (void)pthread_cond_broadcast(&net->changed);
    (void)pthread_mutex_unlock(&net->lock);
}

// CNI GC: whatever has no record any more. True: an ADD cut it short, so it is due again.
static bool collect_garbage(struct network *net)
{
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = cni_config_get(net->config);
    _cleanup_strv_ char **ids = NULL;
    struct error err = ERROR_INIT;
    if (!list || cni_record_list(net->cache_dir, &ids, &err) < 0)
        return false;
    size_t n = strv_len(ids);
    _cleanup_free_ struct cni_valid_attachment *valid = calloc(n + 1, sizeof(*valid));
    for (size_t i = 0; valid && i < n; i++)
        valid[i] = (struct cni_valid_attachment){.container_id = ids[i], .ifname = NETWORK_IFNAME};
    struct ctx ctx = {.deadline_mono_ns = INT64_MAX, .cancel_fd = net->gc_fd};
    ctx = ctx_with_timeout(&ctx, net->plugin_timeout_ns);
    if (!valid || cni_gc(list, (const char *const *)net->bin_dirs, valid, n, &ctx, &err) == 0)
        return false;
    if (err.status != STATUS_CANCELLED)
        log_warn("CNI GC failed", "network", list->name, "error", err.message);
    return err.status == STATUS_CANCELLED;
}

static void run_gc(struct network *net)
{
    const struct ctx stop = {.deadline_mono_ns = INT64_MAX, .cancel_fd = net->stop_fd};
    bool again = ctx_check(&stop, NULL) == 0 && collect_garbage(net);
    uint64_t n;
    (void)pthread_mutex_lock(&net->lock);
    net->collecting = false;
    net->gc_due = net->gc_due || again;
    // Whatever called it off has been heard; the end is seen by the check above.
    (void)!read(net->gc_fd, &n, sizeof(n));
    (void)pthread_cond_broadcast(&net->changed);
    (void)pthread_mutex_unlock(&net->lock);
}

static void *run(void *arg)
{
    struct network *net = arg;
    char *id = NULL;
    bool gc = false;
    while (wait_for_work(net, &id, &gc)) {
        if (gc)
            run_gc(net);
        if (id)
            retry_one(net, id);
        gc = false;
        free(id);
        id = NULL;
    }
    free(id);
    return NULL;
}

int network_worker_start(struct network *net, struct error *err)
{
    int r = pthread_create(&net->worker, NULL, run, net);
    if (r)
        return error_errno(err, r, "start the network worker");
    net->worker_started = true;
    return 0;
}

void network_worker_stop(struct network *net)
{
    if (!net->worker_started)
        return;
    network_shutdown(net);
    (void)pthread_mutex_lock(&net->lock);
    net->stopping = true;
    (void)pthread_cond_broadcast(&net->changed);
    (void)pthread_mutex_unlock(&net->lock);
    (void)pthread_join(net->worker, NULL);
    net->worker_started = false;
}
