#include "image/pull/layer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define ATTEMPTS_MAX 3

void layer_init(struct layer *l, const Pull__Layer *desc, uint32_t index)
{
    *l = (struct layer){.desc = desc, .index = index};
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
    if (l->http.status == 206)
        return sscanf(l->http.content_range, "bytes %llu-", &from) == 1 && from == l->http.offset ? 0 : -1;
    l->skip = l->http.offset;
    return 0;
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
    l->attempts = 0;
    if (digest_update(l->digest, p, len) < 0)
        return -1;
    l->received += len;
    return layer_unpack_write(&l->unpack, p, len);
}

static int start_transfer(struct layer *l, struct registry *r, struct error *err)
{
    int rc;

    free(steal_ptr(&l->url));
    l->http = (struct http_request){.sink = on_bytes, .sink_data = l, .offset = l->received};
    l->skip = 0;
    l->paused = false;
    rc = registry_prepare_blob(r, l->endpoint, l->desc->digest, &l->http, &l->url, err);
    if (rc == 0)
        rc = http_start(r->http, &l->http, err);
    l->transferring = rc == 0;
    return rc;
}

int layer_start(struct layer *l, struct registry *r, int forker, const char *staging_dir,
                const Pull__Limits *limits, struct error *err)
{
    _cleanup_free_ char *dir = str_printf("%s/%u", staging_dir, l->index);
    int rc;

    l->started_ns = clock_mono_ns();
    l->digest = digest_new();
    if (!dir || !l->digest)
        return error_errno(err, ENOMEM, "layer %s", l->desc->digest);
    rc = layer_unpack_start(&l->unpack, forker, steal_ptr(&dir), limits, err);
    if (rc < 0)
        return rc;
    l->endpoint = r->first;
    l->state = LAYER_RUNNING;
    return start_transfer(l, r, err);
}

static int retry(struct layer *l, struct registry *r, struct error *err)
{
    http_done(r->http, &l->http);
    l->transferring = false;
    return start_transfer(l, r, err);
}

static int truncated(struct layer *l, const struct registry *r, struct error *err)
{
    return error_set(err, STATUS_DATA_LOSS, ENODATA, "%s: layer %s is truncated: got %llu of %llu bytes",
                     r->request->endpoints[l->endpoint]->url, l->desc->digest,
                     (unsigned long long)l->received, (unsigned long long)l->desc->size);
}

// The transfer ended before everything was there: the same again from where it broke, then the next endpoint.
static int go_on(struct layer *l, struct registry *r, struct error *err)
{
    bool answered = l->http.result == CURLE_OK;
    bool ok = answered && (l->http.status == 200 || l->http.status == 206);

    if (answered && l->http.status == 401 && !l->authenticated) {
        int rc = registry_authenticate(r, l->endpoint, &l->http, err);
        if (rc < 0)
            return rc;
        l->authenticated = true;
        return retry(l, r, err);
    }
    if (!answered || ok || l->http.status >= 500) {
        if (++l->attempts < ATTEMPTS_MAX && (l->received > 0 || l->http.status >= 500))
            return retry(l, r, err);
    }
    if (l->endpoint + 1 < r->request->n_endpoints && registry_may_fall_back(r, l->endpoint, &l->http)) {
        l->endpoint++;
        l->attempts = 0;
        l->authenticated = false;
        return retry(l, r, err);
    }
    if (ok || l->http.result == CURLE_PARTIAL_FILE)
        return truncated(l, r, err);
    return registry_failure(r, l->endpoint, &l->http, "layer", err);
}

static int on_transferred(struct layer *l, struct registry *r, struct error *err)
{
    char actual[DIGEST_TEXT_MAX];

    if (l->unpack.broken)
        return 0; // the child's events say why
    if (l->too_large)
        return error_set(
            err, STATUS_DATA_LOSS, EFBIG, "%s: layer %s is larger than the manifest says (%llu bytes)",
            r->request->endpoints[l->endpoint]->url, l->desc->digest, (unsigned long long)l->desc->size);
    if (l->received < l->desc->size || l->http.result != CURLE_OK || l->http.status / 100 != 2)
        return go_on(l, r, err);
    http_done(r->http, &l->http);
    l->transferring = false;
    if (digest_final(l->digest, actual) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash layer %s", l->desc->digest);
    if (!str_eq(actual, l->desc->digest))
        return error_set(err, STATUS_DATA_LOSS, EBADMSG, "%s: digest mismatch: asked for layer %s, got %s",
                         r->request->endpoints[l->endpoint]->url, l->desc->digest, actual);
    layer_unpack_end(&l->unpack);
    return 0;
}

int layer_step(struct layer *l, struct registry *r, struct error *err)
{
    int rc;

    layer_unpack_flush(&l->unpack);
    if (l->paused && !layer_unpack_is_full(&l->unpack)) {
        l->paused = false;
        http_resume(&l->http);
    }
    if (l->transferring && l->http.done && !layer_unpack_is_full(&l->unpack)) {
        rc = on_transferred(l, r, err);
        if (rc < 0)
            return rc;
    }
    return layer_unpack_step(&l->unpack, err);
}
