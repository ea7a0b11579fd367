#include "cni/probe.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "cni/json.h"
#include "cni/plugin.h"

#define MAX_ENTRIES  64 // plugins remembered
#define MAX_VERSIONS 32 // of one plugin

struct entry {
    char *path;
    struct stat st;
    char **versions;
};

struct cni_probe {
    struct entry entries[MAX_ENTRIES];
    size_t next; // to be replaced
};

struct cni_probe *cni_probe_new(void)
{
    return calloc(1, sizeof(struct cni_probe));
}

void cni_probe_free(struct cni_probe *probe)
{
    for (size_t i = 0; probe && i < MAX_ENTRIES; i++) {
        free(probe->entries[i].path);
        strv_free(probe->entries[i].versions);
    }
    free(probe);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int parse_versions(const struct buf *out, const char *type, char ***versions, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    _cleanup_strv_ char **found = strv_new(0);
    int r = out->len ? cni_json_parse(out->data, out->len, "output", &json, NULL) : -EINVAL;
    json_t *list = r == 0 ? json_object_get(json, "supportedVersions") : NULL, *item;
    if (json_array_size(list) == 0 || json_array_size(list) > MAX_VERSIONS)
        return error_set(err, STATUS_FAILED_PRECONDITION, EPROTO,
                         "CNI plugin %s gave a bad answer to VERSION: no supportedVersions", type);
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (!found || strv_append(&found, json_string_value(item) ? json_string_value(item) : "") < 0)
            return error_errno(err, ENOMEM, "CNI plugin %s", type);
    }
    *versions = steal_ptr(&found);
    return 0;
}

static int ask(const char *const *bin_dirs, const char *type, const struct ctx *ctx, char ***versions,
               struct error *err)
{
    // Plugins of old insist on all variables, even for VERSION.
    const struct cni_call call = {.command = "VERSION",
                                  .container_id = "dummy",
                                  .netns = "dummy",
                                  .ifname = "dummy",
                                  .args = "",
                                  .bin_dirs = bin_dirs};
    struct buf out = {0};
    _cleanup_free_ char *input = str_printf("{\"cniVersion\":\"%s\"}", cni_versions[cni_n_versions - 1]);
    int r = input ? cni_plugin_run(&call, type, input, ctx, &out, NULL, err)
                  : error_errno(err, ENOMEM, "CNI plugin %s", type);
    if (r == 0)
        r = parse_versions(&out, type, versions, err);
    buf_done(&out);
    return r;
}

int cni_probe_versions(struct cni_probe *probe, const char *const *bin_dirs, const char *type,
                       const struct ctx *ctx, const char *const **versions, struct error *err)
{
    _cleanup_free_ char *path = NULL;
    struct stat st;
    int r = cni_plugin_find(bin_dirs, type, &path, err);
    if (r < 0)
        return r;
    if (stat(path, &st) < 0)
        return error_errno(err, errno, "CNI plugin %s", path);
    struct entry *entry = NULL;
    for (size_t i = 0; i < MAX_ENTRIES && !entry; i++)
        if (str_eq(probe->entries[i].path, path))
            entry = &probe->entries[i];
    if (!entry || !same_file(&entry->st, &st)) {
        char **answer = NULL;
        r = ask(bin_dirs, type, ctx, &answer, err);
        if (r < 0)
            return r;
        if (!entry) {
            entry = &probe->entries[probe->next];
            probe->next = (probe->next + 1) % MAX_ENTRIES;
        }
        free(entry->path);
        strv_free(entry->versions);
        *entry = (struct entry){.path = steal_ptr(&path), .st = st, .versions = answer};
    }
    *versions = (const char *const *)entry->versions;
    return 0;
}

// Takes those out of common that versions lacks.
static void intersect(const char **common, const char *const *versions)
{
    size_t kept = 0;
    for (const char **c = common; *c; c++) {
        bool there = false;
        for (const char *const *v = versions; *v && !there; v++)
            there = str_eq(*v, *c);
        if (there)
            common[kept++] = *c;
    }
    common[kept] = NULL;
}

int cni_probe_negotiate(struct cni_probe *probe, const char *const *bin_dirs, const struct cni_conflist *list,
                        const struct ctx *ctx, char version[CNI_VERSION_MAX], struct error *err)
{
    const char *common[16] = {0};
    for (size_t i = 0; i < cni_n_versions && i + 1 < ARRAY_SIZE(common); i++)
        common[i] = cni_versions[i];
    for (size_t i = 0; i < list->n_plugins; i++) {
        const char *const *versions;
        const char *type = list->plugins[i].type;
        int r = cni_probe_versions(probe, bin_dirs, type, ctx, &versions, err);
        if (r < 0)
            return r;
        intersect(common, versions);
        if (!cni_conflist_pick_version(list, common))
            return error_set(err, STATUS_FAILED_PRECONDITION, EPROTONOSUPPORT,
                             "%s: CNI plugin %s doesn't speak version %s (it speaks up to %s): correct "
                             "cniVersion or update the plugin",
                             list->path, type, list->version,
                             versions[strv_len((char **)(uintptr_t)versions) - 1]);
    }
    (void)snprintf(version, CNI_VERSION_MAX, "%s", cni_conflist_pick_version(list, common));
    return 0;
}
