#include "cni/conflist.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cni/jsonline.h"
#include "cni/json.h"
#include "cni/name.h"

// What is being parsed, for error messages.
struct source {
    const char *path;
    const char *text; // NULL: nothing to look a line up in
    size_t len;
};

static int fail_at(const struct source *src, struct error *err, const char *const *where, const char *text)
{
    if (src->text)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:%zu: %s", src->path,
                         cni_json_line(src->text, src->len, where), text);
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: %s", src->path, text);
}

#define FAIL_AT(src, err, text, ...) fail_at(src, err, (const char *const[]){__VA_ARGS__, NULL}, text)

struct cni_conflist *cni_conflist_ref(struct cni_conflist *list)
{
    if (list)
        (void)__atomic_add_fetch(&list->refs, 1, __ATOMIC_RELAXED);
    return list;
}

void cni_conflist_unref(struct cni_conflist *list)
{
    if (!list || __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    json_decref(list->json);
    free(list->plugins);
    free(list->path);
    free(list);
}

void cni_conflist_unrefp(struct cni_conflist **list)
{
    cni_conflist_unref(*list);
}

static int read_flag(const struct source *src, const json_t *json, const char *key, bool *out,
                     struct error *err)
{
    const json_t *value = json_object_get(json, key);
    char text[160];
    // The specification says boolean, but libcni also takes the string "true" and files rely on it.
    if (!value || json_is_false(value) || str_eq(json_string_value(value), "false")) {
        *out = false;
    } else if (json_is_true(value) || str_eq(json_string_value(value), "true")) {
        *out = true;
    } else {
        (void)snprintf(text, sizeof(text), "%s must be true or false", key);
        return FAIL_AT(src, err, text, key);
    }
    return 0;
}

static bool list_has_version(const struct cni_conflist *list, const char *version, const char **found)
{
    const char *one = json_string_value(json_object_get(list->json, "cniVersion"));
    if (str_eq(one, version)) {
        *found = one;
        return true;
    }
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(list->json, "cniVersions"), i, item)
    {
        if (str_eq(json_string_value(item), version)) {
            *found = json_string_value(item);
            return true;
        }
    }
    return false;
}

const char *cni_conflist_pick_version(const struct cni_conflist *list, const char *const *versions)
{
    const char *found = NULL;
    for (size_t i = cni_n_versions; i-- > 0;) {
        bool spoken = false;
        for (const char *const *v = versions; *v && !spoken; v++)
            spoken = str_eq(*v, cni_versions[i]);
        if (spoken && list_has_version(list, cni_versions[i], &found))
            return found;
    }
    return NULL;
}

static int read_versions(const struct source *src, struct cni_conflist *list, struct error *err)
{
    json_t *one = json_object_get(list->json, "cniVersion"), *item;
    json_t *many = json_object_get(list->json, "cniVersions");
    if (!one && !many)
        return FAIL_AT(src, err, "cniVersion is missing (0.3.0 to 1.1.0 are supported)", "name");
    if (one && !cni_version_is_valid(json_string_value(one)))
        return FAIL_AT(src, err, "cniVersion must be a version such as \"1.0.0\"", "cniVersion");
    if (many && !json_is_array(many))
        return FAIL_AT(src, err, "cniVersions must be an array of versions", "cniVersions");
    size_t i;
    json_array_foreach(many, i, item)
    {
        char index[24];
        (void)snprintf(index, sizeof(index), "#%zu", i);
        if (!cni_version_is_valid(json_string_value(item)))
            return FAIL_AT(src, err, "cniVersions: not a version such as \"1.0.0\"", "cniVersions", index);
    }
    const char *all[16] = {0};
    for (i = 0; i < cni_n_versions && i + 1 < ARRAY_SIZE(all); i++)
        all[i] = cni_versions[i];
    const char *best = cni_conflist_pick_version(list, all);
    if (!best)
        return FAIL_AT(src, err, "no supported CNI version (0.3.0 to 1.1.0 are)",
                       one ? "cniVersion" : "cniVersions");
    (void)snprintf(list->version, sizeof(list->version), "%s", best);
    return 0;
}

