// crisp-pod, the process: its program, its start, and what it tells.
#include "runtime/store.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/spawn.h"

#define PROBE_TIMEOUT_NS  (10 * NS_PER_SEC)
#define BUSY_TRIES        400
#define BUSY_WAIT_MS      5
#define PROGRAM_BYTES_MAX (256u << 20) // sanitizer builds are large

// ---- The program ----

static int fill_copy(int copy, int file, off_t size, const char *path, struct error *err)
{
    while (size > 0) {
        ssize_t n = sendfile(copy, file, NULL, (size_t)size);
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "copy %s to memory", path);
        size -= n;
    }
    return 0;
}

// A new tmpfs that is mounted nowhere: nobody but who holds the descriptor gets there.
static int make_memory_fs(struct error *err)
{
    _cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "crisp-pod", 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return error_errno(err, errno, "make a file system in memory");
    int mount = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return mount < 0 ? error_errno(err, errno, "make a file system in memory") : mount;
}

static int try_readonly(int mount)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    _cleanup_fd_ int fs = fspick(mount, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0 ||
        mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return -errno;
    return 0;
}

// Busy while somebody can still write to the copy: a plugin that another thread is just starting has our
// descriptors until its exec.
static int make_readonly(int mount, struct error *err)
{
    int r = try_readonly(mount);
    for (int i = 0; i < BUSY_TRIES && r == -EBUSY; i++) {
        (void)poll(NULL, 0, BUSY_WAIT_MS);
        r = try_readonly(mount);
    }
    return r < 0 ? error_errno(err, r, "make the copy of crisp-pod read-only") : 0;
}

