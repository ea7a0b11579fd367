// Limits beyond CRI's fields, on both versions of cgroups.
#include "runtime/cgroup_extra.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define FIELD(name) "annotation \"crisp.run/" name "\""

struct extra_job {
    struct cgroup_host *h;
    const char *path;
    const struct cgroup_extra *extra;
    struct cgroup_writes writes;
    struct error *err;
};

static int lacks(struct error *err, const char *field, const char *what)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP, "%s: %s", field, what);
}

// The hierarchy, if the controller and the leaf's file are there.
static int find(struct extra_job *job, enum cgroup_controller controller, const char *field, const char *file,
                const struct cgroup_hierarchy_fd **root)
{
    *root = cgroup_root_of(job->h, controller);
    if (*root && cgroup_file_exists(*root, job->path, file))
        return 0;
    return error_set(job->err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                     "%s: this host's cgroup v%d has no file %s", field, job->h->v2 ? 2 : 1, file);
}

static int add(struct extra_job *job, enum cgroup_controller controller, const char *field, const char *file,
               uint64_t value)
{
    const struct cgroup_hierarchy_fd *root;
    int r = find(job, controller, field, file, &root);
    return r < 0 ? r
                 : cgroup_writes_add(&job->writes, root, field, job->err, file, "%llu",
                                     (unsigned long long)value);
}

// ---- Memory ----

static int compile_memory(struct extra_job *job)
{
    const struct cgroup_extra *x = job->extra;
    bool v2 = job->h->v2;
    int r = 0;
    if (x->has_reservation)
        r = add(job, CGROUP_MEMORY, FIELD("memory-reservation"),
                v2 ? "memory.low" : "memory.soft_limit_in_bytes", x->reservation_bytes);
    if (r == 0 && x->has_swappiness)
        r = v2 ? lacks(job->err, FIELD("memory-swappiness"),
                       "cgroup v2 has no swappiness of single cgroups; limit swap by "
                       "memory_swap_limit_in_bytes")
               : add(job, CGROUP_MEMORY, FIELD("memory-swappiness"), "memory.swappiness", x->swappiness);
    if (r == 0 && x->oom_kill_disable)
        r = v2 ? lacks(job->err, FIELD("oom-kill-disable"),
                       "cgroup v2 can't keep the OOM killer from a cgroup; oom_score_adj makes it a late "
                       "choice")
               : add(job, CGROUP_MEMORY, FIELD("oom-kill-disable"), "memory.oom_control", 1);
    return r;
}

static int compile_pids(struct extra_job *job)
{
    const struct cgroup_hierarchy_fd *root;
    if (!job->extra->has_pids)
        return 0;
    if (job->extra->pids > 0)
        return add(job, CGROUP_PIDS, FIELD("pids-limit"), "pids.max", job->extra->pids);
    int r = find(job, CGROUP_PIDS, FIELD("pids-limit"), "pids.max", &root);
    return r < 0 ? r
                 : cgroup_writes_add(&job->writes, root, FIELD("pids-limit"), job->err, "pids.max", "max");
}

// ---- Disks ----

static const struct {
    const char *field, *v1_file, *v2_key;
} throttles[CGROUP_THROTTLES] = {
    [CGROUP_READ_BPS] = {FIELD("device-read-bps"), "blkio.throttle.read_bps_device", "rbps"},
    [CGROUP_WRITE_BPS] = {FIELD("device-write-bps"), "blkio.throttle.write_bps_device", "wbps"},
    [CGROUP_READ_IOPS] = {FIELD("device-read-iops"), "blkio.throttle.read_iops_device", "riops"},
    [CGROUP_WRITE_IOPS] = {FIELD("device-write-iops"), "blkio.throttle.write_iops_device", "wiops"},
};

static int compile_throttle(struct extra_job *job, enum cgroup_throttle kind)
{
    const char *field = throttles[kind].field;
    const char *file = job->h->v2 ? "io.max" : throttles[kind].v1_file;
    const char *key = job->h->v2 ? throttles[kind].v2_key : "", *equals = job->h->v2 ? "=" : "";
    const struct cgroup_hierarchy_fd *root;
    if (job->extra->n_throttles[kind] == 0)
        return 0;
    int r = find(job, CGROUP_BLKIO, field, file, &root);
    for (size_t i = 0; r == 0 && i < job->extra->n_throttles[kind]; i++) {
        const struct cgroup_device_limit *d = &job->extra->throttles[kind][i];
        r = cgroup_writes_add(&job->writes, root, field, job->err, file, "%u:%u %s%s%llu", d->major, d->minor,
                              key, equals, (unsigned long long)d->rate);
    }
    return r;
}

