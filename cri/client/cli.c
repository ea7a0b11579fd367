#include "cri/client/cli.h"

#include <stdio.h>

#include "base/clock.h"

#define REPEAT_NS (200 * NS_PER_MS)

bool cli_is_away(const struct error *err)
{
    // One that shuts down in good order calls off what it was asked.
    return err->status == STATUS_UNAVAILABLE || err->status == STATUS_CANCELLED ||
           err->status == STATUS_DEADLINE_EXCEEDED;
}

int cli_call(struct cli *cli, const char *rpc, const ProtobufCMessage *request, ProtobufCMessage **response,
             struct error *err)
{
    int64_t until = clock_mono_ns() + cli->patience_ns;
    struct ctx ctx = CTX_NONE;

    ctx.cancel_fd = cli->signal_fd;
    for (bool told = false;; told = true) {
        int rc = client_call(cli->client, &ctx, rpc, request, cli->timeout_ns, response, err);
        if (rc >= 0 || !cli_is_away(err) || clock_mono_ns() >= until)
            return rc;
        if (!told)
            (void)fprintf(stderr, "crisp: the runtime doesn't answer; waiting for it\n");
        struct ctx pause = ctx_with_timeout(&ctx, REPEAT_NS);
        (void)ctx_wait_fd(&pause, -1, 0, NULL);
        if (ctx_check(&ctx, NULL) < 0)
            return rc;
    }
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
    return cli_parse_nothing_into(table, NULL, argc, argv);
}

int cli_parse_nothing_into(const struct options *table, void *data, int argc, char **argv)
{
    char **words = NULL;
    int n = 0;
    int code = options_parse(table, data, argc, argv, &words, &n);

    return code >= 0 || n == 0 ? code : options_bad(table, "%s takes no \"%s\"", table->command, words[0]);
}
