// The command line: what all commands share.
#ifndef CRI_CLIENT_CLI_H
#define CRI_CLIENT_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "cri/client/client.h"
#include "cri/client/options.h"

#define CLI_EXIT_USAGE 2
// `crisp run` ends with the container's code; its own troubles are this one.
#define CLI_EXIT_RUN_FAILED 125
#define CLI_STOP_GRACE_S    10 // until a container that is to stop is killed

struct cli {
    const char *endpoint;
    int64_t timeout_ns; // of one call
    bool timeout_given; // by the user: then it bounds pulls, too
    // How long a call is repeated while the runtime doesn't answer: for commands whose calls may all be
    // repeated. 0: not at all.
    int64_t patience_ns;
    struct client *client;
    int signal_fd; // SIGINT and SIGTERM, which are blocked; -1 where they end the program as usual
};

// The failure is that the runtime is away, shuts down or is too busy, not that it said no.
bool cli_is_away(const struct error *err);
// One unary call within the time-out (each attempt, if there is patience); a signal calls it off.
int cli_call(struct cli *cli, const char *rpc, const ProtobufCMessage *request, ProtobufCMessage **response,
             struct error *err);

// For commands without options and arguments: an exit code if --help or a mistake is all there is to do, else
// -1.
int cli_parse_nothing(const struct options *table, int argc, char **argv);
// The same with options, which go into data.
int cli_parse_nothing_into(const struct options *table, void *data, int argc, char **argv);

// Each gets the words after the global options, its own name first, and returns the exit code.
int command_run(struct cli *cli, int argc, char **argv);
int command_exec(struct cli *cli, int argc, char **argv);
int command_inspect(struct cli *cli, int argc, char **argv);
int command_ps(struct cli *cli, int argc, char **argv);
int command_pull(struct cli *cli, int argc, char **argv);
int command_rmi(struct cli *cli, int argc, char **argv);
int command_prune(struct cli *cli, int argc, char **argv);
int command_export(struct cli *cli, int argc, char **argv);
int command_import(struct cli *cli, int argc, char **argv);
int command_images(struct cli *cli, int argc, char **argv);
int command_stop(struct cli *cli, int argc, char **argv);
int command_rm(struct cli *cli, int argc, char **argv);
int command_update(struct cli *cli, int argc, char **argv);
int command_logs(struct cli *cli, int argc, char **argv);
int command_top(struct cli *cli, int argc, char **argv);
int command_stats(struct cli *cli, int argc, char **argv);
int command_info(struct cli *cli, int argc, char **argv);

#define _cleanup_message_ __attribute__((cleanup(cli_message_freep)))
void cli_message_freep(void *message); // ProtobufCMessage ** or any message struct **

#endif
