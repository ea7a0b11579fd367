// crisp-pod, the process: starting, finding again, ending.
#include "runtime/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"

// Short, because a job's thread waits for it: a crisp-pod that hangs is asked again, ever more rarely.
#define RECONNECT_TIMEOUT_NS (2 * NS_PER_SEC)
#define PROGRAM_BYTES_MAX    (256u << 20) // sanitizer builds are large

// ---- The program ----

int supervisor_load_program(const char *path, int *memfd, struct error *err)
{
    _cleanup_fd_ int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (file < 0 || fstat(file, &st) < 0)
        return error_errno(err, errno, "open the program crisp-pod (%s)", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > PROGRAM_BYTES_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOEXEC, "%s is not a program", path);
    // A copy that nobody can write to, shared by all pods: a container that gets hold of /proc/PID/exe of the
    // process that entered it can do nothing with that (CVE-2019-5736).
    _cleanup_fd_ int copy = memfd_create("crisp-pod", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copy < 0)
        return error_errno(err, errno, "copy %s to memory", path);
    for (off_t left = st.st_size; left > 0;) {
        ssize_t n = sendfile(copy, file, NULL, (size_t)left);
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "copy %s to memory", path);
        left -= n;
    }
    if (fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return error_errno(err, errno, "seal the copy of %s", path);
    // A descriptor that was opened for writing makes exec fail with ETXTBSY: open it again for reading.
    char self[64];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", copy);
    *memfd = open(self, O_RDONLY | O_CLOEXEC);
    if (*memfd < 0)
        return error_errno(err, errno, "open the copy of %s", path);
    return 0;
}

// ---- What it tells ----

static void on_exited(void *data, const Pod__ExitRecord *exit)
{
    struct pod *pod = data;
    struct runtime *rt = pod->private->rt;
    store_lock(rt);
    struct container *c = map_get(rt->containers, exit->container_id);
    if (c && c->pod == pod)
        container_ref(c);
    else
        c = NULL;
    store_unlock(rt);
    if (c)
        exits_apply(rt, c, exit);
    container_unref(c);
}

static void on_exec_exited(void *data, const Pod__ExecExit *exit)
{
    struct pod *pod = data;
    exec_exited(pod->private->rt, exit);
}

static void pod_job_drop(void *data)
{
    pod_unref(data);
}

static void on_gone(void *data)
{
    struct pod *pod = data; // the connection's reference is ours now
    struct pod_private *p = pod->private;
    struct runtime *rt = p->rt;

    store_lock(rt);
    struct podconn *conn = p->conn;
    p->conn = NULL;
    p->pid = 0;
    p->attached = false;
    notify_wake(&p->changed);
    store_unlock(rt);
    podconn_unref(conn);
    exec_abandon_all(rt, pod);
    // Killing reads files, logging writes, and both may wait: not here. It also settles containers that a
    // stop has killed.
    exits_supervisor_lost_later(rt, pod);
    pod_unref(pod);
}

static int connect_socket(const struct pod *pod, struct error *err);

