#include "image/pull/layer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "image/pull/layer_file.h"

#define TRANSFERS_MAX  100           // of one layer: a server that answers a few bytes at a time ends here
#define BREAKS_MAX     8             // connections in a row that broke after some bytes, without progress
#define SHARED_MAX     (512u * 1024) // bytes of a blob that may share an HTTP/2 connection
#define PROGRESS_BYTES (64u * 1024)  // of a large layer: as much counts as progress
#define PROGRESS_PART  16            // so much of a small one does

void layer_init(struct layer *l, const Pull__Layer *desc, uint32_t index)
{
    *l = (struct layer){.desc = desc, .index = index, .file_fd = -1};
    layer_unpack_init(&l->unpack, desc);
}

void layer_done(struct layer *l, struct http *http)
{
    if (l->transferring)
        http_done(http, &l->http);
    l->transferring = false;
    digest_freep(&l->digest);
    free(steal_ptr(&l->url));
    layer_unpack_done(&l->unpack);
}

// A continued transfer must begin where the last one ended: 206 with that range, or a 200 with everything.
static int check_offset(struct layer *l)
{
    unsigned long long from;

    if (l->http.offset == 0)
        return 0;
    if (l->http.status == 206) {
        l->bad_range = sscanf(l->http.content_range, "bytes %llu-", &from) != 1 || from != l->http.offset;
        return l->bad_range ? -1 : 0;
    }
    l->skip = l->http.offset;
    return 0;
}

static void note_progress(struct layer *l)
{
    uint64_t part = l->desc->size / PROGRESS_PART + 1;

    if (l->received - l->milestone < (part < PROGRESS_BYTES ? part : PROGRESS_BYTES))
        return;
    l->milestone = l->received;
    l->retry = (struct retry){0};
    l->breaks = l->authentications = 0;
}

static int on_bytes(void *data, const void *bytes, size_t len)
{
    struct layer *l = data;
    const char *p = bytes;

    if (layer_unpack_is_full(&l->unpack)) {
        l->paused = true;
        return HTTP_SINK_PAUSE;
    }
    if (l->http.offset > 0 && check_offset(l) < 0)
        return -1;
    l->http.offset = 0; // checked
    if (l->skip > 0) {
        size_t n = len < l->skip ? len : (size_t)l->skip;
        l->skip -= n;
        p += n;
        len -= n;
    }
    if (len > l->desc->size - l->received) {
        l->too_large = true;
        return -1;
    }
    if (len == 0)
        return 0;
    if (digest_update(l->digest, p, len) < 0)
        return -1;
    l->received += len;
    note_progress(l);
    return layer_unpack_write(&l->unpack, p, len);
}

static int start_transfer(struct layer *l, struct registry *r, struct error *err)
{
    int rc;

    free(steal_ptr(&l->url));
    l->http = (struct http_request){.sink = on_bytes,
                                    .sink_data = l,
                                    .offset = l->received,
                                    .own_connection = l->desc->size > SHARED_MAX};
    l->skip = 0;
    l->from = l->received;
    l->start_at_mono_ns = 0;
    l->paused = l->too_large = l->bad_range = false;
    l->transfers++;
    rc = registry_prepare_blob(r, l->endpoint, l->desc->digest, &l->http, &l->url, err);
    if (rc == 0)
        rc = http_start(r->http, &l->http, err);
    l->transferring = rc == 0;
    return rc;
}

static int start_unpacking(struct layer *l, struct error *err)
{
    _cleanup_free_ char *dir = str_printf("%s/%u", l->staging_dir, l->index);

    l->started_ns = clock_mono_ns();
    l->digest = digest_new();
    if (!dir || !l->digest)
        return error_errno(err, ENOMEM, "layer %s", l->desc->digest);
    return layer_unpack_start(&l->unpack, l->forker, steal_ptr(&dir), l->limits, err);
}

