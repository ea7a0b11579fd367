// crispd: options, process-wide settings, and the order of start and stop.
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/nofile.h"
#include "cri/config.h"
#include "cri/daemon.h"
#include "cri/notify.h"
#include "cri/rpc.h"
#include "cri/server.h"
#include "image/image.h"

// What calls get beyond the grace period to notice that they were cancelled.
#define STOP_LIMIT_NS (10 * NS_PER_SEC)

enum action {
    ACTION_RUN,
    ACTION_CHECK,
    ACTION_PRINT,
    ACTION_PRINT_KEYS,
    ACTION_VERIFY,
    ACTION_HELP,
    ACTION_VERSION
};

struct options {
    enum action action;
    struct config_source source;
};

static void print_help(FILE *out)
{
    (void)fprintf(
        out, "Usage: crispd [OPTION]...\n"
             "crisp's daemon: a Kubernetes container runtime (CRI v1) on a Unix socket.\n"
             "\n"
             "      --config FILE      read FILE instead of " CONFIG_FILE_DEFAULT "\n"
             "      --config-dir DIR   then read DIR/*.yaml, by name; without --config the default is\n"
             "                         " CONFIG_DIR_DEFAULT "\n"
             "      --check-config     tell whether the configuration is valid, and end\n"
             "      --print-config     print the configuration in force, with every key, and end\n"
             "      --verify-images    read all images and compare them with what was unpacked, and end;\n"
             "                         damaged ones are to be pulled again. The daemon must not run\n"
             "  -h, --help             print this, and end\n"
             "  -V, --version          print the version, and end\n"
             "\n"
             "SIGTERM and SIGINT stop the daemon; pods and containers run on and are found again at\n"
             "the next start. A second signal ends it at once. All keys: docs/configuration.md\n");
}

// 0, or -EINVAL after a message.
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { OPT_CONFIG = 256, OPT_CONFIG_DIR, OPT_CHECK, OPT_PRINT, OPT_PRINT_KEYS, OPT_VERIFY };
    static const struct option known[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"config-dir", required_argument, NULL, OPT_CONFIG_DIR},
        {"check-config", no_argument, NULL, OPT_CHECK},
        {"print-config", no_argument, NULL, OPT_PRINT},
        {"print-keys", no_argument, NULL, OPT_PRINT_KEYS}, // for docs/configuration.md
        {"verify-images", no_argument, NULL, OPT_VERIFY},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;
    *o = (struct options){.action = ACTION_RUN};
    while ((c = getopt_long(argc, argv, "hV", known, NULL)) != -1) {
        switch (c) {
        case OPT_CONFIG:
            o->source.file = optarg;
            break;
        case OPT_CONFIG_DIR:
            o->source.dir = optarg;
            o->source.dir_must_exist = true;
            break;
        case OPT_CHECK:
            o->action = ACTION_CHECK;
            break;
        case OPT_PRINT:
            o->action = ACTION_PRINT;
            break;
        case OPT_PRINT_KEYS:
            o->action = ACTION_PRINT_KEYS;
            break;
        case OPT_VERIFY:
            o->action = ACTION_VERIFY;
            break;
        case 'h':
            o->action = ACTION_HELP;
            break;
        case 'V':
            o->action = ACTION_VERSION;
            break;
        default:
            (void)fprintf(stderr, "Try 'crispd --help'.\n");
            return -EINVAL;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "crispd: unexpected argument '%s'\nTry 'crispd --help'.\n", argv[optind]);
        return -EINVAL;
    }
    if (!o->source.file && !o->source.dir)
        o->source.dir = CONFIG_DIR_DEFAULT;
    return 0;
}

static int print_keys(void)
{
    struct buf out;
    buf_init(&out, 1u << 20);
    int rc = config_print_keys(&out);
    if (rc == 0)
        (void)fputs(out.data, stdout);
    buf_done(&out);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_config(const struct config *config)
{
    struct buf out;
    buf_init(&out, 4u << 20);
    int rc = config_print(config, &out);
    if (rc == 0)
        (void)fputs(out.data, stdout);
    buf_done(&out);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

static struct config *read_config(const struct config_source *source)
{
    struct config_problems problems;
    struct config *config = NULL;
    config_problems_init(&problems);
    if (config_load(source, &config, &problems) != 0)
        (void)fprintf(stderr, "%scrispd: %zu problem%s in the configuration\n",
                      problems.text.data ? problems.text.data : "", problems.n, problems.n == 1 ? "" : "s");
    config_problems_done(&problems);
    return config;
}

// Descriptors 0 to 2 open, so that no file of ours ever gets their numbers.
static void open_standard_fds(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR); // NOLINT(android-cloexec-open): 0 to 2 are meant to be inherited
    } while (fd >= 0 && fd <= 2);
    if (fd > 2)
        (void)close(fd);
}

