// CDI's tables: which keys there are, of which kind, since which version, and what their values may be.
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cdi_internal.h"

#define SHAPE(type, fields_, check_)                                                                         \
    {                                                                                                        \
        sizeof(struct type), fields_, ARRAY_SIZE(fields_), check_                                            \
    }

const char *const cdi_hook_names[CDI_HOOK_POINTS] = {
    [CDI_PRESTART] = "prestart",
    [CDI_CREATE_RUNTIME] = "createRuntime",
    [CDI_CREATE_CONTAINER] = "createContainer",
    [CDI_START_CONTAINER] = "startContainer",
    [CDI_POSTSTART] = "poststart",
    [CDI_POSTSTOP] = "poststop",
};

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

static int check_path(struct cdi_reader *r, const char *key, const char *path, bool inside)
{
    if (inside && !is_clean_absolute(path))
        return cdi_bad(r, "%s: \"%.200s\" is not an absolute path without \"..\"", key, path);
    if (path[0] != '/')
        return cdi_bad(r, "%s: \"%.200s\" is not an absolute path", key, path);
    return 0;
}

static int check_env(struct cdi_reader *r, const struct cdi_texts *env)
{
    for (size_t i = 0; i < env->n; i++) {
        const char *equals = strchr(env->v[i], '=');
        if (!equals || equals == env->v[i])
            return cdi_bad(r, "env[%zu]: \"%.100s\" is not NAME=VALUE", i, env->v[i]);
    }
    return 0;
}

static int check_node(struct cdi_reader *r, void *object)
{
    struct cdi_node *d = object;
    static const char *const types[] = {"", "b", "c", "u", "p"};
    bool known = false;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        known = known || str_eq(d->type, types[i]);
    if (!known)
        return cdi_bad(r, "type: \"%.20s\" is not allowed; allowed: b, c, u or p", d->type);
    size_t len = strlen(d->permissions);
    if (!str_eq(d->permissions, "none") && (strspn(d->permissions, "rwm") != len || len > 3))
        return cdi_bad(r, "permissions: \"%.20s\" is not made of r, w and m", d->permissions);
    int rc = check_path(r, "path", d->path, true);
    return rc == 0 && d->host_path[0] ? check_path(r, "hostPath", d->host_path, false) : rc;
}

// What a mount's type and options mean is looked at where it is used: a device that needs what we don't have
// must not take the others of its file along.
static int check_mount(struct cdi_reader *r, void *object)
{
    struct cdi_mount *m = object;
    if (str_empty(m->host_path))
        return cdi_bad(r, "hostPath: is empty");
    int rc = check_path(r, "containerPath", m->container_path, true);
    if (rc == 0 && m->container_path[strspn(m->container_path, "/.")] == '\0')
        rc = cdi_bad(r, "containerPath: \"%s\" would cover the container's whole root", m->container_path);
    return rc;
}

static int check_hook(struct cdi_reader *r, void *object)
{
    struct cdi_hook *h = object;
    h->point = CDI_HOOK_POINTS;
    for (int i = 0; i < CDI_HOOK_POINTS; i++) {
        if (str_eq(h->name, cdi_hook_names[i]))
            h->point = (enum cdi_hook_point)i;
    }
    if (h->point == CDI_HOOK_POINTS)
        return cdi_bad(r, "hookName: \"%.60s\" is no hook of the OCI runtime specification", h->name);
    int rc = check_path(r, "path", h->path, false);
    return rc < 0 ? rc : check_env(r, &h->env);
}

static int check_edits(struct cdi_reader *r, void *object)
{
    struct cdi_edits *e = object;
    e->key = arena_strdup(r->arena, r->key);
    return e->key ? check_env(r, &e->env) : cdi_no_memory(r);
}

static bool edits_are_empty(const struct cdi_edits *e)
{
    return e->env.n + e->nodes.n + e->mounts.n + e->hooks.n + e->gids.n == 0 && !e->unsupported;
}

static int check_device(struct cdi_reader *r, void *object)
{
    struct cdi_device *d = object;
    if (!cdi_device_name_valid(d->name, strlen(d->name)))
        return cdi_bad(r,
                       "name: \"%.100s\" is not made of letters, digits and inner \"_\", \"-\", \".\", \":\"",
                       d->name);
    if (edits_are_empty(&d->edits))
        return cdi_bad(r, "containerEdits: is empty");
    return d->name[0] >= '0' && d->name[0] <= '9' ? cdi_needs(r, 5, "a name that begins with a digit") : 0;
}

static int check_spec(struct cdi_reader *r, void *object)
{
    struct cdi_spec *s = object;
    const char *slash = strchr(s->kind, '/');
    if (!slash || !cdi_vendor_or_class_valid(s->kind, (size_t)(slash - s->kind)) ||
        !cdi_vendor_or_class_valid(slash + 1, strlen(slash + 1)))
        return cdi_bad(r, "kind: \"%.100s\" is not of the form vendor.com/class", s->kind);
    if (s->devices.n == 0)
        return cdi_bad(r, "devices: is empty");
    for (size_t i = 0; i < s->devices.n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (str_eq(s->devices.v[i].name, s->devices.v[k].name))
                return cdi_bad(r, "devices[%zu].name: \"%.100s\" is that of devices[%zu] too", i,
                               s->devices.v[i].name, k);
        }
    }
    return strchr(slash, '.') ? cdi_needs(r, 6, "kind: a class with a dot in it") : 0;
}

