// The v1 driver: one hierarchy per controller.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define KILL_PASSES 16

#define FIELD(name) "linux.resources." name

const struct cgroup_device_rule cgroup_default_devices[] = {
    {'c', -1, -1, "m"},    // making device nodes is harmless: opening one is what needs a rule
    {'b', -1, -1, "m"},    //
    {'c', 1, 3, "rwm"},    // null
    {'c', 1, 5, "rwm"},    // zero
    {'c', 1, 7, "rwm"},    // full
    {'c', 1, 8, "rwm"},    // random
    {'c', 1, 9, "rwm"},    // urandom
    {'c', 5, 0, "rwm"},    // tty
    {'c', 5, 2, "rwm"},    // ptmx
    {'c', 136, -1, "rwm"}, // pseudo-terminals
};
const size_t cgroup_n_default_devices = sizeof(cgroup_default_devices) / sizeof(cgroup_default_devices[0]);

bool cgroup_device_is_default(const struct cgroup_device_rule *d)
{
    for (size_t i = 0; i < cgroup_n_default_devices; i++) {
        const struct cgroup_device_rule *o = &cgroup_default_devices[i];
        if (o->type == d->type && o->major == d->major && o->minor == d->minor && d->major >= 0)
            return true;
    }
    return false;
}

// A new v1 cpuset has neither CPUs nor memory nodes, and nothing can join it before it has both.
static int inherit_cpuset(const struct cgroup_hierarchy_fd *root, const char *path, const char *file,
                          struct error *err)
{
    char value[4096], parent[CGROUP_PATH_MAX];
    if (cgroup_file_read(root, path, file, value, sizeof(value)) == 0 && value[0])
        return 0; // it was there, or its parent has cgroup.clone_children
    const char *slash = strrchr(path, '/');
    (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    int r = cgroup_file_read(root, parent, file, value, sizeof(value));
    if (r == 0)
        r = cgroup_file_write(root, path, file, value);
    return r < 0 ? error_errno(err, -r, "copy %s from the parent of cgroup %s", file, path) : 0;
}

static int v1_made(struct cgroup_host *h, const char *path, bool leaf, struct error *err)
{
    (void)leaf;
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_CPUSET);
    if (!root)
        return 0;
    int r = inherit_cpuset(root, path, "cpuset.cpus", err);
    return r < 0 ? r : inherit_cpuset(root, path, "cpuset.mems", err);
}

static int need(const struct cgroup_hierarchy_fd *root, const char *controller, const char *field,
                struct error *err)
{
    return root ? 0
                : error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                            "%s: this host has no %s cgroup controller", field, controller);
}

static int compile_cpu(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r,
                       bool fresh, struct cgroup_writes *ws, struct error *err)
{
    if (r->cpu_shares == 0 && r->cpu_period == 0 && r->cpu_quota == 0)
        return 0;
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_CPU);
    int n = need(root, "cpu", FIELD("cpu_shares"), err);
    if (n == 0 && r->cpu_shares != 0)
        n = cgroup_writes_add(ws, root, FIELD("cpu_shares"), err, "cpu.shares", "%lld",
                              (long long)r->cpu_shares);
    // The kernel compares quota/period with the parent's after each of the two writes: the first one must
    // not be the one that raises the ratio.
    int64_t period_now = 0;
    bool quota_first = !fresh && r->cpu_period != 0 && r->cpu_quota != 0 &&
                       cgroup_file_read_i64(root, path, "cpu.cfs_period_us", &period_now) == 0 &&
                       r->cpu_period < period_now;
    for (int step = 0; step < 2 && n == 0; step++) {
        bool quota = quota_first == (step == 0);
        if (quota && r->cpu_quota != 0)
            n = cgroup_writes_add(ws, root, FIELD("cpu_quota"), err, "cpu.cfs_quota_us", "%lld",
                                  (long long)r->cpu_quota);
        else if (!quota && r->cpu_period != 0)
            n = cgroup_writes_add(ws, root, FIELD("cpu_period"), err, "cpu.cfs_period_us", "%lld",
                                  (long long)r->cpu_period);
    }
    return n;
}

