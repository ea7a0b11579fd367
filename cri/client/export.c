// crisp export: images as one archive, for nodes without a registry.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/output.h"
#include "cri/client/pull.h"

struct export_options {
    const char *output;
    bool uncompressed;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct export_options, output, "output", 'o', OPTION_TEXT, "FILE",
               "where to (\"-\", standard output)"),
    OPTION_ROW(struct export_options, uncompressed, "uncompressed", 0, OPTION_SWITCH, NULL,
               "layers as plain tars: larger, and sooner done"),
};
static const struct options table = {
    .command = "export",
    .usage = "export -o FILE IMAGE…",
    .intro = "Writes images as one archive: an OCI image layout as a tar, which `docker load` takes,\n"
             "too. `crisp import` on another node reads it.\n",
    .footer = "The runtime keeps layers unpacked only and makes their tars anew: they have the same\n"
              "files, but other digests, and so the images in the archive have other ids.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

static void tell(const Crisp__ExportPiece *m)
{
    const char *name = m->n_names ? m->names[0] : m->image_id;

    (void)fprintf(stderr, "crisp: exported %s (%.19s; in the archive its id is %.19s)\n", name, m->image_id,
                  m->exported_id);
}

static int receive(struct client_stream *stream, const struct ctx *ctx, int fd, const char *path,
                   struct error *err)
{
    for (;;) {
        _cleanup_message_ Crisp__ExportPiece *m = NULL;
        int rc = client_stream_receive(stream, ctx, (ProtobufCMessage **)&m, err);

        if (rc <= 0)
            return rc;
        if (*m->exported_id)
            tell(m);
        rc = m->data.len > 0 ? file_write_all(fd, m->data.data, m->data.len) : 0;
        if (rc < 0)
            return error_errno(err, -rc, "write %s", path);
    }
}

static int run(struct cli *cli, const struct export_options *o, char **images, int n, int fd,
               const char *path, struct error *err)
{
    _cleanup_(client_stream_freep) struct client_stream *stream = NULL;
    Crisp__ExportRequest request = CRISP__EXPORT_REQUEST__INIT;
    struct ctx ctx = CTX_NONE;
    int rc =
        client_stream_open(cli->client, "Export", cli->timeout_given ? cli->timeout_ns : 0, &stream, err);

    ctx.cancel_fd = cli->signal_fd;
    request.images = images;
    request.n_images = (size_t)n;
    request.uncompressed = o->uncompressed;
    if (rc == 0)
        rc = client_stream_send(stream, &ctx, &request.base, true, err);
    if (rc == 0 || rc == -EPIPE)
        rc = receive(stream, &ctx, fd, path, err);
    if (rc < 0 && err->status == STATUS_UNIMPLEMENTED)
        return error_set(err, STATUS_UNIMPLEMENTED, ENOSYS, "this runtime can't export images (crispd can)");
    return rc;
}

// The file has its name only when it is whole.
static int run_to_file(struct cli *cli, const struct export_options *o, char **images, int n,
                       struct error *err)
{
    _cleanup_free_ char *part = str_printf("%s.XXXXXX", o->output);
    _cleanup_fd_ int fd = part ? mkostemp(part, O_CLOEXEC) : -1;
    mode_t mask = umask(0);
    int rc;

    (void)umask(mask);
    if (fd < 0)
        return error_errno(err, errno, "make %s", o->output);
    rc = run(cli, o, images, n, fd, o->output, err);
    if (rc == 0 && (fchmod(fd, 0666 & ~mask) < 0 || rename(part, o->output) < 0))
        rc = error_errno(err, errno, "make %s", o->output);
    if (rc < 0)
        (void)unlink(part);
    return rc;
}

int command_export(struct cli *cli, int argc, char **argv)
{
    struct export_options o = {0};
    struct error err = ERROR_INIT;
    char **images = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &images, &n);
    if (code >= 0)
        return code;
    if (n == 0)
        return options_bad(&table, "export needs an image");
    bool to_stdout = !o.output || str_eq(o.output, "-");
    if (to_stdout && isatty(STDOUT_FILENO))
        return options_bad(&table, "an archive is nothing for a terminal: use -o FILE");
    int rc = to_stdout ? run(cli, &o, images, n, STDOUT_FILENO, "standard output", &err)
                       : run_to_file(cli, &o, images, n, &err);
    if (rc == 0)
        return 0;
    output_error("%s", err.message);
    return 1;
}
