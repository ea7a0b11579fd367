// Commands in running containers, with their output collected here: ExecSync.
//
// The pipes are made here and handed to crisp-pod with the request: what the command prints doesn't pass
// through anybody else.
#include "runtime/store.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/plan.h"
#include "runtime/resources.h"

#define EXEC_ID_LEN   16
#define DRAIN_NS      (100 * NS_PER_MS) // for children that hold the pipes after the command has ended
#define KILLED_NS     (5 * NS_PER_SEC)  // for a killed command to be reaped
#define READ_CHUNK    (32u << 10)
#define ARENA_MAX     (8u << 20)
#define SPAWN_TIMEOUT (30 * NS_PER_SEC)

struct exec {
    char id[EXEC_ID_LEN + 1];
    struct container *container;
    int event; // eventfd: readable once it has exited or is lost
    // rt->lock:
    bool exited, lost;
    int32_t exit_code;
};

static void exec_signal(struct exec *exec)
{
    uint64_t one = 1;
    ssize_t n = write(exec->event, &one, sizeof(one));
    (void)n;
}

void exec_exited(struct runtime *rt, const Pod__ExecExit *exit)
{
    store_lock(rt);
    struct exec *exec = map_get(rt->execs, exit->exec_id);
    if (exec) {
        exec->exited = true;
        exec->exit_code = exit->exit_code;
        exec_signal(exec);
    }
    store_unlock(rt);
}

void exec_abandon_all(struct runtime *rt, const struct pod *pod)
{
    store_lock(rt);
    for (struct map_iter it = {0}; map_next(rt->execs, &it);) {
        struct exec *exec = it.value;
        if (exec->container->pod == pod) {
            exec->lost = true;
            exec_signal(exec);
        }
    }
    store_unlock(rt);
}

static int exec_register(struct runtime *rt, struct exec *exec, struct error *err)
{
    int r = str_random_hex(exec->id, EXEC_ID_LEN);
    if (r < 0)
        return error_errno(err, -r, "make an exec id");
    exec->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (exec->event < 0)
        return error_errno(err, errno, "make an eventfd");
    store_lock(rt);
    r = map_set(rt->execs, exec->id, exec);
    store_unlock(rt);
    return r < 0 ? error_errno(err, ENOMEM, "remember the exec") : 0;
}

static void exec_done(struct runtime *rt, struct exec *exec)
{
    store_lock(rt);
    if (map_get(rt->execs, exec->id) == exec)
        map_remove(rt->execs, exec->id);
    store_unlock(rt);
    fd_closep(&exec->event);
}

static int build_process(struct runtime *rt, struct container *c, const struct container_view *view,
                         char *const *args, size_t n_args, struct arena *arena, Pod__Process **process,
                         struct error *err)
{
    const ProtobufCBinaryData *packed = &c->private->start->plan;
    Pod__LaunchPlan *plan = pod__launch_plan__unpack(arena_pb(arena), packed->len, packed->data);
    if (!plan || !plan->process)
        return error_set(err, STATUS_INTERNAL, EBADMSG, "the recorded launch plan cannot be read");
    if (plan->process->oom_score_adj)
        plan->process->oom_score_adj->value = (int32_t)container_oom_score(rt, c);
    return plan_build_exec(plan->process, view->user, (const char *const *)args, n_args, false, arena,
                           process, err);
}

