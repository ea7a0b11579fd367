// crisp stop: containers, and the pods that `crisp run` made for them.
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/end.h"
#include "cri/client/find.h"
#include "cri/client/options.h"
#include "cri/client/run_config.h"

struct stop_options {
    const char *time;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct stop_options, time, "time", 't', OPTION_TEXT, "SECONDS",
               "until it is killed (what --stop-timeout of\n`crisp run` said, else 10)"),
};
static const struct options table = {
    .command = "stop",
    .usage = "stop [-t SECONDS] CONTAINER…",
    .intro = "Stops containers (by name, id or the beginning of one): their stop signal, and\n"
             "SIGKILL when they haven't ended by then. The pod of a container of `crisp run` is\n"
             "stopped with it, and removed if it was run with --rm.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

static int stop(struct cli *cli, const Cri__Container *c, void *data, struct error *err)
{
    int rc = end_stop(cli, c, *(const int64_t *)data, err);

    return rc == 0 && str_eq(find_label(c, RUN_LABEL_REMOVE), "true") ? end_remove(cli, c, err) : rc;
}

int command_stop(struct cli *cli, int argc, char **argv)
{
    struct stop_options o = {0};
    char **names = NULL;
    int64_t grace_s = -1;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &names, &n);
    if (code >= 0)
        return code;
    if (o.time && str_parse_i64(o.time, 0, 86400, &grace_s) < 0)
        return options_bad(&table, "--time \"%s\": must be a number of seconds from 0 to 86400", o.time);
    if (n == 0)
        return options_bad(&table, "stop needs a container");
    return end_each(cli, names, stop, &grace_s);
}
