// A pod's namespaces: made by a child, handed back as descriptors, and kept by crisp-pod, which itself stays
// in the host's (a mount namespace of its own would pin host mounts).
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/netdev.h"
#include "base/pb.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/child.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define SETUP_DEADLINE_MS 30000

static const struct {
    const char *path;
    int flag;
} ns_kinds[POD_NS_COUNT] = {
    [POD_NS_NET] = {"/proc/self/ns/net", CLONE_NEWNET},
    [POD_NS_IPC] = {"/proc/self/ns/ipc", CLONE_NEWIPC},
    [POD_NS_UTS] = {"/proc/self/ns/uts", CLONE_NEWUTS},
    [POD_NS_PID] = {NULL, CLONE_NEWPID}, // that of its first process
    [POD_NS_USER] = {"/proc/self/ns/user", CLONE_NEWUSER},
    [POD_NS_PROC] = {NULL, 0}, // the reaper's work
};

struct setup {
    struct pod *pod;
    struct waiter waiter;
    Pod__SetupRequest *request;
    struct source source;
    struct timer deadline;
    pid_t pid, reaper_pid; // 0: none
    int alive[2];          // its end of file tells the shared pid namespace's first process that it is over
    bool wanted[POD_NS_COUNT];
};

// What a SetupRequest is kept as until crisp-pod is ready; static: there is one in a life.
static struct setup the_setup;

static struct id_range range_of(const Pod__IdRange *r)
{
    return r ? (struct id_range){.host_id = r->host_id, .length = r->length} : (struct id_range){0};
}

// Becomes root of a new user namespace, which will own the namespaces that are made after it.
static int enter_new_user_ns(const Pod__UserNamespace *u, struct error *err)
{
    _cleanup_fd_ int ns = userns_new(range_of(u->uids), range_of(u->gids), err);

    if (ns < 0)
        return ns;
    if (setns(ns, CLONE_NEWUSER) < 0)
        return error_errno(err, errno, "enter the pod's user namespace");
    // Files of the new namespaces (the root of mqueue) belong to this user; the effective one stays the
    // host's for a moment, see write_sysctls().
    if (setgroups(0, NULL) < 0)
        return error_errno(err, errno, "become root of the pod's user namespace");
    (void)setfsgid(0);
    (void)setfsuid(0);
    return 0;
}

// Those of IPC may be written by the host's root only (before Linux 6.9), or by the namespace's root only.
static int write_sysctls(const Pod__SetupRequest *r, struct error *err)
{
    int rc = child_write_sysctls(r->sysctls, r->n_sysctls, err);

    if (!r->user_ns)
        return rc;
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return error_errno(err, errno, "become root of the pod's user namespace");
    return rc == -EACCES || rc == -EPERM ? child_write_sysctls(r->sysctls, r->n_sysctls, err) : rc;
}

static int make_namespaces(const struct setup *s, struct error *err)
{
    const Pod__SetupRequest *r = s->request;
    int flags = 0, rc = r->user_ns ? enter_new_user_ns(r->user_ns, err) : 0;

    if (rc < 0)
        return rc;
    for (int i = 0; i <= POD_NS_UTS; i++)
        flags |= s->wanted[i] ? ns_kinds[i].flag : 0;
    if (flags && unshare(flags) < 0)
        return error_errno(err, errno, "create the pod's namespaces");
    if (r->new_net && netdev_bring_up_lo(err) < 0) // no plugin's work: a process less per pod
        return -err->errnum;
    if (r->new_uts && *r->hostname && sethostname(r->hostname, strlen(r->hostname)) < 0)
        return error_errno(err, errno, "set hostname %s", r->hostname);
    return write_sysctls(r, err);
}

// The first process of the pod's shared pid namespace: crisp-pod's child, and it ends with crisp-pod. Made in
// here, because the namespace belongs to the user namespace of whoever makes it.
static int start_reaper(const struct setup *s, struct report *r, int *proc_ns, struct error *err)
{
    struct clone_args args = {.flags = CLONE_NEWPID | CLONE_PARENT};
    size_t n_fds = 1;
    int ready[2];
    char byte;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ready) < 0)
        return error_errno(err, errno, "create the pod's first process");
    pid_t pid = sys_clone3(&args);
    if (pid == 0)
        reaper_run(s->alive[0], ready[1], s->wanted[POD_NS_PROC] ? s->pod->mount_template : -1);
    r->pid = pid;
    if (pid < 0)
        return error_errno(err, errno, "create the pod's first process");
    (void)close(ready[1]);
    // Containers see it: none may be there before it has given up everything.
    long n = launch_recv(ready[0], &byte, 1, proc_ns, &n_fds, 0);
    (void)close(ready[0]);
    return n == 1 && n_fds == s->wanted[POD_NS_PROC]
               ? 0
               : error_set(err, STATUS_INTERNAL, ECHILD, "the pod's first process could not be set up");
}

static void ease_oom_killer(const struct child *c)
{
    _cleanup_fd_ int fd = openat(c->proc_self, "oom_score_adj", O_WRONLY | O_CLOEXEC);

    (void)!write(fd, "0", 1);
}

