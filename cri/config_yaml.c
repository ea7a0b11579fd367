// One YAML document into the configuration: unknown and duplicate keys, wrong types and values are problems,
// each with its line. libyaml's node tree is walked to the depth of the known keys only, so aliases that
// refer to themselves lead nowhere.
#include "cri/config_internal.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define CONFIG_PATH_MAX 128

const char *config_scalar(const yaml_node_t *node)
{
    if (!node || node->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

bool config_is_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const yaml_node_t *node)
{
    const char *text = config_scalar(node);
    return text && config_is_plain(node) &&
           (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

const char *config_node_kind(const yaml_node_t *node)
{
    if (is_null(node))
        return "nothing";
    switch (node->type) {
    case YAML_SEQUENCE_NODE:
        return "a list";
    case YAML_MAPPING_NODE:
        return "a map";
    default:
        return "a text";
    }
}

static const char *expected_kind(const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_STRINGS:
    case CONFIG_PATHS:
        return "a list";
    case CONFIG_REGISTRIES:
    case CONFIG_POLICIES:
        return "a map";
    default:
        return "a single value";
    }
}

static void wrong_type(struct config_loader *l, const yaml_node_t *node, const struct config_key *key)
{
    _cleanup_free_ char *allowed = config_allowed(key);
    config_problem_at(l, node, key->path, "expected %s but found %s; allowed: %s", expected_kind(key),
                      config_node_kind(node), allowed ? allowed : "");
}

static void bad_value(struct config_loader *l, const yaml_node_t *node, const struct config_key *key,
                      const char *text)
{
    _cleanup_free_ char *allowed = config_allowed(key);
    config_problem_at(l, node, key->path, "\"%.100s\" is not allowed; allowed: %s", text,
                      allowed ? allowed : "");
}

static void read_scalar(struct config_loader *l, const struct config_key *key, const yaml_node_t *node)
{
    const char *text = config_scalar(node);
    // Numbers and booleans in quotes are texts, as everywhere in YAML.
    bool wants_plain = key->type == CONFIG_INT || key->type == CONFIG_BOOL;
    if (!text || is_null(node) || (wants_plain && !config_is_plain(node))) {
        wrong_type(l, node, key);
        return;
    }
    if (config_set_text(l->config, key, text) != 0)
        bad_value(l, node, key, text);
}

static void read_list(struct config_loader *l, const struct config_key *key, const yaml_node_t *node)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        wrong_type(l, node, key);
        return;
    }
    config_clear(l->config, key);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(l->document, *i);
        const char *text = config_scalar(item);
        if (!text || is_null(item))
            wrong_type(l, item, key);
        else if (config_append_text(l->config, key, text) != 0)
            bad_value(l, item, key, text);
    }
}

static void set_origin(struct config_loader *l, const struct config_key *key, const yaml_node_t *node)
{
    struct config_origin *origin = &l->origins[key - config_keys];
    free(origin->file);
    origin->file = strdup(l->file);
    origin->line = node->start_mark.line + 1;
}

static void read_value(struct config_loader *l, const struct config_key *key, yaml_node_t *node)
{
    set_origin(l, key, node);
    switch (key->type) {
    case CONFIG_STRINGS:
    case CONFIG_PATHS:
        read_list(l, key, node);
        break;
    case CONFIG_REGISTRIES:
        config_read_registries(l, node);
        break;
    case CONFIG_POLICIES:
        config_read_policies(l, node);
        break;
    default:
        read_scalar(l, key, node);
        break;
    }
}

// Whether some key lies below "<path>.".
static bool is_group(const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < config_keys_len; i++) {
        if (str_has_prefix(config_keys[i].path, path) && config_keys[i].path[len] == '.')
            return true;
    }
    return false;
}

