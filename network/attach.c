// A pod's attachment: ADD, DEL, and the record that outlives both us and the configuration.
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cni/json.h"
#include "cni/name.h"
#include "cni/orphan.h"
#include "cni/plugin.h"
#include "cni/result.h"
#include "network/internal.h"
#include "network/netns.h"

void network_result_done(struct network_result *result)
{
    strv_free(result->ips);
    free(result->json);
    *result = (struct network_result){0};
}

static struct cni_attachment attachment_of(const struct network *net, const struct cni_record *record)
{
    return (struct cni_attachment){
        .list = record->list,
        .container_id = record->container_id,
        .netns = record->netns,
        .ifname = record->ifname,
        .args = record->args,
        .capability_args = record->capability_args,
        .bin_dirs = (const char *const *)net->bin_dirs,
    };
}

static int fill_result(const struct cni_record *record, struct network_result *result, struct error *err)
{
    result->ips = cni_result_addresses(record->result, record->ifname);
    result->json = json_dumps(record->result, JSON_COMPACT);
    if (result->ips && result->json)
        return 0;
    network_result_done(result);
    return error_errno(err, ENOMEM, "network of pod %s", record->container_id);
}

// A plugin that isn't there fails DEL as it fails ADD: the plugins before it would keep what they made, and
// the worker would have one more tear-down that can't succeed for each try of the kubelet's.
static int find_plugins(const struct network *net, const struct cni_conflist *list, struct error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < list->n_plugins; i++) {
        _cleanup_free_ char *path = NULL;
        r = cni_plugin_find((const char *const *)net->bin_dirs, list->plugins[i].type, &path, err);
    }
    return r;
}

static int make_record(struct network *net, const struct network_pod *pod, struct cni_record *record,
                       struct error *err)
{
    record->list = cni_config_get(net->config);
    if (!record->list) {
        struct network_status status;
        network_get_status(net, &status);
        return error_set(err, STATUS_UNAVAILABLE, ENONET, "pod %s: no network: %s", pod->id, status.message);
    }
    int r = find_plugins(net, record->list, err);
    if (r < 0)
        return r;
    record->args = network_make_args(pod, err);
    if (!record->args)
        return -EINVAL;
    record->capability_args = network_make_capability_args(pod, err);
    if (!record->capability_args)
        return -EINVAL;
    record->state = CNI_RECORD_ADDING;
    record->created_ns = clock_wall_ns();
    record->container_id = strdup(pod->id);
    record->netns = strdup(pod->netns_path ? pod->netns_path : "");
    record->ifname = strdup(NETWORK_IFNAME);
    if (!record->container_id || !record->netns || !record->ifname)
        return error_errno(err, ENOMEM, "pod %s", pod->id);
    if (!netns_is_pinned(record->netns))
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOENT, "pod %s: %s is not a network namespace",
                         pod->id, record->netns);
    return 0;
}

static int del(struct network *net, const struct cni_record *record, const struct ctx *ctx, struct error *err)
{
    struct cni_attachment a = attachment_of(net, record);
    struct ctx bounds = ctx_with_timeout(ctx, net->plugin_timeout_ns);
    if (!netns_is_pinned(a.netns))
        a.netns = ""; // gone, as after a reboot: plugins free what is outside of it
    return cni_del(&a, record->result, &bounds, err);
}

// An ADD that failed may have done part of its work. It gets time of its own: the caller's may be over.
static void undo(struct network *net, struct cni_record *record)
{
    const struct ctx until_stop = {.deadline_mono_ns = INT64_MAX, .cancel_fd = net->stop_fd};
    struct error err = ERROR_INIT;
    int r = del(net, record, &until_stop, &err);
    if (r == 0)
        r = cni_record_remove(net->cache_dir, record->container_id, &err);
    if (r == 0)
        return;
    record->state = CNI_RECORD_DELETING;
    (void)cni_record_save(net->cache_dir, record, NULL); // with what result there is; ADDING would do, too
    network_pending_add(net, record->container_id, &err);
    log_warn("network set-up failed and could not be undone yet", "pod", record->container_id, "error",
             err.message);
}

static int add(struct network *net, struct cni_record *record, const struct ctx *ctx,
               struct network_result *result, struct error *err)
{
    const struct cni_attachment a = attachment_of(net, record);
    const struct ctx bounds = ctx_with_timeout(ctx, net->plugin_timeout_ns);
    int64_t start = clock_mono_ns();
    int r = cni_add(&a, &bounds, &record->result, err);
    result->plugin_ns = clock_mono_ns() - start;
    if (r == 0)
        r = fill_result(record, result, err);
    if (r == 0 && !result->ips[0])
        r = error_set(err, STATUS_INTERNAL, EADDRNOTAVAIL,
                      "network %s: its plugins gave %s no IP address: check ipam in %s", record->list->name,
                      record->ifname, record->list->path);
    if (r == 0) {
        record->state = CNI_RECORD_ATTACHED;
        r = cni_record_save(net->cache_dir, record, err);
    }
    if (r < 0) {
        network_result_done(result);
        undo(net, record);
    }
    return r;
}

// What an attempt before this one left, e.g. one that a crash cut short.
static int clear_former(struct network *net, const char *pod_id, const struct ctx *ctx, struct error *err)
{
    struct cni_record former;
    struct error why = ERROR_INIT;
    int r = cni_record_load(net->cache_dir, pod_id, &former, &why);
    if (r == -ENOENT)
        return 0;
    cni_record_done(&former);
    return network_tear_down(net, pod_id, ctx, err);
}

