// The v2 driver: one tree.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define KILL_PASSES 16
#define FIELD(name) "linux.resources." name

// What containers' limits and statistics need. Processes live in leaves only, so that the "no internal
// processes" rule lets every level above hand these down.
static const enum cgroup_controller wanted[] = {CGROUP_CPU,  CGROUP_CPUSET, CGROUP_MEMORY,
                                                CGROUP_PIDS, CGROUP_BLKIO,  CGROUP_HUGETLB};

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n + strspn(p + n, " ");
    }
    return false;
}

// Enables in one place what it has and its children don't get yet. Only missing ones are written: the pod's
// own place is kubelet's, and is left alone where kubelet has done it.
static int hand_down(const struct cgroup_hierarchy_fd *root, const char *path, struct error *err)
{
    char have[512], on[512];
    int r = cgroup_file_read(root, path, "cgroup.controllers", have, sizeof(have));
    if (r == 0)
        r = cgroup_file_read(root, path, "cgroup.subtree_control", on, sizeof(on));
    if (r < 0)
        return error_errno(err, -r, "read the controllers of cgroup %s", path[0] ? path : "/");
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        const char *name = cgroup_controller_name(wanted[i], true);
        char word[32];
        if (!has_word(have, name) || has_word(on, name))
            continue;
        (void)snprintf(word, sizeof(word), "+%s", name);
        r = cgroup_file_write(root, path, "cgroup.subtree_control", word);
        if (r < 0)
            return error_set(err, r == -EBUSY ? STATUS_FAILED_PRECONDITION : error_status_of_errno(-r), -r,
                             "enable the %s controller below cgroup %s%s: %s", name, path[0] ? path : "/",
                             r != -EBUSY ? ""
                             : path[0]   ? " (processes live in it: give pods another cgroup_parent)"
                                       : " (processes live in the root of this cgroup namespace: a container "
                                         "with crispd in it has to move its own to a leaf first)",
                             strerror(-r));
    }
    return 0;
}

static int v2_made(struct cgroup_host *h, const char *path, bool leaf, struct error *err)
{
    // The tree's root hands down to the first level.
    if (strchr(path + 1, '/') == NULL) {
        int r = hand_down(&h->fds[0], "", err);
        if (r < 0)
            return r;
    }
    return leaf ? 0 : hand_down(&h->fds[0], path, err);
}

static int compile_cpu(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r,
                       struct cgroup_writes *ws, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = &h->fds[0];
    int n = 0;
    if (r->cpu_shares != 0)
        n = cgroup_writes_add(ws, root, FIELD("cpu_shares"), err, "cpu.weight", "%llu",
                              (unsigned long long)cgroup_weight_of_shares(r->cpu_shares));
    if (n < 0 || (r->cpu_quota == 0 && r->cpu_period == 0))
        return n;
    // "QUOTA PERIOD"; what isn't given stays as it is.
    char now[CGROUP_VALUE_MAX] = "max 100000", quota[32], period[32];
    (void)cgroup_file_read(root, path, "cpu.max", now, sizeof(now));
    size_t word = strcspn(now, " ");
    (void)snprintf(quota, sizeof(quota), "%.*s", (int)word, now);
    (void)snprintf(period, sizeof(period), "%s", now[word] ? now + word + 1 : "100000");
    if (r->cpu_quota > 0)
        (void)snprintf(quota, sizeof(quota), "%lld", (long long)r->cpu_quota);
    else if (r->cpu_quota < 0)
        (void)snprintf(quota, sizeof(quota), "max");
    if (r->cpu_period > 0)
        (void)snprintf(period, sizeof(period), "%lld", (long long)r->cpu_period);
    return cgroup_writes_add(ws, root, r->cpu_quota ? FIELD("cpu_quota") : FIELD("cpu_period"), err,
                             "cpu.max", "%s %s", quota, period);
}

