#include "image/pull/session.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/parallel.h"
#include "image/pull/archive_source.h"
#include "image/pull/export.h"
#include "image/pull/layer.h"
#include "image/pull/manifest.h"
#include "image/pull/progress.h"
#include "image/pull/registry.h"
#include "image/pull/resolve.h"
#include "image/pull/signature.h"
#include "image/pull/transfers.h"

#define ARENA_MAX       (32u << 20)
#define STEP_TIMEOUT_MS 1000

struct session {
    int sock, forker;
    struct pb_frame_reader reader;
    Pull__ToPull *to; // holds the request
    const Pull__PullRequest *request;
    struct arena *arena;
    struct http *http;
    struct registry registry;
    struct archive_source *archive; // in the place of the registry
    int archive_fd;                 // read, or of an export written
    bool asked;                     // crispd wanted something
    Pull__PullResolved resolved;
    struct layer *layers;
    size_t n_layers;
    uint64_t fetched_bytes;
    const char *unchanged; // of request->known_digests: there is nothing to do
    struct progress progress;
};

// A frame from crispd: 1 and *m, 0 when it would block, -errno (-EPIPE: crispd is gone).
static int receive(struct session *s, Pull__ToPull **m)
{
    for (;;) {
        size_t n_fds = s->archive_fd < 0 ? 1 : 0;
        int r = pb_frame_reader_take(&s->reader, &pull__to_pull__descriptor, NULL, (ProtobufCMessage **)m,
                                     &s->archive_fd, &n_fds);
        if (r != 0)
            return r;
        long n = pb_frame_reader_feed(&s->reader, s->sock);
        if (n == 0)
            return -EPIPE;
        if (n == -EAGAIN)
            return 0;
        if (n < 0 && n != -EINTR)
            return (int)n;
    }
}

static int read_request(struct session *s, struct error *err)
{
    int r = 0;

    // By its name people, and the project's tests, tell one that waits from one that is at work.
    (void)prctl(PR_SET_NAME, "crisp-pull-idle", 0, 0, 0);
    if (fcntl(s->sock, F_SETFL, 0) == 0)
        r = receive(s, &s->to);
    (void)prctl(PR_SET_NAME, "crisp-pull", 0, 0, 0);
    s->asked = r != -EPIPE;
    if (r < 0)
        return error_errno(err, -r, "read the request");
    if (r > 0 && s->to->kind_case == PULL__TO_PULL__KIND_EXPORT && s->archive_fd >= 0)
        return 0; // the conversation stays blocking
    if (r == 0 || s->to->kind_case != PULL__TO_PULL__KIND_REQUEST)
        return error_set(err, STATUS_INTERNAL, EPROTO, "the first message is no request");
    s->request = s->to->request;
    if (s->request->n_platforms == 0 || !s->request->limits)
        return error_set(err, STATUS_INTERNAL, EPROTO, "the request is not complete");
    if (s->request->archive && s->archive_fd < 0)
        return error_set(err, STATUS_INTERNAL, EPROTO, "the archive's descriptor is missing");
    if (fcntl(s->sock, F_SETFL, O_NONBLOCK) < 0)
        return error_errno(err, errno, "prepare the pull");
    return 0;
}

static int source_manifest(void *data, const char *reference, struct buf *out, char **type, struct error *err)
{
    return registry_get_manifest(data, reference, out, type, err);
}

static int source_blob(void *data, const char *digest, size_t max, struct buf *out, struct error *err)
{
    return registry_get_blob(data, digest, max, out, err);
}

static int describe_layers(struct session *s, const struct manifest *manifest, struct error *err)
{
    size_t n = manifest->n_layers;
    Pull__Layer *layers = arena_alloc(s->arena, (n + 1) * sizeof(*layers));

    s->resolved.layers = arena_alloc(s->arena, (n + 1) * sizeof(*s->resolved.layers));
    s->layers = calloc(n + 1, sizeof(*s->layers));
    if (!layers || !s->resolved.layers || !s->layers)
        return error_errno(err, ENOMEM, "prepare the pull");
    for (size_t i = 0; i < n; i++) {
        pull__layer__init(&layers[i]);
        layers[i].digest = (char *)manifest->layers[i].digest;
        layers[i].diff_id = s->resolved.config->diff_ids[i];
        layers[i].size = manifest->layers[i].size;
        s->resolved.layers[i] = &layers[i];
        layer_init(&s->layers[i], &layers[i], (uint32_t)i);
    }
    s->n_layers = s->resolved.n_layers = n;
    return 0;
}

static int send_to_crispd(struct session *s, Pull__FromPull *m, struct error *err)
{
    return pb_frame_send(s->sock, &m->base, NULL, 0, err);
}

