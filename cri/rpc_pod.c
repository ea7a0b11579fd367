// RunPodSandbox, StopPodSandbox, RemovePodSandbox.
#include "api/cri/api.pb-c.h"
#include "base/str.h"
#include "cri/config.h"
#include "cri/daemon.h"
#include "cri/pod_ops.h"
#include "cri/rpc_util.h"
#include "runtime/runtime.h"

static int check_handler(const struct daemon *d, const char *handler, struct error *err)
{
    if (str_empty(handler) || str_eq(handler, d->config->runtime_handler))
        return 0;
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                     "runtime_handler \"%.128s\" is not known: \"%s\" is, or none at all", handler,
                     d->config->runtime_handler);
}

RPC_HANDLER(rpc_run_pod_sandbox)
{
    const Cri__RunPodSandboxRequest *in = (const Cri__RunPodSandboxRequest *)request;
    Cri__RunPodSandboxResponse *out =
        RPC_NEW(call, cri__run_pod_sandbox_response, Cri__RunPodSandboxResponse);
    struct pod *pod = NULL;
    if (!out)
        return rpc_no_memory(err);
    if (!in->config)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "config is missing");
    int r = check_handler(call->daemon, in->runtime_handler, err);
    if (r == 0)
        r = pod_ops_run(call->daemon, in->config, in->runtime_handler, &call->ctx, &pod, err);
    if (r < 0)
        return r;
    out->pod_sandbox_id = arena_strdup(call->arena, pod->id);
    pod_unref(pod);
    if (!out->pod_sandbox_id)
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}

// For calls where an object that is gone is as good as done. 1: it is.
static int find_or_gone(struct rpc_call *call, const char *id, struct pod **pod, struct error *err)
{
    struct error why = ERROR_INIT;
    if (runtime_pod_find(call->daemon->runtime, id, pod, &why) == 0)
        return 0;
    if (why.status == STATUS_NOT_FOUND)
        return 1;
    *err = why;
    return -why.errnum;
}

RPC_HANDLER(rpc_stop_pod_sandbox)
{
    const Cri__StopPodSandboxRequest *in = (const Cri__StopPodSandboxRequest *)request;
    Cri__StopPodSandboxResponse *out =
        RPC_NEW(call, cri__stop_pod_sandbox_response, Cri__StopPodSandboxResponse);
    struct pod *pod = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = find_or_gone(call, in->pod_sandbox_id, &pod, err);
    if (r == 0)
        r = pod_ops_stop(call->daemon, pod, &call->ctx, err);
    pod_unref(pod);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

RPC_HANDLER(rpc_remove_pod_sandbox)
{
    const Cri__RemovePodSandboxRequest *in = (const Cri__RemovePodSandboxRequest *)request;
    Cri__RemovePodSandboxResponse *out =
        RPC_NEW(call, cri__remove_pod_sandbox_response, Cri__RemovePodSandboxResponse);
    struct pod *pod = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = find_or_gone(call, in->pod_sandbox_id, &pod, err);
    if (r == 0)
        r = pod_ops_remove(call->daemon, pod, &call->ctx, err);
    pod_unref(pod);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}
