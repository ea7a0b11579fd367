// One CDI file, read by tables (cdi_tables.c).
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cdi_internal.h"

#define ITEMS_MAX 4096 // of one list

static const struct cdi_version versions[] = {{"0.3.0", 3}, {"0.4.0", 4}, {"0.5.0", 5},  {"0.6.0", 6},
                                              {"0.7.0", 7}, {"0.8.0", 8}, {"1.0.0", 10}, {"1.1.0", 11}};

int cdi_bad(struct cdi_reader *r, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(r->err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: %s%s%s", r->file, r->key,
                     r->key[0] ? ": " : "", text);
}

int cdi_no_memory(struct cdi_reader *r)
{
    return error_set(r->err, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "%s: is too large", r->file);
}

size_t cdi_enter(struct cdi_reader *r, const char *format, ...)
{
    size_t len = strlen(r->key);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(r->key + len, sizeof(r->key) - len, format, args);
    va_end(args);
    return len;
}

void cdi_leave(struct cdi_reader *r, size_t len)
{
    r->key[len] = '\0';
}

int cdi_needs(struct cdi_reader *r, unsigned since, const char *what)
{
    if (r->version->number >= since)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        if (versions[i].number == since)
            return cdi_bad(r, "%s needs cdiVersion %s, and this file says %s", what, versions[i].name,
                           r->version->name);
    }
    return cdi_bad(r, "%s needs another cdiVersion", what);
}

static int read_text(struct cdi_reader *r, json_t *value, char **out)
{
    if (!json_is_string(value))
        return cdi_bad(r, "has to be a text");
    *out = arena_strdup(r->arena, json_string_value(value));
    return *out ? 0 : cdi_no_memory(r);
}

static int read_number(struct cdi_reader *r, json_t *value, int64_t min, int64_t max, int64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
        return cdi_bad(r, "has to be a whole number from %lld to %lld", (long long)min, (long long)max);
    *out = json_integer_value(value);
    return 0;
}

static int read_object(struct cdi_reader *r, json_t *value, const struct cdi_shape *shape, void *out);

static int read_item(struct cdi_reader *r, const struct cdi_field *f, json_t *value, void *out)
{
    int64_t number = 0;
    if (f->kind == CDI_OBJECTS)
        return read_object(r, value, f->shape, out);
    if (f->kind == CDI_TEXTS)
        return read_text(r, value, out);
    int rc = read_number(r, value, 0, UINT32_MAX - 1, &number);
    *(uint32_t *)out = (uint32_t)number;
    return rc;
}

static int read_list(struct cdi_reader *r, const struct cdi_field *f, json_t *value, void *out)
{
    size_t n = json_array_size(value);
    size_t size = f->kind == CDI_OBJECTS ? f->shape->size
                  : f->kind == CDI_TEXTS ? sizeof(char *)
                                         : sizeof(uint32_t);
    if (!json_is_array(value))
        return cdi_bad(r, "has to be a list");
    if (n > ITEMS_MAX)
        return cdi_bad(r, "has more than %d items", ITEMS_MAX);
    char *items = arena_alloc(r->arena, (n + 1) * size);
    if (!items)
        return cdi_no_memory(r);
    for (size_t i = 0; i < n; i++) {
        size_t here = cdi_enter(r, "[%zu]", i);
        int rc = read_item(r, f, json_array_get(value, i), items + i * size);
        if (rc < 0)
            return rc;
        cdi_leave(r, here);
    }
    memcpy(out, &items, sizeof(items)); // every list begins with its pointer, and then has its count
    memcpy((char *)out + sizeof(items), &n, sizeof(n));
    return 0;
}

static int read_annotations(struct cdi_reader *r, json_t *value)
{
    const char *name;
    json_t *text;
    if (!json_is_object(value))
        return cdi_bad(r, "has to be a map of texts");
    json_object_foreach(value, name, text)
    {
        if (!json_is_string(text))
            return cdi_bad(r, "\"%.100s\": has to be a text", name);
    }
    return 0;
}