static int check_plugin(const struct source *src, const json_t *plugin, const char *index, struct error *err)
{
    if (!json_is_object(plugin))
        return FAIL_AT(src, err, "a plugin must be an object", "plugins", index);
    const json_t *type = json_object_get(plugin, "type");
    if (!cni_type_is_valid(json_string_value(type)))
        return FAIL_AT(src, err, "type must be the name of a plugin's file", "plugins", index, "type");
    const json_t *caps = json_object_get(plugin, "capabilities");
    if (caps && !json_is_object(caps) && !json_is_null(caps))
        return FAIL_AT(src, err, "capabilities must be an object", "plugins", index, "capabilities");
    return 0;
}

static int read_plugins(const struct source *src, struct cni_conflist *list, struct error *err)
{
    json_t *plugins = json_object_get(list->json, "plugins"), *plugin;
    if (plugins && !json_is_array(plugins))
        return FAIL_AT(src, err, "plugins must be an array", "plugins");
    size_t n = json_array_size(plugins), i;
    if (n == 0)
        return FAIL_AT(src, err, "plugins lists no plugin", "plugins");
    if (n > CNI_CONF_MAX_PLUGINS)
        return FAIL_AT(src, err, "plugins lists more than 32 plugins", "plugins");
    list->plugins = calloc(n, sizeof(*list->plugins));
    if (!list->plugins)
        return error_errno(err, ENOMEM, "%s", src->path);
    json_array_foreach(plugins, i, plugin)
    {
        char index[24];
        (void)snprintf(index, sizeof(index), "#%zu", i);
        int r = check_plugin(src, plugin, index, err);
        if (r < 0)
            return r;
        list->plugins[i].conf = plugin;
        list->plugins[i].type = json_string_value(json_object_get(plugin, "type"));
    }
    list->n_plugins = n;
    return 0;
}

// Takes over the reference to json (a list's object), also on failure.
static int conflist_build(const struct source *src, json_t *json, struct cni_conflist **out,
                          struct error *err)
{
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = calloc(1, sizeof(*list));
    if (!list) {
        json_decref(json);
        return error_errno(err, ENOMEM, "%s", src->path);
    }
    list->refs = 1;
    list->json = json;
    list->path = strdup(src->path);
    if (!list->path)
        return error_errno(err, ENOMEM, "%s", src->path);
    const json_t *name = json_object_get(json, "name");
    list->name = json_string_value(name);
    if (!cni_name_is_valid(list->name))
        return FAIL_AT(
            src, err,
            "name must be the network's name: a letter or digit, then letters, digits, '_', '.', '-'",
            "name");
    int r = read_versions(src, list, err);
    if (r == 0)
        r = read_flag(src, json, "disableCheck", &list->disable_check, err);
    if (r == 0)
        r = read_flag(src, json, "disableGC", &list->disable_gc, err);
    if (r == 0)
        r = read_plugins(src, list, err);
    if (r < 0)
        return r;
    *out = steal_ptr(&list);
    return 0;
}

