// crisp prune: images that no container uses.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/client/images.h"
#include "cri/client/output.h"
#include "cri/client/values.h"

struct prune_options {
    bool all, force, dry_run;
    const char *older;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct prune_options, all, "all", 'a', OPTION_SWITCH, NULL,
               "those with a tag, too; else only those without one,\nlike images whose tag was moved on"),
    OPTION_ROW(struct prune_options, force, "force", 'f', OPTION_SWITCH, NULL, "don't ask"),
    OPTION_ROW(struct prune_options, dry_run, "dry-run", 'n', OPTION_SWITCH, NULL,
               "tell what would go, and remove nothing"),
    OPTION_ROW(struct prune_options, older, "older-than", 0, OPTION_TEXT, "TIME",
               "only those that were first pulled so long ago:\n24h"),
};
static const struct options table = {
    .command = "prune",
    .usage = "prune [-a] [-f] [--dry-run]",
    .intro = "Removes images that no container uses, and tells what space that frees. Pinned images\n"
             "stay.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

static int prune(struct cli *cli, Crisp__PruneRequest *request, Crisp__PruneResponse **response,
                 struct error *err)
{
    int rc = cli_call(cli, "Prune", &request->base, (ProtobufCMessage **)response, err);

    if (rc < 0 && err->status == STATUS_UNIMPLEMENTED)
        return error_set(err, STATUS_UNIMPLEMENTED, ENOSYS,
                         "this runtime can't prune (crispd can); use `crisp rmi`");
    return rc;
}

static void print_all(const Crisp__PruneResponse *r, const char *verb, FILE *out)
{
    char size[OUTPUT_TEXT_MAX];

    for (size_t i = 0; i < r->n_images; i++)
        (void)fprintf(out, "%s\n", images_name(r->images[i]));
    output_size(r->freed_bytes, size);
    (void)fflush(out);
    (void)fprintf(stderr, "crisp: %s %zu image%s, %s\n", verb, r->n_images, r->n_images == 1 ? "" : "s",
                  size);
}

// 1: yes.
static int ask(void)
{
    char answer[16];

    (void)fputs("Remove them? [y/N] ", stderr);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

// They stay the response's. NULL on ENOMEM.
static char **ids_of(const Crisp__PruneResponse *r)
{
    char **ids = calloc(r->n_images + 1, sizeof(*ids));

    for (size_t i = 0; ids && i < r->n_images; i++)
        ids[i] = r->images[i]->id;
    return ids;
}

static int run(struct cli *cli, const struct prune_options *o, Crisp__PruneRequest *request,
               struct error *err)
{
    _cleanup_message_ Crisp__PruneResponse *would = NULL, *did = NULL;

    if (!o->force) {
        request->dry_run = true;
        int rc = prune(cli, request, &would, err);
        if (rc < 0)
            return rc;
        print_all(would, "would remove", o->dry_run ? stdout : stderr);
        if (o->dry_run || would->n_images == 0)
            return 0;
        if (!isatty(STDIN_FILENO))
            return error_set(err, STATUS_FAILED_PRECONDITION, ENOTTY,
                             "nobody is there to be asked (stdin is no terminal): use --force");
        if (!ask())
            return error_set(err, STATUS_CANCELLED, ECANCELED, "nothing was removed");
    }
    request->dry_run = o->dry_run;
    // What was agreed to, and not what has become superfluous since.
    _cleanup_free_ char **only = would ? ids_of(would) : NULL;
    if (would && !only)
        return error_errno(err, ENOMEM, "prune");
    request->only = only;
    request->n_only = would ? would->n_images : 0;
    int rc = prune(cli, request, &did, err);
    if (rc == 0)
        print_all(did, o->dry_run ? "would remove" : "removed", stdout);
    return rc;
}

int command_prune(struct cli *cli, int argc, char **argv)
{
    struct prune_options o = {0};
    Crisp__PruneRequest request = CRISP__PRUNE_REQUEST__INIT;
    struct error err = ERROR_INIT;
    int64_t older_ns = 0;

    int code = cli_parse_nothing_into(&table, &o, argc, argv);
    if (code >= 0)
        return code;
    if (o.older && (value_duration(o.older, &older_ns) < 0 || older_ns <= 0))
        return options_bad(&table, "--older-than \"%s\": must be a time such as 24h or 90m", o.older);
    request.all = o.all;
    request.pulled_before = older_ns > 0 ? clock_wall_ns() - older_ns : 0;
    if (run(cli, &o, &request, &err) == 0)
        return 0;
    output_error("%s", err.message);
    return 1;
}
