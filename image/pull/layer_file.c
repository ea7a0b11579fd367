#include "image/pull/layer_file.h"

#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define CHUNK (256 * 1024)

static int read_some(struct layer *l, char *chunk, struct error *err)
{
    uint64_t left = l->desc->size - l->received;
    size_t want = left < CHUNK ? (size_t)left : CHUNK;
    ssize_t n = pread(l->file_fd, chunk, want, (off_t)(l->file_offset + l->received));

    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0)
        return error_errno(err, errno, "read layer %s from the archive", l->desc->digest);
    if (n == 0)
        return error_set(err, STATUS_DATA_LOSS, ENODATA, "layer %s is truncated in the archive",
                         l->desc->digest);
    if (digest_update(l->digest, chunk, (size_t)n) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash layer %s", l->desc->digest);
    l->received += (uint64_t)n;
    // A child that no longer reads says why by its events.
    return layer_unpack_write(&l->unpack, chunk, (size_t)n) == -ENOMEM
               ? error_errno(err, ENOMEM, "read a layer")
               : 0;
}

static int finish(struct layer *l, struct error *err)
{
    char actual[DIGEST_TEXT_MAX];

    if (digest_final(l->digest, actual) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash layer %s", l->desc->digest);
    if (!l->file_verified && !str_eq(actual, l->desc->digest))
        return error_set(err, STATUS_DATA_LOSS, EBADMSG, "digest mismatch: the archive's layer %s is %s",
                         l->desc->digest, actual);
    layer_unpack_end(&l->unpack);
    return 0;
}

int layer_file_step(struct layer *l, struct error *err)
{
    static char chunk[CHUNK]; // crisp-pull has one thread
    int r = 0;

    layer_unpack_flush(&l->unpack);
    while (r == 0 && !layer_unpack_is_full(&l->unpack) && !l->unpack.broken && l->received < l->desc->size)
        r = read_some(l, chunk, err);
    if (r == 0 && l->received == l->desc->size && !layer_unpack_is_full(&l->unpack) && !l->unpack.broken &&
        l->unpack.data_fd >= 0)
        r = finish(l, err);
    return r;
}
