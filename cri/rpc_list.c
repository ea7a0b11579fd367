#include "cri/rpc_list.h"

#include <stdint.h>

#include "base/cleanup.h"

// Of one message of a stream: some KiB are written at once, and Go clients take 4 MiB by default.
#define CHUNK_ITEMS     64
#define CHUNK_BYTES     (256u << 10)
#define CHUNK_ARENA_MAX (64u << 20)

static size_t *count_of(struct rpc_list *l)
{
    return (size_t *)((char *)l->message + l->type->fields[0].quantifier_offset);
}

static ProtobufCMessage ***items_of(struct rpc_list *l)
{
    return (ProtobufCMessage ***)(void *)((char *)l->message + l->type->fields[0].offset);
}

static int begin_message(struct rpc_list *l, struct error *err)
{
    if (l->stream && !(l->call.arena = arena_new(CHUNK_ARENA_MAX)))
        return rpc_no_memory(err);
    l->message = arena_alloc(l->call.arena, l->type->sizeof_message);
    if (!l->message)
        return rpc_no_memory(err);
    protobuf_c_message_init(l->type, l->message);
    *items_of(l) = arena_alloc(l->call.arena, (l->max + 1) * sizeof(ProtobufCMessage *));
    return *items_of(l) ? 0 : rpc_no_memory(err);
}

int rpc_list_begin(struct rpc_list *l, struct rpc_call *call, const ProtobufCMessageDescriptor *type,
                   bool stream, size_t n_max, struct error *err)
{
    *l = (struct rpc_list){.origin = call, .call = *call, .type = type, .max = n_max, .stream = stream};
    if (stream) {
        l->call.arena = NULL;
        l->max = CHUNK_ITEMS;
    }
    return begin_message(l, err);
}

static int flush(struct rpc_list *l, struct error *err)
{
    int r = *count_of(l) > 0 ? rpc_send(l->origin, l->message, l->call.arena, err) : 0;
    arena_freep(&l->call.arena);
    l->message = NULL;
    l->bytes = 0;
    return r;
}

int rpc_list_add(struct rpc_list *l, void *item, struct error *err)
{
    if (!item || *count_of(l) == l->max)
        return rpc_no_memory(err);
    (*items_of(l))[(*count_of(l))++] = item;
    if (!l->stream)
        return 0;
    l->bytes += protobuf_c_message_get_packed_size(item);
    if (*count_of(l) < l->max && l->bytes < CHUNK_BYTES)
        return 0;
    int r = flush(l, err);
    return r < 0 ? r : begin_message(l, err);
}

int rpc_list_end(struct rpc_list *l, int r, ProtobufCMessage **response, struct error *err)
{
    if (!l->stream) {
        if (r == 0)
            *response = l->message;
        return r;
    }
    if (r == 0 && l->message)
        r = flush(l, err);
    arena_freep(&l->call.arena);
    return r;
}