static int compile_memory(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r,
                          bool fresh, struct cgroup_writes *ws, struct error *err)
{
    int64_t limit = r->memory_limit_in_bytes, swap = r->memory_swap_limit_in_bytes;
    if (limit == 0 && swap == 0)
        return 0;
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_MEMORY);
    int n = need(root, "memory", FIELD("memory_limit_in_bytes"), err);
    if (n < 0)
        return n;
    static const char memsw[] = "memory.memsw.limit_in_bytes";
    if (swap > 0 && (limit < 0 || (fresh && limit == 0)))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         FIELD("memory_swap_limit_in_bytes") ": memory and swap are limited together only "
                                                             "where memory has a limit");
    // Swap accounting may be off; then the file is missing and there is no swap to limit by it.
    if (swap != 0 && !cgroup_file_exists(root, path, memsw)) {
        if (swap > 0 && limit > 0 && swap != limit)
            return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                             FIELD("memory_swap_limit_in_bytes") ": this kernel doesn't account swap");
        swap = 0;
    }
    // The kernel wants memory <= memory+swap after each write: raising goes from the outer limit inwards.
    int64_t swap_now = -1;
    bool swap_first = !fresh && swap != 0 && cgroup_file_read_i64(root, path, memsw, &swap_now) == 0 &&
                      (limit < 0 || limit > swap_now);
    for (int step = 0; step < 2 && n == 0; step++) {
        bool is_swap = swap_first == (step == 0);
        if (is_swap && swap != 0)
            n = cgroup_writes_add(ws, root, FIELD("memory_swap_limit_in_bytes"), err, memsw, "%lld",
                                  (long long)swap);
        else if (!is_swap && limit != 0)
            n = cgroup_writes_add(ws, root, FIELD("memory_limit_in_bytes"), err, "memory.limit_in_bytes",
                                  "%lld", (long long)limit);
    }
    return n;
}

static int v1_compile(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *r,
                      bool fresh, struct cgroup_writes *ws, struct error *err)
{
    if (r->n_unified > 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         FIELD("unified") ": \"%.100s\" needs cgroup v2, and this host has cgroup v1",
                         r->unified[0]->key);
    int n = compile_cpu(h, path, r, fresh, ws, err);
    if (n == 0)
        n = compile_memory(h, path, r, fresh, ws, err);
    const struct cgroup_hierarchy_fd *cpuset = cgroup_root_of(h, CGROUP_CPUSET);
    if (n == 0 && !str_empty(r->cpuset_cpus))
        n = cpuset ? cgroup_writes_add(ws, cpuset, FIELD("cpuset_cpus"), err, "cpuset.cpus", "%s",
                                       r->cpuset_cpus)
                   : need(cpuset, "cpuset", FIELD("cpuset_cpus"), err);
    if (n == 0 && !str_empty(r->cpuset_mems))
        n = cpuset ? cgroup_writes_add(ws, cpuset, FIELD("cpuset_mems"), err, "cpuset.mems", "%s",
                                       r->cpuset_mems)
                   : need(cpuset, "cpuset", FIELD("cpuset_mems"), err);
    return n < 0 ? n : cgroup_writes_add_hugepages(h, path, r, "limit_in_bytes", ws, err);
}

// fd: of devices.allow, which takes one rule a write.
static int write_device(int fd, const char *path, const struct cgroup_device_rule *d, struct error *err)
{
    char major[24] = "*", minor[24] = "*", rule[80];
    if (d->major >= 0)
        (void)snprintf(major, sizeof(major), "%lld", (long long)d->major);
    if (d->minor >= 0)
        (void)snprintf(minor, sizeof(minor), "%lld", (long long)d->minor);
    int n = snprintf(rule, sizeof(rule), "%c %s:%s %s", d->type, major, minor, d->access);
    if (n < 0 || (size_t)n >= sizeof(rule) || pwrite(fd, rule, (size_t)n, 0) < 0)
        return error_errno(err, errno, "allow the device \"%s\" in cgroup %s", rule, path);
    return 0;
}

static int v1_devices(struct cgroup_host *h, const char *path, const struct cgroup_devices *d,
                      struct error *err)
{
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_DEVICES);
    int r = need(root, "devices", "device policy", err);
    if (r < 0)
        return r;
    r = cgroup_file_write(root, path, d->allow_all ? "devices.allow" : "devices.deny", "a");
    if (r < 0)
        return error_errno(err, -r, "set the device policy of cgroup %s", path);
    if (d->allow_all)
        return 0;
    _cleanup_fd_ int fd = cgroup_file_open(root, path, "devices.allow", O_WRONLY);
    if (fd < 0)
        return error_errno(err, -fd, "set the device policy of cgroup %s", path);
    for (size_t i = 0; r == 0 && i < cgroup_n_default_devices; i++)
        r = write_device(fd, path, &cgroup_default_devices[i], err);
    for (size_t i = 0; r == 0 && i < d->n_rules; i++) {
        if (!cgroup_device_is_default(&d->rules[i]))
            r = write_device(fd, path, &d->rules[i], err);
    }
    return r;
}

static void kill_pid(pid_t pid, void *arg)
{
    (void)arg;
    (void)kill(pid, SIGKILL);
}

