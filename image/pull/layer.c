#include "image/pull/layer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/tree.h"
#include "image/pull/unpack.h"

#define ATTEMPTS_MAX 3
#define OPAQUE_MAX   (64 * 1024)

void layer_init(struct layer *l, const Pull__Layer *desc, uint32_t index)
{
    *l = (struct layer){.desc = desc, .index = index, .data_fd = -1, .event_fd = -1};
    pb_frame_reader_init(&l->events);
}

void layer_done(struct layer *l, struct http *http)
{
    if (l->transferring)
        http_done(http, &l->http);
    l->transferring = false;
    fd_closep(&l->data_fd);
    fd_closep(&l->event_fd);
    digest_freep(&l->digest);
    pb_frame_reader_done(&l->events);
    for (size_t i = 0; i < l->n_opaque; i++)
        free(l->opaque_dirs[i]);
    free(l->opaque_dirs);
    free(l->pending);
    free(l->url);
    free(l->dir);
    if (l->unpacked)
        pull__unpack_done__free_unpacked(l->unpacked, NULL);
    l->opaque_dirs = NULL;
    l->n_opaque = l->opaque_alloc = 0;
    l->pending = l->url = l->dir = NULL;
    l->unpacked = NULL;
}

// Writes what the pipe takes of bytes: how many; the child's end is noticed by its events.
static size_t write_some(struct layer *l, const char *bytes, size_t len)
{
    size_t done = 0;

    while (done < len && !l->broken) {
        ssize_t n = write(l->data_fd, bytes + done, len - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            l->broken = true;
    }
    return done;
}

static int keep_pending(struct layer *l, const char *bytes, size_t len)
{
    if (len > l->pending_alloc) {
        char *larger = realloc(l->pending, len);
        if (!larger)
            return -ENOMEM;
        l->pending = larger;
        l->pending_alloc = len;
    }
    memcpy(l->pending, bytes, len);
    l->pending_pos = 0;
    l->pending_len = len;
    return 0;
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
    size_t written;

    if (l->pending_pos < l->pending_len) {
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
    written = write_some(l, p, len);
    if (l->broken)
        return -1;
    return written < len ? keep_pending(l, p + written, len - written) : 0;
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
    int rc;

    l->dir = str_printf("%s/%u", staging_dir, l->index);
    l->digest = digest_new();
    if (!l->dir || !l->digest)
        return error_errno(err, ENOMEM, "layer %s", l->desc->digest);
    if (mkdir(l->dir, 0755) < 0)
        return error_errno(err, errno, "make %s", l->dir);
    rc = unpack_start(forker, l->dir, limits, &l->data_fd, &l->event_fd, err);
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

    if (l->broken)
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
    fd_closep(&l->data_fd); // the child may believe it now
    return 0;
}

static int remember_opaque(struct layer *l, const ProtobufCBinaryData *path, struct error *err)
{
    char *copy;

    if (l->n_opaque == l->opaque_alloc) {
        size_t n = l->opaque_alloc ? 2 * l->opaque_alloc : 16;
        char **larger = n <= OPAQUE_MAX ? reallocarray(l->opaque_dirs, n, sizeof(*larger)) : NULL;
        if (!larger)
            return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                             "layer %s has too many opaque directories", l->desc->digest);
        l->opaque_dirs = larger;
        l->opaque_alloc = n;
    }
    copy = strndup(path->data ? (const char *)path->data : "", path->len);
    if (!copy)
        return error_errno(err, ENOMEM, "layer %s", l->desc->digest);
    l->opaque_dirs[l->n_opaque++] = copy;
    return 0;
}

// The child has ended; what it left is resolved as strictly as it had to.
static int mark_opaque_dirs(struct layer *l, struct error *err)
{
    _cleanup_fd_ int root = open(l->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct tree tree;
    int r = 0;

    if (root < 0)
        return error_errno(err, errno, "open %s", l->dir);
    tree_init(&tree, root);
    for (size_t i = 0; r == 0 && i < l->n_opaque; i++) {
        char path[PATH_MAX];
        _cleanup_fd_ int fd = -1;

        r = tree_clean_path(*l->opaque_dirs[i] ? l->opaque_dirs[i] : ".", path, err);
        if (r < 0)
            break;
        fd = tree_open_dir(&tree, path, NULL);
        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
            continue; // a later entry took its place
        if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
            r = error_errno(err, fd < 0 ? -fd : errno, "mark \"%s\" opaque", path);
    }
    tree_done(&tree);
    return r;
}

static int on_unpacked(struct layer *l, Pull__UnpackEvent *event, struct error *err)
{
    l->unpacked = steal_ptr(&event->done);
    event->kind_case = PULL__UNPACK_EVENT__KIND__NOT_SET;
    if (l->data_fd >= 0)
        return error_set(err, STATUS_INTERNAL, EPROTO, "the unpacker of layer %s ended early",
                         l->desc->digest);
    if (!str_eq(l->unpacked->diff_id, l->desc->diff_id))
        return error_set(err, STATUS_DATA_LOSS, EBADMSG,
                         "digest mismatch: layer %s should unpack to %s, but unpacks to %s", l->desc->digest,
                         l->desc->diff_id, l->unpacked->diff_id);
    return mark_opaque_dirs(l, err);
}

// 1: the layer is complete.
static int on_event(struct layer *l, Pull__UnpackEvent *event, struct error *err)
{
    int r;

    switch (event->kind_case) {
    case PULL__UNPACK_EVENT__KIND_OPAQUE_DIR:
        return remember_opaque(l, &event->opaque_dir, err);
    case PULL__UNPACK_EVENT__KIND_FAILED:
        return error_set(err, (enum status)event->failed->status, event->failed->errnum, "layer %s: %s",
                         l->desc->digest, event->failed->message);
    case PULL__UNPACK_EVENT__KIND_DONE:
        r = on_unpacked(l, event, err);
        return r < 0 ? r : 1;
    default:
        return error_set(err, STATUS_INTERNAL, EPROTO, "the unpacker of layer %s talks nonsense",
                         l->desc->digest);
    }
}

static int read_events(struct layer *l, struct error *err)
{
    for (;;) {
        ProtobufCMessage *m = NULL;
        size_t n_fds = 0;
        int r = pb_frame_reader_take(&l->events, &pull__unpack_event__descriptor, NULL, &m, NULL, &n_fds);

        if (r > 0) {
            r = on_event(l, (Pull__UnpackEvent *)m, err);
            protobuf_c_message_free_unpacked(m, NULL);
            if (r != 0)
                return r;
            continue;
        }
        long n = r < 0 ? r : pb_frame_reader_feed(&l->events, l->event_fd);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0 && n != -EINTR)
            return error_set(
                err, STATUS_INTERNAL, EPIPE,
                "the unpacker of layer %s died; it does when a layer needs more memory than it may "
                "have, or by a fault of its own: see the system log",
                l->desc->digest);
    }
}

static void flush_pending(struct layer *l)
{
    if (l->pending_pos < l->pending_len && !l->broken)
        l->pending_pos += write_some(l, l->pending + l->pending_pos, l->pending_len - l->pending_pos);
    if (l->paused && (l->pending_pos == l->pending_len || l->broken)) {
        l->paused = false;
        http_resume(&l->http);
    }
}

int layer_step(struct layer *l, struct registry *r, struct error *err)
{
    int rc;

    flush_pending(l);
    if (l->transferring && l->http.done && l->pending_pos == l->pending_len) {
        rc = on_transferred(l, r, err);
        if (rc < 0)
            return rc;
    }
    return read_events(l, err);
}
