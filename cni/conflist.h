// Network configuration lists: parsing and validation. A loaded list never changes and is shared by counting.
#ifndef CNI_CONFLIST_H
#define CNI_CONFLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>

#include "base/error.h"
#include "cni/version.h"

#define CNI_CONF_MAX_BYTES   ((size_t)1 << 20) // one configuration file
#define CNI_CONF_MAX_PLUGINS 32                // plugins of one list

struct cni_plugin_conf {
    const char *type; // lives in conf
    json_t *conf;     // the plugin's object as written
};

struct cni_conflist {
    int refs;                      // atomic
    char *path;                    // where it came from; "" for one that was cached
    const char *name;              // lives in json
    char version[CNI_VERSION_MAX]; // the version in use
    json_t *json; // the list's object, of a single .conf too; plugins from the list's folder included
    struct cni_plugin_conf *plugins;
    size_t n_plugins;
    bool disable_check, disable_gc;
};

// Reads a .conflist (a list) or .conf/.json (one plugin, made into a list of one). With CNI 1.1.0 plugins are
// added from DIR/NETWORK/*.conf, unless loadOnlyInlinedPlugins. Errors: INVALID_ARGUMENT naming file and
// line; NOT_FOUND; INTERNAL.
int cni_conflist_load(const char *path, struct cni_conflist **out, struct error *err);
// The same from memory (without the folder). is_list: else the object of a single plugin.
int cni_conflist_parse(const char *text, size_t len, const char *path, bool is_list,
                       struct cni_conflist **out, struct error *err);
// A list from its JSON object as in ->json (borrowed), in a version that was once negotiated.
int cni_conflist_from_json(json_t *json, const char *version, struct cni_conflist **out, struct error *err);
// The version to use when the plugins speak `versions` (NULL-terminated) only: the newest of the list's
// cniVersion and cniVersions (1.1.0) that both we and they speak, or NULL. The string lives in the list.
const char *cni_conflist_pick_version(const struct cni_conflist *list, const char *const *versions);

struct cni_conflist *cni_conflist_ref(struct cni_conflist *list); // NULL stays NULL
void cni_conflist_unref(struct cni_conflist *list);               // NULL is fine
void cni_conflist_unrefp(struct cni_conflist **list);

#endif
