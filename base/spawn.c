#include "base/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/nofile.h"

#define SPAWN_FDS_MAX   16
#define SPAWN_READ_SIZE ((size_t)16 << 10)

// posix_spawn's dup2 actions run one after the other, so a target could overwrite a source still needed:
// every source is first copied to a number above all targets.
struct fd_copies {
    int fds[SPAWN_FDS_MAX];
    size_t n;
};

static void fd_copies_close(struct fd_copies *c)
{
    for (size_t i = 0; i < c->n; i++)
        (void)close(c->fds[i]);
    c->n = 0;
}

static int add_file_actions(posix_spawn_file_actions_t *actions, const struct spawn_fd *fds, size_t n_fds,
                            struct fd_copies *copies)
{
    int top = 2;
    bool standard[3] = {false};

    if (n_fds > SPAWN_FDS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < n_fds; i++) {
        if (fds[i].to > top)
            top = fds[i].to;
        if (fds[i].to >= 0 && fds[i].to < 3)
            standard[fds[i].to] = true;
    }
    for (size_t i = 0; i < n_fds; i++) {
        int copy = fcntl(fds[i].from, F_DUPFD_CLOEXEC, top + 1);
        if (copy < 0)
            return -errno;
        copies->fds[copies->n++] = copy;
        int rc = posix_spawn_file_actions_adddup2(actions, copy, fds[i].to);
        if (rc)
            return -rc;
    }
    for (int fd = 0; fd < 3; fd++) { // a program without standard streams opens its files as such
        int rc = standard[fd] ? 0 : posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_RDWR, 0);
        if (rc)
            return -rc;
    }
    return -posix_spawn_file_actions_addclosefrom_np(actions, top + 1);
}

