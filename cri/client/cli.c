#include "cri/client/cli.h"

#include <getopt.h>
#include <stdio.h>

#include "cri/client/output.h"

int cli_call(struct cli *cli, const char *rpc, const ProtobufCMessage *request, ProtobufCMessage **response,
             struct error *err)
{
    struct ctx ctx = CTX_NONE;

    ctx.cancel_fd = cli->signal_fd;
    return client_call(cli->client, &ctx, rpc, request, cli->timeout_ns, response, err);
}

void cli_message_freep(void *message)
{
    ProtobufCMessage **m = message;

    if (*m)
        protobuf_c_message_free_unpacked(*m, NULL);
    *m = NULL;
}

int cli_parse_help(int argc, char **argv, const char *usage_text)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};

    int option =
        getopt_long(argc, argv, "+h", options, NULL); // NOLINT(concurrency-mt-unsafe): main thread only
    if (option == -1)
        return -1;
    if (option == 'h')
        (void)fputs(usage_text, stdout);
    return option == 'h' ? 0 : CLI_EXIT_USAGE;
}

int cli_parse_nothing(int argc, char **argv, const char *usage_text)
{
    int code = cli_parse_help(argc, argv, usage_text);

    if (code >= 0 || optind == argc)
        return code;
    output_error("%s takes no \"%s\"; try `crisp %s --help`", argv[0], argv[optind], argv[0]);
    return CLI_EXIT_USAGE;
}
