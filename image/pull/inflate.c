#include "image/pull/inflate.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>
#ifdef CRISP_HAVE_ISAL
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif

#include "base/cleanup.h"
#include "base/clock.h"

#define IN_SIZE  (256 * 1024)
#define OUT_SIZE (256 * 1024)
// What a zstd frame may want to remember: libzstd's own default, and what `zstd --long` asks for.
#define WINDOW_LOG_MAX 27
// gzip packs nothing but zeros a thousandfold, zstd further. What files have comes to a tenth of this.
#define RATIO_MAX  500
#define RATIO_FROM (UINT64_C(1) << 30) // unpacked bytes, below which nobody asks

enum format { FORMAT_UNKNOWN, FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZSTD };

struct inflate {
    int fd;
    enum format format;
    bool in_eof, between;             // no more input; not inside a gzip member or zstd frame
    uint64_t total, max_bytes, taken; // unpacked; at most; packed
    int64_t busy_ns, wait_ns;
    const char *damage; // what is wrong with the data; NULL: nothing in particular
    struct digest *digest;
    unsigned char *in, *out;
    size_t in_pos, in_len;
    ZSTD_DStream *zstd;
#ifdef CRISP_HAVE_ISAL
    struct inflate_state gzip;
#else
    z_stream gzip;
#endif
};

static int gzip_start(struct inflate *in)
{
#ifdef CRISP_HAVE_ISAL
    isal_inflate_init(&in->gzip);
    in->gzip.crc_flag = ISAL_GZIP;
    return 0;
#else
    return inflateInit2(&in->gzip, 16 + MAX_WBITS) == Z_OK ? 0 : -ENOMEM;
#endif
}

// A new member behind the one that ended: gzip files may be concatenated.
static void gzip_restart(struct inflate *in)
{
#ifdef CRISP_HAVE_ISAL
    isal_inflate_reset(&in->gzip);
    in->gzip.crc_flag = ISAL_GZIP;
#else
    (void)inflateReset(&in->gzip);
#endif
}

// Consumes input, fills out; *ended when the member is complete and its checksum right.
static int gzip_step(struct inflate *in, size_t *produced, bool *ended)
{
#ifdef CRISP_HAVE_ISAL
    in->gzip.next_in = in->in + in->in_pos;
    in->gzip.avail_in = (uint32_t)(in->in_len - in->in_pos);
    in->gzip.next_out = in->out;
    in->gzip.avail_out = OUT_SIZE;
    int r = isal_inflate(&in->gzip);
    in->in_pos = in->in_len - in->gzip.avail_in;
    *produced = OUT_SIZE - in->gzip.avail_out;
    *ended = in->gzip.block_state == ISAL_BLOCK_FINISH;
    return r == ISAL_DECOMP_OK || r == ISAL_END_INPUT || r == ISAL_OUT_OVERFLOW ? 0 : -EBADMSG;
#else
    in->gzip.next_in = in->in + in->in_pos;
    in->gzip.avail_in = (uInt)(in->in_len - in->in_pos);
    in->gzip.next_out = in->out;
    in->gzip.avail_out = OUT_SIZE;
    int r = inflate(&in->gzip, Z_NO_FLUSH);
    in->in_pos = in->in_len - in->gzip.avail_in;
    *produced = OUT_SIZE - in->gzip.avail_out;
    *ended = r == Z_STREAM_END;
    return r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR ? 0 : -EBADMSG;
#endif
}

static int zstd_step(struct inflate *in, size_t *produced, bool *ended)
{
    ZSTD_inBuffer src = {in->in, in->in_len, in->in_pos};
    ZSTD_outBuffer dst = {in->out, OUT_SIZE, 0};
    size_t r = ZSTD_decompressStream(in->zstd, &dst, &src);

    in->in_pos = src.pos;
    *produced = dst.pos;
    *ended = r == 0;
    if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge)
        in->damage = "needs a window of more than 128 MiB";
    return ZSTD_isError(r) ? -EBADMSG : 0;
}

int inflate_new(int fd, uint64_t max_bytes, struct inflate **out, struct error *err)
{
    struct inflate *in = calloc(1, sizeof(*in));

    if (!in)
        return error_errno(err, ENOMEM, "decompress");
    in->fd = fd;
    in->max_bytes = max_bytes;
    in->between = true;
    in->digest = digest_new();
    in->in = malloc(IN_SIZE);
    in->out = malloc(OUT_SIZE);
    in->zstd = ZSTD_createDStream();
    if (!in->digest || !in->in || !in->out || !in->zstd || gzip_start(in) < 0 ||
        ZSTD_isError(ZSTD_DCtx_setParameter(in->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX))) {
        inflate_free(in);
        return error_errno(err, ENOMEM, "decompress");
    }
    *out = in;
    return 0;
}