int layer_start(struct layer *l, struct registry *r, int forker, const char *staging_dir,
                const Pull__Limits *limits, struct error *err)
{
    int rc;

    l->forker = forker;
    l->staging_dir = staging_dir;
    l->limits = limits;
    if (l->file_fd < 0)
        l->endpoint = registry_next(r, 0, true);
    if (l->file_fd < 0 && l->endpoint == r->request->n_endpoints)
        return error_set(err, STATUS_FAILED_PRECONDITION, EDESTADDRREQ,
                         "no registry or mirror that may be asked for layers is configured for %s",
                         r->request->reference);
    rc = start_unpacking(l, err);
    if (rc < 0)
        return rc;
    l->state = LAYER_RUNNING;
    if (l->file_fd >= 0)
        return layer_file_step(l, err);
    return start_transfer(l, r, err);
}

int64_t layer_deadline_mono_ns(const struct layer *l)
{
    return l->state == LAYER_RUNNING ? l->start_at_mono_ns : 0;
}

static void end_transfer(struct layer *l, struct registry *r)
{
    if (l->transferring)
        http_done(r->http, &l->http);
    l->transferring = false;
}

static int start_again(struct layer *l, struct registry *r, int64_t after_ms, struct error *err)
{
    end_transfer(l, r);
    if (after_ms == 0)
        return start_transfer(l, r, err);
    l->start_at_mono_ns = clock_mono_ns() + after_ms * NS_PER_MS;
    return 0;
}

static const char *url_of(const struct layer *l, const struct registry *r)
{
    return r->request->endpoints[l->endpoint]->url;
}

static bool was_answered(const struct layer *l)
{
    return l->http.result == CURLE_OK && l->http.status / 100 == 2;
}

// Is every byte there, however the transfer ended after them? The digest tells what they are worth.
static bool is_complete(const struct layer *l)
{
    return l->received == l->desc->size &&
           (was_answered(l) || (l->received > 0 && l->http.result != CURLE_WRITE_ERROR));
}

static int describe_failure(struct layer *l, const struct registry *r, struct error *err)
{
    if (l->bad_range)
        return error_set(
            err, STATUS_DATA_LOSS, EPROTO,
            "%s: layer %s: the answer has another range (\"%s\") than asked for (from byte %llu)",
            url_of(l, r), l->desc->digest, l->http.content_range, (unsigned long long)l->received);
    if (l->too_large)
        return error_set(err, STATUS_DATA_LOSS, EFBIG,
                         "%s: layer %s is larger than the manifest says (%llu bytes)", url_of(l, r),
                         l->desc->digest, (unsigned long long)l->desc->size);
    if (was_answered(l) || l->http.result == CURLE_PARTIAL_FILE)
        return error_set(err, STATUS_DATA_LOSS, ENODATA, "%s: layer %s is truncated: got %llu of %llu bytes",
                         url_of(l, r), l->desc->digest, (unsigned long long)l->received,
                         (unsigned long long)l->desc->size);
    return registry_failure(r, l->endpoint, &l->http, "layer", err);
}

// The error to report, with what was wrong elsewhere before.
static int fail(const struct layer *l, struct error *err)
{
    const struct error last = *err;

    if (l->refused.message[0] == '\0')
        return -err->errnum;
    return error_set(err, last.status, last.errnum, "%.500s (before that: %.400s)", last.message,
                     l->refused.message);
}

// Goes to the next endpoint, where there is one that may be asked after this failure: 1, else 0.
static int move_on(struct layer *l, struct registry *r, const struct error *why)
{
    size_t next = registry_next(r, l->endpoint + 1, true);
    bool missing = l->http.result == CURLE_OK && l->http.status == 404;

    if (next == r->request->n_endpoints || !registry_may_fall_back(r, l->endpoint, &l->http))
        return 0;
    if (l->refused.message[0] == '\0')
        l->refused = *why;
    if (!missing)
        r->endpoints[l->endpoint].out = true;
    l->endpoint = next;
    l->retry = (struct retry){0};
    l->breaks = l->authentications = 0;
    return 1;
}

