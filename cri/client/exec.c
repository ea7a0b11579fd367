// crisp exec: a command in a running container, without a terminal: ExecSync.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/find.h"
#include "cri/client/output.h"

static const struct option_hint hints[] = {
    {"d", "`crisp exec` waits for the command"},
    {"e", "execute `env K=V COMMAND`"},
    {"env", "execute `env K=V COMMAND`"},
    {"i", "there is no standard input; `crictl exec -i` has it, where the runtime can"},
    {"interactive", "there is no standard input; `crictl exec -i` has it, where the runtime can"},
    {"t", "there is no terminal; `crictl exec -t` has one, where the runtime can"},
    {"tty", "there is no terminal; `crictl exec -t` has one, where the runtime can"},
};
static const struct options table = {
    .command = "exec",
    .usage = "exec CONTAINER COMMAND [ARG…]",
    .intro = "Runs a command in a running container (by name, id or the beginning of one), prints\n"
             "what it printed when it has ended, and ends with its exit code. The global --timeout,\n"
             "if given, is how long it may run: then it is killed.\n",
    .hints = hints,
    .n_hints = ARRAY_SIZE(hints),
    .stops_at_word = true,
    .bad_code = CLI_EXIT_USAGE,
};

static int exec_sync(struct cli *cli, const char *container, char **command, int n, struct error *err)
{
    _cleanup_message_ Cri__ExecSyncResponse *response = NULL;
    _cleanup_free_ char *id = NULL;
    Cri__ExecSyncRequest request = CRI__EXEC_SYNC_REQUEST__INIT;

    int rc = find_container(cli, container, &id, err);
    if (rc < 0)
        return rc;
    request.container_id = id;
    request.cmd = command;
    request.n_cmd = (size_t)n;
    if (cli->timeout_given)
        request.timeout = cli->timeout_ns / NS_PER_SEC;
    // The runtime's time-out is to come first: it is the one that kills the command.
    cli->timeout_ns = cli->timeout_given ? cli->timeout_ns + 10 * NS_PER_SEC : 0;
    rc = cli_call(cli, "ExecSync", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return rc;
    (void)fwrite(response->stdout.data, 1, response->stdout.len, stdout);
    (void)fflush(stdout);
    (void)fwrite(response->stderr.data, 1, response->stderr.len, stderr);
    return response->exit_code & 0xff;
}

int command_exec(struct cli *cli, int argc, char **argv)
{
    struct error err = ERROR_INIT;
    char **words = NULL;
    int n = 0;

    int code = options_parse(&table, NULL, argc, argv, &words, &n);
    if (code >= 0)
        return code;
    if (n < 2 || str_empty(words[0]))
        return options_bad(&table, "exec needs a container and a command");
    int rc = exec_sync(cli, words[0], words + 1, n - 1, &err);
    if (rc < 0) {
        output_error("%s", err.message);
        return CLI_EXIT_RUN_FAILED;
    }
    return rc;
}