// Asks crisp-pod for it. The write ends of the pipes are closed here in any case.
static int exec_spawn(struct exec *exec, struct podconn *conn, Pod__Process *process, int out_write,
                      int err_write, const struct ctx *ctx, struct error *err)
{
    Pod__ExecRequest exec_request = POD__EXEC_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    struct ctx spawn_ctx = ctx_with_timeout(ctx, SPAWN_TIMEOUT);
    int64_t left_ms = (spawn_ctx.deadline_mono_ns - clock_mono_ns()) / NS_PER_MS;
    const int fds[] = {out_write, err_write};
    struct podconn_call call;

    exec_request.container_id = exec->container->id;
    exec_request.exec_id = exec->id;
    exec_request.process = process;
    exec_request.has_stdout = true;
    exec_request.has_stderr = true;
    exec_request.deadline_ms = left_ms > 1 ? (uint32_t)left_ms : 1;
    request.op_case = POD__REQUEST__OP_EXEC;
    request.exec = &exec_request;
    int r = podconn_send(conn, &request, fds, ARRAY_SIZE(fds), &call, err);
    close(out_write);
    close(err_write);
    if (r < 0)
        return r;
    // A second more than crisp-pod has: its own words are better than "does not answer".
    r = podconn_wait(conn, &call, spawn_ctx.deadline_mono_ns + NS_PER_SEC, NULL, err);
    podconn_drop(conn, &call);
    return r;
}

// Reads what is there: 1 more may come, 0 end of file.
static int read_output(int fd, struct buf *b)
{
    char chunk[READ_CHUNK];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 1 : 0;
        if (n == 0)
            return 0;
        size_t room = b->max - b->len;
        (void)buf_append(b, chunk,
                         (size_t)n < room ? (size_t)n : room); // what is over, or too much, is dropped
        if ((size_t)n < sizeof(chunk))
            return 1;
    }
}

static bool exec_has_ended(struct runtime *rt, struct exec *exec)
{
    store_lock(rt);
    bool ended = exec->exited || exec->lost;
    store_unlock(rt);
    return ended;
}

// Reads both pipes until the command has ended and they are at their end, or drained and 100 ms late.
static int exec_collect(struct runtime *rt, struct exec *exec, int out, int err_fd, const struct ctx *ctx,
                        struct exec_result *result, struct error *err)
{
    const struct ctx none = CTX_NONE;
    struct ctx drain = none;
    bool ended = false;
    struct pollfd p[4] = {{.fd = out, .events = POLLIN},
                          {.fd = err_fd, .events = POLLIN},
                          {.fd = exec->event, .events = POLLIN},
                          {.fd = ctx->cancel_fd, .events = POLLIN}};

