#include "cni/config.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/ctx.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "cni/chain.h"
#include "cni/confdir.h"
#include "cni/plugin.h"
#include "cni/probe.h"
#include "cni/watch.h"

#define FIRST_LOAD_NS (3 * NS_PER_SEC)
#define PROBE_NS      (10 * NS_PER_SEC) // one VERSION or STATUS of all plugins
#define RETRY_MS      5000              // while something is amiss
#define STATUS_MS     10000             // between two STATUS
#define SETTLE_MS     10                // files often come in groups

struct cni_config {
    char *conf_dir;
    char **bin_dirs;
    int stop_fd; // eventfd: readable when the thread is to end
    pthread_t thread;
    bool started;

    // The thread's own.
    struct cni_probe *probe;
    struct cni_watch *watch;

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t loaded;
    bool first_load_done;
    struct cni_conflist *list;
    char load_error[512];
    char problem[512];
};

static const char *const *bin_dirs_of(const struct cni_config *c)
{
    return (const char *const *)c->bin_dirs;
}

static void set_text(char *to, size_t size, const struct error *from)
{
    (void)snprintf(to, size, "%s", from->status == STATUS_OK ? "" : from->message);
}

// Makes the outcome of a load visible, and tells the log what is new about it.
static void publish(struct cni_config *c, struct cni_conflist *list, const struct error *load_error,
                    const struct error *problem)
{
    char old_load_error[sizeof(c->load_error)], old_problem[sizeof(c->problem)];
    (void)pthread_mutex_lock(&c->lock);
    struct cni_conflist *old = c->list;
    memcpy(old_load_error, c->load_error, sizeof(old_load_error));
    memcpy(old_problem, c->problem, sizeof(old_problem));
    c->list = cni_conflist_ref(list);
    set_text(c->load_error, sizeof(c->load_error), load_error);
    set_text(c->problem, sizeof(c->problem), problem);
    c->first_load_done = true;
    (void)pthread_cond_broadcast(&c->loaded);
    (void)pthread_mutex_unlock(&c->lock);

    if (list && list != old)
        log_info("CNI network loaded", "network", list->name, "file", list->path, "version", list->version);
    if (!list && old)
        log_warn("CNI network gone", "network", old->name, "file", old->path);
    if (load_error->status != STATUS_OK && !str_eq(old_load_error, load_error->message))
        log_warn("CNI configuration", "error", load_error->message);
    if (problem->status != STATUS_OK && !str_eq(old_problem, problem->message))
        log_warn("CNI plugins", "error", problem->message);
    cni_conflist_unref(old);
}

static bool is_same(const struct cni_conflist *a, const struct cni_conflist *b)
{
    return a && b && str_eq(a->path, b->path) && str_eq(a->version, b->version) &&
           json_equal(a->json, b->json);
}

// Reads the directory anew and asks the plugins for their versions, where not known yet.
static void load(struct cni_config *c)
{
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *current = cni_config_get(c);
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL;
    struct error load_error = ERROR_INIT, problem = ERROR_INIT, err = ERROR_INIT;
    if (cni_confdir_load(c->conf_dir, current, &list, &load_error, &err) < 0)
        load_error = err;
    if (list) {
        struct ctx bounds = {.deadline_mono_ns = INT64_MAX, .cancel_fd = c->stop_fd};
        bounds = ctx_with_timeout(&bounds, PROBE_NS);
        char version[CNI_VERSION_MAX];
        // A list that is in use already has its version, and is shared: it must not change.
        if (cni_probe_negotiate(c->probe, bin_dirs_of(c), list, &bounds, version, &problem) == 0 &&
            list != current)
            (void)snprintf(list->version, sizeof(list->version), "%s", version);
        if (problem.status == STATUS_OK)
            (void)cni_status(list, bin_dirs_of(c), &bounds, &problem);
        if (problem.status == STATUS_CANCELLED)
            return; // the end of the thread
    }
    publish(c, is_same(current, list) ? current : list, &load_error, &problem);
}

// What to wait for, in milliseconds, before looking again without an event.
static int next_look_ms(struct cni_config *c)
{
    (void)pthread_mutex_lock(&c->lock);
    bool amiss = c->problem[0] || !c->watch;
    bool has_status = c->list && cni_version_compare(c->list->version, "1.1.0") >= 0;
    (void)pthread_mutex_unlock(&c->lock);
    return amiss ? RETRY_MS : has_status ? STATUS_MS : -1;
}