// In the child: makes them and sends them back.
static _Noreturn void setup_child(const struct setup *s, int sock)
{
    char step[LAUNCH_STEP_MAX] = "";
    const int keep[] = {sock, s->alive[0], s->wanted[POD_NS_PROC] ? s->pod->mount_template : -1};
    struct child c = {.sock = sock, .step = step, .proc_self = -1};
    struct report r = {.kind = REPORT_NAMESPACES};
    struct error err = ERROR_INIT;
    int fds[POD_NS_COUNT], proc_ns = -1;
    size_t n = 0;

    int rc = child_begin(&c, keep, ARRAY_SIZE(keep), &err);
    // While it still can, for the reaper: no better off than the containers, whom crisp-pod's value isn't
    // for. (It fails where it was higher.)
    if (rc == 0 && s->wanted[POD_NS_PID])
        ease_oom_killer(&c);
    // While it still can: the reaper inherits it. crisp-pod logs the same failure of its own.
    for (size_t i = 0; rc == 0 && s->wanted[POD_NS_PID] && i < s->request->n_cgroup_dirs; i++)
        (void)cgroups_join(s->request->cgroup_dirs[i], &err);
    if (rc == 0)
        rc = make_namespaces(s, &err);
    if (rc == 0 && s->wanted[POD_NS_PID])
        rc = start_reaper(s, &r, &proc_ns, &err);
    for (int i = 0; rc == 0 && i < POD_NS_COUNT; i++) {
        if (!s->wanted[i] || !ns_kinds[i].path)
            continue;
        fds[n] = open(ns_kinds[i].path, O_RDONLY | O_CLOEXEC);
        if (fds[n++] < 0)
            rc = error_errno(&err, errno, "open %s", ns_kinds[i].path);
    }
    if (rc < 0)
        child_fail(&c, &err);
    if (proc_ns >= 0)
        fds[n++] = proc_ns;
    (void)launch_send(sock, &r, offsetof(struct report, groups), fds, n);
    _exit(0);
}

static void setup_free(struct setup *s)
{
    loop_disarm(&s->pod->loop, &s->deadline);
    int sock = s->source.fd;
    loop_remove(&s->pod->loop, &s->source);
    fd_closep(&sock);
    if (s->request)
        pod__setup_request__free_unpacked(s->request, NULL);
    s->request = NULL;
    s->pod->setup = NULL;
}

static void setup_reply(struct pod *p, struct waiter w)
{
    Pod__Reply reply = POD__REPLY__INIT;
    Pod__SetupReply r = POD__SETUP_REPLY__INIT;

    r.net_inode = p->net_inode;
    reply.result_case = POD__REPLY__RESULT_SETUP;
    reply.setup = &r;
    conn_reply(p, w, &reply, &p->ns[POD_NS_NET], p->ns[POD_NS_NET] >= 0 ? 1 : 0);
}

static void setup_failed(struct setup *s, struct error *err)
{
    struct pod *p = s->pod;

    (void)error_wrap(err, "set up pod %s", p->id);
    for (int i = 0; i < POD_NS_COUNT; i++)
        fd_closep(&p->ns[i]);
    fd_closep(&s->alive[0]);
    fd_closep(&s->alive[1]); // ends a reaper that is there already
    conn_reply_error(p, s->waiter, err, "namespaces");
    setup_free(s);
    pod_end_if_unused(p);
}

// That of the reaper. Opened here: nobody in the pod's user namespace may look at crisp-pod's children.
static int take_pid_ns(struct setup *s, pid_t reaper, struct error *err)
{
    char path[64];

    s->reaper_pid = reaper;
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)reaper);
    s->pod->ns[POD_NS_PID] = open(path, O_RDONLY | O_CLOEXEC);
    return s->pod->ns[POD_NS_PID] < 0 ? error_errno(err, errno, "open %s", path) : 0;
}

static void join_own_cgroups(struct pod *p, char *const *dirs, size_t n)
{
    struct error err;

    for (size_t i = 0; i < n; i++)
        cgroups_remember_parent(dirs[i]);
    for (size_t i = 0; i < n; i++)
        if (cgroups_join(dirs[i], &err) < 0)
            log_warn("crisp-pod stays outside a cgroup of its pod", "pod", p->id, "error", err.message);
}

// crispd need not wait for it.
void setup_enter(struct pod *p, struct waiter w, const Pod__EnterRequest *request)
{
    conn_reply_ok(p, w);
    join_own_cgroups(p, request->cgroup_dirs, request->n_cgroup_dirs);
}

