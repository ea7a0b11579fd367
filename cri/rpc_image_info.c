// ImageStatus's verbose information: the image config as OCI's "Image JSON", for people and crictl inspecti.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/rpc_image.h"

// jansson takes only UTF-8, which crisp-pull has made sure of; what it refuses is left out.
static void set_string(json_t *object, const char *key, const char *value)
{
    if (!str_empty(value))
        (void)json_object_set_new(object, key, json_string(value));
}

static void set_list(json_t *object, const char *key, char *const *values, size_t n)
{
    json_t *list = n > 0 ? json_array() : NULL;

    for (size_t i = 0; list && i < n; i++)
        (void)json_array_append_new(list, json_string(values[i]));
    if (list)
        (void)json_object_set_new(object, key, list);
}

static void set_keys(json_t *object, const char *key, char *const *names, size_t n)
{
    json_t *map = n > 0 ? json_object() : NULL;

    for (size_t i = 0; map && i < n; i++)
        (void)json_object_set_new(map, names[i], json_object());
    if (map)
        (void)json_object_set_new(object, key, map);
}

static json_t *process_json(const Pull__ImageConfig *config)
{
    json_t *process = json_object(), *labels = config->n_labels > 0 ? json_object() : NULL;

    set_string(process, "User", config->user);
    set_keys(process, "ExposedPorts", config->exposed_ports, config->n_exposed_ports);
    set_list(process, "Env", config->env, config->n_env);
    set_list(process, "Entrypoint", config->entrypoint, config->n_entrypoint);
    set_list(process, "Cmd", config->cmd, config->n_cmd);
    set_keys(process, "Volumes", config->volumes, config->n_volumes);
    set_string(process, "WorkingDir", config->working_dir);
    set_string(process, "StopSignal", config->stop_signal);
    for (size_t i = 0; labels && i < config->n_labels; i++)
        (void)json_object_set_new(labels, config->labels[i]->key, json_string(config->labels[i]->value));
    if (labels)
        (void)json_object_set_new(process, "Labels", labels);
    return process;
}

static json_t *spec_json(const Pull__ImageConfig *config)
{
    json_t *spec = json_object(), *rootfs = json_object();
    char created[CLOCK_RFC3339_MAX];

    if (config->created_ns > 0) {
        clock_format_rfc3339(config->created_ns, created);
        set_string(spec, "created", created);
    }
    set_string(spec, "author", config->author);
    set_string(spec, "architecture", config->architecture);
    set_string(spec, "variant", config->variant);
    set_string(spec, "os", config->os);
    (void)json_object_set_new(spec, "config", process_json(config));
    set_string(rootfs, "type", "layers");
    set_list(rootfs, "diff_ids", config->diff_ids, config->n_diff_ids);
    (void)json_object_set_new(spec, "rootfs", rootfs);
    return spec;
}

// crisp-pull has seen that they are JSON objects, and the daemon doesn't parse what others wrote: they go in
// as they are.
static char *add_source(const char *info, const struct image_source *source, struct arena *arena)
{
    size_t len = strlen(info);
    const char *manifest = source->manifest_len > 0 ? source->manifest : "null";

    if (len == 0 || info[len - 1] != '}')
        return NULL;
    return arena_printf(arena, "%.*s,\"manifest\":%s,\"imageSpec\":%s}", (int)len - 1, info, manifest,
                        source->config);
}

char *image_info_json(const struct image *image, const struct image_source *source, struct arena *arena)
{
    json_t *info = json_object();
    char *text, *copy, pulled[CLOCK_RFC3339_MAX];

    clock_format_rfc3339(image->pulled_ns, pulled);
    set_string(info, "id", image->id);
    set_string(info, "pulledAt", pulled);
    set_list(info, "layers", image->layers, strv_len(image->layers));
    if (source) {
        set_string(info, "chainID", source->chain_id);
        set_string(info, "manifestDigest", source->manifest_digest);
        set_string(info, "manifestMediaType", source->manifest_type);
    } else {
        // An older version pulled it, or it is too large: what the runtime uses of the config.
        set_string(info, "note", "the manifest and the whole config are not recorded; pull the image again");
        (void)json_object_set_new(info, "imageSpec", spec_json(image->config));
    }
    text = json_dumps(info, JSON_COMPACT);
    copy = !text ? NULL : source ? add_source(text, source, arena) : arena_strdup(arena, text);
    free(text);
    json_decref(info);
    return copy;
}
