#include "runtime/pod/cgroups.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirwalk.h"
#include "base/log.h"
#include "base/str.h"

#define EXEC_PREFIX    "exec-"
#define WALK_BYTES     ((size_t)1 << 20) // some 3,000 levels
#define WALK_BYTES_MAX ((size_t)64 << 20)
#define PIDS_MAX       ((size_t)4 << 20) // bytes of one cgroup.procs (4 million pids are 32 MiB: more passes then)

// The directories that a pod's cgroups are in: each path of theirs is seven components long, and the kernel
// walks cgroup file systems slowly.
static struct {
    char *path;
    size_t len;
    int fd;
} parents[CGROUPS_PARENTS_MAX];
static size_t n_parents;

void cgroups_remember_parent(const char *dir)
{
    const char *slash = strrchr(dir, '/');

    if (!slash || slash == dir || n_parents == CGROUPS_PARENTS_MAX)
        return;
    char *path = strndup(dir, (size_t)(slash - dir));
    int fd = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        free(path);
        return;
    }
    parents[n_parents].path = path;
    parents[n_parents].len = (size_t)(slash - dir);
    parents[n_parents++].fd = fd;
}

size_t cgroups_parent_fds(int fds[CGROUPS_PARENTS_MAX])
{
    for (size_t i = 0; i < n_parents; i++)
        fds[i] = parents[i].fd;
    return n_parents;
}

void cgroups_close_parents(void)
{
    for (size_t i = 0; i < n_parents; i++) {
        fd_closep(&parents[i].fd);
        free(parents[i].path);
    }
    n_parents = 0;
}

// The remembered directory that path is below of, or AT_FDCWD; *path is what is left to walk.
static int nearest(const char **path)
{
    for (size_t i = 0; i < n_parents; i++) {
        if (strncmp(*path, parents[i].path, parents[i].len) != 0 || (*path)[parents[i].len] != '/')
            continue;
        *path += parents[i].len + 1;
        return parents[i].fd;
    }
    return AT_FDCWD;
}

bool cgroups_within_reach(const Pod__CgroupPlace *place)
{
    for (size_t i = 0; i < place->n_dirs; i++) {
        const char *path = place->dirs[i];
        if (nearest(&path) == AT_FDCWD)
            return false;
    }
    return true;
}