    while (!ended || p[0].fd >= 0 || p[1].fd >= 0) {
        if (poll(p, ended ? 2 : 4, ctx_poll_ms(ended ? &drain : ctx)) < 0 && errno != EINTR)
            return error_errno(err, errno, "wait for the command");
        if (p[0].fd >= 0 && read_output(out, &result->out) == 0)
            p[0].fd = -1;
        if (p[1].fd >= 0 && read_output(err_fd, &result->err) == 0)
            p[1].fd = -1;
        if (ended) {
            if (clock_mono_ns() >= drain.deadline_mono_ns)
                return 0;
        } else if (exec_has_ended(rt, exec)) {
            ended = true;
            drain = ctx_with_timeout(&none, DRAIN_NS);
        } else {
            int r = ctx_check(ctx, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static void exec_kill(struct runtime *rt, struct exec *exec, struct podconn *conn)
{
    const struct ctx none = CTX_NONE;
    struct ctx ctx = ctx_with_timeout(&none, KILLED_NS);
    Pod__ExecKillRequest kill_request = POD__EXEC_KILL_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    kill_request.container_id = exec->container->id;
    kill_request.exec_id = exec->id;
    request.op_case = POD__REQUEST__OP_EXEC_KILL;
    request.exec_kill = &kill_request;
    if (podconn_post(conn, &request, NULL) < 0)
        return;
    while (!exec_has_ended(rt, exec) && ctx_wait_fd(&ctx, exec->event, POLLIN, NULL) == 1) {
        uint64_t n;
        ssize_t r = read(exec->event, &n, sizeof(n));
        (void)r;
    }
}

static int exec_run(struct runtime *rt, struct exec *exec, struct podconn *conn, Pod__Process *process,
                    const struct ctx *ctx, struct exec_result *result, struct error *err)
{
    int out[2], errs[2];
    if (pipe2(out, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    _cleanup_fd_ int out_read = out[0];
    if (pipe2(errs, O_CLOEXEC) < 0) {
        close(out[1]);
        return error_errno(err, errno, "make a pipe");
    }
    _cleanup_fd_ int err_read = errs[0];
    // Only our ends: O_NONBLOCK is of the open file, and each end is one of its own.
    (void)fcntl(out_read, F_SETFL, O_NONBLOCK);
    (void)fcntl(err_read, F_SETFL, O_NONBLOCK);

    int r = exec_spawn(exec, conn, process, out[1], errs[1], ctx, err);
    if (r < 0 && (!err || err->status != STATUS_DEADLINE_EXCEEDED))
        return r;
    if (r == 0)
        r = exec_collect(rt, exec, out_read, err_read, ctx, result, err);
    if (r < 0) {
        exec_kill(rt, exec, conn);
        return r;
    }
    store_lock(rt);
    bool lost = exec->lost && !exec->exited;
    result->exit_code = exec->exit_code;
    store_unlock(rt);
    if (lost)
        return error_set(err, STATUS_UNAVAILABLE, ECONNRESET,
                         "the pod's crisp-pod ended while the command ran: its exit code is not known");
    return 0;
}

static int exec_in(struct runtime *rt, struct container *c, char *const *args, size_t n_args,
                   const struct ctx *ctx, struct exec_result *result, struct error *err)
{
    struct container_view view;
    runtime_container_view(rt, c, &view);
    struct podconn *conn = view.state == CONTAINER_RUNNING ? store_pod_conn(rt, c->pod) : NULL;
    if (!conn)
        return error_set(err, STATUS_FAILED_PRECONDITION, ESRCH, "it is not running");

    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(ARENA_MAX);
    struct exec exec = {.container = c, .event = -1};
    Pod__Process *process = NULL;
    int r = arena ? build_process(rt, c, &view, args, n_args, arena, &process, err)
                  : error_errno(err, ENOMEM, "build the process");
    if (r == 0) {
        r = exec_register(rt, &exec, err);
        if (r == 0)
            r = exec_run(rt, &exec, conn, process, ctx, result, err);
        exec_done(rt, &exec);
    }
    podconn_unref(conn);
    return r;
}

int exec_bounded(struct runtime *rt, struct container *c, char *const *args, size_t n_args,
                 const struct ctx *ctx, size_t output_max, struct exec_result *result, struct error *err)
{
    *result = (struct exec_result){0};
    buf_init(&result->out, output_max);
    buf_init(&result->err, output_max);
    int r = exec_in(rt, c, args, n_args, ctx, result, err);
    if (r < 0)
        exec_result_done(result);
    return r;
}

int runtime_exec_sync(struct runtime *rt, struct container *c, char *const *args, size_t n_args,
                      int64_t timeout_s, const struct ctx *ctx, struct exec_result *result, struct error *err)
{
    struct error local = ERROR_INIT;
    if (!err)
        err = &local;
    *result = (struct exec_result){0};
    if (n_args == 0 || str_empty(args[0]))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "exec in container %s: cmd is empty", c->id);
    if (timeout_s < 0 || timeout_s > INT32_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "exec in container %s: timeout %lld is not a number of seconds", c->id,
                         (long long)timeout_s);

    struct ctx bounds = timeout_s > 0 ? ctx_with_timeout(ctx, timeout_s * NS_PER_SEC) : *ctx;
    int r = exec_bounded(rt, c, args, n_args, &bounds, RUNTIME_EXEC_OUTPUT_MAX, result, err);
    if (r == 0)
        return 0;
    if (err->status == STATUS_DEADLINE_EXCEEDED && timeout_s > 0 &&
        bounds.deadline_mono_ns < ctx->deadline_mono_ns)
        return error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
                         "exec in container %s: command \"%.256s\" timed out after %lld s and was killed",
                         c->id, args[0], (long long)timeout_s);
    return error_wrap(err, "exec \"%.256s\" in container %s", args[0], c->id);
}

void exec_result_done(struct exec_result *result)
{
    buf_done(&result->out);
    buf_done(&result->err);
}
