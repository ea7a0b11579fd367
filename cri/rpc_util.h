// Small things that handlers share: maps of strings, ids, JSON for verbose answers.
#ifndef CRI_RPC_UTIL_H
#define CRI_RPC_UTIL_H

#include <jansson.h>

#include "api/cri/api.pb-c.h"
#include "cri/rpc.h"

// All entries of CRI's map<string, string> fields look like this, whichever message they are of.
struct rpc_map_entry {
    ProtobufCMessage base;
    char *key;
    char *value;
};

// A copy of n entries in the call's arena, as entries of another map. NULL for none, or when the arena is
// full (*full).
void *rpc_map_copy(struct rpc_call *call, size_t n, void *entries, const ProtobufCMessageDescriptor *type,
                   bool *full);
// Does a map have every pair of the selector?
bool rpc_map_matches(size_t n, void *entries, size_t n_selector, void *selector);
// Strings that live in the arena or longer, for protobuf-c's char * (which it only reads).
char *rpc_str(const char *s);
// A number that may be unset, in the arena; NULL when that is full.
Cri__UInt64Value *rpc_u64(struct rpc_call *call, uint64_t value);
// One entry {key: JSON} for an info map, in the arena; takes json over. NULL when memory is short.
void *rpc_info_json(struct rpc_call *call, const ProtobufCMessageDescriptor *type, const char *key,
                    json_t *json);

// rpc_resources.c: those that are set. null for NULL.
json_t *rpc_resources_json(const Cri__LinuxContainerResources *r);

#endif
