// Running the checks.
#include "runtime/store.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/health.h"

#define FILE_MAX (256u << 10) // of what health_json() makes: five outputs, escaped

static void file_path(const struct container *c, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/health/%s", c->pod->dir, c->id);
}

// For the next daemon. Without it, that one begins anew.
static void keep(const struct container *c, const char *json)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/health", c->pod->dir);
    (void)mkdir(path, 0700);
    file_path(c, path);
    (void)file_write_atomic(path, json, strlen(json), 0600, false, NULL);
}

enum wanted { WANTED, NOT_NOW, NO_MORE };

// How soon one is tried again that found as many under way as there may be.
#define TURN_WAIT_NS (250 * NS_PER_MS)

// The lock is held. A container that is being stopped is not to be called ill.
static enum wanted wanted(const struct container *c)
{
    const struct container_private *p = c->private;
    if (p->forgotten || (p->state != CONTAINER_RUNNING && p->state != CONTAINER_UNKNOWN))
        return NO_MORE;
    return p->state == CONTAINER_RUNNING && p->kill_at_mono_ns == INT64_MAX ? WANTED : NOT_NOW;
}

static char *text_of(const struct exec_result *r)
{
    char both[HEALTH_OUTPUT_MAX + 1];
    size_t out = r->out.len < HEALTH_OUTPUT_MAX ? r->out.len : HEALTH_OUTPUT_MAX;
    size_t rest = HEALTH_OUTPUT_MAX - out, errors = r->err.len < rest ? r->err.len : rest;
    size_t len = 0;
    for (size_t i = 0; i < out + errors; i++) { // a NUL would hide what comes after it
        char byte = i < out ? r->out.data[i] : r->err.data[i - out];
        if (byte)
            both[len++] = byte;
    }
    both[len] = '\0';
    return str_sanitize_utf8(both);
}

// One check. false: it was called off by the daemon's end, and says nothing.
static bool check(struct runtime *rt, struct container *c, const struct annotation_health *config,
                  struct health_result *result)
{
    struct ctx bounds = runtime_work_ctx(rt), ctx = ctx_with_timeout(&bounds, config->timeout_ns);
    struct exec_result exec;
    struct error err = ERROR_INIT;
    result->start_ns = clock_wall_ns();
    int r = exec_bounded(rt, c, config->test, config->n_test, &ctx, HEALTH_OUTPUT_MAX, &exec, &err);
    result->end_ns = clock_wall_ns();
    if (r == 0) {
        result->exit_code = exec.exit_code;
        result->output = text_of(&exec);
        exec_result_done(&exec);
        return true;
    }
    result->exit_code = HEALTH_NO_CODE;
    result->output = err.status == STATUS_DEADLINE_EXCEEDED
                         ? str_printf("the check took longer than %lld ms and was killed",
                                      (long long)(config->timeout_ns / NS_PER_MS))
                         : str_sanitize_utf8(err.message);
    return err.status != STATUS_CANCELLED;
}

static void take_result(struct runtime *rt, struct container *c, struct health_result *result)
{
    _cleanup_free_ char *json = NULL;
    char code[16];
    store_lock(rt);
    struct health *h = c->private->health;
    bool counts = wanted(c) == WANTED; // else its end has cut the check short
    bool changed = counts && health_apply(h, result, c->private->started_at_ns);
    enum health_status status = h->status;
    if (counts)
        json = health_json(h);
    store_unlock(rt);
    (void)snprintf(code, sizeof(code), "%d", (int)result->exit_code);
    if (!counts)
        free(result->output);
    if (changed && status == HEALTH_UNHEALTHY)
        log_warn("container is unhealthy", "container", c->id, "pod", c->pod->id, "exit_code", code);
    else if (changed)
        log_info("container is healthy", "container", c->id, "pod", c->pod->id);
    if (json)
        keep(c, json);
}

// The lock is held. Not 0: it is one of its pod's checks under way, and one that has just begun, until
// turn_give() gets this.
static int64_t turn_take(struct runtime *rt, struct container *c)
{
    struct pod_private *pod = c->pod->private;
    int64_t now = clock_mono_ns();
    if (pod->checks >= HEALTH_PER_POD || !health_turn_take(rt->health_turns, now))
        return 0;
    pod->checks++;
    return now;
}

static void turn_give(struct runtime *rt, struct container *c, int64_t turn)
{
    store_lock(rt);
    c->pod->private->checks--;
    health_turn_give(rt->health_turns, turn);
    store_unlock(rt);
}

static void schedule(struct runtime *rt, struct container *c, bool soon);

static int job(void *data, unsigned attempt)
{
    struct container *c = data;
    struct runtime *rt = c->private->rt;
    struct health_result result = {0};
    (void)attempt;
    store_lock(rt);
    enum wanted now = wanted(c);
    int64_t turn = now == WANTED ? turn_take(rt, c) : 0;
    store_unlock(rt);
    if (now == NO_MORE)
        return 0;
    if (turn) {
        bool told = check(rt, c, c->private->health->config, &result);
        turn_give(rt, c, turn);
        if (told)
            take_result(rt, c, &result);
        else
            free(result.output);
    }
    schedule(rt, c, now == WANTED && !turn);
    return 0;
}

static void drop(void *data)
{
    container_unref(data);
}

// soon: it is due, but it isn't its turn.
static void schedule(struct runtime *rt, struct container *c, bool soon)
{
    store_lock(rt);
    int64_t delay =
        soon ? TURN_WAIT_NS : health_delay_ns(c->private->health, c->private->started_at_ns, clock_wall_ns());
    store_unlock(rt);
    if (worker_add(rt->health_worker, job, drop, container_ref(c), delay) < 0)
        return;
    store_lock(rt);
    bool over = wanted(c) == NO_MORE; // then health_forget() may have come before the job
    store_unlock(rt);
    if (over)
        worker_cancel(rt->health_worker, job, c);
}

// Its next check may be due tomorrow: until then the job would keep the container in memory.
void health_forget(struct runtime *rt, struct container *c)
{
    char path[PATH_MAX];
    worker_cancel(rt->health_worker, job, c);
    file_path(c, path);
    (void)unlink(path);
}

static void restore(const struct container *c, struct health *h)
{
    char path[PATH_MAX];
    _cleanup_free_ char *json = NULL;
    file_path(c, path);
    if (file_read(path, FILE_MAX, &json, NULL, NULL) == 0)
        health_restore(h, json);
}

void health_started(struct runtime *rt, struct container *c)
{
    struct container_private *p = c->private;
    struct health *h;
    store_lock(rt);
    bool wants = !p->health && p->state == CONTAINER_RUNNING;
    store_unlock(rt);
    if (!wants || !annotations_any(c->pod->config, c->config))
        return;
    if (health_new(c->pod->config, c->config, &h) < 0) {
        log_error("a container's health is not checked: out of memory", "container", c->id);
        return;
    }
    if (!h)
        return;
    restore(c, h);
    store_lock(rt);
    bool first = !p->health;
    if (first)
        p->health = h;
    store_unlock(rt);
    if (first)
        schedule(rt, c, false);
    else
        health_free(h);
}

char *runtime_container_health(struct runtime *rt, struct container *c)
{
    store_lock(rt);
    char *json = c->private->health ? health_json(c->private->health) : NULL;
    store_unlock(rt);
    return json;
}