// Which file there is depends on the disks' scheduler: BFQ has its own.
static int compile_weight(struct extra_job *job)
{
    static const char *const v1_files[] = {"blkio.weight", "blkio.bfq.weight", NULL};
    static const char *const v2_files[] = {"io.bfq.weight", "io.weight", NULL};
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(job->h, CGROUP_BLKIO);
    const char *const *file = job->h->v2 ? v2_files : v1_files;
    if (job->extra->blkio_weight == 0)
        return 0;
    while (*file && !(root && cgroup_file_exists(root, job->path, *file)))
        file++;
    if (!*file)
        return lacks(job->err, FIELD("blkio-weight"),
                     "this host's kernel has no scheduler that weighs cgroups' disk use (BFQ)");
    uint64_t weight = job->extra->blkio_weight;
    if (str_eq(*file,
               "io.weight")) // 1 to 10000 there: the straight line from 10 to 1000, as OCI runtimes use
        weight = 1 + (weight - 10) * 9999 / 990;
    return cgroup_writes_add(&job->writes, root, FIELD("blkio-weight"), job->err, *file, "%llu",
                             (unsigned long long)weight);
}

// ---- Real time ----

#define RT_PERIOD_US 1000000u // the kernel's default
#define RT_WAIT_NS                                                                                           \
    (100 * NS_PER_MS) // for the shares of removed cgroups, which the kernel frees in its own time
#define RT_TRY_MS 2
#define RT_LEVELS 4 // ours above a container: the configuration's parent, the pod's place

static pthread_mutex_t rt_budgets = PTHREAD_MUTEX_INITIALIZER; // read, added up, written

static uint64_t in_period(uint64_t runtime, uint64_t from, uint64_t to)
{
    return from == 0 ? 0 : (uint64_t)(((__uint128_t)runtime * to + from - 1) / from);
}

static void rt_read(const struct cgroup_hierarchy_fd *root, const char *path, uint64_t *runtime,
                    uint64_t *period)
{
    int64_t r = 0, p = 0;
    *runtime = *period = 0;
    if (cgroup_file_read_i64(root, path, "cpu.rt_runtime_us", &r) == 0 && r > 0 &&
        cgroup_file_read_i64(root, path, "cpu.rt_period_us", &p) == 0 && p > 0) {
        *runtime = (uint64_t)r;
        *period = (uint64_t)p;
    }
}

// What the children of a level take of a period of its, but for one of them.
static uint64_t rt_siblings(const struct cgroup_hierarchy_fd *root, const char *level, const char *except,
                            uint64_t period)
{
    uint64_t sum = 0;
    int fd = cgroup_file_open(root, level, "", O_RDONLY | O_DIRECTORY);
    _cleanup_(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_closep(&fd);
        return 0;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own stream
        char child[CGROUP_PATH_MAX];
        uint64_t runtime, its_period;
        if (e->d_type != DT_DIR || e->d_name[0] == '.' ||
            snprintf(child, sizeof(child), "%s/%s", level, e->d_name) >= (int)sizeof(child) ||
            str_eq(child, except))
            continue;
        rt_read(root, child, &runtime, &its_period);
        sum += in_period(runtime, its_period, period);
    }
    return sum;
}

struct rt_levels {
    char path[RT_LEVELS][CGROUP_PATH_MAX]; // the deepest first
    size_t n;
};

// A child's share comes out of its parent's, and a new cgroup has none. Those between the configuration's
// parent and the container are ours to give one; what is above, or kubelet's, is not.
static void rt_find_levels(const struct cgroup_host *h, const char *path, struct rt_levels *l)
{
    size_t own = strlen(h->parent);
    l->n = 0;
    if (!str_has_prefix(path, h->parent) || path[own] != '/')
        return;
    for (const char *child = path; l->n < RT_LEVELS && strlen(child) > own; child = l->path[l->n++])
        (void)snprintf(l->path[l->n], sizeof(l->path[0]), "%.*s", (int)(strrchr(child, '/') - child), child);
}

static int rt_write(const struct cgroup_hierarchy_fd *root, const char *path, uint64_t us)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)us);
    return cgroup_file_write(root, path, "cpu.rt_runtime_us", text);
}

struct rt_step {
    const char *path;
    uint64_t us;
};