// {"name", "cniVersion", "plugins": [plugin]}: what a single .conf file stands for.
static json_t *wrap_single(json_t *plugin)
{
    json_t *list = json_pack("{s:[O]}", "plugins", plugin);
    const char *const keys[] = {"name", "cniVersion", "cniVersions"};
    for (size_t i = 0; list && i < ARRAY_SIZE(keys); i++) {
        json_t *value = json_object_get(plugin, keys[i]);
        if (value && json_object_set(list, keys[i], value) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static int parse_object(const struct source *src, json_t **out, struct error *err)
{
    int r = cni_json_parse(src->text, src->len, src->path, out, err);
    if (r < 0)
        return r;
    if (!json_is_object(*out)) {
        cni_json_decrefp(out);
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:1: not a JSON object", src->path);
    }
    return 0;
}

static int parse_text(const struct source *src, bool is_list, json_t **out, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    int r = parse_object(src, &json, err);
    if (r < 0)
        return r;
    if (is_list) {
        *out = steal_ptr(&json);
        return 0;
    }
    if (!json_is_string(json_object_get(json, "type")))
        return FAIL_AT(src, err,
                       json_object_get(json, "plugins") ? "a list of plugins: call the file .conflist"
                                                        : "type must be the name of a plugin's file",
                       "type");
    *out = wrap_single(json);
    return *out ? 0 : error_errno(err, ENOMEM, "%s", src->path);
}

int cni_conflist_parse(const char *text, size_t len, const char *path, bool is_list,
                       struct cni_conflist **out, struct error *err)
{
    struct source src = {.path = path, .text = text, .len = len};
    json_t *json = NULL;
    int r = parse_text(&src, is_list, &json, err);
    return r < 0 ? r : conflist_build(&src, json, out, err);
}

int cni_conflist_from_json(json_t *json, const char *version, struct cni_conflist **out, struct error *err)
{
    struct source src = {.path = "cached configuration"};
    if (!json_is_object(json))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: not an object", src.path);
    int r = conflist_build(&src, json_incref(json), out, err);
    if (r < 0)
        return r;
    if (version && cni_version_is_supported(version))
        (void)snprintf((*out)->version, sizeof((*out)->version), "%s", version);
    return 0;
}

static int is_conf_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && str_has_suffix(entry->d_name, ".conf");
}

static int append_plugin_file(json_t *plugins, const char *path, struct error *err)
{
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *json = NULL;
    size_t len = 0;
    int r = file_read(path, CNI_CONF_MAX_BYTES, &text, &len, err);
    if (r < 0)
        return r;
    struct source src = {.path = path, .text = text, .len = len};
    r = parse_object(&src, &json, err);
    if (r < 0)
        return r;
    if (!cni_type_is_valid(json_string_value(json_object_get(json, "type"))))
        return FAIL_AT(&src, err, "type must be the name of a plugin's file", "type");
    return json_array_append(plugins, json) < 0 ? error_errno(err, ENOMEM, "%s", path) : 0;
}

// CNI 1.1.0: other software adds plugins to a list by files in a folder named as the network.
static int append_folder(json_t *list, const char *path, struct error *err)
{
    const char *name = json_string_value(json_object_get(list, "name"));
    const char *slash = strrchr(path, '/');
    json_t *plugins = json_object_get(list, "plugins");
    if (!cni_name_is_valid(name) || (plugins && !json_is_array(plugins)))
        return 0; // conflist_build() says so
    _cleanup_free_ char *dir = str_printf("%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
    if (!dir)
        return error_errno(err, ENOMEM, "%s", path);
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_conf_file, alphasort), r = 0;
    if (n > 0 && !plugins && json_object_set_new(list, "plugins", plugins = json_array()) < 0)
        r = error_errno(err, ENOMEM, "%s", path);
    for (int i = 0; i < n; i++) {
        if (r == 0 && i >= CNI_CONF_MAX_PLUGINS)
            r = error_set(err, STATUS_INVALID_ARGUMENT, E2BIG, "%s holds more than 32 plugin files", dir);
        _cleanup_free_ char *file = r == 0 ? str_printf("%s/%s", dir, entries[i]->d_name) : NULL;
        if (r == 0)
            r = file ? append_plugin_file(plugins, file, err) : error_errno(err, ENOMEM, "%s", dir);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int cni_conflist_load(const char *path, struct cni_conflist **out, struct error *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = file_read(path, CNI_CONF_MAX_BYTES, &text, &len, err);
    if (r < 0)
        return r;
    bool is_list = str_has_suffix(path, ".conflist"), only_inlined = false;
    struct source src = {.path = path, .text = text, .len = len};
    json_t *json = NULL;
    r = parse_text(&src, is_list, &json, err);
    if (r < 0)
        return r;
    if (is_list) {
        r = read_flag(&src, json, "loadOnlyInlinedPlugins", &only_inlined, err);
        if (r == 0 && !only_inlined)
            r = append_folder(json, path, err);
    }
    if (r < 0) {
        json_decref(json);
        return r;
    }
    return conflist_build(&src, json, out, err);
}