// The kernel takes a memory.max below what is in use, and kills for it. So what it can give back (the page
// cache) is reclaimed first, as v1's kernel does by itself, and if that isn't enough the limit is refused.
static int make_room(const struct cgroup_hierarchy_fd *root, const char *path, const char *field,
                     int64_t limit, struct error *err)
{
    int64_t now = 0;
    for (int i = 0; i < 2; i++) {
        char excess[32];
        int r = cgroup_file_read_i64(root, path, "memory.current", &now);
        if (r < 0) // the container is there, whatever its cgroup is
            return error_set(err, r == -ENOENT ? STATUS_FAILED_PRECONDITION : error_status_of_errno(-r), -r,
                             "%s: read memory.current of cgroup %s: %s", field, path, strerror(-r));
        if (now <= limit)
            return 0;
        (void)snprintf(excess, sizeof(excess), "%lld", (long long)(now - limit));
        if (i == 0) // Linux 5.19; says EAGAIN when it could not reclaim that much
            (void)cgroup_file_write(root, path, "memory.reclaim", excess);
    }
    return error_set(
        err, STATUS_FAILED_PRECONDITION, EBUSY,
        "%s: %lld is below the %lld bytes that are in use in cgroup %s, which are left as they are", field,
        (long long)limit, (long long)now, path);
}

static int compile_memory(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r,
                          bool fresh, struct cgroup_writes *ws, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = &h->fds[0];
    int64_t limit = r->memory_limit_in_bytes, swap = r->memory_swap_limit_in_bytes;
    int n = 0;
    if (limit > 0 && !fresh)
        n = make_room(root, path, FIELD("memory_limit_in_bytes"), limit, err);
    if (n == 0 && limit > 0)
        n = cgroup_writes_add(ws, root, FIELD("memory_limit_in_bytes"), err, "memory.max", "%lld",
                              (long long)limit);
    else if (limit < 0)
        n = cgroup_writes_add(ws, root, FIELD("memory_limit_in_bytes"), err, "memory.max", "max");
    if (n < 0 || swap == 0)
        return n;
    // A kernel that doesn't account swap has no such file; then none is what a limit of none asks for.
    bool accounted = cgroup_file_exists(root, path, "memory.swap.max");
    if (swap < 0 && !accounted)
        return 0;
    if (swap < 0)
        return cgroup_writes_add(ws, root, FIELD("memory_swap_limit_in_bytes"), err, "memory.swap.max",
                                 "max");
    // CRI's swap limit is memory and swap together, the kernel's is swap alone.
    if (limit == 0 && (fresh || cgroup_file_read_i64(root, path, "memory.max", &limit) < 0))
        limit = -1;
    if (limit < 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         FIELD("memory_swap_limit_in_bytes") ": memory and swap are limited together only "
                                                             "where memory has a limit");
    if (swap < limit)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         FIELD("memory_swap_limit_in_bytes") " %lld is below the memory limit",
                         (long long)swap);
    if (swap == limit && !accounted)
        return 0;
    if (!accounted)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         FIELD("memory_swap_limit_in_bytes") ": this kernel doesn't account swap");
    return cgroup_writes_add(ws, root, FIELD("memory_swap_limit_in_bytes"), err, "memory.swap.max", "%lld",
                             (long long)(swap - limit));
}

// The kernel takes CPUs that the level above hasn't got, and then does as if nothing had been asked for.
static int check_cpuset(const struct cgroup_hierarchy_fd *root, const char *path, const char *field,
                        const char *file, const char *list, struct error *err)
{
    char parent[CGROUP_PATH_MAX], effective[64], all[CGROUP_TEXT_MAX];
    (void)snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
    (void)snprintf(effective, sizeof(effective), "%s.effective", file);
    if (cgroup_file_read(root, parent, effective, all, sizeof(all)) == 0 && !cgroup_list_within(list, all))
        return error_set(err, STATUS_INVALID_ARGUMENT, ERANGE,
                         "%s: \"%.200s\" is not within \"%.200s\", "
                         "which cgroup %s has",
                         field, list, all, parent[0] ? parent : "/");
    return 0;
}

static int compile_cpuset(const struct cgroup_hierarchy_fd *root, const char *path, const char *field,
                          const char *file, const char *list, struct cgroup_writes *ws, struct error *err)
{
    if (str_empty(list))
        return 0;
    int n = check_cpuset(root, path, field, file, list, err);
    return n < 0 ? n : cgroup_writes_add(ws, root, field, err, file, "%s", list);
}