// *failed: what was refused, if anything.
static int rt_raise(struct extra_job *job, const struct cgroup_hierarchy_fd *root, const struct rt_levels *l,
                    struct rt_step *failed)
{
    uint64_t need[RT_LEVELS];
    uint64_t runtime = job->extra->rt_runtime_us;
    uint64_t period = job->extra->has_rt_period ? job->extra->rt_period_us : RT_PERIOD_US;
    int r = 0;
    for (size_t i = 0; i < l->n; i++) {
        uint64_t had, its_period;
        rt_read(root, l->path[i], &had, &its_period);
        its_period = its_period ? its_period : RT_PERIOD_US;
        need[i] = in_period(runtime, period, its_period) +
                  rt_siblings(root, l->path[i], i == 0 ? job->path : l->path[i - 1], its_period);
        need[i] = need[i] > had ? need[i] : had;
        runtime = need[i];
        period = its_period;
    }
    for (size_t i = l->n; i-- > 0 && r == 0;) {
        *failed = (struct rt_step){l->path[i], need[i]};
        r = rt_write(root, l->path[i], need[i]);
    }
    if (r == 0) {
        *failed = (struct rt_step){job->path, job->extra->rt_runtime_us};
        r = rt_write(root, job->path, job->extra->rt_runtime_us);
    }
    return r;
}

// Our levels keep what those below them have. Refused while a removed one is not freed: the next call does
// it.
static void rt_lower(const struct cgroup_hierarchy_fd *root, const struct rt_levels *l)
{
    for (size_t i = 0; i < l->n; i++) {
        uint64_t had, period;
        rt_read(root, l->path[i], &had, &period);
        uint64_t sum = had ? rt_siblings(root, l->path[i], "", period) : 0;
        if (sum < had)
            (void)rt_write(root, l->path[i], sum);
    }
}

static int rt_give(struct extra_job *job, const struct cgroup_hierarchy_fd *root)
{
    struct rt_levels levels;
    struct rt_step failed = {0};
    int64_t deadline = clock_mono_ns() + RT_WAIT_NS;
    rt_find_levels(job->h, job->path, &levels);
    for (int r;;) {
        (void)pthread_mutex_lock(&rt_budgets);
        r = rt_raise(job, root, &levels, &failed);
        if (r < 0)
            rt_lower(root, &levels);
        (void)pthread_mutex_unlock(&rt_budgets);
        if (r == 0)
            return 0;
        if (r != -EINVAL || clock_mono_ns() >= deadline) {
            (void)error_errno(
                job->err, -r,
                FIELD("cpu-rt-runtime") ": cgroup %s can't have a real-time budget of %llu us: the ones "
                                        "above it have none to give (cpu.rt_runtime_us)",
                failed.path, (unsigned long long)failed.us);
            if (job->err)
                error_restatus(job->err, STATUS_FAILED_PRECONDITION);
            return r;
        }
        (void)poll(NULL, 0, RT_TRY_MS);
    }
}

void cgroup_release_realtime(struct cgroup_host *h, const char *path)
{
    const struct cgroup_hierarchy_fd *root = h->v2 ? NULL : cgroup_root_of(h, CGROUP_CPU);
    struct rt_levels levels;
    uint64_t runtime = 0, period;
    if (root)
        rt_read(root, path, &runtime, &period);
    if (runtime == 0)
        return;
    rt_find_levels(h, path, &levels);
    (void)pthread_mutex_lock(&rt_budgets);
    cgroup_write_below(root, path, "cpu.rt_runtime_us", "0");
    rt_lower(root, &levels);
    (void)pthread_mutex_unlock(&rt_budgets);
}

static int apply_realtime(struct extra_job *job)
{
    const struct cgroup_extra *x = job->extra;
    const char *field = x->has_rt_runtime ? FIELD("cpu-rt-runtime") : FIELD("cpu-rt-period");
    const struct cgroup_hierarchy_fd *root;
    if (!x->has_rt_runtime && !x->has_rt_period)
        return 0;
    if (job->h->v2)
        return lacks(job->err, field, "cgroup v2 has no budgets of real-time scheduling");
    int r = find(job, CGROUP_CPU, field, "cpu.rt_runtime_us", &root);
    if (r == 0 && x->has_rt_period) { // while the new leaf's runtime is 0, any period will do
        char text[24];
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)x->rt_period_us);
        r = cgroup_file_write(root, job->path, "cpu.rt_period_us", text);
        if (r < 0)
            (void)error_set(job->err, STATUS_INVALID_ARGUMENT, -r,
                            FIELD("cpu-rt-period") ": the kernel takes no period of %s us", text);
    }
    return r < 0 || !x->has_rt_runtime ? r : rt_give(job, root);
}

int cgroup_apply_extra(struct cgroup_host *h, const char *path, const struct cgroup_extra *extra,
                       struct error *err)
{
    struct extra_job job = {.h = h, .path = path, .extra = extra, .err = err};
    int r = compile_memory(&job);
    if (r == 0)
        r = compile_pids(&job);
    for (int kind = 0; kind < CGROUP_THROTTLES && r == 0; kind++)
        r = compile_throttle(&job, kind);
    if (r == 0)
        r = compile_weight(&job);
    if (r == 0)
        r = cgroup_writes_run(path, &job.writes, false, err);
    cgroup_writes_done(&job.writes);
    return r < 0 ? r : apply_realtime(&job);
}
