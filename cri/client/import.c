// crisp import: images from archives and from OCI image layouts, for nodes without a registry.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/client/layout_tar.h"
#include "cri/client/output.h"
#include "cri/client/pull.h"

#define PIECE_BYTES (512 * 1024)

struct import_options {
    bool quiet;
    const char *name, *progress;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct import_options, name, "name", 0, OPTION_TEXT, "NAME",
               "call the image so; a name without a tag goes\nbefore the tags that the archive has"),
    OPTION_ROW(struct import_options, progress, "progress", 0, OPTION_TEXT, "FORM",
               "bars, lines, or auto: bars where stderr is a\nterminal (auto)"),
    OPTION_ROW(struct import_options, quiet, "quiet", 'q', OPTION_SWITCH, NULL, "print ids only"),
};
static const struct options table = {
    .command = "import",
    .usage = "import [--name NAME] FILE|FOLDER|-…",
    .intro = "Takes images from archives: an OCI image layout (as a tar or a folder) or what\n"
             "`docker save` writes. \"-\" is standard input. Prints the images' ids and names.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

struct upload {
    struct cli *cli;
    struct client_stream *stream;
    const char *name;
    struct ctx ctx;
};

static int send_piece(void *data, const void *bytes, size_t len, bool end, struct error *err)
{
    struct upload *u = data;
    Crisp__ImportRequest request = CRISP__IMPORT_REQUEST__INIT;

    if (u->name)
        request.name = (char *)u->name;
    u->name = NULL; // in the first one only
    request.data.data = (uint8_t *)bytes;
    request.data.len = len;
    request.end = end;
    return client_stream_send(u->stream, &u->ctx, &request.base, end, err);
}

static int upload_file(struct upload *u, int fd, const char *path, struct error *err)
{
    _cleanup_free_ char *piece = malloc(PIECE_BYTES);

    if (!piece)
        return error_errno(err, ENOMEM, "read %s", path);
    for (;;) {
        ssize_t n = read(fd, piece, PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read %s", path);
        int rc = send_piece(u, piece, (size_t)n, n == 0, err);
        if (rc < 0 || n == 0)
            return rc;
    }
}

static int upload(struct upload *u, const char *path, struct error *err)
{
    _cleanup_fd_ int fd = -1;
    struct stat st;

    if (str_eq(path, "-"))
        return upload_file(u, STDIN_FILENO, "standard input", err);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "open %s", path);
    return S_ISDIR(st.st_mode) ? layout_tar_write(fd, path, send_piece, u, err)
                               : upload_file(u, fd, path, err);
}

static void print_image(const Crisp__ImportProgress *m, bool quiet)
{
    (void)printf("%s", m->image_id);
    for (size_t i = 0; !quiet && i < m->n_names; i++)
        (void)printf(" %s", m->names[i]);
    (void)printf("\n");
    if (m->n_names == 0 && !quiet)
        (void)fprintf(stderr,
                      "crisp: the archive has no name for image %.19s: it is known by its id only "
                      "(--name NAME gives one)\n",
                      m->image_id);
}

// The layers' part of a message as the view wants it; takes m's layers over.
static Crisp__PullProgress *take_layers(Crisp__ImportProgress *m)
{
    Crisp__PullProgress *p = malloc(sizeof(*p));

    if (!p)
        return NULL;
    crisp__pull_progress__init(p);
    p->layers = steal_ptr(&m->layers);
    p->n_layers = m->n_layers;
    m->n_layers = 0;
    return p;
}

static int follow(struct upload *u, const char *path, enum pull_show show, struct error *err)
{
    struct pull_view view;
    int rc;

    pull_view_begin(&view, path, show);
    for (;;) {
        _cleanup_message_ Crisp__ImportProgress *m = NULL;
        Crisp__PullProgress *layers = NULL;

        rc = client_stream_receive(u->stream, &u->ctx, (ProtobufCMessage **)&m, err);
        if (rc <= 0)
            break;
        if (m->n_layers > 0)
            layers = take_layers(m);
        if (layers)
            pull_view_update(&view, layers);
        if (*m->image_id) {
            pull_view_end(&view, "imported from", true);
            pull_view_begin(&view, path, show);
            print_image(m, show == PULL_SHOW_NONE);
        }
    }
    pull_view_end(&view, "imported from", false);
    return rc;
}

static int import_one(struct cli *cli, const struct import_options *o, const char *path, enum pull_show show,
                      struct error *err)
{
    _cleanup_(client_stream_freep) struct client_stream *stream = NULL;
    struct upload u = {.cli = cli, .name = o->name, .ctx = CTX_NONE};
    int rc =
        client_stream_open(cli->client, "Import", cli->timeout_given ? cli->timeout_ns : 0, &stream, err);

    if (rc < 0)
        return rc;
    u.stream = stream;
    u.ctx.cancel_fd = cli->signal_fd;
    rc = upload(&u, path, err);
    if (rc == 0 || rc == -EPIPE)
        rc = follow(&u, path, show, err);
    if (rc < 0 && err->status == STATUS_UNIMPLEMENTED)
        return error_set(err, STATUS_UNIMPLEMENTED, ENOSYS, "this runtime can't import images (crispd can)");
    return rc < 0 ? error_wrap(err, "%s", path) : 0;
}

int command_import(struct cli *cli, int argc, char **argv)
{
    struct import_options o = {0};
    enum pull_show show = PULL_SHOW_AUTO;
    char **paths = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &paths, &n);
    if (code >= 0)
        return code;
    if (n == 0)
        return options_bad(&table, "import needs an archive");
    if (o.progress && !str_eq(o.progress, "auto") && !str_eq(o.progress, "bars") &&
        !str_eq(o.progress, "lines"))
        return options_bad(&table, "--progress \"%s\": must be auto, bars or lines", o.progress);
    if (o.progress && !str_eq(o.progress, "auto"))
        show = str_eq(o.progress, "bars") ? PULL_SHOW_BARS : PULL_SHOW_LINES;
    if (o.quiet)
        show = PULL_SHOW_NONE;
    code = 0;
    for (; *paths; paths++) {
        struct error err = ERROR_INIT;
        if (import_one(cli, &o, *paths, show, &err) == 0)
            continue;
        output_error("%s", err.message);
        code = 1;
    }
    return code;
}