// The names that are known below a group ("" for the top), for the text about an unknown one.
static void list_names(const char *group, struct buf *out)
{
    size_t skip = group[0] ? strlen(group) + 1 : 0;
    const char *last = "";
    size_t last_len = 0;
    for (size_t i = 0; i < config_keys_len; i++) {
        const char *path = config_keys[i].path;
        if (skip && (!str_has_prefix(path, group) || path[skip - 1] != '.'))
            continue;
        size_t len = strcspn(path + skip, ".");
        if (len == last_len && strncmp(path + skip, last, len) == 0)
            continue;
        last = path + skip;
        last_len = len;
        (void)buf_printf(out, "%s%.*s", out->len ? ", " : "", (int)len, last);
    }
}

static void unknown_key(struct config_loader *l, const yaml_node_t *node, const char *group, const char *path)
{
    struct buf names;
    buf_init(&names, 2048);
    list_names(group, &names);
    config_problem_at(l, node, path, "unknown key; allowed here: %s", names.data ? names.data : "");
    buf_done(&names);
}

static bool is_repeated(struct config_loader *l, const yaml_node_t *map, const yaml_node_pair_t *pair,
                        const char *name)
{
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < pair; p++) {
        const char *before = config_scalar(yaml_document_get_node(l->document, p->key));
        if (before && strcmp(before, name) == 0)
            return true;
    }
    return false;
}

static void read_group(struct config_loader *l, const yaml_node_t *map, const char *group, int depth);

static void read_pair(struct config_loader *l, const yaml_node_t *map, const yaml_node_pair_t *pair,
                      const char *group, int depth)
{
    const yaml_node_t *key_node = yaml_document_get_node(l->document, pair->key);
    yaml_node_t *value = yaml_document_get_node(l->document, pair->value);
    const char *name = config_scalar(key_node);
    if (!name || strlen(name) >= 64) {
        config_problem_at(l, key_node, group[0] ? group : "(top)", "a key has to be a short text");
        return;
    }
    char path[CONFIG_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s%s%s", group, group[0] ? "." : "", name);
    if (is_repeated(l, map, pair, name)) {
        config_problem_at(l, key_node, path, "is given twice in this file; keep one");
        return;
    }
    const struct config_key *key = config_key_find(path);
    if (key)
        read_value(l, key, value);
    else if (depth == 0 && is_group(path))
        read_group(l, value, path, depth + 1);
    else
        unknown_key(l, key_node, group, path);
}

static void read_group(struct config_loader *l, const yaml_node_t *map, const char *group, int depth)
{
    if (is_null(map))
        return; // "log:" with all its keys commented out
    if (map->type != YAML_MAPPING_NODE) {
        config_problem_at(l, map, group[0] ? group : "(top)", "expected a map of keys but found %s",
                          config_node_kind(map));
        return;
    }
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++)
        read_pair(l, map, p, group, depth);
}

static void syntax_problem(struct config_loader *l, const yaml_parser_t *parser)
{
    size_t line = parser->problem_mark.line + 1;
    config_problem(l->problems, l->file, line, "(syntax)", "not valid YAML: %s%s%s",
                   parser->problem ? parser->problem : "unreadable", parser->context ? " " : "",
                   parser->context ? parser->context : "");
}

void config_read_document(struct config_loader *l, const char *text, size_t len)
{
    yaml_parser_t parser;
    yaml_document_t document, second;
    if (!yaml_parser_initialize(&parser)) {
        config_problem(l->problems, l->file, 1, "(syntax)", "out of memory");
        return;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    if (!yaml_parser_load(&parser, &document)) {
        syntax_problem(l, &parser);
        yaml_parser_delete(&parser);
        return;
    }
    l->document = &document;
    yaml_node_t *top = yaml_document_get_root_node(&document);
    if (top)
        read_group(l, top, "", 0);
    // Asking once more tells a second document and errors behind the first.
    if (!top) {
        // an empty file: all defaults
    } else if (!yaml_parser_load(&parser, &second)) {
        syntax_problem(l, &parser);
    } else {
        const yaml_node_t *more = yaml_document_get_root_node(&second);
        if (more)
            config_problem_at(l, more, "(top)", "a second document (---) in one file; keep one");
        yaml_document_delete(&second);
    }
    l->document = NULL;
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
}
