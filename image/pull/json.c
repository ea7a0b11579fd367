#include "image/pull/json.h"

#include <string.h>

json_t *json_load_object(const char *data, size_t len, const char *what, struct error *err)
{
    json_error_t why;
    json_t *json = json_loadb(data, len, 0, &why);

    if (!json) {
        error_set(err, STATUS_DATA_LOSS, EPROTO, "the %s is not valid JSON: line %d: %s", what, why.line,
                  why.text);
        return NULL;
    }
    if (!json_is_object(json)) {
        error_set(err, STATUS_DATA_LOSS, EPROTO, "the %s is not a JSON object", what);
        json_decref(json);
        return NULL;
    }
    return json;
}

const char *json_get_string(const json_t *object, const char *key, struct arena *arena, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    const char *copy;

    if (!value || json_is_null(value))
        return "";
    if (!json_is_string(value)) {
        error_set(err, STATUS_DATA_LOSS, EPROTO, "\"%s\" is not a string", key);
        return NULL;
    }
    copy = arena_strdup(arena, json_string_value(value));
    if (!copy)
        error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG, "\"%s\" does not fit into memory", key);
    return copy;
}

int json_get_object(const json_t *object, const char *key, json_t **out, struct error *err)
{
    json_t *value = json_object_get(object, key);

    *out = NULL;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_object(value))
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "\"%s\" is not an object", key);
    *out = value;
    return 0;
}

int json_get_array(const json_t *object, const char *key, json_t **out, struct error *err)
{
    json_t *value = json_object_get(object, key);

    *out = NULL;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_array(value))
        return error_set(err, STATUS_DATA_LOSS, EPROTO, "\"%s\" is not an array", key);
    *out = value;
    return 0;
}
