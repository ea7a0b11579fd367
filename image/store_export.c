// Images as an archive: crisp-pull makes it, its bytes are handed on as they come.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/store_pull.h"

#define EXPORT_IMAGES_MAX 64
#define REQUEST_MAX       (8u << 20)
#define PIECE_BYTES       (256 * 1024)

struct export_run {
    struct image_store *store;
    struct image *images[EXPORT_IMAGES_MAX]; // each once
    char **names[EXPORT_IMAGES_MAX];         // that each is to have in the archive
    size_t n;
    char holder[32];
    struct pull_program program;
    struct pb_frame_reader reader;
    int data_fd;
    bool done;
    size_t n_told;
    image_export_image_fn told;
    void *data;
};

static int add_names(char ***names, const struct image *image, const char *ref)
{
    struct reference parsed;
    _cleanup_free_ char *normal = NULL;

    if (reference_parse(ref, &parsed, NULL) == 0) {
        normal = reference_format(&parsed);
        reference_done(&parsed);
    }
    // A name that the image has: that one; anything else (an id, a digest): all that it has.
    bool own = false;
    for (char **tag = image->repo_tags; normal && *tag; tag++)
        own = own || str_eq(*tag, normal);
    for (char **tag = image->repo_tags; *tag; tag++) {
        bool there = own && !str_eq(*tag, normal);
        for (char **n = *names; n && *n; n++)
            there = there || str_eq(*n, *tag);
        if (!there && strv_append(names, *tag) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int add_image(struct export_run *run, const char *ref, struct error *err)
{
    struct image *image = NULL;
    size_t i;
    int r = image_store_resolve(run->store, ref, &image, err);

    if (r < 0)
        return r;
    for (i = 0; i < run->n && !str_eq(run->images[i]->id, image->id); i++)
        ;
    if (i < run->n) {
        image_unref(image);
        image = run->images[i];
    } else if (i == EXPORT_IMAGES_MAX) {
        image_unref(image);
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG, "more than %d images in one archive",
                         EXPORT_IMAGES_MAX);
    } else {
        run->images[i] = image;
        run->names[i] = strv_new(0);
        run->n++;
        r = image_store_hold(run->store, image->id, run->holder, err);
    }
    if (r == 0 && (!run->names[i] || add_names(&run->names[i], image, ref) < 0))
        r = error_errno(err, ENOMEM, "export %s", ref);
    return r;
}

static Pull__ExportImage *describe(struct export_run *run, size_t i, struct arena *arena)
{
    Pull__ExportImage *out = arena_alloc(arena, sizeof(*out));
    const struct image *image = run->images[i];
    struct image_source source = {0};
    size_t n = strv_len(image->layers);

    if (!out)
        return NULL;
    pull__export_image__init(out);
    out->layer_dirs = arena_alloc(arena, (n + 1) * sizeof(*out->layer_dirs));
    for (size_t j = 0; out->layer_dirs && j < n; j++) { // an image's are top first
        out->layer_dirs[n - 1 - j] = arena_printf(arena, "%s/%s", run->store->layers_dir, image->layers[j]);
        if (!out->layer_dirs[n - 1 - j])
            return NULL;
    }
    out->n_layer_dirs = n;
    out->config = (Pull__ImageConfig *)(uintptr_t)image->config;
    out->names = run->names[i];
    out->n_names = strv_len(run->names[i]);
    if (image_store_source(run->store, image->id, &source, NULL) == 0 && source.config_len > 0) {
        out->config_json.data = arena_memdup(arena, source.config, source.config_len);
        out->config_json.len = out->config_json.data ? source.config_len : 0;
    }
    image_source_done(&source);
    return out->layer_dirs ? out : NULL;
}

static int send_request(struct export_run *run, bool compress, int theirs, struct error *err)
{
    struct arena *arena = arena_new(REQUEST_MAX);
    Pull__ToPull m = PULL__TO_PULL__INIT;
    Pull__ExportRequest request = PULL__EXPORT_REQUEST__INIT;
    Pull__ExportImage *images[EXPORT_IMAGES_MAX];
    int r = arena ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < run->n; i++) {
        images[i] = describe(run, i, arena);
        r = images[i] ? 0 : -ENOMEM;
    }
    request.images = images;
    request.n_images = run->n;
    request.spool_dir = run->store->staging_dir;
    request.compress = compress;
    m.kind_case = PULL__TO_PULL__KIND_EXPORT;
    m.export = &request;
    if (r < 0)
        error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "too much to export at once: name fewer images");
    else
        r = pb_frame_send(run->program.sock, &m.base, &theirs, 1, err);
    arena_free(arena);
    return r;
}

