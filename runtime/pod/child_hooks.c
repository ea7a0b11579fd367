// OCI hooks of a container's own namespaces, and the stop point at which crispd runs those of the host's.
//
// A createContainer hook is a program of the host, which runs as the launching process is: all its
// privileges, the container's namespaces, the host's files (the mount namespace is a copy of the host's until
// pivot_root). A startContainer hook is a program of the container: it gets the container's user,
// capabilities and filter, no more than the container's own command would have.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <linux/close_range.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define STATE_MAX          ((size_t)1 << 20)
#define TAIL_MAX           512  // of what a hook prints: its last bytes go into the error
#define DRAIN_MAX          1024 // reads after its end: somebody whom it left behind may write on
#define TIMEOUT_DEFAULT_MS 60000

// What base/mount_template.c makes, but for the read-only root.
static int make_layout(struct error *err)
{
    static const char *const dirs[] = {"layers", "container", "root"};

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (mkdir(dirs[i], 0755) < 0)
            return error_errno(err, errno, "make /%s", dirs[i]);
    _cleanup_fd_ int null = open("null", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (null < 0 || mount("/dev/null", "null", NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, "null", NULL, MS_PRIVATE, NULL) < 0)
        return error_errno(err, errno, "bind /dev/null of the host");
    return 0;
}

int hooks_enter_host(struct child *c, bool own_cgroup_ns, struct error *err)
{
    const char *dir = c->hooks->root_dir;

    (void)close(c->mount_template);
    c->copied_ns = CLONE_NEWNS | (own_cgroup_ns ? CLONE_NEWCGROUP : 0);
    if (unshare(c->copied_ns) < 0)
        return error_errno(err, errno, "make a mount namespace");
    // A slave: nothing done here reaches the host, and what the host unmounts does not live on here.
    if (mount("", "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        return error_errno(err, errno, "make the mount namespace a slave");
    c->host_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->host_root < 0)
        return error_errno(err, errno, "open the host's root");
    if (mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=16k,nr_inodes=16") < 0 ||
        chdir(dir) < 0)
        return error_errno(err, errno, "mount a place for the root on %s", dir);
    if (mount(NULL, ".", NULL, MS_PRIVATE, NULL) < 0)
        return error_errno(err, errno, "make %s private", dir);
    int rc = make_layout(err);
    // So that everything is where it is without hooks. pivot_root(2) needs the true root: hooks_leave_host().
    if (rc == 0 && (chroot(".") < 0 || chdir("/") < 0))
        rc = error_errno(err, errno, "enter %s", dir);
    return rc;
}

static int go_to_host_root(const struct child *c)
{
    return fchdir(c->host_root) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
}

int hooks_leave_host(struct child *c, struct error *err)
{
    if (c->host_root < 0)
        return 0;
    int rc = go_to_host_root(c);
    fd_closep(&c->host_root);
    return rc < 0 ? error_errno(err, rc, "return to the host's root") : 0;
}

static int hold(struct child *c, struct error *err)
{
    struct report r = {.kind = REPORT_HELD};
    char go;
    size_t none = 0;

    child_receive_go(c);
    child_step(c, "hooks of the host");
    long n = launch_send(c->sock, &r, offsetof(struct report, groups), NULL, 0);
    if (n < 0)
        return error_errno(err, (int)n, "report that the namespaces are made");
    // Ends when crisp-pod does, or lets go of it.
    if (launch_recv(c->sock, &go, sizeof(go), NULL, &none, 0) <= 0)
        _exit(1);
    return 0;
}

// The state of the OCI runtime specification, as a file to read from its beginning.
static int state_file(const Pod__Hooks *hooks, const char *status, pid_t pid, struct error *err)
{
    struct buf text;

    buf_init(&text, STATE_MAX);
    int rc = buf_printf(&text, "{\"status\":\"%s\",", status);
    if (rc == 0 && pid)
        rc = buf_printf(&text, "\"pid\":%d,", (int)pid);
    if (rc == 0)
        rc = buf_printf(&text, "%s}", hooks->state);
    _cleanup_fd_ int fd = rc < 0 ? -1 : memfd_create("state", MFD_CLOEXEC);
    if (rc == 0)
        rc = fd < 0 ? -errno : file_write_all(fd, text.data, text.len);
    buf_done(&text);
    if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
        rc = -errno;
    return rc < 0 ? error_errno(err, rc, "write the state for a hook") : steal_fd(&fd);
}

static char **strings(char *const *list, size_t n, const char *alone)
{
    char **out = calloc(n + 2, sizeof(*out));

    for (size_t i = 0; out && i < n; i++)
        out[i] = list[i];
    if (out && n == 0 && alone)
        out[0] = (char *)(uintptr_t)alone;
    return out;
}

static int keep_all_caps(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) < 0)
        return -errno;
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].inheritable = data[i].permitted;
    if (syscall(SYS_capset, &head, data) < 0)
        return -errno;
    uint64_t held = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    for (unsigned long n = 0; n < 64; n++)
        if ((held >> n & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) < 0)
            return -errno;
    return 0;
}