static int set_attributes(posix_spawnattr_t *attr, bool new_session)
{
    sigset_t none, all;
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;

    sigemptyset(&none);
    sigfillset(&all);
    // A session or at least a process group of its own, so that it can be killed with what it started.
    flags |= new_session ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP;
    int rc = posix_spawnattr_setsigmask(attr, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(attr, &all);
    rc = rc ? rc : posix_spawnattr_setpgroup(attr, 0);
    rc = rc ? rc : posix_spawnattr_setflags(attr, flags);
    return -rc;
}

static int spawn_prepared(const struct spawn_options *o, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    struct fd_copies copies = {.n = 0};
    static char *const no_environment[] = {NULL};

    int rc = posix_spawn_file_actions_init(&actions);
    if (rc)
        return -rc;
    rc = posix_spawnattr_init(&attr);
    if (rc) {
        posix_spawn_file_actions_destroy(&actions);
        return -rc;
    }
    rc = add_file_actions(&actions, o->fds, o->n_fds, &copies);
    if (rc == 0)
        rc = set_attributes(&attr, o->new_session);
    if (rc == 0)
        rc = -posix_spawn(pid, o->path, &actions, &attr, o->argv, o->envp ? o->envp : no_environment);
    fd_copies_close(&copies);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

pid_t spawn_start(const struct spawn_options *o, int *pidfd, struct error *err)
{
    pid_t pid = -1;

    int rc = spawn_prepared(o, &pid);
    if (rc < 0)
        return error_errno(err, rc, "run %s", o->path);
    nofile_restore(pid);
    // Not reaped yet, so the number can't be another's. (pidfd_open: Linux 5.3; it is O_CLOEXEC.)
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        rc = -errno;
        (void)kill(pid, SIGKILL);
        reap(pid);
        return error_errno(err, rc, "run %s: pidfd_open", o->path);
    }
    *pidfd = fd;
    return pid;
}

// stdin as a memory file: no writer that could block or get SIGPIPE. -1 and no error for no input.
static int input_file(const void *input, size_t len, int *out)
{
    if (len == 0)
        return 0;
    _cleanup_fd_ int fd = memfd_create("stdin", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = file_write_all(fd, input, len);
    if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
        rc = -errno;
    if (rc == 0)
        *out = steal_fd(&fd);
    return rc;
}

static int output_pipe(int *reader, int *writer)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        return -errno;
    *reader = p[0];
    *writer = p[1];
    return fcntl(p[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

// Reads what is there. *fd is closed at EOF. 0, -EFBIG, -errno.
static int drain(int *fd, struct buf *b)
{
    while (*fd >= 0) {
        long n = buf_read_fd(b, *fd, SPAWN_READ_SIZE);
        if (n == -EAGAIN)
            return 0;
        if (n == 0) {
            fd_closep(fd);
        } else if (n == -E2BIG) {
            char more; // full to the brim is fine if nothing follows
            ssize_t got = read(*fd, &more, 1);
            if (got > 0)
                return -EFBIG;
            if (got < 0)
                return errno == EAGAIN ? 0 : -errno;
            fd_closep(fd);
        } else if (n < 0) {
            return (int)n;
        }
    }
    return 0;
}

// Until the child has exited. What it printed itself is in the pipes by then; a child of its own that lingers
// and holds them is not waited for.
static int collect(const char *path, int pidfd, int *out, int *errout, const struct ctx *ctx,
                   struct spawn_result *result, struct error *err)
{
    for (;;) {
        struct pollfd p[4] = {{.fd = pidfd, .events = POLLIN},
                              {.fd = *out, .events = POLLIN},
                              {.fd = *errout, .events = POLLIN},
                              {.fd = ctx->cancel_fd, .events = POLLIN}};
        int n = poll(p, 4, ctx_poll_ms(ctx));
        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "wait for %s", path);
        bool exited = n > 0 && p[0].revents;
        int rc = drain(out, &result->out);
        if (rc == 0)
            rc = drain(errout, &result->err);
        if (rc == -EFBIG)
            return error_set(err, STATUS_INTERNAL, EFBIG, "%s printed more than %zu bytes and was killed",
                             path, result->out.max);
        if (rc < 0)
            return error_errno(err, rc, "read the output of %s", path);
        if (exited)
            return 0;
        rc = ctx_check(ctx, err);
        if (rc < 0)
            return error_wrap(err, "%s was killed", path);
    }
}

static int run_child(const struct spawn_options *o, int in, int out_fds[2], int err_fds[2],
                     const struct ctx *ctx, struct spawn_result *result, struct error *err)
{
    struct spawn_fd fds[3];
    size_t n = 0;
    if (in >= 0)
        fds[n++] = (struct spawn_fd){.from = in, .to = 0};
    fds[n++] = (struct spawn_fd){.from = out_fds[1], .to = 1};
    fds[n++] = (struct spawn_fd){.from = err_fds[1], .to = 2};
    struct spawn_options child = *o;
    child.fds = fds;
    child.n_fds = n;

    _cleanup_fd_ int pidfd = -1;
    pid_t pid = spawn_start(&child, &pidfd, err);
    if (pid < 0)
        return pid;
    fd_closep(&out_fds[1]);
    fd_closep(&err_fds[1]);
    int rc = collect(o->path, pidfd, &out_fds[0], &err_fds[0], ctx, result, err);
    if (rc < 0 || o->kill_rest)
        (void)kill(-pid, SIGKILL); // the group's number is taken as long as we haven't reaped its leader

    siginfo_t info = {0};
    int waited;
    do
        waited = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
    while (waited < 0 && errno == EINTR);
    if (rc < 0)
        return rc;
    if (waited < 0)
        return error_errno(err, errno, "wait for %s", o->path);
    result->exit_code = info.si_code == CLD_EXITED ? info.si_status & 255 : 128 + info.si_status;
    return 0;
}

int spawn_run(const struct spawn_options *o, const void *input, size_t input_len, size_t max_bytes,
              const struct ctx *ctx, struct spawn_result *result, struct error *err)
{
    _cleanup_fd_ int in = -1;
    int out_fds[2] = {-1, -1}, err_fds[2] = {-1, -1};

    result->exit_code = -1;
    buf_init(&result->out, max_bytes);
    buf_init(&result->err, max_bytes);
    int rc = ctx_check(ctx, err);
    if (rc < 0)
        return error_wrap(err, "run %s", o->path);
    rc = input_file(input, input_len, &in);
    if (rc == 0)
        rc = output_pipe(&out_fds[0], &out_fds[1]);
    if (rc == 0)
        rc = output_pipe(&err_fds[0], &err_fds[1]);
    if (rc < 0)
        rc = error_errno(err, rc, "run %s: prepare its standard streams", o->path);
    else
        rc = run_child(o, in, out_fds, err_fds, ctx, result, err);
    for (int i = 0; i < 2; i++) {
        fd_closep(&out_fds[i]);
        fd_closep(&err_fds[i]);
    }
    return rc;
}

void spawn_result_done(struct spawn_result *r)
{
    buf_done(&r->out);
    buf_done(&r->err);
}
