// Starting and ending crisp-pull.
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/spawn.h"
#include "base/str.h"
#include "image/store_pull.h"

#define END_TIMEOUT_MS 2000

// Proxies are the environment's business, too, but their URLs may hold a password: they go by the socket.
static char **pull_environment(void)
{
    static const char *const passed[] = {"SSL_CERT_FILE", "SSL_CERT_DIR"};
    char **env = strv_new(1, "PATH=/usr/bin:/bin");

    for (size_t i = 0; env && i < ARRAY_SIZE(passed); i++) {
        const char *value = getenv(passed[i]);
        _cleanup_free_ char *line = value ? str_printf("%s=%s", passed[i], value) : NULL;

        if (value && (!line || strv_append(&env, line) < 0))
            strv_freep(&env);
    }
    return env;
}

int pull_program_start(const struct image_store *s, struct pull_program *p, struct error *err)
{
    _cleanup_strv_ char **env = pull_environment();
    _cleanup_fd_ int theirs = -1;
    char *argv[] = {(char *)"crisp-pull", NULL};
    int pair[2];

    if (!env)
        return error_errno(err, ENOMEM, "start crisp-pull");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "start crisp-pull");
    p->sock = pair[0];
    theirs = pair[1];
    const struct spawn_fd fds[] = {{STDERR_FILENO, STDERR_FILENO}, {theirs, 3}};
    const struct spawn_options o = {.path = s->crisp_pull_path,
                                    .argv = argv,
                                    .envp = env,
                                    .fds = fds,
                                    .n_fds = ARRAY_SIZE(fds),
                                    .new_session = true};
    p->pid = spawn_start(&o, &p->pidfd, err);
    if (p->pid < 0) {
        error_restatus(err, STATUS_INTERNAL);
        return (int)p->pid;
    }
    return 0;
}

void pull_program_end(struct pull_program *p, bool done)
{
    struct pollfd exited = {.fd = p->pidfd, .events = POLLIN};
    siginfo_t info;

    fd_closep(&p->sock);
    if (p->pid > 0) {
        // With its children: they share its session's process group. One that is done ends by itself, or
        // else.
        if (!done || poll(&exited, 1, END_TIMEOUT_MS) <= 0)
            (void)kill(-p->pid, SIGKILL);
        while (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0 && errno == EINTR)
            ;
    }
    fd_closep(&p->pidfd);
    p->pid = -1;
}
