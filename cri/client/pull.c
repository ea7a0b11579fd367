// crisp pull: fetches images and shows how it goes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/output.h"
#include "cri/client/pull.h"

#define PASSWORD_MAX 4096

struct pull_options {
    bool quiet, password_stdin;
    const char *progress, *username;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct pull_options, quiet, "quiet", 'q', OPTION_SWITCH, NULL, "print the image's id only"),
    OPTION_ROW(struct pull_options, progress, "progress", 0, OPTION_TEXT, "FORM",
               "bars, lines, or auto: bars where stderr is a\nterminal (auto)"),
    OPTION_ROW(struct pull_options, username, "username", 'u', OPTION_TEXT, "NAME",
               "the registry's user; all images must be of that\nregistry"),
    OPTION_ROW(struct pull_options, password_stdin, "password-stdin", 0, OPTION_SWITCH, NULL,
               "read the password from standard input"),
};
static const struct option_hint hints[] = {
    {"p", "passwords on a command line are seen by all: use --password-stdin"},
    {"password", "passwords on a command line are seen by all: use --password-stdin"},
    {"a", "crisp pulls the tags that it is told"},
    {"all-tags", "crisp pulls the tags that it is told"},
    {"platform", "the runtime pulls what its own machine can run"},
};
static const struct options table = {
    .command = "pull",
    .usage = "pull [-q] IMAGE…",
    .intro = "Fetches images from their registries and prints their ids. How it goes is shown on\n"
             "stderr: a bar for each layer on a terminal, a line for each elsewhere.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .hints = hints,
    .n_hints = ARRAY_SIZE(hints),
    .bad_code = CLI_EXIT_USAGE,
};

static int take_id(const char *id, char **out, struct error *err)
{
    *out = strdup(id);
    return *out ? 0 : error_errno(err, ENOMEM, "pull");
}

// A runtime that isn't crispd.
static int pull_by_cri(struct cli *cli, const char *image, Cri__AuthConfig *auth, const struct ctx *ctx,
                       char **id, struct error *err)
{
    _cleanup_message_ Cri__PullImageResponse *response = NULL;
    Cri__PullImageRequest request = CRI__PULL_IMAGE_REQUEST__INIT;
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;

    spec.image = (char *)image;
    request.image = &spec;
    request.auth = auth;
    int rc = client_call(cli->client, ctx, "PullImage", &request.base,
                         cli->timeout_given ? cli->timeout_ns : 0, (ProtobufCMessage **)&response, err);
    return rc < 0 ? rc : take_id(response->image_ref, id, err);
}

static int follow(struct client_stream *stream, const struct ctx *ctx, struct pull_view *view, char **id,
                  struct error *err)
{
    for (;;) {
        Crisp__PullProgress *m = NULL;
        int rc = client_stream_receive(stream, ctx, (ProtobufCMessage **)&m, err);

        if (rc == 0 && !*id)
            return error_set(err, STATUS_INTERNAL, EPROTO, "the runtime's answer has no image");
        if (rc <= 0)
            return rc;
        if (*m->image_id && !*id)
            rc = take_id(m->image_id, id, err);
        if (m->n_layers > 0)
            pull_view_update(view, m);
        else
            crisp__pull_progress__free_unpacked(m, NULL);
        if (rc < 0)
            return rc;
    }
}

int pull_image(struct cli *cli, const char *image, Cri__AuthConfig *auth, enum pull_show show, char **id,
               struct error *err)
{
    _cleanup_(client_stream_freep) struct client_stream *stream = NULL;
    Crisp__PullRequest request = CRISP__PULL_REQUEST__INIT;
    struct ctx ctx = CTX_NONE;
    struct pull_view view;

