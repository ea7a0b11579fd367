// The beginning and the end of every child, and the two kinds of it: one that becomes a container, and one
// that joins a container.
#include "runtime/pod/child.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/container.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define KEEP_MAX        (16 + CGROUPS_PARENTS_MAX)
#define PLAN_MEMORY_MAX ((size_t)32 << 20)

// Closes everything from 3 on but the n in keep. A parked child that held a copy of another container's pipe
// would keep its log from ever reaching end of file.
int child_close_others(const int *keep, size_t n)
{
    int sorted[KEEP_MAX];
    size_t count = 0;
    unsigned from = 3;

    for (size_t i = 0; i < n && count < KEEP_MAX; i++) {
        if (keep[i] < 3)
            continue;
        size_t at = count++;
        for (; at > 0 && sorted[at - 1] > keep[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = keep[i];
    }
    for (size_t i = 0; i < count; i++) {
        if ((unsigned)sorted[i] > from && close_range(from, (unsigned)sorted[i] - 1, 0) < 0)
            return -errno;
        from = (unsigned)sorted[i] + 1;
    }
    return close_range(from, ~0U, 0) < 0 ? -errno : 0;
}

// A session keyring of its own: it would else possess, and so read, the keys in the one that crispd was
// started with. Where keyctl(2) is forbidden, or not there, there is nothing to be read either.
int child_leave_keyring(struct error *err)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EPERM)
        return error_errno(err, errno, "make a session keyring (/proc/sys/kernel/keys/root_maxkeys?)");
    return 0;
}

int child_begin(struct child *c, const int *keep, size_t n, struct error *err)
{
    sigset_t none;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    // What crisp-pod ignores would stay ignored in the container.
    for (size_t i = 0; i < pod_n_ignored_signals; i++)
        (void)signal(pod_ignored_signals[i], SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    int rc = child_leave_keyring(err);
    if (rc < 0)
        return rc;
    int kept[KEEP_MAX];
    size_t n_kept = cgroups_parent_fds(kept);
    for (size_t i = 0; i < n && n_kept < KEEP_MAX; i++)
        kept[n_kept++] = keep[i];
    rc = child_close_others(kept, n_kept);
    if (rc < 0)
        return error_errno(err, rc, "close descriptors");
    _cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return error_errno(err, errno, "open /dev/null of the host");
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return error_errno(err, errno, "open /dev/null of the host");
    c->proc_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return c->proc_self < 0 ? error_errno(err, errno, "open /proc/self of the host") : 0;
}

void child_step(struct child *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(c->step, LAUNCH_STEP_MAX, format, args);
    va_end(args);
}

_Noreturn void child_fail(struct child *c, const struct error *err)
{
    static struct report r;

    r.kind = REPORT_FAILED;
    r.errnum = err->errnum;
    // NOT_FOUND and ALREADY_EXISTS would be understood of the container itself.
    bool config = err->status == STATUS_NOT_FOUND || err->status == STATUS_ALREADY_EXISTS;
    r.status = config ? STATUS_INVALID_ARGUMENT : err->status;
    (void)snprintf(r.step, sizeof(r.step), "%s", c->step);
    (void)snprintf(r.text, sizeof(r.text), "%s", err->message);
    (void)launch_send(c->sock, &r, offsetof(struct report, groups), NULL, 0);
    _exit(1);
}

void child_report_executing(struct child *c, const Pod__Process *process)
{
    static struct report r;
    const struct account *a = &c->account;

    r.kind = REPORT_EXECUTING;
    r.uid = a->uid;
    r.gid = a->gid;
    r.may_trace = process->capabilities && (process->capabilities->bounding >> CAP_SYS_PTRACE & 1);
    r.n_groups = (uint32_t)a->n_groups;
    memcpy(r.groups, a->groups, a->n_groups * sizeof(a->groups[0]));
    (void)snprintf(r.text, sizeof(r.text), "%s", a->home);
    (void)launch_send(c->sock, &r, offsetof(struct report, groups) + a->n_groups * sizeof(r.groups[0]), NULL,
                      0);
}

// Waits for the plan and takes it out of its memfd. Ends when crisp-pod does, or lets go of it.
static const Pod__LaunchPlan *receive_plan(struct child *c, struct error *err)
{
    struct launch_plan_order order;
    int memfd = -1;
    size_t n_fds = 1;

    long n = launch_recv(c->sock, &order, sizeof(order), &memfd, &n_fds, 0);
    if (n != (long)sizeof(order) || n_fds != 1)
        _exit(1);
    c->hold = order.hold;
    size_t len = order.plan_len + order.place_len;
    uint8_t *data = order.plan_len ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, memfd, 0) : MAP_FAILED;
    struct arena *arena = arena_new(PLAN_MEMORY_MAX); // lives until exec
    if (data == MAP_FAILED || !arena) {
        (void)error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the launch plan is missing");
        return NULL;
    }
    Pod__LaunchPlan *plan = pod__launch_plan__unpack(arena_pb(arena), order.plan_len, data);
    int rc = plan ? 0 : error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the launch plan can't be unpacked");
    if (rc == 0 && order.place_len)
        rc = place_receive(c, arena_pb(arena), data + order.plan_len, order.place_len, err);
    (void)munmap(data, len);
    (void)close(memfd);
    return rc == 0 ? plan : NULL;
}

