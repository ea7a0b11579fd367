// One CDI file: tables say which keys there are, of which kind, and since which version.
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cdi.h"

#define KEY_MAX   200
#define ITEMS_MAX 4096 // of one list

const char *const cdi_hook_names[CDI_HOOK_POINTS] = {
    [CDI_PRESTART] = "prestart",
    [CDI_CREATE_RUNTIME] = "createRuntime",
    [CDI_CREATE_CONTAINER] = "createContainer",
    [CDI_START_CONTAINER] = "startContainer",
    [CDI_POSTSTART] = "poststart",
    [CDI_POSTSTOP] = "poststop",
};

static const struct version {
    const char *name;
    unsigned number;
} versions[] = {{"0.3.0", 3}, {"0.4.0", 4}, {"0.5.0", 5},  {"0.6.0", 6},
                {"0.7.0", 7}, {"0.8.0", 8}, {"1.0.0", 10}, {"1.1.0", 11}};

struct reader {
    const char *file;
    struct arena *arena;
    struct error *err;
    const struct version *version;
    char key[KEY_MAX]; // where we are: "devices[0].containerEdits.env[2]"
};

enum kind {
    TEXT,
    TEXTS,       // struct cdi_texts
    NUMBER,      // struct cdi_number within [min, max]
    GIDS,        // a list of numbers
    OBJECT,      // a struct of its own at that place
    OBJECTS,     // pointer and count
    ANNOTATIONS, // texts by name: they are checked, and mean nothing to us
    UNSUPPORTED, // const char *: gets the key
};

struct shape;

struct field {
    const char *key;
    enum kind kind;
    size_t offset;
    bool required;
    unsigned since; // the number of the version that brought it; 0: always there
    const struct shape *shape;
    int64_t min, max;
};

struct shape {
    size_t size;
    const struct field *fields;
    size_t n;
    int (*check)(struct reader *r, void *object); // may be NULL
};

#define SHAPE(type, fields_, check_)                                                                         \
    {                                                                                                        \
        sizeof(struct type), fields_, ARRAY_SIZE(fields_), check_                                            \
    }

