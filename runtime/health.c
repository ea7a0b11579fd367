// What is known of a container's health.
#include "runtime/health.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define CONFIG_ARENA (256u << 10)

static const char *const status_names[] = {"starting", "healthy", "unhealthy"};

const char *health_status_name(enum health_status status)
{
    return status_names[status];
}

int health_new(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config, struct health **out)
{
    struct annotations *all = NULL;
    *out = NULL;
    if (!annotations_any(pod, config))
        return 0;
    struct arena *arena = arena_new(CONFIG_ARENA);
    struct health *h = arena ? calloc(1, sizeof(*h)) : NULL;
    int r = h ? annotations_read(pod, config, arena, &all, NULL) : -ENOMEM;
    if (r < 0 || !all->health) {
        free(h);
        arena_free(arena);
        return r;
    }
    h->arena = arena;
    h->config = all->health;
    *out = h;
    return 0;
}

void health_free(struct health *h)
{
    if (!h)
        return;
    for (size_t i = 0; i < h->n_log; i++)
        free(h->log[i].output);
    arena_free(h->arena);
    free(h);
}

static void append(struct health *h, const struct health_result *result)
{
    if (h->n_log == HEALTH_LOG_MAX) {
        free(h->log[0].output);
        memmove(h->log, h->log + 1, (HEALTH_LOG_MAX - 1) * sizeof(h->log[0]));
        h->n_log--;
    }
    h->log[h->n_log++] = *result;
}

static bool in_start_period(const struct health *h, int64_t started_at_ns, int64_t at_ns)
{
    return h->status == HEALTH_STARTING && at_ns - started_at_ns < h->config->start_period_ns;
}

bool health_apply(struct health *h, struct health_result *result, int64_t started_at_ns)
{
    enum health_status before = h->status;
    append(h, result);
    if (result->exit_code == 0) {
        h->status = HEALTH_HEALTHY;
        h->failing_streak = 0;
    } else if (!in_start_period(h, started_at_ns, result->start_ns)) {
        h->failing_streak++;
        if (h->failing_streak >= h->config->retries)
            h->status = HEALTH_UNHEALTHY;
    }
    return h->status != before;
}

int64_t health_delay_ns(const struct health *h, int64_t started_at_ns, int64_t now_ns)
{
    if (in_start_period(h, started_at_ns, now_ns) && h->config->start_interval_ns < h->config->interval_ns)
        return h->config->start_interval_ns;
    return h->config->interval_ns;
}

static json_t *result_json(const struct health_result *result)
{
    char start[CLOCK_RFC3339_MAX], end[CLOCK_RFC3339_MAX];
    clock_format_rfc3339(result->start_ns, start);
    clock_format_rfc3339(result->end_ns, end);
    return json_pack("{s:s, s:s, s:I, s:I, s:i, s:s}", "start", start, "end", end, "start_ns",
                     (json_int_t)result->start_ns, "end_ns", (json_int_t)result->end_ns, "exit_code",
                     (int)result->exit_code, "output", result->output ? result->output : "");
}

char *health_json(const struct health *h)
{
    json_t *log = json_array();
    for (size_t i = 0; i < h->n_log; i++)
        (void)json_array_append_new(log, result_json(&h->log[i]));
    json_t *json = json_pack("{s:s, s:I, s:o}", "status", status_names[h->status], "failing_streak",
                             (json_int_t)h->failing_streak, "log", log);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

static void restore_result(struct health *h, const json_t *one)
{
    const char *output = json_string_value(json_object_get(one, "output"));
    struct health_result result = {
        .start_ns = json_integer_value(json_object_get(one, "start_ns")),
        .end_ns = json_integer_value(json_object_get(one, "end_ns")),
        .exit_code = (int32_t)json_integer_value(json_object_get(one, "exit_code")),
        .output = strdup(output ? output : ""),
    };
    append(h, &result);
}

void health_restore(struct health *h, const char *json)
{
    json_t *top = json_loads(json, 0, NULL), *log = json_object_get(top, "log"), *one;
    const char *status = json_string_value(json_object_get(top, "status"));
    json_int_t streak = json_integer_value(json_object_get(top, "failing_streak"));
    size_t i;
    for (i = 0; i < ARRAY_SIZE(status_names); i++) {
        if (str_eq(status, status_names[i]))
            h->status = (enum health_status)i;
    }
    h->failing_streak = streak > 0 && streak < UINT32_MAX ? (unsigned)streak : 0;
    json_array_foreach(log, i, one)
    {
        restore_result(h, one);
    }
    json_decref(top);
}

bool health_turn_take(struct health_turns *t, int64_t now_mono_ns)
{
    for (size_t i = 0; i < HEALTH_YOUNG; i++) {
        int64_t *begun = &t->begun_mono_ns[i];
        if (*begun != 0 && now_mono_ns - *begun < HEALTH_YOUNG_NS)
            continue;
        *begun = now_mono_ns;
        return true;
    }
    return false;
}

void health_turn_give(struct health_turns *t, int64_t begun_mono_ns)
{
    for (size_t i = 0; i < HEALTH_YOUNG; i++) {
        if (t->begun_mono_ns[i] == begun_mono_ns) { // else another has it already
            t->begun_mono_ns[i] = 0;
            return;
        }
    }
}
