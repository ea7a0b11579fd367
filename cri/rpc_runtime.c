// Version, Status, RuntimeConfig, UpdateRuntimeConfig.
#include <stdlib.h>
#include <string.h>

#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/config.h"
#include "cri/daemon.h"
#include "cri/rpc.h"
#include "network/network.h"
#include "runtime/runtime.h"

#define KUBELET_API_VERSION "0.1.0" // what kubelet has sent, and expects to be answered, from the beginning

// Strings that are constant but have to be char * for protobuf-c, which only reads them.
static char *constant(const char *s)
{
    return (char *)(uintptr_t)s;
}

int rpc_version(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                struct error *err)
{
    (void)request;
    Cri__VersionResponse *out = RPC_NEW(call, cri__version_response, Cri__VersionResponse);
    if (!out)
        return rpc_no_memory(err);
    out->version = constant(KUBELET_API_VERSION);
    out->runtime_name = constant("crisp");
    out->runtime_version = constant(CRISP_VERSION);
    out->runtime_api_version = constant("v1");
    *response = &out->base;
    return 0;
}

static Cri__RuntimeCondition *condition(struct rpc_call *call, const char *type, bool ready,
                                        const char *reason, const char *message)
{
    Cri__RuntimeCondition *c = RPC_NEW(call, cri__runtime_condition, Cri__RuntimeCondition);
    if (!c)
        return NULL;
    c->type = constant(type);
    c->status = ready;
    c->reason = arena_strdup(call->arena, reason);
    c->message = arena_strdup(call->arena, message);
    return c->reason && c->message ? c : NULL;
}

static Cri__RuntimeCondition *runtime_condition(struct rpc_call *call)
{
    struct error why = ERROR_INIT;
    bool ready = runtime_check(call->daemon->runtime, &why) == 0;
    return condition(call, "RuntimeReady", ready, ready ? "" : "RuntimeNotReady", why.message);
}

static Cri__RuntimeCondition *network_condition(struct rpc_call *call)
{
    struct network_status status = {0};
    network_get_status(call->daemon->network, &status);
    const char *reason = !status.ready && status.reason[0] == '\0' ? "NetworkPluginNotReady" : status.reason;
    return condition(call, "NetworkReady", status.ready, reason, status.message);
}

static Cri__RuntimeHandler *handler(struct rpc_call *call, const char *name)
{
    Cri__RuntimeHandler *h = RPC_NEW(call, cri__runtime_handler, Cri__RuntimeHandler);
    Cri__RuntimeHandlerFeatures *f =
        RPC_NEW(call, cri__runtime_handler_features, Cri__RuntimeHandlerFeatures);
    struct runtime_features can;
    if (!h || !f)
        return NULL;
    runtime_get_features(call->daemon->runtime, &can);
    f->recursive_read_only_mounts = can.recursive_read_only_mounts;
    f->user_namespaces = can.user_namespaces;
    h->name = constant(name);
    h->features = f;
    return h;
}

// The runtime's default handler, under no name (which kubelet looks up for pods without a RuntimeClass) and
// under its own.
static int add_handlers(struct rpc_call *call, Cri__StatusResponse *out)
{
    out->runtime_handlers = arena_alloc(call->arena, 2 * sizeof(*out->runtime_handlers));
    if (!out->runtime_handlers)
        return -ENOMEM;
    out->n_runtime_handlers = 2;
    out->runtime_handlers[0] = handler(call, "");
    out->runtime_handlers[1] = handler(call, call->daemon->config->runtime_handler);
    return out->runtime_handlers[0] && out->runtime_handlers[1] ? 0 : -ENOMEM;
}

static int add_conditions(struct rpc_call *call, Cri__StatusResponse *out)
{
    Cri__RuntimeStatus *status = RPC_NEW(call, cri__runtime_status, Cri__RuntimeStatus);
    if (!status || !(status->conditions = arena_alloc(call->arena, 2 * sizeof(*status->conditions))))
        return -ENOMEM;
    status->n_conditions = 2;
    status->conditions[0] = runtime_condition(call);
    status->conditions[1] = network_condition(call);
    out->status = status;
    return status->conditions[0] && status->conditions[1] ? 0 : -ENOMEM;
}