// "max" (INT64_MAX) or bytes, "10M", as the kernel takes them, but for numbers that it would take for octal
// or wrap around.
static int parse_memory(const char *text, int64_t *out)
{
    static const char units[] = "KMGTPEkmgtpe";
    char number[32];
    size_t len = strlen(text), digits = strspn(text, "0123456789");
    *out = INT64_MAX;
    if (str_eq(text, "max"))
        return 0;
    const char *unit = len == digits + 1 ? strchr(units, text[digits]) : NULL;
    if (digits == 0 || digits >= sizeof(number) || (digits > 1 && text[0] == '0') || (len > digits && !unit))
        return -EINVAL;
    (void)snprintf(number, sizeof(number), "%.*s", (int)digits, text);
    int r = str_parse_i64(number, 0, INT64_MAX, out);
    unsigned shift = unit ? 10 * ((unsigned)(unit - units) % 6 + 1) : 0;
    if (r < 0 || *out > INT64_MAX >> shift)
        return -ERANGE;
    *out <<= shift;
    return 0;
}

// By this way, too, nothing is asked for that would kill, or that the kernel takes and doesn't do.
static int check_unified(const struct cgroup_hierarchy_fd *root, const char *path, const char *key,
                         const char *value, bool fresh, struct error *err)
{
    char line[CGROUP_VALUE_MAX];
    int64_t limit;
    size_t len = strlen(value);
    len -= len > 0 && value[len - 1] == '\n';
    (void)snprintf(line, sizeof(line), "%.*s", (int)(len < sizeof(line) ? len : sizeof(line) - 1), value);
    if (str_eq(key, "cpuset.cpus") || str_eq(key, "cpuset.mems"))
        return check_cpuset(root, path,
                            str_eq(key, "cpuset.cpus") ? FIELD("unified") ": cpuset.cpus"
                                                       : FIELD("unified") ": cpuset.mems",
                            key, line, err);
    if (fresh || !str_eq(key, "memory.max"))
        return 0;
    if (parse_memory(line, &limit) < 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         FIELD("unified") ": memory.max \"%.60s\" is neither \"max\" nor a number of bytes "
                                          "such as 10485760 or 10M",
                         line);
    return make_room(root, path, FIELD("unified") ": memory.max", limit, err);
}

// One line a write, as the kernel takes them: io.max has one for each device.
static int compile_unified_lines(const struct cgroup_hierarchy_fd *root, const char *key, const char *value,
                                 struct cgroup_writes *ws, struct error *err)
{
    int n = 0;
    for (const char *line = value; n == 0 && *line;) {
        size_t len = strcspn(line, "\n");
        if (len > 0)
            n = cgroup_writes_add(ws, root, FIELD("unified"), err, key, "%.*s", (int)len, line);
        line += len + (line[len] == '\n');
    }
    return n;
}

static int compile_unified(const struct cgroup_hierarchy_fd *root, const char *path,
                           const Cri__LinuxContainerResources *r, bool fresh, struct cgroup_writes *ws,
                           struct error *err)
{
    for (size_t i = 0; i < r->n_unified; i++) {
        const char *key = r->unified[i]->key;
        struct stat st;
        _cleanup_fd_ int fd = cgroup_file_open(root, path, key, O_PATH);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
            return error_set(err, STATUS_INVALID_ARGUMENT, ENOENT,
                             FIELD("unified") ": this kernel's cgroups have no \"%.60s\"", key);
        // Only what can be read can be put back, and told.
        if ((st.st_mode & 0600) != 0600)
            return error_set(err, STATUS_INVALID_ARGUMENT, EACCES,
                             FIELD("unified") ": \"%.60s\" is nothing that can be set", key);
        int n = check_unified(root, path, key, r->unified[i]->value, fresh, err);
        if (n == 0)
            n = compile_unified_lines(root, key, r->unified[i]->value, ws, err);
        if (n < 0)
            return n;
    }
    return 0;
}

static int v2_compile(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r,
                      bool fresh, struct cgroup_writes *ws, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = &h->fds[0];
    if (!fresh && !cgroup_file_exists(root, path, ""))
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOENT,
                         "linux.resources: cgroup %s is gone: somebody has removed it", path);
    int n = compile_cpu(h, path, r, ws, err);
    if (n == 0)
        n = compile_memory(h, path, r, fresh, ws, err);
    if (n == 0)
        n = compile_cpuset(root, path, FIELD("cpuset_cpus"), "cpuset.cpus", r->cpuset_cpus, ws, err);
    if (n == 0)
        n = compile_cpuset(root, path, FIELD("cpuset_mems"), "cpuset.mems", r->cpuset_mems, ws, err);
    if (n == 0)
        n = cgroup_writes_add_hugepages(h, path, r, "max", ws, err);
    return n < 0 ? n : compile_unified(root, path, r, fresh, ws, err);
}

static void kill_pid(pid_t pid, void *arg)
{
    (void)arg;
    (void)kill(pid, SIGKILL);
}

