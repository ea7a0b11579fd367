// crisp rm: containers, and what `crisp run` made for them.
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/client/end.h"
#include "cri/client/options.h"

#define WAIT_MAX_NS (2 * NS_PER_SEC) // between two questions
#define WAIT_MIN_NS (50 * NS_PER_MS)
#define AWAY_CALLS  5 // time-outs (10 minutes) without a runtime: nobody else removes what ended meanwhile

struct rm_options {
    bool force, wait;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct rm_options, force, "force", 'f', OPTION_SWITCH, NULL,
               "those that run, too: they are killed"),
    OPTION_ROW(struct rm_options, wait, "wait", 0, OPTION_SWITCH, NULL, "wait until they have ended"),
};
static const struct options table = {
    .command = "rm",
    .usage = "rm [-f] CONTAINER…",
    .intro = "Removes containers (by name, id or the beginning of one) that have ended. One that\n"
             "`crisp run` made goes with its pod and its log.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

// 1: it runs; 0: it doesn't, or is gone. A runtime that is away has been waited for.
static int runs(struct cli *cli, const char *id, struct error *err)
{
    _cleanup_message_ Cri__ContainerStatusResponse *response = NULL;
    Cri__ContainerStatusRequest request = CRI__CONTAINER_STATUS_REQUEST__INIT;

    request.container_id = (char *)id;
    int rc = cli_call(cli, "ContainerStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return err->status == STATUS_NOT_FOUND ? 0 : rc;
    return response->status && response->status->state == CRI__CONTAINER_STATE__CONTAINER_RUNNING;
}

static int wait_for_end(struct cli *cli, const char *id, struct error *err)
{
    int64_t pause_ns = WAIT_MIN_NS;

    for (;;) {
        int rc = runs(cli, id, err);
        if (rc <= 0)
            return rc;
        struct ctx pause = ctx_with_timeout(NULL, pause_ns);
        (void)ctx_wait_fd(&pause, -1, 0, NULL);
        pause_ns = pause_ns * 2 < WAIT_MAX_NS ? pause_ns * 2 : WAIT_MAX_NS;
    }
}

static int remove_one(struct cli *cli, const Cri__Container *c, void *data, struct error *err)
{
    const struct rm_options *o = data;
    int rc = 0;

    if (o->wait) {
        rc = wait_for_end(cli, c->id, err);
    } else if (c->state == CRI__CONTAINER_STATE__CONTAINER_RUNNING) {
        if (!o->force)
            return error_set(err, STATUS_FAILED_PRECONDITION, EBUSY,
                             "container %s (%.12s) runs: stop it first (`crisp stop`), or use `crisp rm -f`",
                             c->metadata ? c->metadata->name : "", c->id);
        rc = end_stop(cli, c, 0, err);
    }
    return rc < 0 ? rc : end_remove(cli, c, err);
}

int command_rm(struct cli *cli, int argc, char **argv)
{
    struct rm_options o = {0};
    char **names = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &names, &n);
    if (code >= 0)
        return code;
    if (n == 0)
        return options_bad(&table, "rm needs a container");
    if (o.wait) // all that it asks for may be asked again
        cli->patience_ns = AWAY_CALLS * cli->timeout_ns;
    return end_each(cli, names, remove_one, &o);
}
