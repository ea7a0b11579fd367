// ContainerStats, PodSandboxStats, their lists and streams. Lists have what runs, as the API says; who asks
// for one that has ended gets what there is.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc_list.h"
#include "cri/rpc_stats.h"
#include "cri/rpc_util.h"
#include "runtime/runtime.h"

// Containers, or pods, whose figures are held at one time; a stream's messages are to be made just before
// they are sent.
#define BATCH        256
#define BATCH_STREAM 64

static size_t batch_size(const struct rpc_list *l, size_t left)
{
    size_t most = l->stream ? BATCH_STREAM : BATCH;
    return left < most ? left : most;
}

// ---- Containers ----

RPC_HANDLER(rpc_container_stats)
{
    const Cri__ContainerStatsRequest *in = (const Cri__ContainerStatsRequest *)request;
    Cri__ContainerStatsResponse *out =
        RPC_NEW(call, cri__container_stats_response, Cri__ContainerStatsResponse);
    struct container *c __attribute__((cleanup(container_unrefp))) = NULL;
    struct container_stats s;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_container_find(call->daemon->runtime, in->container_id, &c, err);
    if (r < 0)
        return r;
    r = runtime_container_stats(call->daemon->runtime, c, &s, err);
    if (r < 0 && r != -ENOENT)
        return r;
    out->stats = rpc_stats_of_container(call, c, r == 0 ? &s : NULL);
    if (!out->stats)
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}

static bool container_matches(const struct container *c, const Cri__ContainerStatsFilter *f)
{
    return !f ||
           ((str_empty(f->id) || str_has_prefix(c->id, f->id)) &&
            (str_empty(f->pod_sandbox_id) || str_has_prefix(c->pod->id, f->pod_sandbox_id)) &&
            rpc_map_matches(c->config->n_labels, c->config->labels, f->n_label_selector, f->label_selector));
}

static int add_containers(struct rpc_list *l, struct container *const *all, size_t n, struct error *err)
{
    _cleanup_free_ struct stats_item *items = calloc(n, sizeof(*items));
    struct stats_batch batch = {.items = items, .n = n};
    if (!items)
        return rpc_no_memory(err);
    for (size_t i = 0; i < n; i++)
        items[i].container = all[i];
    int r = runtime_stats_read(l->call.daemon->runtime, &batch, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (items[i].runs)
            r = rpc_list_add(l, rpc_stats_of_container(&l->call, all[i], &items[i].of_container), err);
    }
    runtime_stats_done(&batch);
    return r;
}

static int list_containers(struct rpc_call *call, const Cri__ContainerStatsFilter *filter,
                           const ProtobufCMessageDescriptor *type, bool stream, ProtobufCMessage **response,
                           struct error *err)
{
    struct container **all;
    struct rpc_list l;
    size_t n_all, n = 0;
    int r = runtime_container_list(call->daemon->runtime, NULL, false, &all, &n_all, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_all; i++) { // those that match come first
        if (!container_matches(all[i], filter))
            continue;
        struct container *c = all[i];
        all[i] = all[n];
        all[n++] = c;
    }
    r = rpc_list_begin(&l, call, type, stream, n, err);
    for (size_t at = 0, some; r == 0 && at < n; at += some) {
        some = batch_size(&l, n - at);
        r = add_containers(&l, all + at, some, err);
    }
    runtime_containers_free(all, n_all);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_container_stats)
{
    const Cri__ListContainerStatsRequest *in = (const Cri__ListContainerStatsRequest *)request;
    return list_containers(call, in->filter, &cri__list_container_stats_response__descriptor, false, response,
                           err);
}

RPC_HANDLER(rpc_stream_container_stats)
{
    const Cri__StreamContainerStatsRequest *in = (const Cri__StreamContainerStatsRequest *)request;
    return list_containers(call, in->filter, &cri__stream_container_stats_response__descriptor, true,
                           response, err);
}

// ---- Pods ----

struct members {
    struct container **all; // by their pods, those of each one the eldest first
    size_t n;
};

static int by_pod(const void *a, const void *b)
{
    const struct container *x = *(struct container *const *)a, *y = *(struct container *const *)b;
    if (x->pod != y->pod)
        return (uintptr_t)x->pod < (uintptr_t)y->pod ? -1 : 1;
    if (x->created_at_ns != y->created_at_ns)
        return x->created_at_ns < y->created_at_ns ? -1 : 1;
    return strcmp(x->id, y->id);
}

static int members_get(struct rpc_call *call, const struct pod *pod, struct members *m, struct error *err)
{
    int r = runtime_container_list(call->daemon->runtime, pod, false, &m->all, &m->n, err);
    if (r == 0)
        qsort(m->all, m->n, sizeof(struct container *), by_pod);
    return r;
}

static size_t members_begin(const struct members *m, const struct pod *pod)
{
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)m->all[middle]->pod < (uintptr_t)pod)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Each pod, and behind it its containers. items: as many as pods and containers there are.
static size_t items_of_pods(struct stats_item *items, struct pod *const *pods, size_t n,
                            const struct members *m)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        items[used++] = (struct stats_item){.pod = pods[i]};
        for (size_t k = members_begin(m, pods[i]); k < m->n && m->all[k]->pod == pods[i]; k++)
            items[used++] = (struct stats_item){.container = m->all[k]};
    }
    return used;
}

