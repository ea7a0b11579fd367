// The last steps: standard streams, limits, working directory, privileges, exec.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <linux/close_range.h>
#include <limits.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/pod/child.h"
#include "runtime/pod/sys.h"
#include "runtime/pod/userns.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// The container's own /dev/null, if it has a true one. Looked at before it is opened.
static int open_own_null(struct child *c)
{
    _cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_fd_ int path =
        root < 0 ? -1 : file_open_in_root(root, "/dev/null", O_PATH | O_NOFOLLOW, 0, NULL);
    struct stat st;
    char self[32];

    if (path < 0 || fstat(path, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return -1;
    (void)snprintf(self, sizeof(self), "fd/%d", path);
    return openat(c->proc_self, self, O_RDWR | O_CLOEXEC);
}

// For streams that nobody gave. Never the host's null device, which they are until now: by a descriptor of it
// the container's root could change its mode or owner. Where the container has none, reading is at its end at
// once, and writing fails.
static int set_unused_stdio(struct child *c, struct error *err)
{
    _cleanup_fd_ int null = open_own_null(c);
    int pair[2];

    if (null < 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return error_errno(err, errno, "set up standard streams");
        null = pair[0];
        (void)close(pair[1]);
    }
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return error_errno(err, errno, "set up standard streams");
    return 0;
}

void child_own_stdio(const struct child *c)
{
    uint32_t uid = userns_host_uid(c, c->account.uid);
    struct stat st;

    // So that /dev/stdout can be opened by name by the user that the process is. A comfort: the descriptor
    // itself works.
    for (int i = -1; i < 3; i++) {
        int fd = i < 0 ? c->tty : c->stdio[i];
        if (fd >= 0 && fstat(fd, &st) == 0 && (isatty(fd) || S_ISFIFO(st.st_mode)) && st.st_uid != uid)
            (void)!fchown(fd, uid, (gid_t)-1);
    }
}

int child_set_stdio(struct child *c, bool tty, struct error *err)
{
    int rc = 0;

    if (!tty && (c->stdio[0] < 0 || c->stdio[1] < 0 || c->stdio[2] < 0))
        rc = set_unused_stdio(c, err);
    if (rc < 0)
        return rc;
    for (int i = 0; i < 3; i++) {
        int fd = tty ? c->tty : c->stdio[i];
        if (fd >= 0 && dup2(fd, i) < 0)
            return error_errno(err, errno, "set up standard streams");
    }
    if (tty && !c->key && ioctl(0, TIOCSCTTY, 0) < 0) // of two stages, the second one's
        return error_errno(err, errno, "set the controlling terminal");
    return 0;
}

// After chdir: a directory outside the root ("(unreachable)/…") would be a way out (CVE-2024-21626).
static int check_inside(const char *cwd, struct error *err)
{
    char now[PATH_MAX];

    if (syscall(SYS_getcwd, now, sizeof(now)) < 0 || now[0] != '/')
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "working directory \"%s\" is outside the container", cwd);
    return 0;
}

static int enter_cwd(const Pod__Process *process, struct error *err)
{
    const char *cwd = *process->cwd ? process->cwd : "/";

    if (*cwd != '/')
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "working directory \"%s\" is not absolute",
                         cwd);
    if (chdir(cwd) < 0) {
        if (errno != ENOENT || !process->cwd_from_image) {
            (void)error_errno(err, errno, "working directory \"%s\"", cwd);
            error_restatus(err, STATUS_INVALID_ARGUMENT);
            return -err->errnum;
        }
        _cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_fd_ int dir = root < 0 ? -errno : file_mkdir_p_in_root(root, cwd, 0755, err);
        if (dir < 0)
            return error_wrap(err, "working directory \"%s\"", cwd);
        if (fchdir(dir) < 0)
            return error_errno(err, errno, "working directory \"%s\"", cwd);
    }
    return check_inside(cwd, err);
}