// A copy in memory that all pods share, on a file system that nobody can write to any more. A container that
// gets hold of /proc/PID/exe of the process that entered it can do nothing with that (CVE-2019-5736). A
// sealed memfd would not be enough: its mode can be changed by root, and with mode 0 no pod would ever start
// again.
int supervisor_load_program(const char *path, int *program, struct error *err)
{
    _cleanup_fd_ int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (file < 0 || fstat(file, &st) < 0)
        return error_errno(err, errno, "open the program crisp-pod (%s)", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > PROGRAM_BYTES_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOEXEC, "%s is not a program", path);
    _cleanup_fd_ int mount = make_memory_fs(err);
    if (mount < 0)
        return mount;
    int copy = openat(mount, "crisp-pod", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    if (copy < 0)
        return error_errno(err, errno, "copy %s to memory", path);
    int r = fill_copy(copy, file, st.st_size, path, err);
    close(copy); // exec fails with ETXTBSY while anybody has it open for writing
    if (r == 0)
        r = make_readonly(mount, err);
    if (r < 0)
        return r;
    *program = openat(mount, "crisp-pod", O_RDONLY | O_CLOEXEC);
    return *program < 0 ? error_errno(err, errno, "open the copy of %s", path) : 0;
}

void supervisor_probe_userns(int program_fd, const char *image_dir, struct policy *policy)
{
    char program[48];
    char *const argv[] = {(char *)"crisp-pod", (char *)"--probe-userns", (char *)image_dir, NULL};
    char *const envp[] = {NULL};
    const struct spawn_options options = {.path = program, .argv = argv, .envp = envp};
    const struct ctx ctx = ctx_with_timeout(NULL, PROBE_TIMEOUT_NS);
    struct spawn_result result = {0};
    struct error err = ERROR_INIT;
    snprintf(program, sizeof(program), "/proc/%d/fd/%d", getpid(), program_fd);
    char *why = policy->userns_why_not;
    size_t size = sizeof(policy->userns_why_not);
    if (!image_dir)
        snprintf(why, size, "no image store");
    else if (spawn_run(&options, NULL, 0, size, &ctx, &result, &err) < 0)
        snprintf(why, size, "it could not be tried: %.200s", err.message);
    else if (result.exit_code == 0)
        policy->userns = true;
    else
        snprintf(why, size, "%.*s", (int)result.out.len, result.out.len ? result.out.data : "");
    spawn_result_done(&result);
    if (!policy->userns)
        log_info("pods can't have user namespaces on this host", "why", why);
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

static void on_broken(void *data)
{
    struct pod *pod = data;
    struct pod_private *p = pod->private;
    exec_abandon_all(p->rt, pod);
    // Mostly the process is ending, and its pidfd will say so in a moment: not at once.
    supervisor_reconnect_later(p->rt, pod, 50 * NS_PER_MS);
}

const struct podconn_events pod_events = {
    .exited = on_exited,
    .exec_exited = on_exec_exited,
    .broken = on_broken,
    .gone = on_gone,
};

int supervisor_attach(struct runtime *rt, struct pod *pod, int pid, int sock, int pidfd, struct error *err)
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
    state.cgroup_levels = pod->private->cgroup_levels;
    int r = clock_process_start(pid, &state.start_ticks);
    if (r < 0)
        error_errno(err, -r, "look at crisp-pod, which has just been started");
    else
        r = rundir_write_state(pod->dir, &state, err);
    // Attached also after a failure: the monitor reaps it, and the pod's undoing ends it.
    int attached = supervisor_attach(rt, pod, pid, steal_fd(&ours), pidfd, r < 0 ? NULL : err);
    return r < 0 ? r : attached;
}

static Pod__IdRange *id_range(struct arena *arena, const Cri__IDMapping *m)
{
    Pod__IdRange *r = arena_alloc(arena, sizeof(*r));
    if (!r)
        return NULL;
    pod__id_range__init(r);
    r->host_id = m->host_id;
    r->length = m->length;
    return r;
}

static int fill_userns(const struct pod *pod, struct arena *arena, Pod__SetupRequest *setup)
{
    const Cri__UserNamespace *u = policy_userns(pod->config);
    if (!u)
        return 0;
    setup->user_ns = arena_alloc(arena, sizeof(*setup->user_ns));
    if (!setup->user_ns)
        return -ENOMEM;
    pod__user_namespace__init(setup->user_ns);
    setup->user_ns->uids = id_range(arena, u->uids[0]);
    setup->user_ns->gids = id_range(arena, u->gids[0]);
    return setup->user_ns->uids && setup->user_ns->gids ? 0 : -ENOMEM;
}

static int fill_setup(struct runtime *rt, struct pod *pod, struct arena *arena, Pod__SetupRequest *setup,
                      struct error *err)
{
    Pod__CgroupPlace *place;
    setup->pod_id = pod->id;
    setup->new_net = !pod->host_network;
    setup->new_uts = !pod->host_network;
    setup->new_ipc = !policy_host_ipc(pod->config);
    setup->shared_pid = policy_pod_pid(pod->config);
    setup->hostname = (char *)rundir_hostname(rt, pod);
    if (fill_userns(pod, arena, setup) < 0)
        return error_errno(err, ENOMEM, "map the user namespace");
    int r =
        setup->shared_pid ? cgroup_place(rt->cgroups, pod->private->supervisor_leaf, arena, &place, err) : 0;
    if (r < 0)
        return r;
    if (setup->shared_pid) {
        setup->n_cgroup_dirs = place->n_dirs;
        setup->cgroup_dirs = place->dirs;
    }
    r = policy_pod_sysctls(rt->policy, pod->config, arena, &setup->sysctls, &setup->n_sysctls);
    return r < 0 ? error_errno(err, ENOMEM, "list the sysctls") : 0;
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
    r = podconn_send(s->conn, &request, &rt->mount_template, 1, &s->call, err);
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

int supervisor_enter(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(1u << 20);
    Pod__EnterRequest enter = POD__ENTER_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    Pod__CgroupPlace *place;
    if (!arena)
        return error_errno(err, ENOMEM, "name crisp-pod's cgroup");
    int r = cgroup_place(rt->cgroups, pod->private->supervisor_leaf, arena, &place, err);
    if (r < 0)
        return r;
    enter.n_cgroup_dirs = place->n_dirs;
    enter.cgroup_dirs = place->dirs;
    request.op_case = POD__REQUEST__OP_ENTER;
    request.enter = &enter;
    struct podconn *conn = store_pod_conn(rt, pod);
    if (!conn)
        return error_set(err, STATUS_UNAVAILABLE, ECONNRESET, "crisp-pod ended at once (see the log)");
    r = podconn_post(conn, &request, err);
    podconn_unref(conn);
    return r;
}
