// The image config (OCI image specification, "Image JSON").
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "image/pull/json.h"
#include "image/pull/manifest.h"
#include "image/reference.h"

#define LIST_MAX   4096          // entries of one list or map
#define PACKED_MAX (1024 * 1024) // bytes of the whole message: it stays in the daemon's memory

// RFC 3339 to nanoseconds; 0 for what isn't.
static int64_t parse_time(const char *s)
{
    struct tm tm = {0};
    int64_t fraction = 0, scale = NS_PER_SEC, offset = 0;
    int hours, minutes;
    const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);

    if (!rest)
        return 0;
    if (*rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++)
            if (scale > 1) {
                scale /= 10;
                fraction += (*rest - '0') * scale;
            }
    if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2)
        offset = (hours * 3600 + minutes * 60) * (*rest == '-' ? -1 : 1);
    else if (*rest != 'Z')
        return 0;
    int64_t seconds = (int64_t)timegm(&tm) - offset;
    return seconds > 0 && seconds < INT64_MAX / NS_PER_SEC - 1 ? seconds * NS_PER_SEC + fraction : 0;
}

static char *copy_string(const char *s, struct arena *arena, struct error *err)
{
    char *copy = arena_strdup(arena, s);

    if (!copy)
        error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "the image config is too large");
    return copy;
}

static int take_string(const json_t *json, const char *key, struct arena *arena, char **out,
                       struct error *err)
{
    const char *value = json_get_string(json, key, arena, err);

    if (!value)
        return -EPROTO;
    *out = (char *)value;
    return 0;
}

static int alloc_list(size_t n, const char *key, struct arena *arena, char ***out, struct error *err)
{
    if (n > LIST_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "\"%s\" has %zu entries, more than %d", key,
                         n, LIST_MAX);
    *out = arena_alloc(arena, (n + 1) * sizeof(**out));
    return *out ? 0 : error_errno(err, ENOMEM, "the image config");
}

static int take_list(const json_t *json, const char *key, struct arena *arena, char ***out, size_t *n,
                     struct error *err)
{
    json_t *array;
    int r = json_get_array(json, key, &array, err);

    if (r == 0)
        r = alloc_list(json_array_size(array), key, arena, out, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *value = json_string_value(json_array_get(array, i));
        if (!value)
            return error_set(err, STATUS_DATA_LOSS, EPROTO, "\"%s\" has an entry that is not a string", key);
        (*out)[i] = copy_string(value, arena, err);
        if (!(*out)[i])
            return -E2BIG;
        *n = i + 1;
    }
    return 0;
}

// The keys of an object whose values mean nothing (Volumes, ExposedPorts).
static int take_keys(const json_t *json, const char *key, struct arena *arena, char ***out, size_t *n,
                     struct error *err)
{
    json_t *object, *value;
    const char *name;
    int r = json_get_object(json, key, &object, err);

    if (r == 0)
        r = alloc_list(json_object_size(object), key, arena, out, err);
    if (r < 0)
        return r;
    json_object_foreach(object, name, value)
    {
        (*out)[*n] = copy_string(name, arena, err);
        if (!(*out)[*n])
            return -E2BIG;
        (*n)++;
    }
    return 0;
}

static int take_labels(const json_t *json, struct arena *arena, Pull__ImageConfig *out, struct error *err)
{
    json_t *object, *value;
    const char *name;
    int r = json_get_object(json, "Labels", &object, err);

    if (r == 0)
        r = alloc_list(json_object_size(object), "Labels", arena, (char ***)(void *)&out->labels, err);
    if (r < 0)
        return r;
    json_object_foreach(object, name, value)
    {
        Pull__KeyValue *label = arena_alloc(arena, sizeof(*label));
        const char *text = json_string_value(value);

        if (!text && !json_is_null(value))
            return error_set(err, STATUS_DATA_LOSS, EPROTO, "label \"%.100s\" is not a string", name);
        if (!label)
            return error_errno(err, ENOMEM, "the image config");
        pull__key_value__init(label);
        label->key = copy_string(name, arena, err);
        label->value = copy_string(text ? text : "", arena, err);
        if (!label->key || !label->value)
            return -E2BIG;
        out->labels[out->n_labels++] = label;
    }
    return 0;
}

static int parse_process(const json_t *json, struct arena *arena, Pull__ImageConfig *out, struct error *err)
{
    int r = take_string(json, "User", arena, &out->user, err);

    if (r == 0)
        r = take_string(json, "WorkingDir", arena, &out->working_dir, err);
    if (r == 0)
        r = take_string(json, "StopSignal", arena, &out->stop_signal, err);
    if (r == 0)
        r = take_list(json, "Env", arena, &out->env, &out->n_env, err);
    if (r == 0)
        r = take_list(json, "Entrypoint", arena, &out->entrypoint, &out->n_entrypoint, err);
    if (r == 0)
        r = take_list(json, "Cmd", arena, &out->cmd, &out->n_cmd, err);
    if (r == 0)
        r = take_keys(json, "Volumes", arena, &out->volumes, &out->n_volumes, err);
    if (r == 0)
        r = take_keys(json, "ExposedPorts", arena, &out->exposed_ports, &out->n_exposed_ports, err);
    return r < 0 ? r : take_labels(json, arena, out, err);
}

static int parse_rootfs(const json_t *json, struct arena *arena, Pull__ImageConfig *out, struct error *err)
{
    int r;

    if (!json)
        return 0;
    r = take_list(json, "diff_ids", arena, &out->diff_ids, &out->n_diff_ids, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < out->n_diff_ids; i++)
        if (!digest_is_valid(out->diff_ids[i]))
            return error_set(err, STATUS_DATA_LOSS, EPROTO,
                             "the image config's diff_ids[%zu] is not sha256: and 64 hex digits", i);
    return 0;
}

static int parse_members(const json_t *json, struct arena *arena, Pull__ImageConfig *out, struct error *err)
{
    char *created = NULL;
    json_t *process, *rootfs;
    int r = take_string(json, "os", arena, &out->os, err);

    if (r == 0)
        r = take_string(json, "architecture", arena, &out->architecture, err);
    if (r == 0)
        r = take_string(json, "variant", arena, &out->variant, err);
    if (r == 0)
        r = take_string(json, "author", arena, &out->author, err);
    if (r == 0)
        r = take_string(json, "created", arena, &created, err);
    if (r < 0)
        return r;
    out->created_ns = parse_time(created);
    r = json_get_object(json, "config", &process, err);
    if (r == 0 && process)
        r = parse_process(process, arena, out, err);
    if (r == 0)
        r = json_get_object(json, "rootfs", &rootfs, err);
    return r < 0 ? r : parse_rootfs(rootfs, arena, out, err);
}

int image_config_parse(const char *data, size_t len, struct arena *arena, Pull__ImageConfig **out,
                       struct error *err)
{
    _cleanup_json_ json_t *json = json_load_object(data, len, "image config", err);
    Pull__ImageConfig *config;
    int r;

    if (!json)
        return -EPROTO;
    config = arena_alloc(arena, sizeof(*config));
    if (!config)
        return error_errno(err, ENOMEM, "the image config");
    pull__image_config__init(config);
    r = parse_members(json, arena, config, err);
    if (r < 0)
        return error_wrap(err, "image config");
    if (pull__image_config__get_packed_size(config) > PACKED_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "the image config is larger than %d bytes",
                         PACKED_MAX);
    *out = config;
    return 0;
}
