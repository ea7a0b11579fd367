// Starting and ending crisp-pull.
#include "image/store_program.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/spawn.h"
#include "base/str.h"
#include "image/store.h"

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

// A file that isn't there has zeros: starting it is what fails.
static void witness_file(const struct image_store *s, struct pull_program *p)
{
    struct stat st = {0};

    (void)stat(s->crisp_pull_path, &st);
    p->dev = st.st_dev;
    p->ino = st.st_ino;
    p->size = (uint64_t)st.st_size;
    p->ctime_ns = st.st_ctim.tv_sec * NS_PER_SEC + st.st_ctim.tv_nsec;
}

int pull_program_start(const struct image_store *s, struct pull_program *p, struct error *err)
{
    _cleanup_strv_ char **env = pull_environment();
    _cleanup_fd_ int ours = -1, theirs = -1;
    char *argv[] = {(char *)"crisp-pull", NULL};
    int pair[2];

    *p = PULL_PROGRAM_NONE;
    if (!env)
        return error_errno(err, ENOMEM, "start crisp-pull");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "start crisp-pull");
    ours = pair[0];
    theirs = pair[1];
    const struct spawn_fd fds[] = {{STDERR_FILENO, STDERR_FILENO}, {theirs, 3}};
    const struct spawn_options o = {.path = s->crisp_pull_path,
                                    .argv = argv,
                                    .envp = env,
                                    .fds = fds,
                                    .n_fds = ARRAY_SIZE(fds),
                                    .new_session = true};
    witness_file(s, p); // before: a file that comes between is taken for another one, and that is harmless
    p->started_ns = clock_mono_ns();
    pid_t pid = spawn_start(&o, &p->pidfd, err);
    if (pid < 0) {
        *p = PULL_PROGRAM_NONE;
        error_restatus(err, STATUS_INTERNAL);
        return (int)pid;
    }
    p->pid = pid;
    p->sock = steal_fd(&ours);
    return 0;
}

bool pull_program_is_current(const struct image_store *s, const struct pull_program *p)
{
    struct pollfd exited = {.fd = p->pidfd, .events = POLLIN};
    struct pull_program now;

    if (p->pid <= 0 || poll(&exited, 1, 0) != 0)
        return false;
    witness_file(s, &now);
    return now.dev == p->dev && now.ino == p->ino && now.size == p->size && now.ctime_ns == p->ctime_ns;
}

void pull_program_end(struct pull_program *p, bool done)
{
    struct pollfd exited = {.fd = p->pidfd, .events = POLLIN};
    siginfo_t info;

    fd_closep(&p->sock);
    if (p->pid > 0) {
        // With its children: they share its session's process group.
        if (!done || poll(&exited, 1, END_TIMEOUT_MS) <= 0)
            (void)kill(-p->pid, SIGKILL);
        while (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0 && errno == EINTR)
            ;
    }
    fd_closep(&p->pidfd);
    *p = PULL_PROGRAM_NONE;
}
