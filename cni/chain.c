#include "cni/chain.h"

#include <stdbool.h>
#include <string.h>

#include "base/str.h"
#include "cni/json.h"
#include "cni/name.h"
#include "cni/plugin.h"
#include "cni/result.h"

int cni_attachment_check(const struct cni_attachment *a, struct error *err)
{
    if (!cni_name_is_valid(a->container_id))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "not a CNI container id: \"%.64s\"",
                         a->container_id ? a->container_id : "");
    if (!cni_ifname_is_valid(a->ifname))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "not an interface name: \"%.32s\"",
                         a->ifname ? a->ifname : "");
    return 0;
}

static struct cni_call call_of(const struct cni_attachment *a, const char *command)
{
    return (struct cni_call){
        .command = command,
        .container_id = a->container_id,
        .netns = a->netns,
        .ifname = a->ifname,
        .args = a->args,
        .bin_dirs = a->bin_dirs,
    };
}

// The values for the capabilities that this plugin declares; NULL when there are none.
static json_t *make_runtime_config(const json_t *plugin, json_t *capability_args)
{
    json_t *declared = json_object_get(plugin, "capabilities"), *enabled;
    json_t *config = json_object();
    const char *name;
    json_object_foreach(declared, name, enabled)
    {
        json_t *value = json_is_true(enabled) ? json_object_get(capability_args, name) : NULL;
        if (value && json_object_set(config, name, value) < 0)
            break;
    }
    if (json_object_size(config) == 0) {
        json_decref(config);
        return NULL;
    }
    return config;
}

// A plugin's stdin: its own object with name, cniVersion, and what this call adds. NULL on ENOMEM.
static char *make_input(const struct cni_conflist *list, json_t *plugin, json_t *prev_result,
                        json_t *capability_args)
{
    _cleanup_json_ json_t *input = json_copy(plugin); // shallow
    if (!input || json_object_set_new(input, "name", json_string(list->name)) < 0 ||
        json_object_set_new(input, "cniVersion", json_string(list->version)) < 0)
        return NULL;
    json_t *runtime_config = make_runtime_config(plugin, capability_args);
    if (runtime_config && json_object_set_new(input, "runtimeConfig", runtime_config) < 0)
        return NULL;
    if (prev_result && json_object_set(input, "prevResult", prev_result) < 0)
        return NULL;
    return json_dumps(input, JSON_COMPACT);
}

static int run_one(const struct cni_call *call, const struct cni_conflist *list, size_t i,
                   json_t *prev_result, json_t *capability_args, const struct ctx *ctx, struct buf *out,
                   unsigned *code, struct error *err)
{
    const struct cni_plugin_conf *plugin = &list->plugins[i];
    _cleanup_free_ char *input = make_input(list, plugin->conf, prev_result, capability_args);
    if (!input)
        return error_errno(err, ENOMEM, "CNI plugin %s", plugin->type);
    return cni_plugin_run(call, plugin->type, input, ctx, out, code, err);
}

int cni_add(const struct cni_attachment *a, const struct ctx *ctx, json_t **result, struct error *err)
{
    *result = NULL;
    int r = cni_attachment_check(a, err);
    const struct cni_call call = call_of(a, "ADD");
    for (size_t i = 0; r == 0 && i < a->list->n_plugins; i++) {
        struct buf out = {0};
        json_t *next = NULL;
        r = run_one(&call, a->list, i, *result, a->capability_args, ctx, &out, NULL, err);
        if (r == 0)
            r = cni_result_parse(out.data, out.len, a->list->plugins[i].type, a->list->version, &next, err);
        buf_done(&out);
        if (r == 0) {
            json_decref(*result);
            *result = next;
        }
    }
    return r < 0 ? error_wrap(err, "network %s", a->list->name) : 0;
}

