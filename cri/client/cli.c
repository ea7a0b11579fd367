#include "cri/client/cli.h"

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

int cli_parse_nothing(const struct options *table, int argc, char **argv)
{
    char **words = NULL;
    int n = 0;
    int code = options_parse(table, NULL, argc, argv, &words, &n);

    return code >= 0 || n == 0 ? code : options_bad(table, "%s takes no \"%s\"", table->command, words[0]);
}