static const char *env_value(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

static char **make_env(const struct child *c, const Pod__Process *process)
{
    char **env = calloc(process->n_env + 2, sizeof(*env));

    for (size_t i = 0; env && i < process->n_env; i++)
        env[i] = process->env[i];
    if (env && !env_value(env, "HOME")) {
        env[process->n_env] = str_printf("HOME=%s", c->account.home);
        if (!env[process->n_env])
            return NULL;
    }
    return env;
}

static int exec_error(const char *name, const char *path, bool searched, int errnum, struct error *err)
{
    if (errnum == ENOENT && searched)
        return error_set(err, STATUS_INVALID_ARGUMENT, errnum,
                         "exec \"%s\": no such file or directory (not found in PATH)", name);
    if (errnum == ENOENT && access(path, F_OK) == 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, errnum,
                         "exec \"%s\": its interpreter or loader is missing in the container", name);
    if (errnum == ENOEXEC)
        return error_set(
            err, STATUS_INVALID_ARGUMENT, errnum,
            "exec \"%s\": exec format error (a program of another architecture, or a script without #!)",
            name);
    (void)error_errno(err, errnum, "exec \"%s\"", name);
    if (errnum == EACCES || errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == E2BIG)
        error_restatus(err, STATUS_INVALID_ARGUMENT);
    return -errnum;
}

// As execvp(3), but a script without "#!" is an error, as with peers, and not given to a shell. A look first
// is ten times cheaper than an execve() in vain; where the filter forbids looking, execve() finds out.
static int exec_program(char **argv, char **env, struct error *err)
{
    const char *name = argv[0], *path = env_value(env, "PATH");
    char file[PATH_MAX];
    int denied = 0;

    if (strchr(name, '/')) {
        (void)execve(name, argv, env);
        return exec_error(name, name, false, errno, err);
    }
    for (path = path && *path ? path : PATH_DEFAULT; *name; path++) {
        size_t len = strcspn(path, ":");
        bool fits =
            snprintf(file, sizeof(file), "%.*s%s%s", (int)len, path, len ? "/" : "./", name) < PATH_MAX;
        if (fits && (faccessat(AT_FDCWD, file, F_OK, 0) == 0 || (errno != ENOENT && errno != ENOTDIR))) {
            (void)execve(file, argv, env);
            if (errno == EACCES)
                denied = EACCES; // as execvp(3): a later directory may have one that works
            else if (errno != ENOTDIR && errno != ESTALE && errno != ENODEV && errno != ETIMEDOUT)
                return exec_error(name, file, false, errno, err);
        }
        path += len;
        if (!*path)
            break;
    }
    return exec_error(name, name, !denied, denied ? denied : ENOENT, err);
}

// The kernel looks for the working directory, the program, its #! and its loader before it closes what is
// close-on-exec: "/proc/self/fd/N/../.." of a directory of the host would lead out of the container, by a
// path that the image chooses (CVE-2024-21626). Nobody needs the host's /proc from here on.
static int let_go_of_host(struct child *c, struct error *err)
{
    const int keep[] = {c->sock, c->join_pid}; // neither is a directory
    int rc = child_close_others(keep, ARRAY_SIZE(keep));

    c->proc_self = c->proc_fs = c->proc_tree = c->host_root = c->tty = -1;
    return rc < 0 ? error_errno(err, rc, "close descriptors") : 0;
}

int child_run(struct child *c, const Pod__Process *process, struct error *err)
{
    char **env = make_env(c, process), **argv = calloc(process->n_args + 1, sizeof(*argv));
    int gate[2] = {-1, -1};

    if (!env || !argv)
        return error_errno(err, ENOMEM, "exec");
    for (size_t i = 0; i < process->n_args; i++)
        argv[i] = process->args[i];
    if (process->tty) // an exec's terminal comes from crispd, as the first descriptor
        for (int i = 0; i < 3 && c->tty < 0; i++)
            c->tty = c->stdio[i];
    child_step(c, "labels");
    int rc = child_confirm_labels(c, process, err);
    child_step(c, "standard streams");
    if (rc == 0)
        rc = child_set_stdio(c, process->tty, err);
    child_step(c, "limits");
    if (rc == 0)
        rc = child_set_limits(process, err);
    if (rc == 0)
        rc = let_go_of_host(c, err);
    child_step(c, "working directory");
    if (rc == 0)
        rc = enter_cwd(process, err);
    child_step(c, "privileges");
    if (rc == 0 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        rc = error_errno(err, errno, "close descriptors");
    (void)umask(0022);
    if (rc == 0)
        rc = hooks_before_exec(c, process, err);
    child_step(c, "privileges");
    if (rc == 0 && c->join_pid >= 0)
        rc = stage_enter_pid_ns(c, err);
    if (rc == 0 && c->key && pipe2(gate, O_CLOEXEC) < 0)
        rc = error_errno(err, errno, "make a pipe");
    if (rc == 0)
        rc = child_drop_privileges(c, process, err);
    if (rc == 0 && c->key)
        rc = stage_hand_over(c, gate, process->tty, err);
    child_step(c, "exec");
    return rc == 0 ? exec_program(argv, env, err) : rc;
}