static int resolve_archive(struct session *s, struct manifest *manifest, struct error *err)
{
    int r = archive_source_open(s->archive_fd, s->request, s->arena, &s->archive, err);

    if (r == 0)
        r = archive_source_resolve(s->archive, manifest, &s->resolved, err);
    if (r == 0)
        r = describe_layers(s, manifest, err);
    return r < 0 ? r : archive_source_place(s->archive, s->layers, s->n_layers, err);
}

static int resolve_registry(struct session *s, struct manifest *manifest, struct error *err)
{
    const struct resolve_source source = {&s->registry, source_manifest, source_blob};
    const char *reference = *s->request->digest ? s->request->digest : s->request->tag;
    int r = resolve_image(&source, reference, s->request, s->arena, manifest, &s->resolved, err);

    if (r == 0)
        r = signature_verify_registry(&s->registry, s->request, s->arena, &s->resolved, err);
    return r < 0 ? r : describe_layers(s, manifest, err);
}

static int resolve(struct session *s, struct error *err)
{
    struct manifest manifest;
    Pull__FromPull m = PULL__FROM_PULL__INIT;
    int r = s->request->archive ? resolve_archive(s, &manifest, err) : resolve_registry(s, &manifest, err);

    if (r < 0)
        return r;
    m.kind_case = PULL__FROM_PULL__KIND_RESOLVED;
    m.resolved = &s->resolved;
    return send_to_crispd(s, &m, err);
}

// The digest known to crispd that the reference still means; NULL: none.
static const char *find_unchanged(struct session *s)
{
    char digest[DIGEST_TEXT_MAX];

    if (s->request->n_known_digests == 0)
        return NULL;
    registry_head_manifest(&s->registry, *s->request->digest ? s->request->digest : s->request->tag, digest);
    for (size_t i = 0; i < s->request->n_known_digests; i++)
        if (str_eq(s->request->known_digests[i], digest))
            return s->request->known_digests[i];
    return NULL;
}

static int apply_decision(struct session *s, const Pull__LayerDecision *decision, struct error *err)
{
    if (decision->index >= s->n_layers || s->layers[decision->index].state != LAYER_UNDECIDED)
        return error_set(err, STATUS_INTERNAL, EPROTO, "a decision about no open layer");
    s->layers[decision->index].state =
        decision->action == PULL__LAYER_DECISION__ACTION__FETCH ? LAYER_QUEUED : LAYER_FINISHED;
    return 0;
}

static int read_decisions(struct session *s, struct error *err)
{
    for (;;) {
        Pull__ToPull *m = NULL;
        int r = receive(s, &m);

        if (r < 0)
            return error_errno(err, -r, "hear from crispd");
        if (r == 0)
            return 0;
        r = m->kind_case == PULL__TO_PULL__KIND_DECISION
                ? apply_decision(s, m->decision, err)
                : error_set(err, STATUS_INTERNAL, EPROTO, "an unexpected message from crispd");
        pull__to_pull__free_unpacked(m, NULL);
        if (r < 0)
            return r;
    }
}

static size_t count_layers(const struct session *s, enum layer_state state)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_layers; i++)
        n += s->layers[i].state == state;
    return n;
}

static int start_layers(struct session *s, struct error *err)
{
    size_t parallel = s->request->limits->parallel;
    size_t running = count_layers(s, LAYER_RUNNING);

    if (parallel == 0 || parallel > IMAGE_PARALLEL_LAYERS_MAX)
        parallel = IMAGE_PARALLEL_LAYERS_MAX;
    for (size_t i = 0; i < s->n_layers && running < parallel; i++) {
        if (s->layers[i].state != LAYER_QUEUED)
            continue;
        int r = layer_start(&s->layers[i], &s->registry, s->forker, s->request->staging_dir,
                            s->request->limits, err);
        if (r < 0)
            return r;
        running++;
    }
    return 0;
}

static int report_layer(struct session *s, struct layer *l, struct error *err)
{
    Pull__LayerDone done = PULL__LAYER_DONE__INIT;
    Pull__FromPull m = PULL__FROM_PULL__INIT;

    done.index = l->index;
    done.bytes = l->unpack.result->bytes;
    done.inodes = l->unpack.result->inodes;
    done.loose = l->unpack.result->loose;
    progress_figures(l, &done);
    m.kind_case = PULL__FROM_PULL__KIND_LAYER_DONE;
    m.layer_done = &done;
    s->fetched_bytes += l->received;
    l->state = LAYER_FINISHED;
    int r = send_to_crispd(s, &m, err);
    layer_done(l, s->http);
    return r;
}

static int step_layers(struct session *s, struct error *err)
{
    for (size_t i = 0; i < s->n_layers; i++) {
        struct layer *l = &s->layers[i];

        if (l->state != LAYER_RUNNING)
            continue;
        int r = layer_step(l, &s->registry, err);
        if (r > 0)
            r = report_layer(s, l, err);
        if (r < 0)
            return r;
    }
    return 0;
}