static int bad(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int bad(struct reader *r, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(r->err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: %s%s%s", r->file, r->key,
                     r->key[0] ? ": " : "", text);
}

static int no_memory(struct reader *r)
{
    return error_set(r->err, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "%s: is too large", r->file);
}

// Goes one step down; the result is what leave() wants.
static size_t enter(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static size_t enter(struct reader *r, const char *format, ...)
{
    size_t len = strlen(r->key);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(r->key + len, sizeof(r->key) - len, format, args);
    va_end(args);
    return len;
}

static void leave(struct reader *r, size_t len)
{
    r->key[len] = '\0';
}

static int needs(struct reader *r, unsigned since, const char *what)
{
    if (r->version->number >= since)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        if (versions[i].number == since)
            return bad(r, "%s needs cdiVersion %s, and this file says %s", what, versions[i].name,
                       r->version->name);
    }
    return bad(r, "%s needs another cdiVersion", what);
}

// ---- Checks of what was read ----

static bool is_clean_absolute(const char *path)
{
    if (path[0] != '/' || strlen(path) >= PATH_MAX)
        return false;
    for (const char *p = path; *p; p += strcspn(p, "/")) {
        p += strspn(p, "/");
        if (strcspn(p, "/") == 2 && p[0] == '.' && p[1] == '.')
            return false;
    }
    return true;
}

static int check_path(struct reader *r, const char *key, const char *path, bool inside)
{
    if (inside && !is_clean_absolute(path))
        return bad(r, "%s: \"%.200s\" is not an absolute path without \"..\"", key, path);
    if (path[0] != '/')
        return bad(r, "%s: \"%.200s\" is not an absolute path", key, path);
    return 0;
}

static int check_env(struct reader *r, const struct cdi_texts *env)
{
    for (size_t i = 0; i < env->n; i++) {
        const char *equals = strchr(env->v[i], '=');
        if (!equals || equals == env->v[i])
            return bad(r, "env[%zu]: \"%.100s\" is not NAME=VALUE", i, env->v[i]);
    }
    return 0;
}

static int check_node(struct reader *r, void *object)
{
    struct cdi_node *d = object;
    static const char *const types[] = {"", "b", "c", "u", "p"};
    bool known = false;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        known = known || str_eq(d->type, types[i]);
    if (!known)
        return bad(r, "type: \"%.20s\" is not allowed; allowed: b, c, u or p", d->type);
    size_t len = strlen(d->permissions);
    if (!str_eq(d->permissions, "none") && (strspn(d->permissions, "rwm") != len || len > 3))
        return bad(r, "permissions: \"%.20s\" is not made of r, w and m", d->permissions);
    int rc = check_path(r, "path", d->path, true);
    return rc == 0 && d->host_path[0] ? check_path(r, "hostPath", d->host_path, false) : rc;
}

// What a mount's type and options mean is looked at where it is used: a device that needs what we don't have
// must not take the others of its file along.
static int check_mount(struct reader *r, void *object)
{
    struct cdi_mount *m = object;
    if (str_empty(m->host_path))
        return bad(r, "hostPath: is empty");
    int rc = check_path(r, "containerPath", m->container_path, true);
    if (rc == 0 && m->container_path[strspn(m->container_path, "/.")] == '\0')
        rc = bad(r, "containerPath: \"%s\" would cover the container's whole root", m->container_path);
    return rc;
}

static int check_hook(struct reader *r, void *object)
{
    struct cdi_hook *h = object;
    h->point = CDI_HOOK_POINTS;
    for (int i = 0; i < CDI_HOOK_POINTS; i++) {
        if (str_eq(h->name, cdi_hook_names[i]))
            h->point = (enum cdi_hook_point)i;
    }
    if (h->point == CDI_HOOK_POINTS)
        return bad(r, "hookName: \"%.60s\" is no hook of the OCI runtime specification", h->name);
    int rc = check_path(r, "path", h->path, false);
    return rc < 0 ? rc : check_env(r, &h->env);
}

static int check_edits(struct reader *r, void *object)
{
    struct cdi_edits *e = object;
    e->key = arena_strdup(r->arena, r->key);
    return e->key ? check_env(r, &e->env) : no_memory(r);
}

static bool edits_are_empty(const struct cdi_edits *e)
{
    return e->env.n + e->nodes.n + e->mounts.n + e->hooks.n + e->gids.n == 0 && !e->unsupported;
}

static int check_device(struct reader *r, void *object)
{
    struct cdi_device *d = object;
    if (!cdi_device_name_valid(d->name, strlen(d->name)))
        return bad(r, "name: \"%.100s\" is not made of letters, digits and inner \"_\", \"-\", \".\", \":\"",
                   d->name);
    if (edits_are_empty(&d->edits))
        return bad(r, "containerEdits: is empty");
    return d->name[0] >= '0' && d->name[0] <= '9' ? needs(r, 5, "a name that begins with a digit") : 0;
}

static int check_spec(struct reader *r, void *object)
{
    struct cdi_spec *s = object;
    const char *slash = strchr(s->kind, '/');
    if (!slash || !cdi_vendor_or_class_valid(s->kind, (size_t)(slash - s->kind)) ||
        !cdi_vendor_or_class_valid(slash + 1, strlen(slash + 1)))
        return bad(r, "kind: \"%.100s\" is not of the form vendor.com/class", s->kind);
    if (s->devices.n == 0)
        return bad(r, "devices: is empty");
    for (size_t i = 0; i < s->devices.n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (str_eq(s->devices.v[i].name, s->devices.v[k].name))
                return bad(r, "devices[%zu].name: \"%.100s\" is that of devices[%zu] too", i,
                           s->devices.v[i].name, k);
        }
    }
    return strchr(slash, '.') ? needs(r, 6, "kind: a class with a dot in it") : 0;
}

// ---- The tables ----

#define AT(type, member) offsetof(struct type, member)

static const struct field node_fields[] = {
    {.key = "path", .kind = TEXT, .offset = AT(cdi_node, path), .required = true},
    {.key = "hostPath", .kind = TEXT, .offset = AT(cdi_node, host_path), .since = 5},
    {.key = "type", .kind = TEXT, .offset = AT(cdi_node, type)},
    {.key = "major", .kind = NUMBER, .offset = AT(cdi_node, major), .max = (1 << 12) - 1},
    {.key = "minor", .kind = NUMBER, .offset = AT(cdi_node, minor), .max = (1 << 20) - 1},
    {.key = "fileMode", .kind = NUMBER, .offset = AT(cdi_node, mode), .max = 07777},
    {.key = "permissions", .kind = TEXT, .offset = AT(cdi_node, permissions)},
    {.key = "uid", .kind = NUMBER, .offset = AT(cdi_node, uid), .max = UINT32_MAX - 1},
    {.key = "gid", .kind = NUMBER, .offset = AT(cdi_node, gid), .max = UINT32_MAX - 1},
};
static const struct shape node_shape = SHAPE(cdi_node, node_fields, check_node);