// How many of the items are the first one's, a pod's.
static size_t items_of_first(const struct stats_item *items, size_t n)
{
    size_t end = 1;
    while (end < n && items[end].container)
        end++;
    return end;
}

// items: a pod, and its containers.
static Cri__PodSandboxStats *pod_message(struct rpc_call *call, const struct stats_item *items, size_t end)
{
    Cri__PodSandboxStats *out = rpc_stats_of_pod(call, items[0].pod, items[0].runs ? &items[0].of_pod : NULL);
    if (!out || !(out->linux->containers = arena_alloc(call->arena, end * sizeof(Cri__ContainerStats *))))
        return NULL;
    for (size_t i = 1; i < end; i++) {
        if (!items[i].runs)
            continue;
        Cri__ContainerStats *c = rpc_stats_of_container(call, items[i].container, &items[i].of_container);
        if (!c)
            return NULL;
        out->linux->containers[out->linux->n_containers++] = c;
    }
    return out;
}

RPC_HANDLER(rpc_pod_sandbox_stats)
{
    const Cri__PodSandboxStatsRequest *in = (const Cri__PodSandboxStatsRequest *)request;
    Cri__PodSandboxStatsResponse *out =
        RPC_NEW(call, cri__pod_sandbox_stats_response, Cri__PodSandboxStatsResponse);
    struct runtime *rt = call->daemon->runtime;
    struct pod *pod __attribute__((cleanup(pod_unrefp))) = NULL;
    struct members m;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_pod_find(rt, in->pod_sandbox_id, &pod, err);
    if (r == 0)
        r = members_get(call, pod, &m, err);
    if (r < 0)
        return r;
    _cleanup_free_ struct stats_item *items = calloc(m.n + 1, sizeof(*items));
    struct stats_batch batch = {.items = items};
    if (items) {
        batch.n = items_of_pods(items, &pod, 1, &m);
        r = runtime_stats_read(rt, &batch, err);
    }
    if (items && r == 0)
        out->stats = pod_message(call, items, batch.n);
    runtime_stats_done(&batch);
    runtime_containers_free(m.all, m.n);
    if (r < 0)
        return r;
    if (!out->stats)
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}

static bool pod_matches(const struct pod *pod, const Cri__PodSandboxStatsFilter *f)
{
    return !f || ((str_empty(f->id) || str_has_prefix(pod->id, f->id)) &&
                  rpc_map_matches(pod->config->n_labels, pod->config->labels, f->n_label_selector,
                                  f->label_selector));
}

static int add_pods(struct rpc_list *l, struct pod *const *pods, size_t n, const struct members *m,
                    struct error *err)
{
    size_t room = n;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = members_begin(m, pods[i]); k < m->n && m->all[k]->pod == pods[i]; k++)
            room++;
    }
    _cleanup_free_ struct stats_item *items = calloc(room, sizeof(*items));
    struct stats_batch batch = {.items = items};
    if (!items)
        return rpc_no_memory(err);
    batch.n = items_of_pods(items, pods, n, m);
    int r = runtime_stats_read(l->call.daemon->runtime, &batch, err);
    for (size_t at = 0, used; r == 0 && at < batch.n; at += used) {
        used = items_of_first(items + at, batch.n - at);
        if (items[at].runs)
            r = rpc_list_add(l, pod_message(&l->call, items + at, used), err);
    }
    runtime_stats_done(&batch);
    return r;
}

static int list_pods(struct rpc_call *call, const Cri__PodSandboxStatsFilter *filter,
                     const ProtobufCMessageDescriptor *type, bool stream, ProtobufCMessage **response,
                     struct error *err)
{
    struct pod **pods;
    struct members m;
    struct rpc_list l;
    size_t n_all, n = 0;
    int r = runtime_pod_list(call->daemon->runtime, false, &pods, &n_all, err);
    if (r < 0)
        return r;
    r = members_get(call, NULL, &m, err);
    if (r < 0) {
        runtime_pods_free(pods, n_all);
        return r;
    }
    for (size_t i = 0; i < n_all; i++) { // those that match come first
        if (!pod_matches(pods[i], filter))
            continue;
        struct pod *pod = pods[i];
        pods[i] = pods[n];
        pods[n++] = pod;
    }
    r = rpc_list_begin(&l, call, type, stream, n, err);
    for (size_t at = 0, some; r == 0 && at < n; at += some) {
        some = batch_size(&l, n - at);
        r = add_pods(&l, pods + at, some, &m, err);
    }
    runtime_containers_free(m.all, m.n);
    runtime_pods_free(pods, n_all);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_pod_sandbox_stats)
{
    const Cri__ListPodSandboxStatsRequest *in = (const Cri__ListPodSandboxStatsRequest *)request;
    return list_pods(call, in->filter, &cri__list_pod_sandbox_stats_response__descriptor, false, response,
                     err);
}

RPC_HANDLER(rpc_stream_pod_sandbox_stats)
{
    const Cri__StreamPodSandboxStatsRequest *in = (const Cri__StreamPodSandboxStatsRequest *)request;
    return list_pods(call, in->filter, &cri__stream_pod_sandbox_stats_response__descriptor, true, response,
                     err);
}
