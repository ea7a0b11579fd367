#include "cri/rpc_util.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

char *rpc_str(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

static struct rpc_map_entry *new_entry(struct rpc_call *call, const ProtobufCMessageDescriptor *type)
{
    struct rpc_map_entry *e = arena_alloc(call->arena, sizeof(*e));
    if (e)
        protobuf_c_message_init(type, e);
    return e;
}

void *rpc_map_copy(struct rpc_call *call, size_t n, void *entries, const ProtobufCMessageDescriptor *type,
                   bool *full)
{
    struct rpc_map_entry **from = entries;
    struct rpc_map_entry **to = n > 0 ? arena_alloc(call->arena, n * sizeof(*to)) : NULL;
    for (size_t i = 0; to && i < n; i++) {
        to[i] = new_entry(call, type);
        if (!to[i] || !(to[i]->key = arena_strdup(call->arena, from[i]->key)) ||
            !(to[i]->value = arena_strdup(call->arena, from[i]->value)))
            to = NULL;
    }
    if (n > 0 && !to)
        *full = true;
    return to;
}

bool rpc_map_matches(size_t n, void *entries, size_t n_selector, void *selector)
{
    struct rpc_map_entry **have = entries, **want = selector;
    for (size_t i = 0; i < n_selector; i++) {
        const char *value = NULL;
        for (size_t k = 0; k < n; k++) {
            if (strcmp(have[k]->key, want[i]->key) == 0)
                value = have[k]->value; // duplicates: the last one counts
        }
        if (!value || strcmp(value, want[i]->value) != 0)
            return false;
    }
    return true;
}

Cri__UInt64Value *rpc_u64(struct rpc_call *call, uint64_t value)
{
    Cri__UInt64Value *v = RPC_NEW(call, cri__uint64_value, Cri__UInt64Value);
    if (v)
        v->value = value;
    return v;
}

void *rpc_info_json(struct rpc_call *call, const ProtobufCMessageDescriptor *type, const char *key,
                    json_t *json)
{
    _cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    struct rpc_map_entry *e = new_entry(call, type);
    if (!text || !e)
        return NULL;
    e->key = rpc_str(key);
    e->value = arena_strdup(call->arena, text);
    return e->value ? e : NULL;
}