static const struct field mount_fields[] = {
    {.key = "hostPath", .kind = TEXT, .offset = AT(cdi_mount, host_path), .required = true},
    {.key = "containerPath", .kind = TEXT, .offset = AT(cdi_mount, container_path), .required = true},
    {.key = "type", .kind = TEXT, .offset = AT(cdi_mount, type), .since = 4},
    {.key = "options", .kind = TEXTS, .offset = AT(cdi_mount, options)},
};
static const struct shape mount_shape = SHAPE(cdi_mount, mount_fields, check_mount);

static const struct field hook_fields[] = {
    {.key = "hookName", .kind = TEXT, .offset = AT(cdi_hook, name), .required = true},
    {.key = "path", .kind = TEXT, .offset = AT(cdi_hook, path), .required = true},
    {.key = "args", .kind = TEXTS, .offset = AT(cdi_hook, args)},
    {.key = "env", .kind = TEXTS, .offset = AT(cdi_hook, env)},
    {.key = "timeout", .kind = NUMBER, .offset = AT(cdi_hook, timeout_s), .min = 1, .max = 86400},
};
static const struct shape hook_shape = SHAPE(cdi_hook, hook_fields, check_hook);

static const struct field edits_fields[] = {
    {.key = "env", .kind = TEXTS, .offset = AT(cdi_edits, env)},
    {.key = "deviceNodes", .kind = OBJECTS, .offset = AT(cdi_edits, nodes), .shape = &node_shape},
    {.key = "mounts", .kind = OBJECTS, .offset = AT(cdi_edits, mounts), .shape = &mount_shape},
    {.key = "hooks", .kind = OBJECTS, .offset = AT(cdi_edits, hooks), .shape = &hook_shape},
    {.key = "additionalGids", .kind = GIDS, .offset = AT(cdi_edits, gids), .since = 7},
    // The specification spells it in both ways.
    {.key = "additionalGIDs", .kind = GIDS, .offset = AT(cdi_edits, gids), .since = 7},
    {.key = "intelRdt", .kind = UNSUPPORTED, .offset = AT(cdi_edits, unsupported), .since = 7},
    {.key = "netDevices", .kind = UNSUPPORTED, .offset = AT(cdi_edits, unsupported), .since = 11},
};
static const struct shape edits_shape = SHAPE(cdi_edits, edits_fields, check_edits);

static const struct field device_fields[] = {
    {.key = "name", .kind = TEXT, .offset = AT(cdi_device, name), .required = true},
    {.key = "annotations", .kind = ANNOTATIONS, .since = 6},
    {.key = "containerEdits",
     .kind = OBJECT,
     .offset = AT(cdi_device, edits),
     .required = true,
     .shape = &edits_shape},
};
static const struct shape device_shape = SHAPE(cdi_device, device_fields, check_device);

static const struct field spec_fields[] = {
    {.key = "cdiVersion", .kind = TEXT, .offset = AT(cdi_spec, version), .required = true},
    {.key = "kind", .kind = TEXT, .offset = AT(cdi_spec, kind), .required = true},
    {.key = "annotations", .kind = ANNOTATIONS, .since = 6},
    {.key = "devices",
     .kind = OBJECTS,
     .offset = AT(cdi_spec, devices),
     .required = true,
     .shape = &device_shape},
    {.key = "containerEdits", .kind = OBJECT, .offset = AT(cdi_spec, edits), .shape = &edits_shape},
};
static const struct shape spec_shape = SHAPE(cdi_spec, spec_fields, check_spec);

// ---- Reading by them ----

static int read_text(struct reader *r, json_t *value, char **out)
{
    if (!json_is_string(value))
        return bad(r, "has to be a text");
    *out = arena_strdup(r->arena, json_string_value(value));
    return *out ? 0 : no_memory(r);
}

static int read_number(struct reader *r, json_t *value, int64_t min, int64_t max, int64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
        return bad(r, "has to be a whole number from %lld to %lld", (long long)min, (long long)max);
    *out = json_integer_value(value);
    return 0;
}

static int read_object(struct reader *r, json_t *value, const struct shape *shape, void *out);

static int read_item(struct reader *r, const struct field *f, json_t *value, void *out)
{
    int64_t number = 0;
    if (f->kind == OBJECTS)
        return read_object(r, value, f->shape, out);
    if (f->kind == TEXTS)
        return read_text(r, value, out);
    int rc = read_number(r, value, 0, UINT32_MAX - 1, &number);
    *(uint32_t *)out = (uint32_t)number;
    return rc;
}