// The signals that stop the daemon are taken by the main thread alone; every other thread inherits the block.
static void set_up_process(sigset_t *stop_signals)
{
    // glibc would keep what large lists took for ever: measured 11 MB of heap after some lists of 16 MiB,
    // 4 MB with these. Two arenas are enough for threads that mostly wait.
    (void)mallopt(M_TRIM_THRESHOLD, 128 << 10);
    (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
    (void)mallopt(M_TOP_PAD, 64 << 10);
    (void)mallopt(M_ARENA_MAX, 2);
    open_standard_fds();
    nofile_raise();
    (void)umask(0022);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN); // a closed terminal is no reason to stop; there is nothing to reload
    sigemptyset(stop_signals);
    sigaddset(stop_signals, SIGTERM);
    sigaddset(stop_signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, stop_signals, NULL);
}

static void exit_now(int sig)
{
    _exit(128 + sig);
}

// Takes the first signal; from then on another one ends the process at once.
static int wait_for_stop(const sigset_t *stop_signals)
{
    int sig;
    while (sigwait(stop_signals, &sig) != 0)
        continue;
    struct sigaction action = {.sa_handler = exit_now};
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)pthread_sigmask(SIG_UNBLOCK, stop_signals, NULL);
    return sig;
}

static int serve(struct server *server, struct daemon *daemon, const sigset_t *stop_signals)
{
    struct error err = ERROR_INIT;
    const struct config *config = daemon->config;
    if (server_start(server, &err) != 0) {
        log_error("crispd can't serve", "error", err.message);
        return EXIT_FAILURE;
    }
    log_info("crispd is ready", "version", CRISP_VERSION, "socket", config->socket, "root", config->root);
    notify_systemd("READY=1");
    int sig = wait_for_stop(stop_signals);
    log_info("crispd stops; containers run on", "signal", sig == SIGTERM ? "SIGTERM" : "SIGINT");
    notify_systemd("STOPPING=1");
    if (server_stop(server, config->shutdown_grace_ns, STOP_LIMIT_NS, daemon_shutdown, daemon, &err) != 0) {
        // What a call holds can't be freed under it. All that matters is recorded, so just leave.
        log_error("crispd leaves a call behind", "error", err.message);
        _exit(EXIT_FAILURE);
    }
    return EXIT_SUCCESS;
}

// 0: all is whole; 1: there is damage; 2: it could not be told.
static int verify_images(const struct config *config)
{
    struct error err = ERROR_INIT;
    struct image_verified v;
    log_setup((enum log_level)config->log_level, (enum log_format)config->log_format);
    if (daemon_verify_images(config, &v, &err) != 0) {
        (void)fprintf(stderr, "crispd: can't verify the images: %s\n", err.message);
        return 2;
    }
    (void)printf("%zu layers read: %zu damaged, %zu without a checksum until now\n", v.layers, v.damaged,
                 v.unknown);
    (void)printf("%zu images: %zu to be pulled again\n", v.images, v.damaged_images);
    return v.damaged > 0 || v.damaged_images > 0 ? 1 : 0;
}

static int run(const struct config *config, const sigset_t *stop_signals)
{
    struct error err = ERROR_INIT;
    struct daemon daemon;
    struct server *server = NULL;
    log_setup((enum log_level)config->log_level, (enum log_format)config->log_format);
    if (daemon_open(&daemon, config, &err) != 0) {
        log_error("crispd can't start", "error", err.message);
        return EXIT_FAILURE;
    }
    struct server_options options = {.socket_path = config->socket,
                                     .max_connections = (size_t)config->max_connections,
                                     .table = rpc_table,
                                     .table_len = rpc_table_len,
                                     .daemon = &daemon};
    int status = EXIT_FAILURE;
    if (server_new(&options, &server, &err) != 0)
        log_error("crispd can't start", "error", err.message);
    else
        status = serve(server, &daemon, stop_signals);
    server_free(server);
    daemon_close(&daemon);
    if (status == EXIT_SUCCESS)
        log_info("crispd has stopped");
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    sigset_t stop_signals;
    if (parse_options(argc, argv, &options) != 0)
        return 2;
    if (options.action == ACTION_HELP) {
        print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (options.action == ACTION_VERSION) {
        (void)printf("crispd %s (CRI runtime.v1)\n", CRISP_VERSION);
        return EXIT_SUCCESS;
    }
    if (options.action == ACTION_PRINT_KEYS)
        return print_keys();
    _cleanup_(config_freep) struct config *config = read_config(&options.source);
    if (!config)
        return EXIT_FAILURE;
    if (options.action == ACTION_CHECK) {
        (void)printf("The configuration is valid.\n");
        return EXIT_SUCCESS;
    }
    if (options.action == ACTION_PRINT)
        return print_config(config);
    set_up_process(&stop_signals);
    if (options.action == ACTION_VERIFY)
        return verify_images(config);
    return run(config, &stop_signals);
}