static int read_field(struct cdi_reader *r, const struct cdi_field *f, json_t *value, void *object)
{
    char *at = (char *)object + f->offset;
    struct cdi_number number = {.set = true};
    int rc;
    switch (f->kind) {
    case CDI_TEXT:
        return read_text(r, value, (char **)(void *)at);
    case CDI_NUMBER:
        rc = read_number(r, value, f->min, f->max, &number.value);
        *(struct cdi_number *)(void *)at = number;
        return rc;
    case CDI_OBJECT:
        return read_object(r, value, f->shape, at);
    case CDI_ANNOTATIONS:
        return read_annotations(r, value);
    case CDI_UNSUPPORTED:
        *(char **)(void *)at = arena_strdup(r->arena, r->key);
        return *(char **)(void *)at ? 0 : cdi_no_memory(r);
    default:
        return read_list(r, f, value, at);
    }
}

// Says nothing: the Go types that most files are written from print it for what isn't set.
static bool says_nothing(const json_t *value)
{
    return json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static int read_pair(struct cdi_reader *r, const struct cdi_shape *shape, const char *key, json_t *value,
                     void *object)
{
    const struct cdi_field *f = NULL;
    for (size_t i = 0; i < shape->n && !f; i++) {
        if (str_eq(shape->fields[i].key, key))
            f = &shape->fields[i];
    }
    size_t here = cdi_enter(r, "%s%.60s", r->key[0] ? "." : "", key);
    if (!f)
        return cdi_bad(r, "unknown key");
    if (!says_nothing(value)) {
        int rc = cdi_needs(r, f->since, "this key");
        if (rc == 0)
            rc = read_field(r, f, value, object);
        if (rc < 0)
            return rc;
    }
    cdi_leave(r, here);
    return 0;
}

// Texts that aren't there are "".
static void set_absent(const struct cdi_shape *shape, void *object)
{
    for (size_t i = 0; i < shape->n; i++) {
        if (shape->fields[i].kind == CDI_TEXT)
            *(const char **)(void *)((char *)object + shape->fields[i].offset) = "";
    }
}

static int read_object(struct cdi_reader *r, json_t *value, const struct cdi_shape *shape, void *out)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value))
        return cdi_bad(r, "has to be a map of keys");
    set_absent(shape, out);
    json_object_foreach(value, key, item)
    {
        int rc = read_pair(r, shape, key, item, out);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < shape->n; i++) {
        const json_t *given = json_object_get(value, shape->fields[i].key);
        if (shape->fields[i].required && (!given || says_nothing(given)))
            return cdi_bad(r, "%s: is missing or empty", shape->fields[i].key);
    }
    return shape->check ? shape->check(r, out) : 0;
}

static int read_version(struct cdi_reader *r, json_t *top)
{
    const char *text = json_string_value(json_object_get(top, "cdiVersion"));
    if (!json_is_object(top))
        return cdi_bad(r, "has to be a map of keys");
    if (!text)
        return cdi_bad(r, "cdiVersion: is missing or not a text");
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        if (str_eq(text + (text[0] == 'v'), versions[i].name))
            r->version = &versions[i];
    }
    return r->version ? 0
                      : cdi_bad(r, "cdiVersion: \"%.20s\" is not known; known: %s to %s", text,
                                versions[0].name, versions[ARRAY_SIZE(versions) - 1].name);
}

static void json_freep(json_t **json)
{
    json_decref(*json);
}

int cdi_parse(const char *file, const char *text, size_t len, bool yaml, struct arena *arena,
              struct cdi_spec **out, struct error *err)
{
    struct error local = ERROR_INIT;
    struct cdi_reader r = {.file = file, .arena = arena, .err = err ? err : &local};
    _cleanup_(json_freep) json_t *top = cdi_text_load(file, text, len, yaml, r.err);
    if (!top)
        return -r.err->errnum;
    struct cdi_spec *spec = arena_alloc(arena, sizeof(*spec));
    if (!spec)
        return cdi_no_memory(&r);
    int rc = read_version(&r, top);
    if (rc == 0)
        rc = read_object(&r, top, &cdi_spec_shape, spec);
    spec->file = arena_strdup(arena, file);
    if (rc == 0 && !spec->file)
        rc = cdi_no_memory(&r);
    if (rc == 0)
        *out = spec;
    return rc;
}
