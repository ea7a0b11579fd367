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
