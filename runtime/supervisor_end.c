// Ending crisp-pods: those of pods that are stopped, and those that no record knows.
#include "runtime/store.h"

#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>

#include "base/cleanup.h"
#include "base/log.h"

static int wait_gone(struct runtime *rt, struct pod *pod, int64_t timeout_ns)
{
    struct ctx work = CTX_NONE;
    struct ctx ctx = ctx_with_timeout(&work, timeout_ns);
    int r = 0;
    store_lock(rt);
    while (pod->private->attached && r == 0)
        r = notify_wait(&rt->lock, &pod->private->changed, &ctx, NULL);
    store_unlock(rt);
    return r;
}

int supervisor_shutdown(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct podconn *conn = store_pod_conn(rt, pod);
    if (!conn)
        return 0;
    Pod__ShutdownRequest shutdown_request = POD__SHUTDOWN_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    shutdown_request.kill = true;
    request.op_case = POD__REQUEST__OP_SHUTDOWN;
    request.shutdown = &shutdown_request;
    int r = podconn_post(conn, &request, NULL);
    // The end of the process is the answer.
    if (r == 0)
        r = wait_gone(rt, pod, KILL_TIMEOUT_NS);
    if (r < 0) {
        log_warn("crisp-pod does not end: killing it", "pod", pod->id);
        (void)pidfd_send_signal(podconn_pidfd(conn), SIGKILL, NULL, 0);
        r = wait_gone(rt, pod, KILL_TIMEOUT_NS);
    }
    podconn_unref(conn);
    if (r < 0)
        return error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
                         "crisp-pod of pod %s did not end within %lld s of SIGKILL", pod->id,
                         (long long)(KILL_TIMEOUT_NS / NS_PER_SEC));
    return 0;
}

void supervisor_kill_stray(struct runtime *rt, const char *dir)
{
    struct rundir_state state;
    struct error err = ERROR_INIT;
    if (rundir_read_state(dir, &state, &err) < 0 || !supervisor_is_alive(rt, &state))
        return;
    _cleanup_fd_ int pidfd = pidfd_open(state.pid, 0);
    if (pidfd < 0 || !supervisor_is_alive(rt, &state))
        return;
    log_warn("killing a crisp-pod that cannot be used any more", "dir", dir);
    (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    (void)poll(&ended, 1, 1000);
}

// Shutdown with kill, by a connection of its own; the end of the process is the answer.
static void shut_down_stray(const char *dir, int pidfd)
{
    Pod__ShutdownRequest shutdown_request = POD__SHUTDOWN_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    _cleanup_fd_ int sock = supervisor_open_socket(dir, NULL);
    shutdown_request.kill = true;
    request.id = 1;
    request.op_case = POD__REQUEST__OP_SHUTDOWN;
    request.shutdown = &shutdown_request;
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    if (sock >= 0 && pb_frame_send(sock, &request.base, NULL, 0, NULL) == 0)
        (void)poll(&ended, 1, 3000);
}

void supervisor_end_stray(struct runtime *rt, const char *dir)
{
    struct rundir_state state;
    if (rundir_read_state(dir, &state, NULL) < 0 || !supervisor_is_alive(rt, &state))
        return;
    _cleanup_fd_ int pidfd = pidfd_open(state.pid, 0);
    if (pidfd >= 0 && supervisor_is_alive(rt, &state))
        shut_down_stray(dir, pidfd);
    supervisor_kill_stray(rt, dir);
}