static int v1_kill(struct cgroup_host *h, const char *path, struct error *err)
{
    // Frozen processes can neither fork nor exit, so that no pid can be another's by the time it is killed.
    const struct cgroup_hierarchy_fd *freezer = cgroup_root_of(h, CGROUP_FREEZER);
    const struct cgroup_hierarchy_fd *root = freezer ? freezer : &h->fds[0];
    long killed = 0, total = 0;
    for (int pass = 0; pass < KILL_PASSES; pass++) {
        char state[32] = "";
        if (freezer && cgroup_file_write(freezer, path, "freezer.state", "FROZEN") == 0)
            (void)cgroup_file_read(freezer, path, "freezer.state", state, sizeof(state));
        killed = cgroup_each_pid(root, path, kill_pid, NULL);
        total += killed > 0 ? killed : 0;
        if (killed <= 0 || str_eq(state, "FROZEN"))
            break;
    }
    if (freezer) // what is below it, too: somebody may have frozen an exec's
        cgroup_write_below(freezer, path, "freezer.state", "THAWED");
    if (killed < 0 && killed != -ENOENT)
        return error_errno(err, (int)-killed, "kill the processes of cgroup %s", path);
    if (total > 0)
        return 0;
    // A process that had left the freezer (or died half attached) may still be in another hierarchy.
    for (size_t i = 0; i < h->n; i++)
        (void)cgroup_each_pid(&h->fds[i], path, kill_pid, NULL);
    return 0;
}

// A limit that the kernel has: no limit is what was asked for, if that is none, else 0 (nothing asked).
static int64_t limit_now(int64_t now, int64_t asked)
{
    // "No limit" is the greatest number of whole pages.
    bool none = now < 0 || now > INT64_MAX - (1 << 20);
    return none ? (asked < 0 ? -1 : 0) : now;
}

static void read_cpu(struct cgroup_host *h, const char *path, Cri__LinuxContainerResources *io)
{
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_CPU);
    int64_t v;
    if (root && cgroup_file_read_i64(root, path, "cpu.shares", &v) == 0)
        io->cpu_shares = v;
    if (root && cgroup_file_read_i64(root, path, "cpu.cfs_period_us", &v) == 0)
        io->cpu_period = v;
    if (root && cgroup_file_read_i64(root, path, "cpu.cfs_quota_us", &v) == 0)
        io->cpu_quota = limit_now(v, io->cpu_quota);
}

// Nothing was asked for and the parent has the same: inherited.
static int read_cpuset(struct cgroup_host *h, const char *path, const char *file, struct arena *arena,
                       char **io)
{
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_CPUSET);
    char now[CGROUP_TEXT_MAX], above[CGROUP_TEXT_MAX], parent[CGROUP_PATH_MAX];
    if (!root || cgroup_file_read(root, path, file, now, sizeof(now)) < 0)
        return 0;
    const char *slash = strrchr(path, '/');
    (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    if (str_empty(*io) && cgroup_file_read(root, parent, file, above, sizeof(above)) == 0 &&
        str_eq(now, above))
        return 0;
    *io = arena_strdup(arena, now);
    return *io ? 0 : -ENOMEM;
}

static int v1_read(struct cgroup_host *h, const char *path, struct arena *arena,
                   Cri__LinuxContainerResources *io)
{
    const struct cgroup_hierarchy_fd *memory = cgroup_root_of(h, CGROUP_MEMORY);
    int64_t v;
    read_cpu(h, path, io);
    cgroup_read_hugepages(h, path, "limit_in_bytes", io);
    int r = read_cpuset(h, path, "cpuset.cpus", arena, &io->cpuset_cpus);
    if (r == 0)
        r = read_cpuset(h, path, "cpuset.mems", arena, &io->cpuset_mems);
    if (r < 0 || !memory)
        return r;
    if (cgroup_file_read_i64(memory, path, "memory.memsw.limit_in_bytes", &v) == 0)
        io->memory_swap_limit_in_bytes = limit_now(v, io->memory_swap_limit_in_bytes);
    r = cgroup_file_read_i64(memory, path, "memory.limit_in_bytes", &v);
    if (r == 0)
        io->memory_limit_in_bytes = limit_now(v, io->memory_limit_in_bytes);
    return r;
}

static int64_t v1_oom_kills(struct cgroup_host *h, const char *path)
{
    const struct cgroup_hierarchy_fd *memory = cgroup_root_of(h, CGROUP_MEMORY);
    int64_t count = 0;
    int r = memory ? cgroup_file_read_key(memory, path, "memory.oom_control", "oom_kill", &count) : -ENOTSUP;
    return r < 0 ? r : count;
}

const struct cgroup_driver cgroup_driver_v1 = {
    .name = "v1",
    .made = v1_made,
    .compile = v1_compile,
    .devices = v1_devices,
    .kill = v1_kill,
    .read = v1_read,
    .oom_kills = v1_oom_kills,
};
