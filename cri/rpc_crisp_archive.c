// crisp's own service: Import and Export.
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc.h"
#include "cri/rpc_crisp.h"

#define SPOOL_MAX (UINT64_C(256) << 30) // bytes of an archive

static int write_piece(int fd, const ProtobufCBinaryData *data, uint64_t *written, struct error *err)
{
    int r;

    *written += data->len;
    if (*written > SPOOL_MAX)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EFBIG, "the archive has more than 256 GiB");
    r = data->len > 0 ? file_write_all(fd, data->data, data->len) : 0;
    return r < 0 ? error_errno(err, -r, "keep the archive on the image store's disk") : 0;
}

// All that the client sends, into the file.
static int receive_archive(struct rpc_call *call, const Crisp__ImportRequest *first, int fd,
                           struct error *err)
{
    uint64_t written = 0;
    int r = write_piece(fd, &first->data, &written, err);
    bool end = first->end;

    while (r == 0 && !end) {
        ProtobufCMessage *m = NULL;

        r = rpc_receive(call, &m, err);
        if (r == 0)
            return error_set(err, STATUS_CANCELLED, ECANCELED,
                             "the client has gone before the archive's end");
        if (r < 0)
            return r;
        const Crisp__ImportRequest *piece = (const Crisp__ImportRequest *)m;
        end = piece->end;
        r = *piece->name ? error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "name goes into the first message")
                         : write_piece(fd, &piece->data, &written, err);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    return r;
}

static int send_progress(void *data, const struct image_layer_progress *layers, size_t n, struct error *err)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(RPC_PROGRESS_MAX);
    Crisp__ImportProgress message = CRISP__IMPORT_PROGRESS__INIT;

    message.layers = arena ? rpc_layer_progress(arena, layers, n) : NULL;
    if (!message.layers)
        return rpc_no_memory(err);
    message.n_layers = n;
    return rpc_send(data, &message.base, arena, err);
}

static int send_image(void *data, const char *id, char *const *names, unsigned index, unsigned n_images,
                      struct error *err)
{
    struct rpc_call *call = data;
    Crisp__ImportProgress message = CRISP__IMPORT_PROGRESS__INIT;

    (void)index;
    message.image_id = (char *)id;
    message.names = (char **)names;
    message.n_names = strv_len(names);
    message.n_images = n_images;
    return rpc_send(call, &message.base, call->arena, err);
}

RPC_HANDLER(rpc_crisp_import)
{
    const Crisp__ImportRequest *in = (const Crisp__ImportRequest *)request;
    const struct image_watch watch = {send_progress, call};
    _cleanup_fd_ int fd = image_store_spool(call->daemon->images, err);
    int r = fd < 0 ? fd : receive_archive(call, in, fd, err);

    (void)response;
    if (r == 0)
        r = image_store_import(call->daemon->images, fd, *in->name ? in->name : NULL, &call->ctx, &watch,
                               send_image, call, err);
    return r;
}

static int send_piece(void *data, const void *bytes, size_t len, struct error *err)
{
    struct rpc_call *call = data;
    Crisp__ExportPiece message = CRISP__EXPORT_PIECE__INIT;

    message.data.data = (uint8_t *)(uintptr_t)bytes;
    message.data.len = len;
    return rpc_send(call, &message.base, call->arena, err);
}

static int send_exported(void *data, const char *id, const char *exported_id, char *const *names,
                         struct error *err)
{
    struct rpc_call *call = data;
    Crisp__ExportPiece message = CRISP__EXPORT_PIECE__INIT;

    message.image_id = (char *)(uintptr_t)id;
    message.exported_id = (char *)(uintptr_t)exported_id;
    message.names = (char **)(uintptr_t)names;
    message.n_names = strv_len(names);
    return rpc_send(call, &message.base, call->arena, err);
}

RPC_HANDLER(rpc_crisp_export)
{
    const Crisp__ExportRequest *in = (const Crisp__ExportRequest *)request;

    (void)response;
    if (in->n_images == 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the request names no image (images)");
    return image_store_export(call->daemon->images, in->images, in->n_images, !in->uncompressed, &call->ctx,
                              send_piece, send_exported, call, err);
}