// In a pod with a user namespace: the host's id of the pod's root, so that what a createContainer hook makes
// in the root has the right owner, but with all capabilities, which it needs for the host's files and for
// mounts there.
static int become_pod_root(const struct child *c, struct error *err)
{
    if (!userns_wanted(c))
        return 0;
    uid_t uid = userns_host_uid(c, 0);
    gid_t gid = userns_host_gid(c, 0);
    if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
        setresuid(uid, uid, uid) < 0)
        return error_errno(err, errno, "become the root of the pod's user namespace");
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); // changing ids has cleared it
    int rc = keep_all_caps();
    return rc < 0 ? error_errno(err, rc, "keep capabilities") : 0;
}

// A container's program in a pid namespace with others: in two stages, as the container itself.
static int hook_hand_over(struct child *c, const Pod__Process *process, struct error *err)
{
    int gate[2], rc = stage_make_key(c, err);

    if (rc == 0)
        rc = stage_enter_pid_ns(c, err);
    if (rc == 0 && pipe2(gate, O_CLOEXEC) < 0)
        rc = error_errno(err, errno, "make a pipe");
    if (rc == 0)
        rc = child_drop_privileges(c, process, err);
    return rc == 0 ? stage_hand_over(c, gate, false, err) : rc;
}

// In the hook's process. What can't be done is said on its standard error.
static _Noreturn void become_hook(struct child *c, const Pod__Hook *h, const Pod__Process *process, int in,
                                  int out, int sock)
{
    char **argv = strings(h->args, h->n_args, h->path), **env = strings(h->env, h->n_env, NULL);
    struct error err = ERROR_INIT;
    int rc = 0;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); // a hook doesn't outlive the launch that waits for it
    (void)setsid();
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        _exit(127);
    (void)close(c->sock); // what this process does is not the launch's progress
    c->sock = sock;
    if (c->host_root >= 0 && (rc = go_to_host_root(c)) < 0)
        (void)error_errno(&err, rc, "enter the host's root");
    if (rc == 0 && !process)
        rc = become_pod_root(c, &err);
    if (rc == 0 && process)
        rc = sock >= 0 ? hook_hand_over(c, process, &err) : child_drop_privileges(c, process, &err);
    if (rc == 0 && argv && env) {
        (void)execve(h->path, argv, env);
        (void)error_errno(&err, errno, "exec");
    }
    ssize_t n = write(2, err.message, strlen(err.message));
    _exit(n < 0 ? 126 : 127);
}

// Keeps the last bytes that come. As read(2), but -1 for nothing at present only.
static ssize_t read_tail(int fd, char tail[TAIL_MAX], size_t *len)
{
    char more[TAIL_MAX];
    ssize_t n = read(fd, more, sizeof(more));

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : 0;
    size_t keep = *len + (size_t)n > TAIL_MAX ? TAIL_MAX - (size_t)n : *len;
    memmove(tail, tail + (*len - keep), keep);
    memcpy(tail + keep, more, (size_t)n);
    *len = keep + (size_t)n;
    return n;
}

// Waits for the hook's end, and reads what it prints meanwhile. Processes that it leaves behind in its
// session's group are killed. *timed_out: it was killed.
static void await(int pidfd, pid_t pid, int out, int64_t deadline, char tail[TAIL_MAX], size_t *len,
                  bool *timed_out)
{
    bool open = true;

    for (;;) {
        struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = open ? out : -1, .events = POLLIN}};
        int64_t left = (deadline - clock_mono_ns()) / NS_PER_MS;
        if (left <= 0) {
            *timed_out = true;
            (void)kill(-pid, SIGKILL); // its session
            (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
            return;
        }
        if (poll(p, 2, left < 10000 ? (int)left + 1 : 10000) < 0 && errno != EINTR)
            return;
        if (p[1].revents)
            open = read_tail(out, tail, len) != 0;
        if (p[0].revents) {
            // What it printed itself is there by now.
            for (int i = 0; i < DRAIN_MAX && open && read_tail(out, tail, len) > 0; i++)
                ;
            (void)kill(-pid, SIGKILL); // nobody else's number as long as it is not reaped
            return;
        }
    }
}