// ---- The tables ----

#define AT(type, member) offsetof(struct type, member)

static const struct cdi_field node_fields[] = {
    {.key = "path", .kind = CDI_TEXT, .offset = AT(cdi_node, path), .required = true},
    {.key = "hostPath", .kind = CDI_TEXT, .offset = AT(cdi_node, host_path), .since = 5},
    {.key = "type", .kind = CDI_TEXT, .offset = AT(cdi_node, type)},
    {.key = "major", .kind = CDI_NUMBER, .offset = AT(cdi_node, major), .max = (1 << 12) - 1},
    {.key = "minor", .kind = CDI_NUMBER, .offset = AT(cdi_node, minor), .max = (1 << 20) - 1},
    {.key = "fileMode", .kind = CDI_NUMBER, .offset = AT(cdi_node, mode), .max = 07777},
    {.key = "permissions", .kind = CDI_TEXT, .offset = AT(cdi_node, permissions)},
    {.key = "uid", .kind = CDI_NUMBER, .offset = AT(cdi_node, uid), .max = UINT32_MAX - 1},
    {.key = "gid", .kind = CDI_NUMBER, .offset = AT(cdi_node, gid), .max = UINT32_MAX - 1},
};
static const struct cdi_shape node_shape = SHAPE(cdi_node, node_fields, check_node);

static const struct cdi_field mount_fields[] = {
    {.key = "hostPath", .kind = CDI_TEXT, .offset = AT(cdi_mount, host_path), .required = true},
    {.key = "containerPath", .kind = CDI_TEXT, .offset = AT(cdi_mount, container_path), .required = true},
    {.key = "type", .kind = CDI_TEXT, .offset = AT(cdi_mount, type), .since = 4},
    {.key = "options", .kind = CDI_TEXTS, .offset = AT(cdi_mount, options)},
};
static const struct cdi_shape mount_shape = SHAPE(cdi_mount, mount_fields, check_mount);

static const struct cdi_field hook_fields[] = {
    {.key = "hookName", .kind = CDI_TEXT, .offset = AT(cdi_hook, name), .required = true},
    {.key = "path", .kind = CDI_TEXT, .offset = AT(cdi_hook, path), .required = true},
    {.key = "args", .kind = CDI_TEXTS, .offset = AT(cdi_hook, args)},
    {.key = "env", .kind = CDI_TEXTS, .offset = AT(cdi_hook, env)},
    {.key = "timeout", .kind = CDI_NUMBER, .offset = AT(cdi_hook, timeout_s), .min = 1, .max = 86400},
};
static const struct cdi_shape hook_shape = SHAPE(cdi_hook, hook_fields, check_hook);

static const struct cdi_field edits_fields[] = {
    {.key = "env", .kind = CDI_TEXTS, .offset = AT(cdi_edits, env)},
    {.key = "deviceNodes", .kind = CDI_OBJECTS, .offset = AT(cdi_edits, nodes), .shape = &node_shape},
    {.key = "mounts", .kind = CDI_OBJECTS, .offset = AT(cdi_edits, mounts), .shape = &mount_shape},
    {.key = "hooks", .kind = CDI_OBJECTS, .offset = AT(cdi_edits, hooks), .shape = &hook_shape},
    {.key = "additionalGids", .kind = CDI_GIDS, .offset = AT(cdi_edits, gids), .since = 7},
    // The specification spells it in both ways.
    {.key = "additionalGIDs", .kind = CDI_GIDS, .offset = AT(cdi_edits, gids), .since = 7},
    {.key = "intelRdt", .kind = CDI_UNSUPPORTED, .offset = AT(cdi_edits, unsupported), .since = 7},
    {.key = "netDevices", .kind = CDI_UNSUPPORTED, .offset = AT(cdi_edits, unsupported), .since = 11},
};
static const struct cdi_shape edits_shape = SHAPE(cdi_edits, edits_fields, check_edits);

static const struct cdi_field device_fields[] = {
    {.key = "name", .kind = CDI_TEXT, .offset = AT(cdi_device, name), .required = true},
    {.key = "annotations", .kind = CDI_ANNOTATIONS, .since = 6},
    {.key = "containerEdits",
     .kind = CDI_OBJECT,
     .offset = AT(cdi_device, edits),
     .required = true,
     .shape = &edits_shape},
};
static const struct cdi_shape device_shape = SHAPE(cdi_device, device_fields, check_device);

static const struct cdi_field spec_fields[] = {
    {.key = "cdiVersion", .kind = CDI_TEXT, .offset = AT(cdi_spec, version), .required = true},
    {.key = "kind", .kind = CDI_TEXT, .offset = AT(cdi_spec, kind), .required = true},
    {.key = "annotations", .kind = CDI_ANNOTATIONS, .since = 6},
    {.key = "devices",
     .kind = CDI_OBJECTS,
     .offset = AT(cdi_spec, devices),
     .required = true,
     .shape = &device_shape},
    {.key = "containerEdits", .kind = CDI_OBJECT, .offset = AT(cdi_spec, edits), .shape = &edits_shape},
};
const struct cdi_shape cdi_spec_shape = SHAPE(cdi_spec, spec_fields, check_spec);
