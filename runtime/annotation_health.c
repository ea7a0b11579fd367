// crisp.run/health: {"test": ["CMD", "redis-cli", "ping"], "interval": "10s", "retries": 3}, after the
// HEALTHCHECK of docker's images.
#include "runtime/annotation_internal.h"

#include <jansson.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define ARGS_MAX    256
#define RETRIES_MAX 1000
// Often enough for anybody, and a bound on what one container can make the daemon do.
#define INTERVAL_MIN_NS (100 * NS_PER_MS)

static void json_freep(json_t **j)
{
    json_decref(*j);
}

static int read_test(struct annotation_job *job, const json_t *test, struct annotation_health *h)
{
    size_t n = json_array_size(test);
    const char *kind = json_string_value(json_array_get(test, 0));
    bool shell = str_eq(kind, "CMD-SHELL");
    if (str_eq(kind, "NONE") && n == 1)
        return 0;
    if ((!shell && !str_eq(kind, "CMD")) || n < 2 || (shell && n != 2) || n > ARGS_MAX)
        return annotation_bad(job, "\"test\" is not [\"CMD\", PROGRAM, ARGUMENT …], [\"CMD-SHELL\", LINE] or "
                                   "[\"NONE\"]");
    h->test = arena_alloc(job->arena, (n + 3) * sizeof(*h->test));
    if (!h->test)
        return annotation_no_memory(job);
    if (shell) {
        h->test[h->n_test++] = arena_strdup(job->arena, "/bin/sh");
        h->test[h->n_test++] = arena_strdup(job->arena, "-c");
    }
    for (size_t i = 1; i < n; i++) {
        const char *arg = json_string_value(json_array_get(test, i));
        if (!arg || (i == 1 && arg[0] == '\0'))
            return annotation_bad(job, "\"test\" has an element that is not a text, or no program");
        h->test[h->n_test++] = arena_strdup(job->arena, arg);
    }
    for (size_t i = 0; i < h->n_test; i++) {
        if (!h->test[i])
            return annotation_no_memory(job);
    }
    return 0;
}

static int read_duration(struct annotation_job *job, const char *key, const json_t *value, int64_t min_ns,
                         int64_t *out)
{
    const char *text = json_string_value(value);
    if (text && annotation_parse_duration(text, out) && *out >= min_ns)
        return 0;
    return annotation_bad(job, "\"%s\" is not a text such as \"30s\" or \"1m30s\", from %s to 24h", key,
                          min_ns > 0 ? "100ms" : "0s");
}

static int read_member(struct annotation_job *job, const char *key, const json_t *value,
                       struct annotation_health *h)
{
    if (str_eq(key, "test"))
        return read_test(job, value, h);
    if (str_eq(key, "interval"))
        return read_duration(job, key, value, INTERVAL_MIN_NS, &h->interval_ns);
    if (str_eq(key, "timeout"))
        return read_duration(job, key, value, INTERVAL_MIN_NS, &h->timeout_ns);
    if (str_eq(key, "start_period"))
        return read_duration(job, key, value, 0, &h->start_period_ns);
    if (str_eq(key, "start_interval"))
        return read_duration(job, key, value, INTERVAL_MIN_NS, &h->start_interval_ns);
    if (!str_eq(key, "retries"))
        return annotation_bad(job,
                              "\"%.60s\" is not known; there are test, interval, timeout, start_period, "
                              "start_interval and retries",
                              key);
    json_int_t retries = json_integer_value(value);
    if (retries < 1 || retries > RETRIES_MAX)
        return annotation_bad(job, "\"retries\" is not a whole number from 1 to %d", RETRIES_MAX);
    h->retries = (unsigned)retries;
    return 0;
}

int annotation_read_health(struct annotation_job *job)
{
    json_error_t why;
    const char *key;
    json_t *value;
    _cleanup_(json_freep) json_t *json = json_loads(job->value, JSON_REJECT_DUPLICATES, &why);
    struct annotation_health *h = arena_alloc(job->arena, sizeof(*h));
    if (!h)
        return annotation_no_memory(job);
    if (!json_is_object(json))
        return annotation_bad(job, "is not a JSON object: %.200s", json ? "it is something else" : why.text);
    *h = (struct annotation_health){.interval_ns = 30 * NS_PER_SEC,
                                    .timeout_ns = 30 * NS_PER_SEC,
                                    .start_interval_ns = 5 * NS_PER_SEC,
                                    .retries = 3};
    json_object_foreach(json, key, value)
    {
        int r = read_member(job, key, value, h);
        if (r < 0)
            return r;
    }
    if (!json_object_get(json, "test"))
        return annotation_bad(job, "\"test\" is missing");
    job->out->health = h->n_test > 0 ? h : NULL; // NONE takes away what the pod asks of all
    return 0;
}