static void clean_tail(char *tail, size_t *len)
{
    while (*len > 0 && (tail[*len - 1] == '\n' || tail[*len - 1] == ' '))
        --*len;
    for (size_t i = 0; i < *len; i++)
        if ((unsigned char)tail[i] < ' ' || (unsigned char)tail[i] >= 0x7f)
            tail[i] = ' ';
}

static int judge(const Pod__Hook *h, int status, bool timed_out, uint32_t timeout_ms, const char *tail,
                 size_t len, struct error *err)
{
    const char *colon = len > 0 ? ": " : "";

    if (timed_out)
        return error_set(err, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "%s was killed after %u ms%s%.*s", h->path,
                         timeout_ms, colon, (int)len, tail);
    if (WIFSIGNALED(status))
        return error_set(err, STATUS_FAILED_PRECONDITION, ECHILD, "%s was killed by signal %d%s%.*s", h->path,
                         WTERMSIG(status), colon, (int)len, tail);
    if (WEXITSTATUS(status) != 0)
        return error_set(err, STATUS_FAILED_PRECONDITION, ECHILD, "%s failed with exit code %d%s%.*s",
                         h->path, WEXITSTATUS(status), colon, (int)len, tail);
    return 0;
}

// The hook itself is the second process then: what it was made by has ended.
static void take_second(int sock, pid_t *pid, int *pidfd)
{
    int second_fd = -1;
    pid_t second = stage_await_second(sock, *pid, &second_fd);

    if (second == 0)
        return;
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        ;
    fd_closep(pidfd);
    *pidfd = second_fd;
    *pid = second;
}

static int run_one(struct child *c, const Pod__Hooks *hooks, const Pod__Hook *h, const char *status_word,
                   const Pod__Process *process, struct error *err)
{
    uint32_t timeout_ms = h->timeout_ms ? h->timeout_ms : TIMEOUT_DEFAULT_MS;
    bool stages = process && c->join_pid >= 0;
    // The pid as the container sees it: the specification has it so for hooks in the container's namespaces.
    // In those of two stages it has none yet.
    _cleanup_fd_ int in = state_file(hooks, status_word, stages ? 0 : getpid(), err);
    _cleanup_fd_ int pidfd = -1, reader = -1, writer = -1, ours = -1, theirs = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    char tail[TAIL_MAX];
    size_t len = 0;
    bool timed_out = false;
    int pair[2], status = 0;

    if (in < 0)
        return in;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_errno(err, errno, "%s", h->path);
    reader = pair[0];
    writer = pair[1];
    if (stages && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(err, errno, "%s", h->path);
    ours = stages ? pair[0] : -1;
    theirs = stages ? pair[1] : -1;
    if (stages && launch_name_senders(ours) < 0)
        return error_errno(err, errno, "%s", h->path);
    pid_t pid = sys_clone3(&args);
    if (pid == 0)
        become_hook(c, h, process, in, writer, theirs);
    if (pid < 0)
        return error_errno(err, errno, "%s: make its process", h->path);
    fd_closep(&writer);
    fd_closep(&theirs);
    if (stages)
        take_second(ours, &pid, &pidfd);
    (void)fcntl(reader, F_SETFL, O_NONBLOCK);
    await(pidfd, pid, reader, clock_mono_ns() + timeout_ms * NS_PER_MS, tail, &len, &timed_out);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    clean_tail(tail, &len);
    return judge(h, status, timed_out, timeout_ms, tail, len, err);
}

static int run_all(struct child *c, const char *point, Pod__Hook *const *list, size_t n, const char *status,
                   const Pod__Process *process, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        child_step(c, "%s hook %s", point, list[i]->path);
        int rc = run_one(c, c->hooks, list[i], status, process, err);
        if (rc < 0)
            return error_wrap(err, "%s hook", point);
    }
    return 0;
}

int hooks_before_pivot(struct child *c, struct error *err)
{
    int rc = c->hold ? hold(c, err) : 0;

    if (rc == 0 && c->hooks)
        rc = run_all(c, "createContainer", c->hooks->create_container, c->hooks->n_create_container,
                     "creating", NULL, err);
    return rc;
}

int hooks_before_exec(struct child *c, const Pod__Process *process, struct error *err)
{
    return c->hooks ? run_all(c, "startContainer", c->hooks->start_container, c->hooks->n_start_container,
                              "created", process, err)
                    : 0;
}