int network_attach(struct network *net, const struct network_pod *pod, const struct ctx *ctx,
                   struct network_result *result, struct error *err)
{
    struct cni_record record = {0};
    struct turn *turn = NULL;
    *result = (struct network_result){0};
    if (!cni_name_is_valid(pod->id))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "not a pod id: \"%.64s\"",
                         pod->id ? pod->id : "");
    int r = network_turn_take(net, pod->id, ctx, &turn, err);
    if (r < 0)
        return r;
    r = clear_former(net, pod->id, ctx, err);
    if (r == 0)
        r = make_record(net, pod, &record, err);
    if (r == 0)
        r = ctx_check(ctx, err);
    network_adding_begin(net);
    if (r == 0)
        r = cni_record_save(net->cache_dir, &record, err);
    if (r == 0)
        r = add(net, &record, ctx, result, err);
    network_adding_end(net);
    network_turn_give(net, turn);
    cni_record_done(&record);
    return r < 0 ? error_wrap(err, "set up the network of pod %s", pod->id) : 0;
}

int network_tear_down(struct network *net, const char *pod_id, const struct ctx *ctx, struct error *err)
{
    struct cni_record record;
    struct error why = ERROR_INIT;
    int r = cni_record_load(net->cache_dir, pod_id, &record, &why);
    if (r == -ENOENT) {
        network_pending_drop(net, pod_id);
        return 0;
    }
    if (r < 0 && why.status == STATUS_DATA_LOSS) { // nothing to call DEL with
        log_error("unreadable network record set aside", "pod", pod_id, "error", why.message);
        network_pending_drop(net, pod_id);
        return cni_record_set_aside(net->cache_dir, pod_id, err);
    }
    if (r == 0 && record.state == CNI_RECORD_ATTACHED) {
        record.state = CNI_RECORD_DELETING; // so that a restart goes on with it
        r = cni_record_save(net->cache_dir, &record, &why);
        if (r == -ENOSPC || r == -EDQUOT || r == -EROFS)
            r = 0; // freeing comes first
    }
    if (r == 0)
        r = del(net, &record, ctx, &why);
    if (r == 0)
        r = cni_record_remove(net->cache_dir, pod_id, &why);
    cni_record_done(&record);
    if (r == 0) {
        network_pending_drop(net, pod_id);
        return 0;
    }
    network_pending_add(net, pod_id, &why);
    if (err)
        *err = why;
    return error_wrap(err, "tear down the network of pod %s (it will be tried again)", pod_id);
}

int network_detach(struct network *net, const char *pod_id, const struct ctx *ctx, struct error *err)
{
    struct turn *turn = NULL;
    if (!cni_name_is_valid(pod_id))
        return 0; // never attached
    int r = network_turn_take(net, pod_id, ctx, &turn, err);
    if (r < 0)
        return r;
    r = network_tear_down(net, pod_id, ctx, err);
    network_turn_give(net, turn);
    return r;
}

int network_load_result(struct network *net, const char *pod_id, struct network_result *result,
                        struct error *err)
{
    struct cni_record record;
    *result = (struct network_result){0};
    int r = cni_record_load(net->cache_dir, pod_id, &record, err);
    if (r < 0)
        return r;
    if (record.state == CNI_RECORD_ATTACHED && record.result)
        r = fill_result(&record, result, err);
    else
        r = error_set(err, STATUS_NOT_FOUND, ENOENT, "pod %s has no finished network (%s)", pod_id,
                      cni_record_state_name(record.state));
    cni_record_done(&record);
    return r;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Does the record's pod need a DEL, now that it lives or not? An operation that a killed daemon had begun may
// still have its plugin running: that one comes to its end first, or it would go on behind our DEL's back.
static bool needs_tear_down(struct network *net, const char *id, bool lives)
{
    struct cni_record record;
    bool loaded = cni_record_load(net->cache_dir, id, &record, NULL) == 0;
    enum cni_record_state state = record.state;
    cni_record_done(&record);
    if (!loaded)
        return !lives; // network_tear_down() sets it aside
    if (state != CNI_RECORD_ATTACHED && cni_orphan_end(id))
        log_info("killed a CNI plugin that a former daemon had started", "pod", id);
    return !lives || state == CNI_RECORD_DELETING;
}

int network_sweep(struct network *net, const char *const *live_pod_ids, size_t n, struct error *err)
{
    _cleanup_strv_ char **ids = NULL;
    _cleanup_free_ const char **live = calloc(n + 1, sizeof(*live));
    if (!live)
        return error_errno(err, ENOMEM, "sweep networks");
    for (size_t i = 0; i < n; i++)
        live[i] = live_pod_ids[i];
    qsort(live, n, sizeof(*live), by_id);
    int r = cni_record_list(net->cache_dir, &ids, err);
    if (r < 0)
        return r;
    for (char **id = ids; *id; id++)
        if (needs_tear_down(net, *id, bsearch(id, live, n, sizeof(*live), by_id) != NULL))
            network_pending_add(net, *id, NULL);
    (void)pthread_mutex_lock(&net->lock);
    net->gc_due = net->exclusive;
    (void)pthread_cond_broadcast(&net->changed);
    (void)pthread_mutex_unlock(&net->lock);
    return 0;
}