int cni_del(const struct cni_attachment *a, json_t *result, const struct ctx *ctx, struct error *err)
{
    int r = cni_attachment_check(a, err);
    const struct cni_call call = call_of(a, "DEL");
    if (cni_version_compare(a->list->version, "0.4.0") < 0)
        result = NULL; // DEL has had a prevResult since then only
    for (size_t i = a->list->n_plugins; r == 0 && i-- > 0;) {
        struct buf out = {0};
        unsigned code = CNI_CODE_NONE;
        r = run_one(&call, a->list, i, result, a->capability_args, ctx, &out, &code, err);
        buf_done(&out);
        if (r < 0 && code == CNI_CODE_UNKNOWN_CONTAINER)
            r = 0;
    }
    return r < 0 ? error_wrap(err, "network %s", a->list->name) : 0;
}

int cni_check(const struct cni_attachment *a, json_t *result, const struct ctx *ctx, struct error *err)
{
    int r = cni_attachment_check(a, err);
    const struct cni_call call = call_of(a, "CHECK");
    if (a->list->disable_check || cni_version_compare(a->list->version, "0.4.0") < 0)
        return r;
    if (r == 0 && !result)
        r = error_set(err, STATUS_FAILED_PRECONDITION, ENOENT, "CHECK needs the result of ADD");
    for (size_t i = 0; r == 0 && i < a->list->n_plugins; i++) {
        struct buf out = {0};
        r = run_one(&call, a->list, i, result, a->capability_args, ctx, &out, NULL, err);
        buf_done(&out);
    }
    return r < 0 ? error_wrap(err, "network %s", a->list->name) : 0;
}

int cni_status(const struct cni_conflist *list, const char *const *bin_dirs, const struct ctx *ctx,
               struct error *err)
{
    const struct cni_call call = {.command = "STATUS", .bin_dirs = bin_dirs};
    int r = 0;
    if (cni_version_compare(list->version, "1.1.0") < 0)
        return 0;
    for (size_t i = 0; r == 0 && i < list->n_plugins; i++) {
        struct buf out = {0};
        r = run_one(&call, list, i, NULL, NULL, ctx, &out, NULL, err);
        buf_done(&out);
    }
    return r < 0 ? error_wrap(err, "network %s", list->name) : 0;
}

static json_t *list_valid(const struct cni_valid_attachment *valid, size_t n)
{
    _cleanup_json_ json_t *array = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *item =
            json_pack("{s:s, s:s}", "containerID", valid[i].container_id, "ifname", valid[i].ifname);
        if (!item || json_array_append_new(array, item) < 0)
            return NULL;
    }
    return steal_ptr(&array);
}

static char *make_gc_input(const struct cni_conflist *list, json_t *plugin, json_t *valid)
{
    _cleanup_json_ json_t *input = json_copy(plugin);
    if (!input || json_object_set_new(input, "name", json_string(list->name)) < 0 ||
        json_object_set_new(input, "cniVersion", json_string(list->version)) < 0 ||
        json_object_set(input, "cni.dev/valid-attachments", valid) < 0)
        return NULL;
    return json_dumps(input, JSON_COMPACT);
}

int cni_gc(const struct cni_conflist *list, const char *const *bin_dirs,
           const struct cni_valid_attachment *valid, size_t n, const struct ctx *ctx, struct error *err)
{
    const struct cni_call call = {.command = "GC", .bin_dirs = bin_dirs};
    int first = 0;
    if (list->disable_gc || cni_version_compare(list->version, "1.1.0") < 0)
        return 0;
    _cleanup_json_ json_t *array = list_valid(valid, n);
    if (!array)
        return error_errno(err, ENOMEM, "network %s", list->name);
    for (size_t i = 0; i < list->n_plugins; i++) {
        struct buf out = {0};
        _cleanup_free_ char *input = make_gc_input(list, list->plugins[i].conf, array);
        struct error *keep = first == 0 ? err : NULL;
        int r = input ? cni_plugin_run(&call, list->plugins[i].type, input, ctx, &out, NULL, keep)
                      : error_errno(keep, ENOMEM, "CNI plugin %s", list->plugins[i].type);
        buf_done(&out);
        if (first == 0)
            first = r;
    }
    return first < 0 ? error_wrap(err, "network %s", list->name) : 0;
}