    ctx.cancel_fd = cli->signal_fd;
    request.image = (char *)image;
    request.auth = auth;
    *id = NULL;
    int rc = client_stream_open(cli->client, "Pull", cli->timeout_given ? cli->timeout_ns : 0, &stream, err);
    if (rc < 0)
        return rc;
    pull_view_begin(&view, image, show);
    rc = client_stream_send(stream, &ctx, &request.base, true, err);
    if (rc == 0 || rc == -EPIPE)
        rc = follow(stream, &ctx, &view, id, err);
    if (rc < 0 && err->status == STATUS_UNIMPLEMENTED)
        rc = pull_by_cri(cli, image, auth, &ctx, id, err);
    pull_view_end(&view, "pulled", rc == 0);
    if (rc < 0)
        free(steal_ptr(id));
    return rc;
}

// Up to the first newline; the caller wipes it.
static int read_password(char out[PASSWORD_MAX])
{
    size_t len = 0;

    while (len < PASSWORD_MAX - 1) {
        ssize_t n = read(STDIN_FILENO, out + len, PASSWORD_MAX - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    out[len] = '\0';
    out[strcspn(out, "\r\n")] = '\0';
    return *out ? 0 : -ENODATA;
}

// How long a reference's registry is, as it is spelled; 0: Docker Hub.
static size_t registry_len(const char *image)
{
    size_t n = strcspn(image, "/");
    bool named = str_has_prefix(image, "localhost/") || strcspn(image, ".:ABCDEFGHIJKLMNOPQRSTUVWXYZ") < n;

    return image[n] == '/' && named && !str_has_prefix(image, "docker.io/") ? n : 0;
}

// A password is for one registry: that which the first image names must be that of all.
static const char *find_other_registry(char *const *images)
{
    size_t n = registry_len(images[0]);

    for (size_t i = 1; images[i]; i++)
        if (registry_len(images[i]) != n || strncasecmp(images[i], images[0], n) != 0)
            return images[i];
    return NULL;
}

static int check(const struct pull_options *o, char *const *images, int n, enum pull_show *show)
{
    static const char *const forms[] = {"auto", "bars", "lines"};
    size_t form = 0;

    if (n == 0)
        return options_bad(&table, "pull needs an image");
    while (o->progress && form < ARRAY_SIZE(forms) && !str_eq(o->progress, forms[form]))
        form++;
    if (form == ARRAY_SIZE(forms))
        return options_bad(&table, "--progress \"%s\": must be auto, bars or lines", o->progress);
    if (o->password_stdin != (o->username != NULL))
        return options_bad(&table, "--username and --password-stdin go together");
    if (o->username && find_other_registry(images))
        return options_bad(&table, "--username: %s and %s are of different registries; pull them one by one",
                           images[0], find_other_registry(images));
    *show = o->quiet ? PULL_SHOW_NONE : (enum pull_show)form;
    return -1;
}

static int pull_all(struct cli *cli, char *const *images, Cri__AuthConfig *auth, enum pull_show show)
{
    int code = 0;

    for (; *images; images++) {
        struct error err = ERROR_INIT;
        _cleanup_free_ char *id = NULL;

        if (show != PULL_SHOW_NONE)
            (void)fprintf(stderr, "crisp: pulling %s\n", *images);
        if (pull_image(cli, *images, auth, show, &id, &err) == 0) {
            (void)printf("%s\n", id);
            continue;
        }
        output_error("%s", err.message);
        code = 1;
    }
    return code;
}

int command_pull(struct cli *cli, int argc, char **argv)
{
    struct pull_options o = {0};
    Cri__AuthConfig auth = CRI__AUTH_CONFIG__INIT;
    char password[PASSWORD_MAX] = "";
    enum pull_show show = PULL_SHOW_AUTO;
    char **images = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &images, &n);
    if (code < 0)
        code = check(&o, images, n, &show);
    if (code >= 0)
        return code;
    if (o.username) {
        int rc = read_password(password);
        if (rc < 0) {
            output_error("read the password from standard input: %s",
                         rc == -ENODATA ? "it is empty" : strerrordesc_np(-rc));
            return 1;
        }
        auth.username = (char *)o.username;
        auth.password = password;
    }
    code = pull_all(cli, images, o.username ? &auth : NULL, show);
    explicit_bzero(password, sizeof(password));
    return code;
}
