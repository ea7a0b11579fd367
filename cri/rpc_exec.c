// ExecSync.
#include "api/cri/api.pb-c.h"
#include "cri/daemon.h"
#include "cri/rpc_util.h"
#include "runtime/runtime.h"

static int fill(struct rpc_call *call, const struct exec_result *result, Cri__ExecSyncResponse *out,
                struct error *err)
{
    out->exit_code = result->exit_code;
    out->stdout.len = result->out.len;
    out->stderr.len = result->err.len;
    if (result->out.len > 0 &&
        !(out->stdout.data = arena_memdup(call->arena, result->out.data, result->out.len)))
        return rpc_no_memory(err);
    if (result->err.len > 0 &&
        !(out->stderr.data = arena_memdup(call->arena, result->err.data, result->err.len)))
        return rpc_no_memory(err);
    return 0;
}

RPC_HANDLER(rpc_exec_sync)
{
    const Cri__ExecSyncRequest *in = (const Cri__ExecSyncRequest *)request;
    Cri__ExecSyncResponse *out = RPC_NEW(call, cri__exec_sync_response, Cri__ExecSyncResponse);
    struct container *c = NULL;
    struct exec_result result;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_container_find(call->daemon->runtime, in->container_id, &c, err);
    if (r < 0)
        return r;
    r = runtime_exec_sync(call->daemon->runtime, c, in->cmd, in->n_cmd, in->timeout, &call->ctx, &result,
                          err);
    container_unref(c);
    if (r < 0)
        return r;
    r = fill(call, &result, out, err);
    exec_result_done(&result);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}
