// What the files of the configuration share. Only for cri/config_*.c.
#ifndef CRI_CONFIG_INTERNAL_H
#define CRI_CONFIG_INTERNAL_H

#include <yaml.h>

#include "cri/config.h"

enum config_type {
    CONFIG_STRING,     // char *
    CONFIG_PATH,       // char *, absolute and normal
    CONFIG_ENUM,       // int64_t, the place in names
    CONFIG_INT,        // int64_t within [min, max]
    CONFIG_DURATION,   // int64_t nanoseconds within [min, max] nanoseconds; "500ms", "30s", "2m", "1h"
    CONFIG_BOOL,       // bool
    CONFIG_STRINGS,    // char **
    CONFIG_PATHS,      // char **
    CONFIG_REGISTRIES, // struct registry_config *
    CONFIG_POLICIES,   // struct policy_config *
};

// One key. A default is written as in the file (lists: separated by commas); it may begin with {root} or
// {run_dir}. NULL: empty, or found at start.
struct config_key {
    const char *path; // "log.level"
    enum config_type type;
    size_t offset; // in struct config
    const char *default_value;
    int64_t min, max;
    const char *const *names;         // CONFIG_ENUM: NULL-terminated
    bool (*valid)(const char *value); // further limits of strings and list elements; NULL: none
    const char *allowed; // what is allowed, for errors and documents; NULL: follows from the type
    const char *doc;
};

#define CONFIG_KEYS_MAX 40
extern const struct config_key config_keys[];
extern const size_t config_keys_len;
const struct config_key *config_key_find(const char *path);

// Where a value came from.
struct config_origin {
    char *file; // NULL: the default
    size_t line;
};

struct config_loader {
    struct config *config;
    struct config_problems *problems;
    const char *file; // being read
    yaml_document_t *document;
    struct config_origin origins[CONFIG_KEYS_MAX]; // by place in config_keys
};

void config_problem(struct config_problems *p, const char *file, size_t line, const char *key,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));
// The same, at a node of the file being read.
#define config_problem_at(loader, node, key, ...)                                                            \
    config_problem((loader)->problems, (loader)->file, (node)->start_mark.line + 1, key, __VA_ARGS__)

// config_value.c: values from text, and back.
void *config_field(const struct config *c, const struct config_key *key);
// Sets the key's field from a scalar's text: 0, or -EINVAL (the field is unchanged).
int config_set_text(struct config *c, const struct config_key *key, const char *text);
int config_append_text(struct config *c, const struct config_key *key, const char *text);
void config_clear(struct config *c, const struct config_key *key);
// "a whole number from 1 to 64": for errors and documents. The caller frees.
char *config_allowed(const struct config_key *key);
int config_parse_duration(const char *text, int64_t *ns);
char *config_format_duration(int64_t ns);
bool config_is_normal_path(const char *path);
bool config_is_address(const char *value);
bool config_is_slice(const char *value); // "a-b.slice"
bool config_is_cgroup_parent(const char *value);
bool config_is_handler_name(const char *value);
bool config_is_rlimit(const char *value);
bool config_is_assignment(const char *value);   // NAME=VALUE
bool config_is_name_pattern(const char *value); // "device-*"
bool config_is_socket_path(const char *value);

// config_yaml.c: one document into loader->config.
void config_read_document(struct config_loader *l, const char *text, size_t len);
// For the readers of nodes: the node's text if it is a scalar without NULs, else NULL.
const char *config_scalar(const yaml_node_t *node);
const char *config_node_kind(const yaml_node_t *node); // "a list", "a map", "text"
bool config_is_plain(const yaml_node_t *node);

// config_registry.c
void config_read_registries(struct config_loader *l, yaml_node_t *node);
int config_print_registries(const struct registry_config *registries, struct buf *out);

// config_policy.c
void config_read_policies(struct config_loader *l, yaml_node_t *node);
int config_print_policies(const struct policy_config *policies, struct buf *out);
bool config_is_image_prefix(const char *s); // HOST[:PORT][/path]
// Is the key a map of its own making, with a reader and a printer of its own?
bool config_is_map(const struct config_key *key);

// config_print.c: text as a YAML (and JSON) double-quoted scalar.
int config_print_quoted(struct buf *out, const char *text);

#endif
