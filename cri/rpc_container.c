// CreateContainer, StartContainer, StopContainer, RemoveContainer, ReopenContainerLog.
#include "api/cri/api.pb-c.h"
#include "base/str.h"
#include "cri/container_ops.h"
#include "cri/daemon.h"
#include "cri/rpc_util.h"
#include "runtime/runtime.h"

RPC_HANDLER(rpc_create_container)
{
    const Cri__CreateContainerRequest *in = (const Cri__CreateContainerRequest *)request;
    Cri__CreateContainerResponse *out =
        RPC_NEW(call, cri__create_container_response, Cri__CreateContainerResponse);
    struct container *c = NULL;
    struct pod *pod = NULL;
    if (!out)
        return rpc_no_memory(err);
    if (!in->config)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "config is missing");
    int r = runtime_pod_find(call->daemon->runtime, in->pod_sandbox_id, &pod, err);
    if (r == 0)
        r = container_ops_create(call->daemon, pod, in->config, &call->ctx, &c, err);
    pod_unref(pod);
    if (r < 0)
        return r;
    out->container_id = arena_strdup(call->arena, c->id);
    container_unref(c);
    if (!out->container_id)
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}

RPC_HANDLER(rpc_start_container)
{
    const Cri__StartContainerRequest *in = (const Cri__StartContainerRequest *)request;
    Cri__StartContainerResponse *out =
        RPC_NEW(call, cri__start_container_response, Cri__StartContainerResponse);
    struct container *c = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_container_find(call->daemon->runtime, in->container_id, &c, err);
    if (r == 0)
        r = runtime_container_start(call->daemon->runtime, c, &call->ctx, err);
    container_unref(c);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

// For calls where an object that is gone is as good as done. 1: it is.
static int find_or_gone(struct rpc_call *call, const char *id, struct container **c, struct error *err)
{
    struct error why = ERROR_INIT;
    if (runtime_container_find(call->daemon->runtime, id, c, &why) == 0)
        return 0;
    if (why.status == STATUS_NOT_FOUND)
        return 1;
    *err = why;
    return -why.errnum;
}

RPC_HANDLER(rpc_stop_container)
{
    const Cri__StopContainerRequest *in = (const Cri__StopContainerRequest *)request;
    Cri__StopContainerResponse *out = RPC_NEW(call, cri__stop_container_response, Cri__StopContainerResponse);
    struct container *c = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = find_or_gone(call, in->container_id, &c, err);
    if (r == 0)
        r = runtime_container_stop(call->daemon->runtime, c, in->timeout, &call->ctx, err);
    container_unref(c);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

RPC_HANDLER(rpc_remove_container)
{
    const Cri__RemoveContainerRequest *in = (const Cri__RemoveContainerRequest *)request;
    Cri__RemoveContainerResponse *out =
        RPC_NEW(call, cri__remove_container_response, Cri__RemoveContainerResponse);
    struct container *c = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = find_or_gone(call, in->container_id, &c, err);
    if (r == 0)
        r = container_ops_remove(call->daemon, c, &call->ctx, err);
    container_unref(c);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

RPC_HANDLER(rpc_reopen_container_log)
{
    const Cri__ReopenContainerLogRequest *in = (const Cri__ReopenContainerLogRequest *)request;
    Cri__ReopenContainerLogResponse *out =
        RPC_NEW(call, cri__reopen_container_log_response, Cri__ReopenContainerLogResponse);
    struct container *c = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_container_find(call->daemon->runtime, in->container_id, &c, err);
    if (r == 0)
        r = runtime_container_reopen_log(call->daemon->runtime, c, err);
    container_unref(c);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}