// A plan with anything that this crisp-pod does not know is refused: never half an isolation.
static int check_plan(const struct child *c, const Pod__LaunchPlan *plan, struct error *err)
{
    for (size_t i = 0; i < plan->n_required_features; i++) {
        bool known = false;
        for (size_t k = 0; k < pod_n_features; k++)
            known |= str_eq(pod_features[k], plan->required_features[i]);
        if (!known)
            return error_set(err, STATUS_UNIMPLEMENTED, EOPNOTSUPP,
                             "the pod's crisp-pod (version %s) lacks \"%s\": start the pod anew",
                             CRISP_VERSION, plan->required_features[i]);
    }
    if (pb_has_unknown(&plan->base))
        return error_set(
            err, STATUS_UNIMPLEMENTED, EOPNOTSUPP,
            "the pod's crisp-pod (version %s) does not know all of the plan's fields: start the pod anew",
            CRISP_VERSION);
    if (plan->user_ns != (c->ns[POD_NS_USER] >= 0))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "the launch plan and the pod differ about a user namespace");
    if (!plan->process || plan->process->n_args == 0 || !plan->root)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the launch plan has no command or no root");
    return 0;
}

_Noreturn void child_start(const struct child_start *start, int sock, char *step)
{
    struct child c = {.sock = sock,
                      .step = step,
                      .proc_self = -1,
                      .proc_fs = -1,
                      .built = -1,
                      .join_pid = start->join_pid,
                      .join_target = start->target,
                      .proc_tree = -1,
                      .stdio = {-1, -1, -1},
                      .tty = -1,
                      .host_root = -1};
    struct error err = ERROR_INIT;
    const int keep[] = {sock,
                        start->pod->ns[POD_NS_NET],
                        start->pod->ns[POD_NS_IPC],
                        start->pod->ns[POD_NS_UTS],
                        start->pod->ns[POD_NS_USER],
                        start->pod->mount_template,
                        start->join_pid,
                        start->join_proc};

    container_forget_output(start->pod);
    memcpy(c.ns, start->pod->ns, sizeof(c.ns));
    c.ns[POD_NS_PROC] = start->join_proc;
    c.uids = start->pod->uids;
    c.gids = start->pod->gids;
    c.mount_template = start->pod->mount_template;
    c.split = start->split;
    child_step(&c, "begin");
    int rc = child_begin(&c, keep, ARRAY_SIZE(keep), &err);
    if (rc == 0)
        rc = place_begin(&c, start, &err);
    if (rc == 0 && c.join_pid >= 0)
        rc = stage_make_key(&c, &err);
    const Pod__LaunchPlan *plan = receive_plan(&c, rc < 0 ? NULL : &err);
    if (rc == 0)
        rc = plan ? check_plan(&c, plan, &err) : -err.errnum;
    if (rc == 0)
        rc = child_settle(&c, plan->process, &err);
    if (rc == 0) {
        c.hooks = plan->hooks;
        rc = child_enter_root(&c, plan, &err);
    }
    if (!c.gone) // also after a failure: it is the start's answer
        child_receive_go(&c);
    if (rc == 0 && plan->process->tty != c.go_tty)
        rc = error_set(&err, STATUS_INVALID_ARGUMENT, EINVAL,
                       "the plan and the order differ about a terminal");
    if (rc == 0) {
        child_step(&c, "user");
        rc = child_resolve_user(&c, plan->process, &err);
    }
    if (rc == 0)
        rc = userns_check_account(&c, &err);
    if (rc == 0) {
        child_own_stdio(&c);
        (void)child_run(&c, plan->process, &err);
    }
    child_fail(&c, &err);
}

static int join_container(struct child *c, const struct child_exec *exec, struct error *err)
{
    child_step(c, "join cgroups");
    if (exec->place && !exec->in_cgroup) {
        int rc = cgroups_join_place(exec->place, exec->exec_id, err);
        if (rc < 0)
            return rc;
    }
    cgroups_close_parents();
    child_step(c, "join namespaces");
    int all = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    // Its pid namespace is where we are already, or where our second stage will be.
    if (setns(exec->init_pidfd, all | (exec->two_stages && exec->join_pid ? CLONE_NEWPID : 0)) < 0)
        return errno == ESRCH ? error_set(err, STATUS_FAILED_PRECONDITION, ESRCH, "it has just exited")
                              : error_errno(err, errno, "join the container's namespaces");
    (void)close(exec->init_pidfd);
    return 0;
}

_Noreturn void child_exec(const struct child_exec *exec, int sock, char *step)
{
    struct child c = {.sock = sock, .step = step, .proc_self = -1, .proc_fs = -1, .built = -1, .tty = -1};
    c.join_pid = c.proc_tree = -1;
    struct error err = ERROR_INIT;
    const int keep[] = {sock,           exec->init_pidfd, exec->pod->ns[POD_NS_USER],
                        exec->stdio[0], exec->stdio[1],   exec->stdio[2]};

    container_forget_output(exec->pod);
    memcpy(c.stdio, exec->stdio, sizeof(c.stdio));
    memcpy(c.ns, exec->pod->ns, sizeof(c.ns));
    c.uids = exec->pod->uids;
    c.gids = exec->pod->gids;
    child_step(&c, "begin");
    int rc = child_begin(&c, keep, ARRAY_SIZE(keep), &err);
    if (rc == 0 && exec->two_stages)
        rc = stage_make_key(&c, &err);
    if (rc == 0)
        rc = join_container(&c, exec, &err);
    child_step(&c, "user");
    if (rc == 0)
        rc = child_resolve_user(&c, exec->process, &err);
    if (rc == 0 && exec->process->n_args == 0)
        rc = error_set(&err, STATUS_INVALID_ARGUMENT, EINVAL, "no command");
    if (rc == 0)
        rc = userns_check_account(&c, &err);
    if (rc == 0) {
        child_own_stdio(&c);
        rc = child_settle(&c, exec->process, &err);
    }
    if (rc == 0 && userns_wanted(&c))
        rc = userns_enter(&c, &err);
    if (rc == 0)
        (void)child_run(&c, exec->process, &err);
    child_fail(&c, &err);
}