static int write_at(int dir, const char *file, const char *text)
{
    _cleanup_fd_ int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

// By "tasks" where there is one (v1): a thread that moves only itself needs no global lock (Linux 5.5), whose
// writers wait out an RCU grace period, milliseconds on an idle machine. All who call this have one thread.
int cgroups_join(const char *dir, struct error *err)
{
    _cleanup_free_ char *tasks = str_printf("%s/tasks", dir), *procs = str_printf("%s/cgroup.procs", dir);

    const char *near = dir;
    int parent = nearest(&near);
    size_t skipped = (size_t)(near - dir);
    int rc = tasks && procs ? write_at(parent, tasks + skipped, "0") : -ENOMEM;
    if (rc == -ENOENT)
        rc = write_at(parent, procs + skipped, "0");
    return rc < 0 ? error_errno(err, rc, "join cgroup %s", dir) : 0;
}

int cgroups_join_place(const Pod__CgroupPlace *place, const char *exec_id, struct error *err)
{
    for (size_t i = 0; i < place->n_dirs; i++) {
        _cleanup_free_ char *child = NULL;
        const char *dir = place->dirs[i];
        bool has_exec = place->v2 || (*place->freezer_dir && str_eq(dir, place->freezer_dir));
        if (exec_id && has_exec) {
            child = str_printf("%s/" EXEC_PREFIX "%s", dir, exec_id);
            if (!child)
                return error_errno(err, ENOMEM, "join cgroup %s", dir);
            dir = child;
        }
        int rc = cgroups_join(dir, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

const char *cgroups_kill_dir(const Pod__CgroupPlace *place)
{
    if (place->v2)
        return place->n_dirs ? place->dirs[0] : NULL;
    return *place->freezer_dir ? place->freezer_dir : NULL;
}

int cgroups_exec_create(const Pod__CgroupPlace *place, const char *exec_id, char **dir, struct error *err)
{
    const char *parent = cgroups_kill_dir(place);

    *dir = NULL;
    if (!parent)
        return 0;
    _cleanup_free_ char *path = str_printf("%s/" EXEC_PREFIX "%s", parent, exec_id);
    if (!path)
        return error_errno(err, ENOMEM, "create a cgroup for exec %s", exec_id);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return error_errno(err, errno, "create cgroup %s", path);
    *dir = steal_ptr(&path);
    return 0;
}

// Calls kill(2) for each process of one cgroup; how many there were.
static size_t signal_procs(int dir, int signal)
{
    _cleanup_fd_ int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    char text[4096];
    size_t held = 0, count = 0, total = 0;

    if (fd < 0)
        return 0;
    for (ssize_t n; total < PIDS_MAX && (n = read(fd, text + held, sizeof(text) - 1 - held)) > 0;) {
        total += (size_t)n;
        size_t len = held + (size_t)n;
        text[len] = '\0';
        char *at = text;
        for (char *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
            uint64_t pid;
            *end = '\0';
            // 0 is a process that this pid namespace can't see, and 1 never is a container's.
            if (str_parse_u64(at, 2, INT32_MAX, &pid) == 0) {
                (void)kill((pid_t)pid, signal);
                count++;
            }
        }
        held = len - (size_t)(at - text);
        memmove(text, at, held);
    }
    return count;
}

struct signalling {
    int signal;
    bool thaw; // what is below the place, whose own state holds meanwhile
    size_t count;
};

static long signal_one(int parent, const char *name, int dir, void *arg)
{
    struct signalling *s = arg;

    (void)parent;
    (void)name;
    s->count += signal_procs(dir, s->signal);
    if (s->thaw) // somebody may have frozen an exec's; a frozen process doesn't die
        (void)write_at(dir, "freezer.state", "THAWED");
    return 0;
}

// A container that may write its cgroups nests them as deep as it likes.
static size_t signal_tree(const char *path, int signal, bool thaw)
{
    struct signalling s = {.signal = signal, .thaw = thaw};

    for (size_t bytes = WALK_BYTES; bytes <= WALK_BYTES_MAX; bytes *= 8) {
        s.count = 0; // those that were reached get the signal again
        if (dirwalk(AT_FDCWD, path, bytes, signal_one, &s) != -E2BIG)
            return s.count;
    }
    log_error("cgroups are nested too deep to reach all processes", "cgroup", path);
    return s.count;
}

size_t cgroups_kill(const char *path, bool is_v2)
{
    _cleanup_fd_ int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return 0;
    if (is_v2 && write_at(dir, "cgroup.kill", "1") == 0) {
        char events[256] = "";
        _cleanup_fd_ int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, events, sizeof(events) - 1) > 0)
            return strstr(events, "populated 1") ? 1 : 0;
    }
    if (signal_tree(path, 0, false) == 0)
        return 0;
    // Frozen tasks can't fork on while they are listed; a killed one dies once it is thawed. The freezer need
    // not have settled: a task that runs still stops before it returns from fork().
    if (!is_v2)
        (void)write_at(dir, "freezer.state", "FROZEN");
    return signal_tree(path, SIGKILL, !is_v2); // thaws the place last
}

size_t cgroups_signal(const char *path, int signal)
{
    return signal_tree(path, signal, false);
}

unsigned long cgroups_oom_kills(const Pod__CgroupPlace *place)
{
    char text[1024];

    if (!*place->memory_dir)
        return 0;
    _cleanup_free_ char *path =
        str_printf("%s/%s", place->memory_dir, place->v2 ? "memory.events" : "memory.oom_control");
    _cleanup_fd_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    for (char *line = text, *end; line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (end)
            *end = '\0';
        uint64_t value;
        if (str_has_prefix(line, "oom_kill ") && str_parse_u64(line + 9, 0, UINT64_MAX, &value) == 0)
            return (unsigned long)value;
    }
    return 0;
}
