// Finding the crisp-pods again that an earlier crispd started, or whose connection broke.
#include "runtime/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/log.h"

// Short, because a job's thread waits for it: a crisp-pod that hangs is asked again, ever more rarely.
#define RECONNECT_TIMEOUT_NS (2 * NS_PER_SEC)

int supervisor_open_socket(const char *dir_path, struct error *err)
{
    // sun_path holds 108 bytes and run directories may be longer: by way of the folder's descriptor.
    _cleanup_fd_ int dir = open(dir_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_errno(err, errno, "open %s", dir_path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/sock", dir);
    _cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return error_errno(err, errno, "make a socket");
    // A full backlog would block for as long as crisp-pod hangs.
    (void)fcntl(sock, F_SETFL, O_NONBLOCK);
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_errno(err, errno, "connect to %s/sock", dir_path);
    (void)fcntl(sock, F_SETFL, 0);
    return steal_fd(&sock);
}

bool supervisor_is_alive(const struct runtime *rt, const struct rundir_state *state)
{
    uint64_t ticks;
    return strcmp(state->boot_id, rt->boot_id) == 0 && clock_process_start(state->pid, &ticks) == 0 &&
           ticks == state->start_ticks;
}

int supervisor_connect(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct rundir_state state;
    if (rundir_read_state(pod->dir, &state, err) < 0 || !supervisor_is_alive(rt, &state))
        return error_set(err, STATUS_NOT_FOUND, ESRCH, "crisp-pod of pod %s has ended", pod->id);
    _cleanup_fd_ int pidfd = pidfd_open(state.pid, 0);
    // Again, now that the pidfd holds on to it: the pid may have been used anew in between.
    if (pidfd < 0 || !supervisor_is_alive(rt, &state))
        return error_set(err, STATUS_NOT_FOUND, ESRCH, "crisp-pod of pod %s has ended", pod->id);
    int sock = supervisor_open_socket(pod->dir, err);
    if (sock == -ECONNREFUSED) { // it is ending, or hasn't come to listening: of no use, either way
        supervisor_kill_stray(rt, pod->dir);
        return error_set(err, STATUS_NOT_FOUND, ESRCH, "crisp-pod of pod %s does not listen", pod->id);
    }
    if (sock < 0)
        return sock;
    return supervisor_attach(rt, pod, state.pid, sock, steal_fd(&pidfd), err);
}

int supervisor_ask_begin(struct runtime *rt, struct pod *pod, struct supervisor_question *q,
                         struct error *err)
{
    Pod__HelloRequest hello = POD__HELLO_REQUEST__INIT;
    Pod__StateRequest state = POD__STATE_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    *q = (struct supervisor_question){.conn = store_pod_conn(rt, pod)};
    if (!q->conn)
        return error_set(err, STATUS_UNAVAILABLE, ENOTCONN, "crisp-pod of pod %s has ended", pod->id);
    hello.version = PODCONN_VERSION;
    request.op_case = POD__REQUEST__OP_HELLO;
    request.hello = &hello;
    int r = podconn_send(q->conn, &request, NULL, 0, &q->hello, err);
    if (r == 0) {
        request.op_case = POD__REQUEST__OP_STATE;
        request.state = &state;
        r = podconn_send(q->conn, &request, NULL, 0, &q->state, err);
        if (r < 0)
            podconn_drop(q->conn, &q->hello);
    }
    if (r < 0) {
        podconn_unref(q->conn);
        q->conn = NULL;
    }
    return r;
}

int supervisor_ask_end(struct runtime *rt, struct pod *pod, struct supervisor_question *q,
                       int64_t deadline_mono_ns, struct error *err)
{
    _cleanup_reply_ Pod__Reply *hello = NULL;
    _cleanup_reply_ Pod__Reply *state = NULL;
    int r = podconn_wait(q->conn, &q->hello, deadline_mono_ns, &hello, err);
    if (r == 0 &&
        (hello->result_case != POD__REPLY__RESULT_HELLO || strcmp(hello->hello->pod_id, pod->id) != 0))
        r = error_set(err, STATUS_INTERNAL, EPROTO, "what answers for pod %s is not its crisp-pod", pod->id);
    if (r == 0 && hello->hello->version != PODCONN_VERSION)
        r = error_set(
            err, STATUS_UNIMPLEMENTED, EPROTONOSUPPORT,
            "crisp-pod of pod %s speaks version %u, and this crispd version %u: use the crispd that "
            "started it, or stop the pod",
            pod->id, hello->hello->version, PODCONN_VERSION);
    if (r == 0)
        r = podconn_wait(q->conn, &q->state, deadline_mono_ns, &state, err);
    podconn_drop(q->conn, &q->hello);
    podconn_drop(q->conn, &q->state);
    podconn_unref(q->conn);
    q->conn = NULL;
    if (r == 0 && state->result_case == POD__REPLY__RESULT_STATE)
        exits_apply_state(rt, pod, state->state);
    return r;
}

// ---- In the background ----

// A new socket, if its connection broke; a connection, if there has never been one.
static int reconnect(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct podconn *conn = store_pod_conn(rt, pod);
    if (!conn)
        return supervisor_connect(rt, pod, err);
    int sock = supervisor_open_socket(pod->dir, err);
    int r = sock < 0 ? sock : podconn_reattach(conn, sock, err);
    podconn_unref(conn);
    return r == -EALREADY ? 0 : r;
}

static int reconnect_job(void *data, unsigned attempt)
{
    struct pod *pod = data;
    struct runtime *rt = pod->private->rt;
    struct error err = ERROR_INIT;
    struct supervisor_question question;
    int r = reconnect(rt, pod, &err);
    if (r == -ESRCH) {
        exits_supervisor_lost_later(rt, pod);
        r = 0;
    } else {
        if (r == 0)
            r = supervisor_ask_begin(rt, pod, &question, &err);
        if (r == 0)
            r = supervisor_ask_end(rt, pod, &question, clock_mono_ns() + RECONNECT_TIMEOUT_NS, &err);
    }
    if (r < 0 && attempt == 0)
        log_warn("crisp-pod cannot be reached, trying again", "pod", pod->id, "error", err.message);
    if (r == 0) {
        store_lock(rt);
        pod->private->reconnecting = false;
        store_unlock(rt);
    }
    return r;
}

static void reconnect_drop(void *data)
{
    pod_unref(data);
}

void supervisor_reconnect_later(struct runtime *rt, struct pod *pod, int64_t delay_ns)
{
    struct pod_private *p = pod->private;
    store_lock(rt);
    bool queue = !p->reconnecting;
    p->reconnecting = true;
    store_unlock(rt);
    if (queue)
        (void)worker_add(rt->worker, reconnect_job, reconnect_drop, pod_ref(pod), delay_ns);
}

void supervisor_ask_later(struct runtime *rt, struct pod *pod)
{
    store_lock(rt);
    for (struct map_iter it = {0}; map_next(rt->containers, &it);) {
        struct container *c = it.value;
        if (c->pod == pod && c->private->state == CONTAINER_RUNNING)
            c->private->state = CONTAINER_UNKNOWN;
    }
    store_unlock(rt);
    supervisor_reconnect_later(rt, pod, NS_PER_SEC);
}