// Waits for a change, the next look, or the end: false for the end.
static bool wait_change(struct cni_config *c)
{
    int64_t timeout_ms = next_look_ms(c);
    int64_t until = timeout_ms < 0 ? INT64_MAX : clock_mono_ns() + timeout_ms * NS_PER_MS;
    struct ctx bounds = {.deadline_mono_ns = until, .cancel_fd = -1};
    for (;;) {
        struct pollfd fds[] = {{.fd = c->stop_fd, .events = POLLIN},
                               {.fd = c->watch ? cni_watch_fd(c->watch) : -1, .events = POLLIN}};
        int n = poll(fds, ARRAY_SIZE(fds), ctx_poll_ms(&bounds));
        if (n > 0 && fds[0].revents)
            return false;
        if (n == 0)
            return true;
        if (n > 0 && cni_watch_changed(c->watch))
            return poll(fds, 1, SETTLE_MS) <= 0; // and let a group of changes settle
    }
}

static void *run(void *arg)
{
    struct cni_config *c = arg;
    bool renamed;
    do {
        _cleanup_(cni_conflist_unrefp) struct cni_conflist *before = cni_config_get(c), *after = NULL;
        cni_watch_free(c->watch);
        // Before reading, so that no change is missed.
        c->watch = cni_watch_new(c->conf_dir, before ? before->name : NULL);
        load(c);
        after = cni_config_get(c);
        renamed = after && !(before && str_eq(before->name, after->name)); // its folder is to be watched, too
    } while (renamed || wait_change(c));
    return NULL;
}

struct cni_conflist *cni_config_get(struct cni_config *config)
{
    (void)pthread_mutex_lock(&config->lock);
    struct cni_conflist *list = cni_conflist_ref(config->list);
    (void)pthread_mutex_unlock(&config->lock);
    return list;
}

void cni_config_get_state(struct cni_config *config, struct cni_config_state *state)
{
    struct error err = ERROR_INIT;
    (void)pthread_mutex_lock(&config->lock);
    *state = (struct cni_config_state){.list = cni_conflist_ref(config->list)};
    memcpy(state->load_error, config->load_error, sizeof(state->load_error));
    memcpy(state->problem, config->problem, sizeof(state->problem));
    if (!config->first_load_done)
        (void)snprintf(state->load_error, sizeof(state->load_error), "%s is still being read",
                       config->conf_dir);
    (void)pthread_mutex_unlock(&config->lock);
    for (size_t i = 0; state->list && !state->problem[0] && i < state->list->n_plugins; i++) {
        _cleanup_free_ char *path = NULL;
        if (cni_plugin_find(bin_dirs_of(config), state->list->plugins[i].type, &path, &err) < 0)
            set_text(state->problem, sizeof(state->problem), &err);
    }
}

static void wait_first_load(struct cni_config *c)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FIRST_LOAD_NS / NS_PER_SEC;
    (void)pthread_mutex_lock(&c->lock);
    int r = 0;
    while (!c->first_load_done && r == 0)
        r = pthread_cond_clockwait(&c->loaded, &c->lock, CLOCK_MONOTONIC, &until);
    (void)pthread_mutex_unlock(&c->lock);
}

int cni_config_open(const char *conf_dir, const char *const *bin_dirs, struct cni_config **out,
                    struct error *err)
{
    struct cni_config *c = calloc(1, sizeof(*c));
    if (!c)
        return error_errno(err, ENOMEM, "CNI configuration");
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_cond_init(&c->loaded, NULL);
    c->conf_dir = strdup(conf_dir);
    c->bin_dirs = strv_new(0);
    c->probe = cni_probe_new();
    int r = c->conf_dir && c->bin_dirs && c->probe ? 0 : -ENOMEM;
    for (const char *const *d = bin_dirs; r == 0 && *d; d++)
        r = strv_append(&c->bin_dirs, *d);
    c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r == 0 && c->stop_fd < 0)
        r = -errno;
    if (r == 0)
        r = -pthread_create(&c->thread, NULL, run, c);
    if (r < 0) {
        cni_config_close(c);
        return error_errno(err, -r, "CNI configuration");
    }
    c->started = true;
    wait_first_load(c);
    *out = c;
    return 0;
}

void cni_config_close(struct cni_config *config)
{
    if (!config)
        return;
    if (config->started) {
        const uint64_t one = 1;
        (void)file_write_all(config->stop_fd, &one, sizeof(one));
        (void)pthread_join(config->thread, NULL);
    }
    cni_watch_free(config->watch);
    cni_probe_free(config->probe);
    cni_conflist_unref(config->list);
    fd_closep(&config->stop_fd);
    strv_free(config->bin_dirs);
    free(config->conf_dir);
    (void)pthread_cond_destroy(&config->loaded);
    (void)pthread_mutex_destroy(&config->lock);
    free(config);
}
