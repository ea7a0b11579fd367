// crisp run: a container in a pod of its own, in the foreground.
#include "cri/client/run.h"

#include <ctype.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/output.h"

static const char usage_text[] =
    "Usage: crisp run [--rm] [-e K=V]… [--name N] IMAGE [ARG…]\n"
    "\n"
    "Runs a container in a pod of its own, passes its output on and ends with its exit\n"
    "code (128 + n for signal n; 125: it couldn't be run). The image is pulled if it is\n"
    "absent. SIGINT and SIGTERM stop the container, a second one kills it.\n"
    "\n"
    "  --rm             remove the container, its pod and its log afterwards\n"
    "  -e, --env K=V    set an environment variable; K alone takes crisp's own\n"
    "  --name N         of the pod and the container (one is made up)\n"
    "  ARG…             instead of the image's command, as arguments of its entrypoint\n"
    "\n"
    "The runtime writes the log into a folder that is made in $CRISP_LOG_DIR, else (as\n"
    "root) in /var/log/crisp, else in $TMPDIR or /tmp: the runtime must see it, too.\n";

static int add_env(struct run *r, const char *text)
{
    _cleanup_free_ char *pair = NULL;

    if (*text == '=' || *text == '\0') {
        output_error("-e \"%s\": must be NAME=VALUE, or the NAME of a variable of crisp's own", text);
        return -EINVAL;
    }
    if (!strchr(text, '=')) {
        const char *value = getenv(text); // NOLINT(concurrency-mt-unsafe): nobody sets any
        if (!value) {
            output_error("-e %s: there is no such variable to take the value from", text);
            return -EINVAL;
        }
        pair = str_printf("%s=%s", text, value);
        if (!pair)
            return -ENOMEM;
    }
    return strv_append(&r->env, pair ? pair : text);
}

// "registry:5000/library/busybox:1.36@sha256:…" -> "busybox-3f9a1c": fit for a host name.
static char *make_up_name(const char *image, const char *uid)
{
    char base[41];
    size_t n = 0;
    size_t len = strcspn(image, "@");

    while (len > 0 && memchr(image, '/', len)) {
        size_t skip = strcspn(image, "/") + 1;
        image += skip;
        len -= skip;
    }
    for (size_t i = 0; i < len && image[i] != ':' && n + 1 < sizeof(base); i++)
        base[n++] = isalnum((unsigned char)image[i]) ? (char)tolower((unsigned char)image[i]) : '-';
    base[n] = '\0';
    return str_printf("%s-%.6s", n ? base : "run", uid);
}

// -1: go on; else the exit code.
static int parse(struct run *r, int argc, char **argv)
{
    static const struct option options[] = {{"rm", no_argument, NULL, 'r'},
                                            {"env", required_argument, NULL, 'e'},
                                            {"name", required_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "+e:h", options, NULL)) != -1) { // NOLINT(concurrency-mt-unsafe)
        switch (option) {
        case 'r':
            r->remove = true;
            break;
        case 'e':
            if (add_env(r, optarg) < 0)
                return CLI_EXIT_USAGE;
            break;
        case 'n':
            free(r->name);
            r->name = strdup(optarg);
            break;
        case 'h':
            (void)fputs(usage_text, stdout);
            return 0;
        default:
            (void)fputs("Try `crisp run --help`.\n", stderr);
            return CLI_EXIT_USAGE;
        }
    }
    if (optind == argc || str_empty(argv[optind])) {
        output_error("run needs an image; try `crisp run --help`");
        return CLI_EXIT_USAGE;
    }
    r->image = argv[optind];
    r->args = argv + optind + 1;
    if (r->name && str_empty(r->name)) {
        output_error("--name must not be empty");
        return CLI_EXIT_USAGE;
    }
    return -1;
}

// A signal that came while things were being made has called the RPC off: end as it would have.
static int pending_signal(const struct cli *cli)
{
    struct signalfd_siginfo info;

    return read(cli->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

static int run_it(struct run *r)
{
    struct error err = ERROR_INIT;
    int code = CLI_EXIT_RUN_FAILED;

    int rc = run_make(r, &err);
    if (rc == 0) {
        rc = run_follow(r, &err);
        code = rc >= 0 ? rc : CLI_EXIT_RUN_FAILED;
    }
    if (rc < 0) {
        int signo = rc == -ECANCELED ? pending_signal(r->cli) : 0;
        if (signo)
            code = 128 + signo;
        else if (rc == -EPIPE)
            code = 128 + SIGPIPE;
        else
            output_error("%s", err.message);
    }
    if (run_clean_up(r) < 0 && code == 0)
        code = CLI_EXIT_RUN_FAILED;
    return code;
}

int command_run(struct cli *cli, int argc, char **argv)
{
    struct run r = {.cli = cli};

    int code = parse(&r, argc, argv);
    if (code < 0) {
        code = CLI_EXIT_RUN_FAILED;
        int rc = str_random_hex(r.uid, sizeof(r.uid) - 1);
        if (rc == 0 && !r.name)
            r.name = make_up_name(r.image, r.uid);
        if (rc == 0 && r.name)
            code = run_it(&r);
        else
            output_error("make up a name: %s", strerrordesc_np(rc ? -rc : ENOMEM));
    }
    strv_free(r.env);
    free(r.name);
    free(r.log_dir);
    free(r.pod_id);
    free(r.container_id);
    return code;
}
