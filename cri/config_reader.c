#include "cri/config_reader.h"

#include <string.h>

#include "base/arena.h"
#include "base/str.h"

void config_reader_problem(struct config_reader *r, const yaml_node_t *node, const char *name,
                           const char *what)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s%s%s", r->path, name[0] ? "." : "", name);
    config_problem_at(r->l, node, path, "%s", what);
}

const char *config_reader_text(struct config_reader *r, const yaml_node_t *node, const char *name,
                               bool (*valid)(const char *), const char *allowed)
{
    const char *text = config_scalar(node);
    if (!text || !valid(text)) {
        config_reader_problem(r, node, name, allowed);
        return NULL;
    }
    return arena_strdup(r->l->config->arena, text);
}

bool config_reader_bool(struct config_reader *r, const yaml_node_t *node, const char *name)
{
    const char *text = config_scalar(node);
    bool yes = text && strcmp(text, "true") == 0;
    if (!text || !config_is_plain(node) || (!yes && strcmp(text, "false") != 0))
        config_reader_problem(r, node, name, "expected true or false");
    return yes;
}

static bool is_repeated(const struct config_reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair)
{
    const char *name = config_scalar(yaml_document_get_node(r->l->document, pair->key));
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; name && p < pair; p++) {
        const char *other = config_scalar(yaml_document_get_node(r->l->document, p->key));
        if (str_eq(other, name) || (other && r->same_key && r->same_key(other, name)))
            return true;
    }
    return false;
}

void config_reader_map(struct config_reader *r, const yaml_node_t *map, config_pair_fn fn, void *data)
{
    if (map->type != YAML_MAPPING_NODE) {
        config_reader_problem(r, map, "", "expected a map of keys");
        return;
    }
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(r->l->document, p->key);
        if (is_repeated(r, map, p))
            config_reader_problem(r, key, config_scalar(key), "is given twice in this file; keep one");
        else
            fn(r, key, yaml_document_get_node(r->l->document, p->value), data);
    }
}
