// crisp: a small client for any CRI runtime.
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/client/cli.h"
#include "cri/client/output.h"

#define TIMEOUT_DEFAULT_S 120
#define TIMEOUT_MAX_S     86400

static const char usage_text[] =
    "Usage: crisp [OPTION…] COMMAND …\n"
    "\n"
    "Talks to a Kubernetes container runtime (CRI v1): crispd, or any other.\n"
    "\n"
    "Commands:\n"
    "  run [OPTION…] IMAGE [ARG…]\n"
    "              run a container in a pod of its own: docker's options\n"
    "  stop [-t SECONDS] CONTAINER…\n"
    "  rm [-f] CONTAINER…\n"
    "              stop and remove containers, and the pods of `crisp run`\n"
    "  logs [-f] CONTAINER\n"
    "              print what a container has written\n"
    "  exec CONTAINER COMMAND [ARG…]\n"
    "              run a command in a running container\n"
    "  update OPTION… CONTAINER…\n"
    "              change limits of containers\n"
    "  top         show what containers use, live\n"
    "  stats [--no-stream] [-o json]\n"
    "              print what containers use\n"
    "  ps [-a]     list the containers that run (-a: all)\n"
    "  inspect [--info] CONTAINER\n"
    "              tell about a container and its pod\n"
    "  pull IMAGE…\n"
    "              fetch images\n"
    "  images      list the images\n"
    "  rmi IMAGE…  remove images\n"
    "  prune [-a]  remove images that no container uses\n"
    "  import FILE…\n"
    "              take images from archives\n"
    "  export -o FILE IMAGE…\n"
    "              write images as one archive\n"
    "  info        tell about the runtime and whether it is ready\n"
    "\n"
    "Options:\n"
    "  --endpoint ADDRESS   the runtime's socket: unix:///path\n"
    "                       (or the environment's CRISP_ENDPOINT;\n"
    "                       " CLIENT_DEFAULT_ENDPOINT ")\n"
    "  --timeout SECONDS    of each call, 1 to 86400 (120; a pull has none unless given)\n"
    "  --help, --version\n"
    "\n"
    "`crisp COMMAND --help` tells more.\n";

static const struct {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv);
    bool own_signals; // takes SIGINT and SIGTERM itself
} commands[] = {
    {"run", command_run, true},          {"logs", command_logs, false},     {"stop", command_stop, false},
    {"rm", command_rm, false},           {"exec", command_exec, false},     {"update", command_update, false},
    {"top", command_top, true},          {"stats", command_stats, true},    {"ps", command_ps, false},
    {"inspect", command_inspect, false}, {"images", command_images, false}, {"info", command_info, false},
    {"pull", command_pull, false},       {"rmi", command_rmi, false},       {"prune", command_prune, false},
    {"import", command_import, false},   {"export", command_export, false},
};

enum { OPTION_ENDPOINT = 256, OPTION_TIMEOUT, OPTION_VERSION };

static const struct option global_options[] = {
    {"endpoint", required_argument, NULL, OPTION_ENDPOINT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

// -1: go on; else the exit code.
static int parse_options(struct cli *cli, int argc, char **argv)
{
    int option;

    // "+": what follows the command is the command's.
    while ((option = getopt_long(argc, argv, "+h", global_options, NULL)) !=
           -1) { // NOLINT(concurrency-mt-unsafe)
        uint64_t seconds;
        switch (option) {
        case OPTION_ENDPOINT:
            cli->endpoint = optarg;
            break;
        case OPTION_TIMEOUT:
            if (str_parse_u64(optarg, 1, TIMEOUT_MAX_S, &seconds) < 0) {
                output_error("--timeout %s: must be a number of seconds from 1 to %d", optarg, TIMEOUT_MAX_S);
                return CLI_EXIT_USAGE;
            }
            cli->timeout_ns = (int64_t)seconds * NS_PER_SEC;
            cli->timeout_given = true;
            break;
        case OPTION_VERSION:
            (void)printf("crisp %s\n", CRISP_VERSION);
            return 0;
        case 'h':
            (void)fputs(usage_text, stdout);
            return 0;
        default:
            (void)fputs("Try `crisp --help`.\n", stderr);
            return CLI_EXIT_USAGE;
        }
    }
    return -1;
}

// Before gRPC starts its threads: they inherit the mask.
static int block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run_command(struct cli *cli, size_t command, int argc, char **argv)
{
    struct error err = ERROR_INIT;

    if (commands[command].own_signals) {
        cli->signal_fd = block_signals();
        if (cli->signal_fd < 0) {
            output_error("block signals: %s", strerrordesc_np(errno));
            return 1;
        }
    }
    if (client_new(cli->endpoint, &cli->client, &err) < 0) {
        output_error("%s", err.message);
        return CLI_EXIT_USAGE;
    }
    int code = commands[command].run(cli, argc, argv);
    client_free(cli->client);
    fd_closep(&cli->signal_fd);
    if (fflush(stdout) != 0 && code == 0) {
        output_error("write to stdout: %s", strerrordesc_np(errno));
        return 1;
    }
    return code;
}

int main(int argc, char **argv)
{
    struct cli cli = {.signal_fd = -1, .timeout_ns = TIMEOUT_DEFAULT_S * NS_PER_SEC};
    const char *env = getenv("CRISP_ENDPOINT"); // NOLINT(concurrency-mt-unsafe): no threads yet

    cli.endpoint = str_empty(env) ? CLIENT_DEFAULT_ENDPOINT : env;
    (void)signal(SIGPIPE, SIG_IGN); // a closed stdout is an error of write(2), dealt with where it happens
    int code = parse_options(&cli, argc, argv);
    if (code >= 0)
        return code;
    if (optind == argc) {
        (void)fputs(usage_text, stderr);
        return CLI_EXIT_USAGE;
    }
    char **words = argv + optind;
    int n_words = argc - optind;
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (str_eq(words[0], commands[i].name)) {
            optind = 0; // GNU: start anew, with the command's own options
            return run_command(&cli, i, n_words, words);
        }
    }
    output_error("there is no command \"%s\"; try `crisp --help`", words[0]);
    return CLI_EXIT_USAGE;
}