void inflate_free(struct inflate *in)
{
    if (!in)
        return;
#ifndef CRISP_HAVE_ISAL
    (void)inflateEnd(&in->gzip);
#endif
    ZSTD_freeDStream(in->zstd);
    digest_free(in->digest);
    free(in->in);
    free(in->out);
    free(in);
}

void inflate_freep(struct inflate **in)
{
    inflate_free(*in);
    *in = NULL;
}

// At least `want` unread bytes in the buffer, or the end of the input.
static int fill(struct inflate *in, size_t want, struct error *err)
{
    if (in->in_pos > 0 && in->in_len - in->in_pos < want) {
        memmove(in->in, in->in + in->in_pos, in->in_len - in->in_pos);
        in->in_len -= in->in_pos;
        in->in_pos = 0;
    }
    while (!in->in_eof && in->in_len - in->in_pos < want) {
        int64_t before = clock_mono_ns();
        ssize_t n = read(in->fd, in->in + in->in_len, IN_SIZE - in->in_len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read the layer");
        in->wait_ns += clock_mono_ns() - before;
        in->taken += (uint64_t)n;
        if (n == 0)
            in->in_eof = true;
        in->in_len += (size_t)n;
    }
    return 0;
}

// The media type is the image's claim; the first bytes are the truth.
static int detect(struct inflate *in, struct error *err)
{
    int r = fill(in, 4, err);
    const unsigned char *p = in->in + in->in_pos;
    size_t n = in->in_len - in->in_pos;

    if (r < 0)
        return r;
    if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        in->format = FORMAT_GZIP;
    else if (n >= 4 && ((p[0] == 0x28 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd) ||
                        ((p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d && p[3] == 0x18)))
        in->format = FORMAT_ZSTD; // a frame, or a skippable frame before one
    else
        in->format = FORMAT_PLAIN;
    return 0;
}

static int step(struct inflate *in, size_t *produced, struct error *err)
{
    bool ended = false;
    int r;

    if (in->between && in->in_pos < in->in_len) {
        if (in->format == FORMAT_GZIP)
            gzip_restart(in);
        in->between = false;
    }
    r = in->format == FORMAT_GZIP ? gzip_step(in, produced, &ended) : zstd_step(in, produced, &ended);
    if (r < 0)
        return error_set(err, STATUS_DATA_LOSS, EBADMSG, "the layer's %s data %s",
                         in->format == FORMAT_GZIP ? "gzip" : "zstd", in->damage ? in->damage : "is damaged");
    if (ended)
        in->between = true;
    return 0;
}

static ssize_t produce(struct inflate *in, const void **data, struct error *err)
{
    size_t produced = 0;

    if (in->format == FORMAT_UNKNOWN && detect(in, err) < 0)
        return -err->errnum;
    do {
        size_t before;
        int r = fill(in, 1, err);

        if (r < 0)
            return r;
        if (in->format == FORMAT_PLAIN) {
            *data = in->in + in->in_pos;
            produced = in->in_len - in->in_pos;
            in->in_pos = in->in_len;
            return (ssize_t)produced;
        }
        if (in->between && in->in_pos == in->in_len)
            return 0;
        before = in->in_pos;
        r = step(in, &produced, err);
        if (r < 0)
            return r;
        if (produced == 0 && !in->between && in->in_eof && in->in_pos == before)
            return error_set(err, STATUS_DATA_LOSS, ENODATA, "the layer's compressed data ends too early");
    } while (produced == 0);
    *data = in->out;
    return (ssize_t)produced;
}

ssize_t inflate_read(struct inflate *in, const void **data, struct error *err)
{
    int64_t before = clock_mono_ns(), waited = in->wait_ns;
    ssize_t n = produce(in, data, err);

    if (n <= 0)
        return n;
    in->total += (uint64_t)n;
    if (in->total > RATIO_FROM && in->total / RATIO_MAX > in->taken)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EFBIG,
                         "the layer unpacks to more than %d times its size: a bomb", RATIO_MAX);
    if (in->total > in->max_bytes)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, EFBIG, "the layer unpacks to more than %llu bytes",
                         (unsigned long long)in->max_bytes);
    if (digest_update(in->digest, *data, (size_t)n) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash the layer");
    in->busy_ns += clock_mono_ns() - before - (in->wait_ns - waited);
    return n;
}

void inflate_times(const struct inflate *in, int64_t *busy_ns, int64_t *wait_ns)
{
    *busy_ns = in->busy_ns;
    *wait_ns = in->wait_ns;
}

int inflate_finish(struct inflate *in, char diff_id[DIGEST_TEXT_MAX], struct error *err)
{
    const void *data;
    ssize_t n;

    do
        n = inflate_read(in, &data, err);
    while (n > 0);
    if (n < 0)
        return (int)n;
    if (digest_final(in->digest, diff_id) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash the layer");
    return 0;
}
