// Running a helper program: posix_spawn only (the daemon is threaded and never forks), no shell.
#ifndef BASE_SPAWN_H
#define BASE_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "base/error.h"

struct spawn_fd {
    int from; // the parent's descriptor
    int to;   // its number in the child (0, 1, 2, 3, …)
};

struct spawn_options {
    const char *path; // the program
    char *const *argv;
    char *const *envp;
    const struct spawn_fd *fds; // everything else is closed in the child (all of ours are O_CLOEXEC)
    size_t n_fds;
    bool new_session; // setsid
    bool kill_rest;   // spawn_run(): what is left of its process group at its end is killed
};

// Starts it, signal mask cleared and dispositions default. Returns the pid and, in *pidfd, a pidfd (the
// caller's); negative errno otherwise. The caller reaps by waitid(P_PIDFD).
pid_t spawn_start(const struct spawn_options *o, int *pidfd, struct error *err);

struct spawn_result {
    int exit_code;       // 0..255, 128 + n for signal n
    struct buf out, err; // what it printed; done by the caller
};
// Runs it to its end: input to stdin, at most max bytes each of stdout and stderr (more: the child is killed
// and -EFBIG). On the deadline or cancel it and its process group are killed and reaped, then -ETIMEDOUT or
// -ECANCELED. `fds` in o are not looked at.
int spawn_run(const struct spawn_options *o, const void *input, size_t input_len, size_t max_bytes,
              const struct ctx *ctx, struct spawn_result *result, struct error *err);
void spawn_result_done(struct spawn_result *r);

#endif
