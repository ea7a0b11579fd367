// Readers of maps and lists that config_keys[] doesn't describe (registries, policies). Only for
// cri/config_*.c.
#ifndef CRI_CONFIG_READER_H
#define CRI_CONFIG_READER_H

#include "cri/config_internal.h"

struct config_reader {
    struct config_loader *l;
    char path[320]; // "registries.HOST.mirrors[0]"
    bool (*same_key)(const char *a,
                     const char *b); // of maps whose keys have several spellings; NULL: exactly
};

// Tells of a mistake at a name below the reader's path ("": at the path itself).
void config_reader_problem(struct config_reader *r, const yaml_node_t *node, const char *name,
                           const char *what);
// A text that is valid, in the configuration's arena; else NULL and a problem: what is allowed.
const char *config_reader_text(struct config_reader *r, const yaml_node_t *node, const char *name,
                               bool (*valid)(const char *), const char *allowed);
bool config_reader_bool(struct config_reader *r, const yaml_node_t *node, const char *name);

typedef void (*config_pair_fn)(struct config_reader *r, const yaml_node_t *key, yaml_node_t *value,
                               void *data);
// Calls fn for each pair of a map whose key comes for the first time.
void config_reader_map(struct config_reader *r, const yaml_node_t *map, config_pair_fn fn, void *data);

#endif
