#include "cni/record.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "cni/json.h"
#include "cni/name.h"

#define SUFFIX ".json"

static const char *const state_names[] = {
    [CNI_RECORD_ADDING] = "adding",
    [CNI_RECORD_ATTACHED] = "attached",
    [CNI_RECORD_DELETING] = "deleting",
};

const char *cni_record_state_name(enum cni_record_state state)
{
    return state_names[state];
}

void cni_record_done(struct cni_record *record)
{
    free(record->container_id);
    free(record->ifname);
    free(record->netns);
    free(record->args);
    cni_conflist_unref(record->list);
    json_decref(record->capability_args);
    json_decref(record->result);
    *record = (struct cni_record){0};
}

static char *record_path(const char *dir, const char *container_id, const char *suffix, struct error *err)
{
    if (!cni_name_is_valid(container_id)) {
        (void)error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "not a CNI container id: \"%.64s\"",
                        container_id ? container_id : "");
        return NULL;
    }
    char *path = str_printf("%s/%s%s", dir, container_id, suffix);
    if (!path)
        (void)error_errno(err, ENOMEM, "CNI record");
    return path;
}

int cni_record_save(const char *dir, const struct cni_record *record, struct error *err)
{
    _cleanup_free_ char *path = record_path(dir, record->container_id, SUFFIX, err);
    if (!path)
        return -EINVAL;
    _cleanup_json_ json_t *json =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:O, s:O*, s:O*}", "format", 1, "state",
                  state_names[record->state], "containerId", record->container_id, "ifName", record->ifname,
                  "netns", record->netns, "args", record->args, "createdNs", (json_int_t)record->created_ns,
                  "file", record->list->path, "cniVersion", record->list->version, "config",
                  record->list->json, "capabilityArgs", record->capability_args, "result", record->result);
    _cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (!text)
        return error_errno(err, ENOMEM, "CNI record of %s", record->container_id);
    size_t len = strlen(text);
    if (len > CNI_RECORD_MAX_BYTES) // it could never be read again, and so never be deleted
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EFBIG,
                         "CNI record of %s: configuration, annotations and result have %zu bytes, more than "
                         "the %zu that are kept",
                         record->container_id, len, CNI_RECORD_MAX_BYTES);
    return file_write_atomic(path, text, len, 0600, false, err);
}

static int parse_state(const char *name, enum cni_record_state *state)
{
    for (size_t i = 0; i < ARRAY_SIZE(state_names); i++) {
        if (str_eq(name, state_names[i])) {
            *state = (enum cni_record_state)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int fill_record(json_t *json, const char *container_id, struct cni_record *record, struct error *err)
{
    int format = 0;
    const char *state, *id, *ifname, *netns, *args, *version;
    json_t *config, *capability_args = NULL, *result = NULL;
    json_int_t created = 0;
    if (json_unpack(json, "{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:o, s?o, s?o}", "format", &format,
                    "state", &state, "containerId", &id, "ifName", &ifname, "netns", &netns, "args", &args,
                    "createdNs", &created, "cniVersion", &version, "config", &config, "capabilityArgs",
                    &capability_args, "result", &result) < 0 ||
        format != 1 || !str_eq(id, container_id) || parse_state(state, &record->state) < 0 ||
        !cni_ifname_is_valid(ifname))
        return error_set(err, STATUS_DATA_LOSS, EBADMSG, "not a record of this container");
    int r = cni_conflist_from_json(config, version, &record->list, err);
    if (r < 0)
        return r;
    record->container_id = strdup(id);
    record->ifname = strdup(ifname);
    record->netns = strdup(netns);
    record->args = strdup(args);
    record->capability_args = json_incref(capability_args);
    record->result = json_incref(result);
    record->created_ns = created;
    if (!record->container_id || !record->ifname || !record->netns || !record->args)
        return error_errno(err, ENOMEM, "CNI record");
    return 0;
}

int cni_record_load(const char *dir, const char *container_id, struct cni_record *record, struct error *err)
{
    *record = (struct cni_record){0};
    _cleanup_free_ char *path = record_path(dir, container_id, SUFFIX, err), *text = NULL;
    _cleanup_json_ json_t *json = NULL;
    size_t len = 0;
    if (!path)
        return -EINVAL;
    int r = file_read(path, CNI_RECORD_MAX_BYTES, &text, &len, err);
    if (r < 0)
        return r;
    r = cni_json_parse(text, len, path, &json, err);
    if (r == 0)
        r = fill_record(json, container_id, record, err);
    if (r < 0) {
        cni_record_done(record);
        if (r != -ENOMEM)
            error_restatus(err, STATUS_DATA_LOSS);
        return error_wrap(err, "network record %s", path);
    }
    return 0;
}

int cni_record_remove(const char *dir, const char *container_id, struct error *err)
{
    _cleanup_free_ char *path = record_path(dir, container_id, SUFFIX, err);
    if (!path)
        return -EINVAL;
    return unlink(path) < 0 && errno != ENOENT ? error_errno(err, errno, "remove %s", path) : 0;
}

int cni_record_set_aside(const char *dir, const char *container_id, struct error *err)
{
    _cleanup_free_ char *path = record_path(dir, container_id, SUFFIX, err);
    _cleanup_free_ char *aside = path ? record_path(dir, container_id, SUFFIX ".bad", err) : NULL;
    if (!aside)
        return -EINVAL;
    return rename(path, aside) < 0 && errno != ENOENT ? error_errno(err, errno, "rename %s", path) : 0;
}

int cni_record_list(const char *dir, char ***ids, struct error *err)
{
    _cleanup_strv_ char **found = strv_new(0);
    _cleanup_(dir_closep) DIR *d = opendir(dir);
    if (!found)
        return error_errno(err, ENOMEM, "list %s", dir);
    if (!d)
        return error_errno(err, errno, "list %s", dir);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own DIR
        size_t len = strlen(entry->d_name);
        if (!str_has_suffix(entry->d_name, SUFFIX) || len >= CNI_NAME_MAX + strlen(SUFFIX))
            continue;
        entry->d_name[len - strlen(SUFFIX)] = '\0';
        if (cni_name_is_valid(entry->d_name) && strv_append(&found, entry->d_name) < 0)
            return error_errno(err, ENOMEM, "list %s", dir);
    }
    *ids = steal_ptr(&found);
    return 0;
}

int cni_record_clean(const char *dir, struct error *err)
{
    _cleanup_(dir_closep) DIR *d = opendir(dir);
    if (!d)
        return error_errno(err, errno, "list %s", dir);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) // NOLINT(concurrency-mt-unsafe): own DIR
        if (strstr(entry->d_name, SUFFIX ".tmp.") && unlinkat(dirfd(d), entry->d_name, 0) < 0 &&
            errno != ENOENT)
            return error_errno(err, errno, "remove %s/%s", dir, entry->d_name);
    return 0;
}