// Where cgroup.kill is not: in a threaded cgroup, which a privileged container can make of its own.
static int freeze_and_kill(const struct cgroup_hierarchy_fd *root, const char *path, struct error *err)
{
    long killed = 0;
    bool frozen = cgroup_file_write(root, path, "cgroup.freeze", "1") == 0;
    for (int pass = 0; pass < KILL_PASSES; pass++) { // freezing takes a moment, in which they may fork
        killed = cgroup_each_pid(root, path, kill_pid, NULL);
        if (killed <= 0)
            break;
    }
    if (frozen)
        (void)cgroup_file_write(root, path, "cgroup.freeze", "0");
    return killed < 0 && killed != -ENOENT
               ? error_errno(err, (int)-killed, "kill the processes of cgroup %s", path)
               : 0;
}

static int v2_kill(struct cgroup_host *h, const char *path, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = &h->fds[0];
    int r = cgroup_file_write(root, path, "cgroup.kill", "1"); // Linux 5.14
    if (r == -EOPNOTSUPP || (r == -ENOENT && cgroup_file_exists(root, path, "")))
        return freeze_and_kill(root, path, err);
    if (r < 0 && r != -ENOENT)
        return error_errno(err, -r, "kill the processes of cgroup %s", path);
    return 0;
}

static int64_t limit_now(int64_t now, int64_t asked)
{
    return now >= 0 ? now : asked < 0 ? -1 : 0; // -1: "max"
}

static void read_cpu(const struct cgroup_hierarchy_fd *root, const char *path,
                     Cri__LinuxContainerResources *io)
{
    char text[CGROUP_TEXT_MAX];
    int64_t v;
    if (cgroup_file_read_i64(root, path, "cpu.weight", &v) == 0)
        io->cpu_shares = cgroup_shares_of_weight((uint64_t)v, io->cpu_shares);
    if (cgroup_file_read(root, path, "cpu.max", text, sizeof(text)) < 0)
        return;
    size_t word = strcspn(text, " ");
    if (text[word] && str_parse_i64(text + word + 1, 1, INT64_MAX, &v) == 0)
        io->cpu_period = v;
    text[word] = '\0';
    io->cpu_quota = limit_now(str_parse_i64(text, 1, INT64_MAX, &v) == 0 ? v : -1, io->cpu_quota);
}

static int read_text(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                     struct arena *arena, char **out)
{
    char text[CGROUP_TEXT_MAX];
    if (cgroup_file_read(root, path, file, text, sizeof(text)) < 0)
        return 0; // the controller is missing
    *out = arena_strdup(arena, text);
    return *out ? 0 : -ENOMEM;
}

static int v2_read(struct cgroup_host *h, const char *path, struct arena *arena,
                   Cri__LinuxContainerResources *io)
{
    const struct cgroup_hierarchy_fd *root = &h->fds[0];
    int64_t limit, swap;
    read_cpu(root, path, io);
    cgroup_read_hugepages(h, path, "max", io);
    cgroup_read_unified(h, path, arena, io);
    int r = read_text(root, path, "cpuset.cpus", arena, &io->cpuset_cpus);
    if (r == 0)
        r = read_text(root, path, "cpuset.mems", arena, &io->cpuset_mems);
    if (r < 0 || !(h->controllers[0] & (1u << CGROUP_MEMORY)))
        return r;
    r = cgroup_file_read_i64(root, path, "memory.max", &limit);
    if (r < 0)
        return r;
    io->memory_limit_in_bytes = limit_now(limit, io->memory_limit_in_bytes);
    // CRI's is memory and swap together.
    if (cgroup_file_read_i64(root, path, "memory.swap.max", &swap) == 0)
        io->memory_swap_limit_in_bytes =
            limit_now(swap < 0 || limit < 0 ? -1 : limit + swap, io->memory_swap_limit_in_bytes);
    return 0;
}

static int64_t v2_oom_kills(struct cgroup_host *h, const char *path)
{
    int64_t count = 0;
    int r = cgroup_file_read_key(&h->fds[0], path, "memory.events", "oom_kill", &count);
    return r < 0 ? r : count;
}

const struct cgroup_driver cgroup_driver_v2 = {
    .name = "v2",
    .made = v2_made,
    .compile = v2_compile,
    .devices = cgroup_bpf_devices,
    .kill = v2_kill,
    .read = v2_read,
    .oom_kills = v2_oom_kills,
};