static int read_list(struct reader *r, const struct field *f, json_t *value, void *out)
{
    size_t n = json_array_size(value);
    size_t size = f->kind == OBJECTS ? f->shape->size : f->kind == TEXTS ? sizeof(char *) : sizeof(uint32_t);
    if (!json_is_array(value))
        return bad(r, "has to be a list");
    if (n > ITEMS_MAX)
        return bad(r, "has more than %d items", ITEMS_MAX);
    char *items = arena_alloc(r->arena, (n + 1) * size);
    if (!items)
        return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        size_t here = enter(r, "[%zu]", i);
        int rc = read_item(r, f, json_array_get(value, i), items + i * size);
        if (rc < 0)
            return rc;
        leave(r, here);
    }
    memcpy(out, &items, sizeof(items)); // every list begins with its pointer, and then has its count
    memcpy((char *)out + sizeof(items), &n, sizeof(n));
    return 0;
}

static int read_annotations(struct reader *r, json_t *value)
{
    const char *name;
    json_t *text;
    if (!json_is_object(value))
        return bad(r, "has to be a map of texts");
    json_object_foreach(value, name, text)
    {
        if (!json_is_string(text))
            return bad(r, "\"%.100s\": has to be a text", name);
    }
    return 0;
}

static int read_field(struct reader *r, const struct field *f, json_t *value, void *object)
{
    char *at = (char *)object + f->offset;
    struct cdi_number number = {.set = true};
    int rc;
    switch (f->kind) {
    case TEXT:
        return read_text(r, value, (char **)(void *)at);
    case NUMBER:
        rc = read_number(r, value, f->min, f->max, &number.value);
        *(struct cdi_number *)(void *)at = number;
        return rc;
    case OBJECT:
        return read_object(r, value, f->shape, at);
    case ANNOTATIONS:
        return read_annotations(r, value);
    case UNSUPPORTED:
        *(char **)(void *)at = arena_strdup(r->arena, r->key);
        return *(char **)(void *)at ? 0 : no_memory(r);
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

static int read_pair(struct reader *r, const struct shape *shape, const char *key, json_t *value,
                     void *object)
{
    const struct field *f = NULL;
    for (size_t i = 0; i < shape->n && !f; i++) {
        if (str_eq(shape->fields[i].key, key))
            f = &shape->fields[i];
    }
    size_t here = enter(r, "%s%.60s", r->key[0] ? "." : "", key);
    if (!f)
        return bad(r, "unknown key");
    if (!says_nothing(value)) {
        int rc = needs(r, f->since, "this key");
        if (rc == 0)
            rc = read_field(r, f, value, object);
        if (rc < 0)
            return rc;
    }
    leave(r, here);
    return 0;
}

// Texts that aren't there are "".
static void set_absent(const struct shape *shape, void *object)
{
    for (size_t i = 0; i < shape->n; i++) {
        if (shape->fields[i].kind == TEXT)
            *(const char **)(void *)((char *)object + shape->fields[i].offset) = "";
    }
}

static int read_object(struct reader *r, json_t *value, const struct shape *shape, void *out)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value))
        return bad(r, "has to be a map of keys");
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
            return bad(r, "%s: is missing or empty", shape->fields[i].key);
    }
    return shape->check ? shape->check(r, out) : 0;
}

static int read_version(struct reader *r, json_t *top)
{
    const char *text = json_string_value(json_object_get(top, "cdiVersion"));
    if (!json_is_object(top))
        return bad(r, "has to be a map of keys");
    if (!text)
        return bad(r, "cdiVersion: is missing or not a text");
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        if (str_eq(text + (text[0] == 'v'), versions[i].name))
            r->version = &versions[i];
    }
    return r->version ? 0
                      : bad(r, "cdiVersion: \"%.20s\" is not known; known: %s to %s", text, versions[0].name,
                            versions[ARRAY_SIZE(versions) - 1].name);
}

static void json_freep(json_t **json)
{
    json_decref(*json);
}

int cdi_parse(const char *file, const char *text, size_t len, bool yaml, struct arena *arena,
              struct cdi_spec **out, struct error *err)
{
    struct error local = ERROR_INIT;
    struct reader r = {.file = file, .arena = arena, .err = err ? err : &local};
    _cleanup_(json_freep) json_t *top = cdi_text_load(file, text, len, yaml, r.err);
    if (!top)
        return -r.err->errnum;
    struct cdi_spec *spec = arena_alloc(arena, sizeof(*spec));
    if (!spec)
        return no_memory(&r);
    int rc = read_version(&r, top);
    if (rc == 0)
        rc = read_object(&r, top, &spec_shape, spec);
    spec->file = arena_strdup(arena, file);
    if (rc == 0 && !spec->file)
        rc = no_memory(&r);
    if (rc == 0)
        *out = spec;
    return rc;
}
