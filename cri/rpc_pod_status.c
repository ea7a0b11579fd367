// ListPodSandbox, StreamPodSandboxes and PodSandboxStatus: answered from memory.
#include "api/cri/api.pb-c.h"
#include "base/pb.h"
#include "base/str.h"
#include "cri/config.h"
#include "cri/daemon.h"
#include "cri/rpc_list.h"
#include "cri/rpc_util.h"
#include "runtime/runtime.h"

static Cri__PodSandboxState state_of(const struct pod_view *v)
{
    return v->state == POD_READY ? CRI__POD_SANDBOX_STATE__SANDBOX_READY
                                 : CRI__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

// ---- List ----

static bool matches(const struct pod *pod, const struct pod_view *v, const Cri__PodSandboxFilter *f)
{
    if (!f)
        return true;
    if (!str_empty(f->id) && !str_has_prefix(pod->id, f->id))
        return false;
    if (f->state && f->state->state != state_of(v))
        return false;
    return rpc_map_matches(pod->config->n_labels, pod->config->labels, f->n_label_selector,
                           f->label_selector);
}

static Cri__PodSandbox *list_item(struct rpc_call *call, const struct pod *pod, const struct pod_view *v)
{
    const Cri__PodSandboxConfig *config = pod->config;
    Cri__PodSandbox *item = RPC_NEW(call, cri__pod_sandbox, Cri__PodSandbox);
    bool full = false;
    if (!item)
        return NULL;
    item->id = arena_strdup(call->arena, pod->id);
    item->metadata = (Cri__PodSandboxMetadata *)pb_dup(&config->metadata->base, call->arena);
    item->state = state_of(v);
    item->created_at = pod->created_at_ns;
    item->n_labels = config->n_labels;
    item->labels = rpc_map_copy(call, config->n_labels, config->labels,
                                &cri__pod_sandbox__labels_entry__descriptor, &full);
    item->n_annotations = config->n_annotations;
    item->annotations = rpc_map_copy(call, config->n_annotations, config->annotations,
                                     &cri__pod_sandbox__annotations_entry__descriptor, &full);
    item->runtime_handler = arena_strdup(call->arena, pod->handler);
    return full || !item->id || !item->metadata || !item->runtime_handler ? NULL : item;
}

static int list(struct rpc_call *call, const Cri__PodSandboxFilter *filter,
                const ProtobufCMessageDescriptor *type, bool stream, ProtobufCMessage **response,
                struct error *err)
{
    struct pod **pods;
    struct rpc_list l;
    size_t n;
    int r = runtime_pod_list(call->daemon->runtime, false, &pods, &n, err);
    if (r < 0)
        return r;
    r = rpc_list_begin(&l, call, type, stream, n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct pod_view v;
        runtime_pod_view(call->daemon->runtime, pods[i], &v);
        if (matches(pods[i], &v, filter))
            r = rpc_list_add(&l, list_item(&l.call, pods[i], &v), err);
    }
    runtime_pods_free(pods, n);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_pod_sandbox)
{
    const Cri__ListPodSandboxRequest *in = (const Cri__ListPodSandboxRequest *)request;
    return list(call, in->filter, &cri__list_pod_sandbox_response__descriptor, false, response, err);
}

RPC_HANDLER(rpc_stream_pod_sandboxes)
{
    const Cri__StreamPodSandboxesRequest *in = (const Cri__StreamPodSandboxesRequest *)request;
    return list(call, in->filter, &cri__stream_pod_sandboxes_response__descriptor, true, response, err);
}

// ---- Status ----

static Cri__PodSandboxNetworkStatus *network_status(struct rpc_call *call, const struct pod_network *network)
{
    Cri__PodSandboxNetworkStatus *out =
        RPC_NEW(call, cri__pod_sandbox_network_status, Cri__PodSandboxNetworkStatus);
    size_t n = network ? strv_len(network->ips) : 0;
    if (!out || n == 0)
        return out;
    out->ip = arena_strdup(call->arena, network->ips[0]);
    out->additional_ips = arena_alloc(call->arena, n * sizeof(*out->additional_ips));
    if (!out->ip || !out->additional_ips)
        return NULL;
    for (size_t i = 1; i < n; i++) {
        Cri__PodIP *ip = RPC_NEW(call, cri__pod_ip, Cri__PodIP);
        if (!ip || !(ip->ip = arena_strdup(call->arena, network->ips[i])))
            return NULL;
        out->additional_ips[out->n_additional_ips++] = ip;
    }
    return out;
}

static Cri__LinuxPodSandboxStatus *linux_status(struct rpc_call *call, const struct pod *pod)
{
    const Cri__LinuxPodSandboxConfig *config = pod->config->linux;
    const Cri__NamespaceOption *asked =
        config && config->security_context ? config->security_context->namespace_options : NULL;
    Cri__LinuxPodSandboxStatus *out =
        RPC_NEW(call, cri__linux_pod_sandbox_status, Cri__LinuxPodSandboxStatus);
    Cri__Namespace *namespaces = RPC_NEW(call, cri__namespace, Cri__Namespace);
    if (!out || !namespaces)
        return NULL;
    namespaces->options = asked ? (Cri__NamespaceOption *)pb_dup(&asked->base, call->arena)
                                : RPC_NEW(call, cri__namespace_option, Cri__NamespaceOption);
    out->namespaces = namespaces;
    return namespaces->options ? out : NULL;
}

static Cri__PodSandboxStatus *status_of(struct rpc_call *call, const struct pod *pod,
                                        const struct pod_view *v)
{
    const Cri__PodSandboxConfig *config = pod->config;
    Cri__PodSandboxStatus *s = RPC_NEW(call, cri__pod_sandbox_status, Cri__PodSandboxStatus);
    bool full = false;
    if (!s)
        return NULL;
    s->id = arena_strdup(call->arena, pod->id);
    s->metadata = (Cri__PodSandboxMetadata *)pb_dup(&config->metadata->base, call->arena);
    s->state = state_of(v);
    s->created_at = pod->created_at_ns;
    s->network = network_status(call, v->network);
    s->linux = linux_status(call, pod);
    s->n_labels = config->n_labels;
    s->labels = rpc_map_copy(call, config->n_labels, config->labels,
                             &cri__pod_sandbox_status__labels_entry__descriptor, &full);
    s->n_annotations = config->n_annotations;
    s->annotations = rpc_map_copy(call, config->n_annotations, config->annotations,
                                  &cri__pod_sandbox_status__annotations_entry__descriptor, &full);
    s->runtime_handler = arena_strdup(call->arena, pod->handler);
    return full || !s->id || !s->metadata || !s->network || !s->linux || !s->runtime_handler ? NULL : s;
}

// {"info": {...}}: crisp's own words, for people and for measuring.
static int add_info(struct rpc_call *call, struct pod *pod, const struct pod_view *v,
                    Cri__PodSandboxStatusResponse *out)
{
    struct pod_resources resources;
    runtime_pod_resources(call->daemon->runtime, pod, call->arena, &resources);
    json_t *json = json_pack("{s:i, s:s, s:s, s:s, s:I, s:o, s:o}", "pid", v->pid, "netns", pod->netns,
                             "cgroup", v->cgroup, "runDir", pod->dir, "cniDurationNs",
                             (json_int_t)(v->network ? v->network->plugin_ns : 0), "resources",
                             rpc_resources_json(resources.resources), "overhead",
                             rpc_resources_json(resources.overhead));
    out->info = arena_alloc(call->arena, sizeof(*out->info));
    if (!out->info) {
        json_decref(json);
        return -ENOMEM;
    }
    out->info[0] =
        rpc_info_json(call, &cri__pod_sandbox_status_response__info_entry__descriptor, "info", json);
    out->n_info = 1;
    return out->info[0] ? 0 : -ENOMEM;
}

RPC_HANDLER(rpc_pod_sandbox_status)
{
    const Cri__PodSandboxStatusRequest *in = (const Cri__PodSandboxStatusRequest *)request;
    Cri__PodSandboxStatusResponse *out =
        RPC_NEW(call, cri__pod_sandbox_status_response, Cri__PodSandboxStatusResponse);
    struct pod *pod = NULL;
    struct pod_view v;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_pod_find(call->daemon->runtime, in->pod_sandbox_id, &pod, err);
    if (r < 0)
        return r;
    runtime_pod_view(call->daemon->runtime, pod, &v);
    out->status = status_of(call, pod, &v);
    bool whole = out->status && (!in->verbose || add_info(call, pod, &v, out) == 0);
    pod_unref(pod);
    if (!whole)
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}