static int take_namespaces(struct setup *s, struct error *err)
{
    struct pod *p = s->pod;
    _cleanup_free_ struct report *r = calloc(1, sizeof(*r));
    int fds[POD_NS_COUNT];
    size_t n_fds = POD_NS_COUNT, n = 0;
    struct stat st;

    if (!r)
        return error_errno(err, ENOMEM, "create namespaces");
    long got = launch_recv(s->source.fd, r, sizeof(*r), fds, &n_fds, MSG_DONTWAIT);
    if (got <= 0)
        return error_set(err, STATUS_ABORTED, ECHILD, "the process that makes the namespaces was killed");
    if (r->kind == REPORT_FAILED)
        return error_set(err, (enum status)r->status, r->errnum, "%.*s", (int)sizeof(r->text) - 1, r->text);
    for (int i = 0; i < POD_NS_COUNT; i++)
        if (s->wanted[i] && (ns_kinds[i].path || i == POD_NS_PROC) && n < n_fds)
            p->ns[i] = fds[n++];
    while (n < n_fds)
        (void)close(fds[n++]);
    if (p->ns[POD_NS_NET] >= 0 && fstat(p->ns[POD_NS_NET], &st) == 0)
        p->net_inode = st.st_ino;
    return s->wanted[POD_NS_PID] ? take_pid_ns(s, r->pid, err) : 0;
}

static void setup_ready(struct source *source, uint32_t events)
{
    struct setup *s = container_of(source, struct setup, source);
    struct pod *p = s->pod;
    struct error err;

    (void)events;
    if (take_namespaces(s, &err) < 0) {
        setup_failed(s, &err);
        return;
    }
    p->ready = true;
    setup_reply(p, s->waiter);
    join_own_cgroups(p, s->request->cgroup_dirs, s->request->n_cgroup_dirs);
    setup_free(s);
}

static void deadline_fired(struct timer *t)
{
    struct setup *s = container_of(t, struct setup, deadline);
    struct error err;

    (void)kill(s->pid, SIGKILL);
    (void)error_set(&err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "namespaces were not there after %d s",
                    SETUP_DEADLINE_MS / 1000);
    setup_failed(s, &err);
}

static int setup_launch(struct pod *p, struct setup *s, struct error *err)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    int pair[2];

    if (s->wanted[POD_NS_PID] && pipe2(s->alive, O_CLOEXEC) < 0)
        return error_errno(err, errno, "create the pod's first process: pipe");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "create namespaces: socket");
    s->pid = sys_clone3(&args);
    if (s->pid == 0)
        setup_child(s, pair[1]);
    int errnum = errno;
    (void)close(pair[1]);
    fd_closep(&s->alive[0]); // the other end stays open until crisp-pod ends
    int rc = s->pid < 0 ? error_errno(err, errnum, "create namespaces: clone a process")
                        : loop_add(&p->loop, &s->source, pair[0], EPOLLIN, err);
    if (rc < 0) {
        (void)close(pair[0]);
        return rc;
    }
    loop_arm(&p->loop, &s->deadline, SETUP_DEADLINE_MS * INT64_C(1000000));
    return 0;
}

void setup_start(struct pod *p, struct waiter w, const Pod__SetupRequest *request, int *fds, size_t n_fds)
{
    struct setup *s = &the_setup;
    struct error err;

    if (p->ready) { // asked again, by a crispd that did not see the first reply
        setup_reply(p, w);
        return;
    }
    if (p->setup) {
        (void)error_set(&err, STATUS_UNAVAILABLE, EBUSY, "pod %s is being set up already", p->id);
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    if (n_fds != 1) {
        (void)error_set(&err, STATUS_INVALID_ARGUMENT, EINVAL,
                        "pod %s: no mount namespace came with the setup", p->id);
        conn_reply_error(p, w, &err, NULL);
        return;
    }
    fd_closep(&p->mount_template);
    p->mount_template = steal_fd(&fds[0]);
    *s = (struct setup){.pod = p,
                        .waiter = w,
                        .source = {.fd = -1, .ready = setup_ready},
                        .deadline = {.fired = deadline_fired},
                        .alive = {-1, -1},
                        .wanted = {[POD_NS_NET] = request->new_net,
                                   [POD_NS_IPC] = request->new_ipc,
                                   [POD_NS_UTS] = request->new_uts,
                                   [POD_NS_PID] = request->shared_pid,
                                   [POD_NS_USER] = request->user_ns != NULL,
                                   // Only those inside the user namespace could trace, and they may not
                                   // trace who comes from outside: no need for child_stage.c.
                                   [POD_NS_PROC] = request->shared_pid && !request->user_ns}};
    p->uids = range_of(request->user_ns ? request->user_ns->uids : NULL);
    p->gids = range_of(request->user_ns ? request->user_ns->gids : NULL);
    p->setup = s;
    s->request = (Pod__SetupRequest *)pb_dup(&request->base, NULL);
    if (!s->request) {
        (void)error_errno(&err, ENOMEM, "create namespaces");
        setup_failed(s, &err);
    } else if (setup_launch(p, s, &err) < 0) {
        setup_failed(s, &err);
    }
}

bool setup_reap(struct pod *p, pid_t pid, int status)
{
    (void)status;
    if (the_setup.reaper_pid == pid && pid) {
        // The kernel has killed every process of the namespace with it; their own exits are told one by one.
        log_error("the pod's first process has died", "pod", p->id);
        the_setup.reaper_pid = 0;
        return true;
    }
    if (the_setup.pid != pid || !pid)
        return false;
    the_setup.pid = 0; // what it had to say is in the socket
    return true;
}
