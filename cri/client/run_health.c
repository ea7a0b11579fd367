// The health check of `crisp run`: one annotation, JSON.
#include <jansson.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"
#include "cri/client/run_config.h"
#include "cri/client/values.h"

#define CHECK_MIN_NS NS_PER_MS

static int add_duration(json_t *check, const char *option, const char *key, const char *text, int64_t min_ns,
                        struct error *err)
{
    int64_t ns = 0;

    if (!text)
        return 0;
    if (value_duration(text, &ns) < 0 || ns < min_ns)
        return run_config_bad(err, option, text, "a time such as 500ms, 30s or 1m30s");
    return json_object_set_new(check, key, json_string(text)) == 0 ? 0 : -ENOMEM;
}

static int fill(json_t *check, const struct extra_options *o, struct error *err)
{
    int64_t retries = 0;

    int rc = json_object_set_new(check, "test", json_pack("[s, s]", "CMD-SHELL", o->health_cmd)) == 0
                 ? 0
                 : run_config_bad(err, "health-cmd", o->health_cmd, "UTF-8");
    if (rc == 0)
        rc = add_duration(check, "health-interval", "interval", o->health_interval, CHECK_MIN_NS, err);
    if (rc == 0)
        rc = add_duration(check, "health-timeout", "timeout", o->health_timeout, CHECK_MIN_NS, err);
    if (rc == 0)
        rc = add_duration(check, "health-start-period", "start_period", o->health_start_period, 0, err);
    if (rc == 0)
        rc = add_duration(check, "health-start-interval", "start_interval", o->health_start_interval,
                          CHECK_MIN_NS, err);
    if (rc == 0 && o->health_retries)
        rc = run_config_number("health-retries", o->health_retries, 1, 1000, &retries, err);
    if (rc == 0 && o->health_retries && json_object_set_new(check, "retries", json_integer(retries)) < 0)
        rc = error_errno(err, ENOMEM, "--health-retries");
    return rc;
}

int run_config_health(struct run_config *c, const struct extra_options *o, struct error *err)
{
    const char *others[] = {o->health_interval, o->health_timeout, o->health_start_period,
                            o->health_start_interval, o->health_retries};

    for (size_t i = 0; !o->health_cmd && i < sizeof(others) / sizeof(others[0]); i++)
        if (others[i])
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "--health-… \"%s\": needs a --health-cmd: an image's own check isn't run",
                             others[i]);
    if (!o->health_cmd)
        return 0;
    if (str_empty(o->health_cmd))
        return run_config_bad(err, "health-cmd", "", "a shell's command");
    json_t *check = json_object();
    int rc = check ? fill(check, o, err) : error_errno(err, ENOMEM, "--health-cmd");
    char *text = rc == 0 ? json_dumps(check, JSON_COMPACT) : NULL;
    if (rc == 0 && !text)
        rc = error_errno(err, ENOMEM, "--health-cmd");
    if (rc == 0)
        run_config_annotate(c, RUN_ANNOTATION "health", run_config_printf(c->arena, "%s", text));
    free(text);
    json_decref(check);
    return rc;
}
