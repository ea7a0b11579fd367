// crisp exec: a command in a running container, without a terminal: ExecSync.
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/find.h"
#include "cri/client/output.h"

static const char usage_text[] =
    "Usage: crisp exec CONTAINER COMMAND [ARG…]\n"
    "\n"
    "Runs a command in a running container (by id, the beginning of one, or name), prints\n"
    "what it printed when it has ended, and ends with its exit code. The global --timeout,\n"
    "if given, is how long it may run: then it is killed.\n";

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
    int code = cli_parse_help(argc, argv, usage_text);

    if (code >= 0)
        return code;
    if (argc - optind < 2 || str_empty(argv[optind])) {
        output_error("exec needs a container and a command; try `crisp exec --help`");
        return CLI_EXIT_USAGE;
    }
    int rc = exec_sync(cli, argv[optind], argv + optind + 1, argc - optind - 1, &err);
    if (rc < 0) {
        output_error("%s", err.message);
        return CLI_EXIT_RUN_FAILED;
    }
    return rc;
}
