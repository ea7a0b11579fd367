// UpdateContainerResources, UpdatePodSandboxResources, and resources as JSON for verbose answers.
#include "api/cri/api.pb-c.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc_util.h"
#include "runtime/annotation.h"
#include "runtime/runtime.h"

static int check_update(const Cri__UpdateContainerResourcesRequest *in, struct error *err)
{
    if (in->windows)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "windows: this runtime runs Linux containers only");
    for (size_t i = 0; i < in->n_annotations; i++) {
        // Ours mean something when a container is made; others are others'.
        if (str_has_prefix(in->annotations[i]->key, ANNOTATION_PREFIX))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "annotations: \"%.100s\" can't be changed once a container is made",
                             in->annotations[i]->key);
    }
    return 0;
}

RPC_HANDLER(rpc_update_container_resources)
{
    const Cri__UpdateContainerResourcesRequest *in = (const Cri__UpdateContainerResourcesRequest *)request;
    const Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    Cri__UpdateContainerResourcesResponse *out =
        RPC_NEW(call, cri__update_container_resources_response, Cri__UpdateContainerResourcesResponse);
    struct container *c = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_container_find(call->daemon->runtime, in->container_id, &c, err);
    if (r == 0)
        r = check_update(in, err);
    if (r == 0)
        r = runtime_container_update(call->daemon->runtime, c, in->linux ? in->linux : &none, &call->ctx,
                                     err);
    container_unref(c);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

RPC_HANDLER(rpc_update_pod_sandbox_resources)
{
    const Cri__UpdatePodSandboxResourcesRequest *in = (const Cri__UpdatePodSandboxResourcesRequest *)request;
    Cri__UpdatePodSandboxResourcesResponse *out =
        RPC_NEW(call, cri__update_pod_sandbox_resources_response, Cri__UpdatePodSandboxResourcesResponse);
    struct pod *pod = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_pod_find(call->daemon->runtime, in->pod_sandbox_id, &pod, err);
    if (r == 0)
        r = runtime_pod_update(call->daemon->runtime, pod, in->overhead, in->resources, &call->ctx, err);
    pod_unref(pod);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

// ---- JSON ----

static void add_number(json_t *to, const char *name, int64_t value)
{
    if (value != 0)
        (void)json_object_set_new(to, name, json_integer(value));
}

static void add_text(json_t *to, const char *name, const char *value)
{
    if (!str_empty(value))
        (void)json_object_set_new(to, name, json_string(value));
}

json_t *rpc_resources_json(const Cri__LinuxContainerResources *r)
{
    json_t *out = r ? json_object() : NULL;
    if (!out)
        return json_null();
    add_number(out, "cpuPeriod", r->cpu_period);
    add_number(out, "cpuQuota", r->cpu_quota);
    add_number(out, "cpuShares", r->cpu_shares);
    add_text(out, "cpusetCpus", r->cpuset_cpus);
    add_text(out, "cpusetMems", r->cpuset_mems);
    add_number(out, "memoryLimitInBytes", r->memory_limit_in_bytes);
    add_number(out, "memorySwapLimitInBytes", r->memory_swap_limit_in_bytes);
    add_number(out, "oomScoreAdj", r->oom_score_adj);
    json_t *hugepages = r->n_hugepage_limits ? json_object() : NULL;
    for (size_t i = 0; hugepages && i < r->n_hugepage_limits; i++)
        (void)json_object_set_new(hugepages, r->hugepage_limits[i]->page_size,
                                  json_integer((json_int_t)r->hugepage_limits[i]->limit));
    if (hugepages)
        (void)json_object_set_new(out, "hugepageLimits", hugepages);
    json_t *unified = r->n_unified ? json_object() : NULL;
    for (size_t i = 0; unified && i < r->n_unified; i++)
        (void)json_object_set_new(unified, r->unified[i]->key, json_string(r->unified[i]->value));
    if (unified)
        (void)json_object_set_new(out, "unified", unified);
    return out;
}