// How long to wait at most until a layer wants to do something by itself.
static int step_timeout_ms(const struct session *s)
{
    int64_t now = clock_mono_ns(), ms = STEP_TIMEOUT_MS;

    for (size_t i = 0; i < s->n_layers; i++) {
        int64_t at = layer_deadline_mono_ns(&s->layers[i]);

        if (at > 0 && (at - now) / NS_PER_MS + 1 < ms)
            ms = at > now ? (at - now) / NS_PER_MS + 1 : 0;
    }
    return (int)ms;
}

static int wait_for_something(struct session *s, struct error *err)
{
    struct curl_waitfd fds[1 + 2 * IMAGE_PARALLEL_LAYERS_MAX];
    unsigned n = 0;

    fds[n++] = (struct curl_waitfd){.fd = s->sock, .events = CURL_WAIT_POLLIN};
    for (size_t i = 0; i < s->n_layers; i++) {
        const struct layer *l = &s->layers[i];

        if (l->state != LAYER_RUNNING || n + 2 > ARRAY_SIZE(fds))
            continue;
        fds[n++] = (struct curl_waitfd){.fd = l->unpack.event_fd, .events = CURL_WAIT_POLLIN};
        if (layer_unpack_is_full(&l->unpack))
            fds[n++] = (struct curl_waitfd){.fd = l->unpack.data_fd, .events = CURL_WAIT_POLLOUT};
    }
    return http_step(s->http, fds, n, step_timeout_ms(s), err);
}

static int fetch_layers(struct session *s, struct error *err)
{
    while (count_layers(s, LAYER_FINISHED) < s->n_layers) {
        int r = start_layers(s, err);

        if (r == 0)
            r = wait_for_something(s, err);
        if (r == 0)
            r = step_layers(s, err);
        if (r == 0)
            r = progress_report(&s->progress, s->sock, s->layers, s->n_layers, err);
        if (r == 0)
            r = read_decisions(s, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int run(struct session *s, struct error *err)
{
    int r = read_request(s, err);

    if (r == 0 && !s->request)
        return export_run(s->to->export, s->sock, s->forker, s->archive_fd, err);
    if (r == 0)
        r = transfers_set_proxies(s->request->transfers, err);
    if (r == 0) {
        const struct http_limits limits = transfers_limits(s->request->transfers);
        http_set_limits(s->http, &limits);
    }
    if (r == 0 && !s->request->archive)
        r = registry_init(&s->registry, s->http, s->request, err);
    s->arena = arena_new(ARENA_MAX);
    if (!s->arena)
        return error_errno(err, ENOMEM, "prepare the pull");
    if (r == 0)
        s->unchanged = find_unchanged(s);
    if (r < 0 || s->unchanged)
        return r;
    r = resolve(s, err);
    return r < 0 ? r : fetch_layers(s, err);
}

static void report_end(struct session *s, int r, const struct error *err)
{
    Pull__FromPull m = PULL__FROM_PULL__INIT;
    Pull__PullDone done = PULL__PULL_DONE__INIT;
    Pull__PullFailed failed = PULL__PULL_FAILED__INIT;

    if (r < 0) {
        failed.status = err->status;
        failed.errnum = err->errnum;
        failed.message = (char *)err->message;
        m.kind_case = PULL__FROM_PULL__KIND_FAILED;
        m.failed = &failed;
    } else {
        done.bytes_fetched = s->fetched_bytes;
        done.plain_http = s->registry.plain;
        if (s->unchanged)
            done.unchanged_digest = (char *)s->unchanged;
        m.kind_case = PULL__FROM_PULL__KIND_DONE;
        m.done = &done;
    }
    (void)send_to_crispd(s, &m, NULL);
}

// 1: there was nothing to do, and crispd may ask again (for the same thing only); 0 done, -1 failed.
static int run_session(int sock, int forker, struct http *http)
{
    struct session s = {.sock = sock, .forker = forker, .http = http, .archive_fd = -1};
    struct error err = ERROR_INIT;
    int r;

    pb_frame_reader_init(&s.reader);
    r = run(&s, &err);
    if (s.asked)
        report_end(&s, r, &err);
    else
        r = 0; // crispd is gone, or has no need of us any more
    for (size_t i = 0; i < s.n_layers; i++)
        layer_done(&s.layers[i], s.http);
    free(s.layers);
    registry_done(&s.registry);
    archive_source_free(s.archive);
    fd_closep(&s.archive_fd);
    arena_free(s.arena);
    pb_frame_reader_done(&s.reader);
    if (s.to)
        pull__to_pull__free_unpacked(s.to, NULL);
    return r < 0 ? -1 : s.unchanged ? 1 : 0;
}

int session_run(int sock, int forker)
{
    struct http *http = NULL;
    struct error err = ERROR_INIT;
    int r = http_new(&http, &err); // before crispd asks for anything: it takes its time

    if (r < 0)
        fprintf(stderr, "crisp-pull: %s\n", err.message);
    else
        do
            r = run_session(sock, forker, http);
        while (r > 0);
    http_free(http);
    return r < 0;
}
