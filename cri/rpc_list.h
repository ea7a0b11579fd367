// What a List RPC and its streaming twin share: the items go into one response, or, a few at a time, into
// messages of a stream. A response has one field, which is repeated.
#ifndef CRI_RPC_LIST_H
#define CRI_RPC_LIST_H

#include "cri/rpc.h"

struct rpc_list {
    struct rpc_call *origin; // the handler's
    struct rpc_call call;    // items are made in its arena
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *message; // being filled; NULL: none begun
    size_t max;                // items that it has room for
    size_t bytes;              // packed, roughly
    bool stream;
};

// type: of the response; stream: as the method has it. n_max: no more items will be added.
int rpc_list_begin(struct rpc_list *l, struct rpc_call *call, const ProtobufCMessageDescriptor *type,
                   bool stream, size_t n_max, struct error *err);
// Adds an item that was made in l->call.arena; NULL: that was full, an error. Afterwards the item may be
// gone.
int rpc_list_add(struct rpc_list *l, void *item, struct error *err);
// r: how the listing ended; it is returned if it isn't 0. Sends what is left, or sets *response.
int rpc_list_end(struct rpc_list *l, int r, ProtobufCMessage **response, struct error *err);

#endif