// A new socket, if its connection broke; a connection, if there has never been one.
static int reconnect(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct podconn *conn = store_pod_conn(rt, pod);
    if (!conn)
        return supervisor_connect(rt, pod, err);
    int sock = connect_socket(pod, err);
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

static void on_broken(void *data)
{
    struct pod *pod = data;
    struct pod_private *p = pod->private;
    store_lock(p->rt);
    bool queue = !p->reconnecting;
    p->reconnecting = true;
    store_unlock(p->rt);
    exec_abandon_all(p->rt, pod);
    // Mostly the process is ending, and its pidfd will say so in a moment: not at once.
    if (queue)
        (void)worker_add(p->rt->worker, reconnect_job, pod_job_drop, pod_ref(pod), 50 * NS_PER_MS);
}

void supervisor_ask_later(struct runtime *rt, struct pod *pod)
{
    struct pod_private *p = pod->private;
    store_lock(rt);
    bool queue = !p->reconnecting;
    p->reconnecting = true;
    for (struct map_iter it = {0}; map_next(rt->containers, &it);) {
        struct container *c = it.value;
        if (c->pod == pod && c->private->state == CONTAINER_RUNNING)
            c->private->state = CONTAINER_UNKNOWN;
    }
    store_unlock(rt);
    if (queue)
        (void)worker_add(rt->worker, reconnect_job, pod_job_drop, pod_ref(pod), NS_PER_SEC);
}

const struct podconn_events pod_events = {
    .exited = on_exited,
    .exec_exited = on_exec_exited,
    .broken = on_broken,
    .gone = on_gone,
};

// Takes sock and pidfd over.
static int attach(struct runtime *rt, struct pod *pod, int pid, int sock, int pidfd, struct error *err)
{
    struct pod_private *p = pod->private;
    struct podconn *conn;
    pod_ref(pod);
    // Before the connection can call back: `gone` clears them again.
    store_lock(rt);
    p->pid = pid;
    p->attached = true;
    store_unlock(rt);
    int r = podconn_new(rt->monitor, pod->id, sock, pidfd, &pod_events, pod, &conn, err);
    store_lock(rt);
    if (r < 0)
        p->attached = false;
    bool gone = !p->attached;
    if (!gone)
        p->conn = conn;
    store_unlock(rt);
    if (r < 0)
        pod_unref(pod);
    else if (gone)
        podconn_unref(conn);
    return r;
}

// ---- Starting ----

int supervisor_spawn(struct runtime *rt, struct pod *pod, struct error *err)
{
    char program[48];
    // Our descriptor and not the child's: that one has closed all of its own by then.
    snprintf(program, sizeof(program), "/proc/%d/fd/%d", getpid(), rt->crisp_pod_fd);
    char *const argv[] = {(char *)"crisp-pod", (char *)"--id",   (char *)pod->id,
                          (char *)"--dir",     (char *)pod->dir, NULL};
    char *const envp[] = {NULL};
    int socks[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
        return error_errno(err, errno, "make a socket for crisp-pod");
    _cleanup_fd_ int ours = socks[0];
    _cleanup_fd_ int theirs = socks[1];
    _cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return error_errno(err, errno, "open /dev/null");

    const struct spawn_fd fds[] = {{null, 0}, {STDERR_FILENO, 1}, {STDERR_FILENO, 2}, {theirs, 3}};
    const struct spawn_options options = {.path = program,
                                          .argv = argv,
                                          .envp = envp,
                                          .fds = fds,
                                          .n_fds = ARRAY_SIZE(fds),
                                          .new_session = true};
    int pidfd = -1;
    pid_t pid = spawn_start(&options, &pidfd, err);
    if (pid < 0)
        return error_wrap(err, "start crisp-pod");
    struct rundir_state state = {.pid = pid};
    memcpy(state.boot_id, rt->boot_id, sizeof(state.boot_id));
    snprintf(state.cgroup, sizeof(state.cgroup), "%s", pod->private->cgroup);
    int r = clock_process_start(pid, &state.start_ticks);
    if (r < 0)
        error_errno(err, -r, "look at crisp-pod, which has just been started");
    else
        r = rundir_write_state(pod->dir, &state, err);
    // Attached also after a failure: the monitor reaps it, and the pod's undoing ends it.
    int attached = attach(rt, pod, pid, steal_fd(&ours), pidfd, r < 0 ? NULL : err);
    return r < 0 ? r : attached;
}

static int fill_sysctls(const struct pod *pod, struct arena *arena, Pod__SetupRequest *setup)
{
    const Cri__LinuxPodSandboxConfig *linux_config = pod->config->linux;
    size_t n = linux_config ? linux_config->n_sysctls : 0;
    if (n == 0)
        return 0;
    setup->sysctls = arena_alloc(arena, n * sizeof(*setup->sysctls));
    if (!setup->sysctls)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        Pod__Sysctl *s = arena_alloc(arena, sizeof(*s));
        if (!s)
            return -ENOMEM;
        pod__sysctl__init(s);
        s->name = linux_config->sysctls[i]->key;
        s->value = linux_config->sysctls[i]->value;
        setup->sysctls[setup->n_sysctls++] = s;
    }
    return 0;
}

static int fill_setup(struct runtime *rt, struct pod *pod, struct arena *arena, Pod__SetupRequest *setup,
                      struct error *err)
{
    Pod__CgroupPlace *place;
    int r = cgroup_place(rt->cgroups, pod->private->supervisor_leaf, arena, &place, err);
    if (r < 0)
        return r;
    setup->pod_id = pod->id;
    setup->new_net = !pod->host_network;
    setup->new_uts = !pod->host_network;
    setup->new_ipc = !policy_host_ipc(pod->config);
    setup->shared_pid = policy_pod_pid(pod->config);
    setup->hostname = (char *)rundir_hostname(rt, pod);
    setup->n_cgroup_dirs = place->n_dirs;
    setup->cgroup_dirs = place->dirs;
    return fill_sysctls(pod, arena, setup) < 0 ? error_errno(err, ENOMEM, "list the sysctls") : 0;
}

int supervisor_setup_begin(struct runtime *rt, struct pod *pod, struct supervisor_setup *s, struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(1u << 20);
    Pod__SetupRequest setup = POD__SETUP_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    if (!arena)
        return error_errno(err, ENOMEM, "set up the namespaces");
    int r = fill_setup(rt, pod, arena, &setup, err);
    if (r < 0)
        return r;
    request.op_case = POD__REQUEST__OP_SETUP;
    request.setup = &setup;
    s->conn = store_pod_conn(rt, pod);
    if (!s->conn)
        return error_set(err, STATUS_UNAVAILABLE, ECONNRESET, "crisp-pod ended at once (see the log)");
    r = podconn_send(s->conn, &request, NULL, 0, &s->call, err);
    if (r < 0) {
        podconn_unref(s->conn);
        s->conn = NULL;
    }
    return r;
}

int supervisor_setup_end(const struct pod *pod, struct supervisor_setup *s, int *netns_fd, struct error *err)
{
    *netns_fd = -1;
    int r = podconn_wait(s->conn, &s->call, clock_mono_ns() + ANSWER_TIMEOUT_NS, NULL, err);
    if (r == 0 && !pod->host_network && s->call.n_fds != 1)
        r = error_set(err, STATUS_INTERNAL, EPROTO, "crisp-pod gave no network namespace");
    if (r == 0 && !pod->host_network)
        *netns_fd = s->call.fds[--s->call.n_fds];
    podconn_drop(s->conn, &s->call);
    podconn_unref(s->conn);
    return r < 0 ? error_wrap(err, "set up the namespaces") : 0;
}

// ---- Finding again ----

static int connect_socket(const struct pod *pod, struct error *err)
{
    // sun_path holds 108 bytes and run directories may be longer: by way of the folder's descriptor.
    _cleanup_fd_ int dir = open(pod->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_errno(err, errno, "open %s", pod->dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/sock", dir);
    _cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return error_errno(err, errno, "make a socket");
    // A full backlog would block for as long as crisp-pod hangs.
    (void)fcntl(sock, F_SETFL, O_NONBLOCK);
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_errno(err, errno, "connect to %s/sock", pod->dir);
    (void)fcntl(sock, F_SETFL, 0);
    return steal_fd(&sock);
}

// Is that pid still the process that was started?
static bool is_alive(const struct runtime *rt, const struct rundir_state *state)
{
    uint64_t ticks;
    return strcmp(state->boot_id, rt->boot_id) == 0 && clock_process_start(state->pid, &ticks) == 0 &&
           ticks == state->start_ticks;
}

int supervisor_connect(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct rundir_state state;
    if (rundir_read_state(pod->dir, &state, err) < 0 || !is_alive(rt, &state))
        return error_set(err, STATUS_NOT_FOUND, ESRCH, "crisp-pod of pod %s has ended", pod->id);
    _cleanup_fd_ int pidfd = pidfd_open(state.pid, 0);
    // Again, now that the pidfd holds on to it: the pid may have been used anew in between.
    if (pidfd < 0 || !is_alive(rt, &state))
        return error_set(err, STATUS_NOT_FOUND, ESRCH, "crisp-pod of pod %s has ended", pod->id);
    int sock = connect_socket(pod, err);
    if (sock == -ECONNREFUSED) { // it is ending, or hasn't come to listening: of no use, either way
        supervisor_kill_stray(rt, pod->dir);
        return error_set(err, STATUS_NOT_FOUND, ESRCH, "crisp-pod of pod %s does not listen", pod->id);
    }
    if (sock < 0)
        return sock;
    return attach(rt, pod, state.pid, sock, steal_fd(&pidfd), err);
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

// ---- Ending ----

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
    if (rundir_read_state(dir, &state, &err) < 0 || !is_alive(rt, &state))
        return;
    _cleanup_fd_ int pidfd = pidfd_open(state.pid, 0);
    if (pidfd < 0 || !is_alive(rt, &state))
        return;
    log_warn("killing a crisp-pod that cannot be used any more", "dir", dir);
    (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    (void)poll(&ended, 1, 1000);
}

// Shutdown with kill, by a connection of its own; the end of the process is the answer.
static void shut_down_stray(const struct pod *pod, int pidfd)
{
    Pod__ShutdownRequest shutdown_request = POD__SHUTDOWN_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    _cleanup_fd_ int sock = connect_socket(pod, NULL);
    shutdown_request.kill = true;
    request.id = 1;
    request.op_case = POD__REQUEST__OP_SHUTDOWN;
    request.shutdown = &shutdown_request;
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    if (sock >= 0 && pb_frame_send(sock, &request.base, NULL, 0, NULL) == 0)
        (void)poll(&ended, 1, 3000);
}

void supervisor_sweep_stray(struct runtime *rt, const char *id)
{
    struct rundir_state state = {0};
    struct error err = ERROR_INIT;
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s/%s", rt->pods_dir, id);
    const struct pod stray = {.dir = dir};
    if (rundir_read_state(dir, &state, &err) == 0 && is_alive(rt, &state)) {
        _cleanup_fd_ int pidfd = pidfd_open(state.pid, 0);
        if (pidfd >= 0 && is_alive(rt, &state))
            shut_down_stray(&stray, pidfd);
        supervisor_kill_stray(rt, dir);
    }
    char **children = NULL;
    if (state.cgroup[0] && cgroup_children(rt->cgroups, state.cgroup, &children, NULL) == 0) {
        for (char **name = children; *name; name++) {
            char leaf[CGROUP_PATH_MAX];
            // Only what we made there: a pod's place may be kubelet's.
            if (!str_is_hex(*name, RUNTIME_ID_LEN) || cgroup_leaf_path(state.cgroup, *name, leaf, NULL) < 0)
                continue;
            (void)cgroup_kill(rt->cgroups, leaf, NULL);
            (void)cgroup_remove(rt->cgroups, leaf, NULL);
        }
        strv_free(children);
        if (str_has_suffix(state.cgroup, id))
            (void)cgroup_pod_remove(rt->cgroups, state.cgroup, 1, NULL);
    }
    if (rundir_remove(dir, &err) < 0)
        log_warn("a stray run directory could not be removed", "dir", dir, "error", err.message);
}
