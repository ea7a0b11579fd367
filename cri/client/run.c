// crisp run: a container in a pod of its own.
#include "cri/client/run.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/output.h"

extern char **environ;

// "registry:5000/library/busybox:1.36@sha256:…" -> "busybox-3f9a1c": fit for a host name.
static char *make_up_name(const char *image, const char *label)
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
    return str_printf("%s-%.6s", n ? base : "run", label);
}

// docker's rule. It is a host name, too, and a person's word for an id.
static bool is_name(const char *name)
{
    if (!isalnum((unsigned char)name[0]) || strlen(name) > 128)
        return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
            return false;
    return true;
}

// -1: go on; else the exit code.
static int parse(struct run *r, int argc, char **argv)
{
    char **words = NULL;
    int n = 0;
    const struct run_options *o = &r->options;

    int code = options_parse(&run_options_table, &r->options, argc, argv, &words, &n);
    if (code >= 0)
        return code;
    if (n == 0 || str_empty(words[0]))
        return options_bad(&run_options_table, "run needs an image");
    if (o->name && !is_name(o->name))
        return options_bad(
            &run_options_table,
            "--name \"%s\": must be letters, digits, \"_\", \".\" and \"-\", beginning with one "
            "of the former, 128 at most",
            o->name);
    if (o->pull && !str_eq(o->pull, "missing") && !str_eq(o->pull, "always") && !str_eq(o->pull, "never"))
        return options_bad(&run_options_table, "--pull \"%s\": must be missing, always or never", o->pull);
    r->image = words[0];
    r->args = words + 1;
    return -1;
}

// A signal that came while things were being made has called the RPC off: end as it would have.
static int pending_signal(const struct cli *cli)
{
    struct signalfd_siginfo info;

    return read(cli->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

// Nobody else removes it: with --detach --rm a process of ours waits for the end.
static int leave_remover(const struct run *r)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid;
    char *words[] = {(char *)"crisp",
                     (char *)"--endpoint",
                     (char *)r->cli->endpoint,
                     (char *)"rm",
                     (char *)"--wait",
                     r->container_id,
                     NULL};

    sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attr);
    for (int fd = 0; fd < 3; fd++)
        (void)posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    (void)posix_spawn_file_actions_addchdir_np(&files, "/");
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    int rc = posix_spawn(&pid, "/proc/self/exe", &files, &attr, words, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&files);
    if (rc)
        output_error("--rm: start what removes it: %s; `crisp stop %s` removes it, too", strerrordesc_np(rc),
                     r->name);
    return rc ? CLI_EXIT_RUN_FAILED : 0;
}

static int detach(const struct run *r)
{
    (void)printf("%s\n", r->container_id);
    return r->options.remove ? leave_remover(r) : 0;
}

static int run_it(struct run *r)
{
    struct error err = ERROR_INIT;
    int code = CLI_EXIT_RUN_FAILED;

    int rc = run_make(r, &err);
    if (rc == 0 && r->options.detach)
        return detach(r);
    if (rc < 0)
        code = r->start_code;
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

static int prepare(struct run *r)
{
    struct error err = ERROR_INIT;

    int rc = str_random_hex(r->label, sizeof(r->label) - 1);
    if (rc == 0)
        r->name = r->options.name ? strdup(r->options.name) : make_up_name(r->image, r->label);
    r->pod_uid = r->name ? str_printf("crisp-run-%s", r->name) : NULL;
    if (rc < 0 || !r->pod_uid) {
        output_error("make up a name: %s", strerrordesc_np(rc ? -rc : ENOMEM));
        return -1;
    }
    rc = run_config_make(&r->config, &r->options, r->name, r->pod_uid, r->label, r->image, r->args, &err);
    if (rc < 0)
        output_error("%s", err.message);
    return rc;
}

// The file is made before anything else, so that nothing else has been made when that fails.
static int run_with_cidfile(struct run *r)
{
    const char *path = r->options.cidfile;

    if (!path)
        return run_it(r);
    r->cid_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (r->cid_fd < 0 && errno == EEXIST)
        output_error("--cidfile %s: exists: remove it if its container isn't needed any more", path);
    else if (r->cid_fd < 0)
        output_error("--cidfile %s: %s", path, strerrordesc_np(errno));
    if (r->cid_fd < 0)
        return CLI_EXIT_RUN_FAILED;
    int code = run_it(r);
    if (!r->started)
        (void)unlink(path);
    fd_closep(&r->cid_fd);
    return code;
}

int command_run(struct cli *cli, int argc, char **argv)
{
    struct run r = {.cli = cli, .cid_fd = -1, .start_code = CLI_EXIT_RUN_FAILED};

    int code = parse(&r, argc, argv);
    if (code < 0)
        code = prepare(&r) == 0 ? run_with_cidfile(&r) : CLI_EXIT_RUN_FAILED;
    run_config_done(&r.config);
    run_options_done(&r.options);
    free(r.name);
    free(r.pod_uid);
    free(r.log_dir);
    free(r.pod_id);
    free(r.container_id);
    return code;
}