// What this endpoint sent is not the layer: all of it from another one.
static int begin_elsewhere(struct layer *l, struct registry *r, struct error *err)
{
    _cleanup_free_ char *aside = str_printf("%s/%u.refused%u", l->staging_dir, l->index, ++l->restarts);

    if (!move_on(l, r, err))
        return fail(l, err);
    end_transfer(l, r);
    if (!aside)
        return error_errno(err, ENOMEM, "layer %s", l->desc->digest);
    if (rename(l->unpack.dir, aside) < 0)
        return error_errno(err, errno, "rename %s", l->unpack.dir);
    layer_unpack_done(&l->unpack); // its child sees a layer that ends too early, and nobody listens to it
    digest_freep(&l->digest);
    l->received = l->milestone = 0;
    int rc = start_unpacking(l, err);
    return rc < 0 ? rc : start_transfer(l, r, err);
}

// The transfer ended before everything was there. One that broke is continued where it did, here; then it is
// another endpoint's turn; and what may pass is waited for.
static int go_on(struct layer *l, struct registry *r, struct error *err)
{
    bool progress = l->received > l->from;
    bool broke = was_answered(l) || l->http.status / 100 == 2;
    struct http_outcome outcome = http_outcome(&l->http);
    int64_t ms = -1;

    if (l->http.result == CURLE_OK && l->http.status == 401 && l->authentications++ == 0) {
        if (registry_authenticate(r, l->endpoint, &l->http, err) == 0)
            return start_again(l, r, 0, err);
        outcome = r->endpoints[l->endpoint].denial;
        if (outcome.transient)
            l->authentications = 0; // the next 401 asks the token server once more
    } else {
        (void)describe_failure(l, r, err);
    }
    if (l->transfers >= TRANSFERS_MAX)
        return fail(l, err);
    if (broke && l->http.result != CURLE_OPERATION_TIMEDOUT && !l->bad_range)
        ms = progress && l->breaks++ < BREAKS_MAX ? 0 : retry_delay_ms(&l->retry, 0);
    if (ms >= 0)
        return start_again(l, r, ms, err);
    if (move_on(l, r, err))
        return start_again(l, r, 0, err);
    // A stalled transfer is broken, too, but has taken its time.
    if ((outcome.transient && !broke) || (l->http.result == CURLE_OPERATION_TIMEDOUT && l->received > 0))
        ms = retry_delay_ms(&l->retry, outcome.retry_after);
    return ms >= 0 ? start_again(l, r, ms, err) : fail(l, err);
}

static int on_transferred(struct layer *l, struct registry *r, struct error *err)
{
    char actual[DIGEST_TEXT_MAX];

    if (l->unpack.broken)
        return 0; // the child's events say why
    if (l->too_large) {
        (void)describe_failure(l, r, err);
        return begin_elsewhere(l, r, err);
    }
    if (!is_complete(l))
        return go_on(l, r, err);
    if (digest_final(l->digest, actual) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash layer %s", l->desc->digest);
    if (!str_eq(actual, l->desc->digest)) {
        error_set(err, STATUS_DATA_LOSS, EBADMSG, "%s: digest mismatch: asked for layer %s, got %s",
                  url_of(l, r), l->desc->digest, actual);
        return begin_elsewhere(l, r, err);
    }
    end_transfer(l, r);
    l->verified = true;
    layer_unpack_end(&l->unpack);
    return 0;
}

int layer_step(struct layer *l, struct registry *r, struct error *err)
{
    int rc = 0;

    if (l->file_fd >= 0) {
        rc = layer_file_step(l, err);
        return rc < 0 ? rc : layer_unpack_step(&l->unpack, err);
    }
    if (l->start_at_mono_ns > 0 && clock_mono_ns() >= l->start_at_mono_ns)
        rc = start_transfer(l, r, err);
    layer_unpack_flush(&l->unpack);
    if (l->paused && !layer_unpack_is_full(&l->unpack)) {
        l->paused = false;
        http_resume(&l->http);
    }
    if (rc == 0 && l->transferring && l->http.done && !layer_unpack_is_full(&l->unpack))
        rc = on_transferred(l, r, err);
    if (rc < 0)
        return rc;
    rc = layer_unpack_step(&l->unpack, err);
    // Bytes that can't be unpacked are perhaps not the layer's.
    if (rc < 0 && !l->verified && err->status == STATUS_DATA_LOSS)
        return begin_elsewhere(l, r, err);
    return rc;
}