static int add_features(struct rpc_call *call, Cri__StatusResponse *out)
{
    struct runtime_features can;
    out->features = RPC_NEW(call, cri__runtime_features, Cri__RuntimeFeatures);
    if (!out->features)
        return -ENOMEM;
    out->features->supplemental_groups_policy = true;
    runtime_get_features(call->daemon->runtime, &can);
    out->features->user_namespaces_host_network = can.user_namespaces;
    return 0;
}

static Cri__StatusResponse__InfoEntry *info_entry(struct rpc_call *call, const char *key, const char *value)
{
    Cri__StatusResponse__InfoEntry *e =
        RPC_NEW(call, cri__status_response__info_entry, Cri__StatusResponse__InfoEntry);
    if (!e || !value)
        return NULL;
    e->key = constant(key);
    e->value = arena_strdup(call->arena, value);
    return e->value ? e : NULL;
}

static int add_info(struct rpc_call *call, Cri__StatusResponse *out)
{
    _cleanup_free_ char *config = config_json(call->daemon->config);
    _cleanup_free_ char *cni = network_info_json(call->daemon->network);
    _cleanup_free_ char *cdi = runtime_cdi_describe(call->daemon->runtime);
    _cleanup_free_ char *host = runtime_host_json(call->daemon->runtime);
    out->info = arena_alloc(call->arena, 4 * sizeof(*out->info));
    if (!out->info)
        return -ENOMEM;
    out->n_info = 4;
    out->info[0] = info_entry(call, "config", config);
    out->info[1] = info_entry(call, "cni", cni);
    out->info[2] = info_entry(call, "cdi", cdi);
    out->info[3] = info_entry(call, "host", host);
    return out->info[0] && out->info[1] && out->info[2] && out->info[3] ? 0 : -ENOMEM;
}

int rpc_status(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
               struct error *err)
{
    const Cri__StatusRequest *in = (const Cri__StatusRequest *)request;
    Cri__StatusResponse *out = RPC_NEW(call, cri__status_response, Cri__StatusResponse);
    if (!out || add_conditions(call, out) != 0 || add_handlers(call, out) != 0 ||
        add_features(call, out) != 0 || (in->verbose && add_info(call, out) != 0))
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}

int rpc_runtime_config(struct rpc_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                       struct error *err)
{
    (void)request;
    Cri__RuntimeConfigResponse *out = RPC_NEW(call, cri__runtime_config_response, Cri__RuntimeConfigResponse);
    Cri__LinuxRuntimeConfiguration *config =
        RPC_NEW(call, cri__linux_runtime_configuration, Cri__LinuxRuntimeConfiguration);
    if (!out || !config)
        return rpc_no_memory(err);
    config->cgroup_driver = call->daemon->config->cgroup_driver == CONFIG_CGROUP_SYSTEMD
                                ? CRI__CGROUP_DRIVER__SYSTEMD
                                : CRI__CGROUP_DRIVER__CGROUPFS;
    out->linux = config;
    *response = &out->base;
    return 0;
}

int rpc_update_runtime_config(struct rpc_call *call, const ProtobufCMessage *request,
                              ProtobufCMessage **response, struct error *err)
{
    const Cri__UpdateRuntimeConfigRequest *in = (const Cri__UpdateRuntimeConfigRequest *)request;
    Cri__UpdateRuntimeConfigResponse *out =
        RPC_NEW(call, cri__update_runtime_config_response, Cri__UpdateRuntimeConfigResponse);
    if (!out)
        return rpc_no_memory(err);
    *response = &out->base;
    if (!in->runtime_config || !in->runtime_config->network_config)
        return 0;
    return network_set_pod_cidr(call->daemon->network, in->runtime_config->network_config->pod_cidr, err);
}