static int handle(struct export_run *run, const Pull__FromPull *m, struct error *err)
{
    switch (m->kind_case) {
    case PULL__FROM_PULL__KIND_EXPORTED:
        if (run->n_told >= run->n)
            return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull talks nonsense");
        run->n_told++;
        return run->told(run->data, run->images[run->n_told - 1]->id, m->exported->image_id,
                         run->names[run->n_told - 1], err);
    case PULL__FROM_PULL__KIND_DONE:
        run->done = true;
        return 0;
    case PULL__FROM_PULL__KIND_FAILED:
        return error_set(err, (enum status)m->failed->status, m->failed->errnum, "%s", m->failed->message);
    default:
        return error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull talks nonsense");
    }
}

static int read_messages(struct export_run *run, struct error *err)
{
    long n = pb_frame_reader_feed(&run->reader, run->program.sock);

    if (n <= 0 && n != -EINTR)
        return error_set(err, STATUS_INTERNAL, EPIPE,
                         "crisp-pull died; its last words are in the daemon's log");
    for (;;) {
        Pull__FromPull *m = NULL;
        size_t n_fds = 0;
        int r = pb_frame_reader_take(&run->reader, &pull__from_pull__descriptor, NULL,
                                     (ProtobufCMessage **)&m, NULL, &n_fds);
        if (r <= 0)
            return r < 0 ? error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pull talks nonsense") : 0;
        r = handle(run, m, err);
        pull__from_pull__free_unpacked(m, NULL);
        if (r < 0)
            return r;
    }
}

// 1: the end of the archive.
static int read_piece(struct export_run *run, char *piece, image_export_data_fn fn, struct error *err)
{
    ssize_t n = read(run->data_fd, piece, PIECE_BYTES);

    if (n < 0)
        return errno == EINTR ? 0 : error_errno(err, errno, "read the archive");
    return n == 0 ? 1 : fn(run->data, piece, (size_t)n, err);
}

static int hand_on(struct export_run *run, image_export_data_fn fn, const struct ctx *ctx, struct error *err)
{
    _cleanup_free_ char *piece = malloc(PIECE_BYTES);
    bool ended = false;
    int r = piece ? 0 : error_errno(err, ENOMEM, "export");

    while (r == 0 && !(ended && run->done)) {
        struct pollfd fds[] = {{.fd = ended ? -1 : run->data_fd, .events = POLLIN},
                               {.fd = run->done ? -1 : run->program.sock, .events = POLLIN},
                               {.fd = ctx->cancel_fd, .events = POLLIN}};

        r = ctx_check(ctx, err);
        if (r == 0 && poll(fds, ARRAY_SIZE(fds), ctx_poll_ms(ctx)) < 0 && errno != EINTR)
            r = error_errno(err, errno, "poll");
        if (r == 0 && fds[0].revents)
            r = read_piece(run, piece, fn, err);
        if (r == 1) {
            ended = true;
            r = 0;
        }
        if (r == 0 && fds[1].revents)
            r = read_messages(run, err);
    }
    return r;
}

static int start(struct export_run *run, bool compress, struct error *err)
{
    _cleanup_fd_ int theirs = -1;
    int pipe_fds[2];
    int r;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "export");
    run->data_fd = pipe_fds[0];
    theirs = pipe_fds[1];
    (void)fcntl(theirs, F_SETPIPE_SZ,
                PIECE_BYTES); // fewer switches; past the user's limit it has to do without
    r = pull_program_start(run->store, &run->program, err);
    return r < 0 ? r : send_request(run, compress, theirs, err);
}

int image_store_export(struct image_store *s, char *const *refs, size_t n, bool compress,
                       const struct ctx *ctx, image_export_data_fn fn, image_export_image_fn told, void *data,
                       struct error *err)
{
    struct export_run *run = calloc(1, sizeof(*run));
    char random[17];
    int r = run ? str_random_hex(random, 16) : -ENOMEM;

    if (r < 0) {
        free(run);
        return error_errno(err, -r, "export");
    }
    run->store = s;
    run->data_fd = -1;
    run->program = PULL_PROGRAM_NONE;
    run->told = told;
    run->data = data;
    (void)snprintf(run->holder, sizeof(run->holder), "export-%s", random);
    pb_frame_reader_init(&run->reader);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = add_image(run, refs[i], err);
    if (r == 0)
        r = start(run, compress, err);
    if (r == 0)
        r = hand_on(run, fn, ctx, err);
    pull_program_end(&run->program, run->done);
    fd_closep(&run->data_fd);
    pb_frame_reader_done(&run->reader);
    for (size_t i = 0; i < run->n; i++) {
        image_store_release(s, run->images[i]->id, run->holder);
        image_unref(run->images[i]);
        strv_free(run->names[i]);
    }
    free(run);
    return r;
}
