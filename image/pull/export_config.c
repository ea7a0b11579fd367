#include "image/pull/export_config.h"

#include "base/clock.h"
#include "image/pull/json.h"

static void set_text(json_t *object, const char *key, const char *value)
{
    if (*value)
        (void)json_object_set_new(object, key, json_string(value));
}

static void set_list(json_t *object, const char *key, char *const *list, size_t n)
{
    json_t *array = n > 0 ? json_array() : NULL;

    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(array, json_string(list[i]));
    if (array)
        (void)json_object_set_new(object, key, array);
}

// {"a": {}, "b": {}}: how the config writes sets.
static void set_keys(json_t *object, const char *key, char *const *list, size_t n)
{
    json_t *set = n > 0 ? json_object() : NULL;

    for (size_t i = 0; i < n; i++)
        (void)json_object_set_new(set, list[i], json_object());
    if (set)
        (void)json_object_set_new(object, key, set);
}

static json_t *make_process(const Pull__ImageConfig *c)
{
    json_t *process = json_object(), *labels = c->n_labels > 0 ? json_object() : NULL;

    set_text(process, "User", c->user);
    set_list(process, "Env", c->env, c->n_env);
    set_list(process, "Entrypoint", c->entrypoint, c->n_entrypoint);
    set_list(process, "Cmd", c->cmd, c->n_cmd);
    set_text(process, "WorkingDir", c->working_dir);
    set_keys(process, "Volumes", c->volumes, c->n_volumes);
    set_keys(process, "ExposedPorts", c->exposed_ports, c->n_exposed_ports);
    set_text(process, "StopSignal", c->stop_signal);
    for (size_t i = 0; i < c->n_labels; i++)
        (void)json_object_set_new(labels, c->labels[i]->key, json_string(c->labels[i]->value));
    if (labels)
        (void)json_object_set_new(process, "Labels", labels);
    return process;
}

static json_t *make_config(const Pull__ImageConfig *c)
{
    json_t *config = json_object();
    char created[CLOCK_RFC3339_MAX];

    set_text(config, "os", c->os);
    set_text(config, "architecture", c->architecture);
    set_text(config, "variant", c->variant);
    set_text(config, "author", c->author);
    if (c->created_ns > 0) {
        (void)clock_format_rfc3339(c->created_ns, created);
        set_text(config, "created", created);
    }
    (void)json_object_set_new(config, "config", make_process(c));
    return config;
}

// A history tells of each layer: also of one that the store made of its own (on top, of what others lack);
// where layers are missing it would only confuse.
static void fit_history(json_t *config, size_t before, size_t now)
{
    json_t *history = json_object_get(config, "history");

    if (now < before)
        (void)json_object_del(config, "history");
    for (; json_is_array(history) && before < now; before++)
        (void)json_array_append_new(history, json_pack("{s:s}", "created_by", "crisp export"));
}

int export_config_make(const Pull__ExportImage *image, json_t *diff_ids, json_t **out, struct error *err)
{
    json_t *config = image->config_json.len > 0
                         ? json_load_object((const char *)image->config_json.data, image->config_json.len,
                                            "image config", err)
                         : make_config(image->config);

    if (!config)
        return image->config_json.len > 0 ? -EPROTO : error_errno(err, ENOMEM, "export");
    size_t before = json_array_size(json_object_get(json_object_get(config, "rootfs"), "diff_ids"));
    fit_history(config, before, json_array_size(diff_ids));
    (void)json_object_set_new(config, "rootfs",
                              json_pack("{s:s, s:O}", "type", "layers", "diff_ids", diff_ids));
    *out = config;
    return 0;
}
