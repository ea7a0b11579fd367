// The table of annotations, and who may use which.
#include "runtime/annotation_internal.h"

#include <fnmatch.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/policy.h"

#define VALUE_MAX       (16u << 10)
#define ANNOTATIONS_MAX 256 // of our prefix, in one config
#define CHECK_ARENA     (1u << 20)

enum scope { CONTAINER = 1, POD = 2 };

static const struct known {
    const char *name;
    int (*read)(struct annotation_job *job);
    enum scope scope; // what it is a property of
} known[] = {
    {"cpu-rt-period", annotation_read_rt_period, CONTAINER},
    {"cpu-rt-runtime", annotation_read_rt_runtime, CONTAINER},
    {"memory-reservation", annotation_read_reservation, CONTAINER},
    {"memory-swappiness", annotation_read_swappiness, CONTAINER},
    {"oom-kill-disable", annotation_read_oom_kill_disable, CONTAINER},
    {"pids-limit", annotation_read_pids, CONTAINER},
    {"blkio-weight", annotation_read_weight, CONTAINER},
    {"device-read-bps", annotation_read_throttle, CONTAINER},
    {"device-write-bps", annotation_read_throttle, CONTAINER},
    {"device-read-iops", annotation_read_throttle, CONTAINER},
    {"device-write-iops", annotation_read_throttle, CONTAINER},
    {"storage-size", annotation_read_storage, CONTAINER},
    {"tmpfs", annotation_read_tmpfs, CONTAINER},
    {"ulimit", annotation_read_ulimit, CONTAINER},
    {"health", annotation_read_health, CONTAINER},
    {"shm-size", annotation_read_shm, POD},
};

int annotation_bad(struct annotation_job *job, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)error_vset(job->err, STATUS_INVALID_ARGUMENT, EINVAL, format, args);
    va_end(args);
    (void)error_wrap(job->err, "annotation \"" ANNOTATION_PREFIX "%s\"", job->name);
    return -EINVAL;
}

int annotation_no_memory(struct annotation_job *job)
{
    return error_set(job->err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                     "annotation \"" ANNOTATION_PREFIX "%s\": %s", job->name, "is too large");
}

static bool glob_matches(const char *pattern, const char *name)
{
    return fnmatch(pattern, name, 0) == 0;
}

int annotations_check_allowed(char *const *patterns, struct error *err)
{
    for (; patterns && *patterns; patterns++) {
        size_t i = 0;
        while (i < ARRAY_SIZE(known) && !glob_matches(*patterns, known[i].name))
            i++;
        if (i == ARRAY_SIZE(known))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "annotations.allowed: \"%.100s\" matches no annotation that there is "
                             "(docs/annotations.md lists them)",
                             *patterns);
    }
    return 0;
}

static bool is_allowed(const struct policy *p, const char *name)
{
    for (size_t i = 0; p->annotations_allowed && p->annotations_allowed[i]; i++) {
        if (glob_matches(p->annotations_allowed[i], name))
            return true;
    }
    return false;
}

// name: its first len bytes, which may be more than a name ("tmpfs.CONTAINER").
static const struct known *find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
            return &known[i];
    }
    return NULL;
}

static int read_one(const struct known *k, struct annotation_job *job)
{
    size_t len = strlen(job->value);
    job->name = k->name;
    if (len == 0 || len > VALUE_MAX)
        return annotation_bad(job, len == 0 ? "is empty" : "is longer than %u bytes", VALUE_MAX);
    return k->read(job);
}

// ---- Whose word counts ----

static const char *of_container(const Cri__ContainerConfig *config, const char *name)
{
    for (size_t i = 0; config && i < config->n_annotations; i++) {
        const char *key = config->annotations[i]->key;
        if (str_has_prefix(key, ANNOTATION_PREFIX) && str_eq(key + strlen(ANNOTATION_PREFIX), name))
            return config->annotations[i]->value;
    }
    return NULL;
}

// container: "" for what is said of all.
static const char *of_pod(const Cri__PodSandboxConfig *pod, const char *name, const char *container)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < pod->n_annotations; i++) {
        const char *key = pod->annotations[i]->key;
        if (!str_has_prefix(key, ANNOTATION_PREFIX) ||
            !str_has_prefix(key += strlen(ANNOTATION_PREFIX), name))
            continue;
        if (container[0] == '\0' ? key[len] == '\0' : key[len] == '.' && str_eq(key + len + 1, container))
            return pod->annotations[i]->value;
    }
    return NULL;
}

// What is said of the container, by the one whose word counts; config NULL: of the pod. NULL: nothing.
static const char *value_of(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config,
                            const char *name, bool *by_pod)
{
    const char *container = config && config->metadata ? config->metadata->name : "";
    const char *value = of_container(config, name);
    *by_pod = !value;
    if (!value && container[0])
        value = of_pod(pod, name, container);
    return value ? value : of_pod(pod, name, "");
}

// ---- Checking ----

static int check_allowed(const struct policy *p, const struct known *k, const char *key, struct error *err)
{
    if (is_allowed(p, k->name))
        return 0;
    return error_set(err, STATUS_PERMISSION_DENIED, EPERM,
                     "annotation \"%.200s\": is not allowed here; the operator allows it by "
                     "annotations.allowed in the configuration (\"%s\")",
                     key, k->name);
}

static int check_one(const struct policy *p, const char *key, bool on_pod, struct annotation_job *job)
{
    const char *name = key + strlen(ANNOTATION_PREFIX);
    size_t len = on_pod ? strcspn(name, ".") : strlen(name);
    const struct known *k = find(name, len);
    job->name = name;
    if (!k)
        return annotation_bad(job, "is not known: docs/annotations.md lists what there is");
    if (name[len] == '.' && (k->scope == POD || name[len + 1] == '\0'))
        return annotation_bad(job, k->scope == POD ? "is the pod's, not a container's"
                                                   : "names no container after its dot");
    if (!on_pod && k->scope == POD)
        return annotation_bad(job, "is the pod's: set it in the pod sandbox's config");
    int r = check_allowed(p, k, key, job->err);
    return r < 0 ? r : read_one(k, job);
}

static struct annotation_job job_new(const Cri__PodSandboxConfig *pod, struct arena *arena, struct error *err)
{
    struct annotation_job job = {.pod = pod, .arena = arena, .err = err};
    job.out = arena ? arena_alloc(arena, sizeof(*job.out)) : NULL;
    return job;
}

int annotations_check_pod(const struct policy *p, const Cri__PodSandboxConfig *pod, struct error *err)
{
    _cleanup_(arena_freep) struct arena *arena = NULL;
    size_t n = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < pod->n_annotations; i++) {
        const char *key = pod->annotations[i]->key;
        if (!str_has_prefix(key, ANNOTATION_PREFIX))
            continue;
        if (!arena)
            arena = arena_new(CHECK_ARENA);
        // Each for itself: what is given twice for different containers doesn't add up.
        struct annotation_job job = job_new(pod, arena, err);
        if (!job.out || n++ == ANNOTATIONS_MAX)
            return error_set(err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
                             "annotations: too many or too large ones of " ANNOTATION_PREFIX);
        job.value = pod->annotations[i]->value;
        r = check_one(p, key, true, &job);
    }
    return r;
}

// A limit that was asked for by name is had, or the container is refused: the daemon's own is its bound.
static int check_ulimits(const struct policy *p, const struct annotations *a, struct error *err)
{
    for (size_t i = 0; i < a->ulimits.n; i++) {
        const struct rlimit_spec *one = &a->ulimits.items[i];
        uint64_t got;
        if (rlimit_is_out_of_reach(one, (p->caps_held >> CAP_SYS_RESOURCE) & 1, &got))
            return error_set(err, STATUS_FAILED_PRECONDITION, EPERM,
                             "annotation \"" ANNOTATION_PREFIX "ulimit\": %s can't be raised to %llu here; "
                             "%llu is the most",
                             rlimit_name(one->resource), (unsigned long long)one->hard,
                             (unsigned long long)got);
    }
    return 0;
}

// What holds together only.
static int check_whole(const struct policy *p, const Cri__ContainerConfig *config,
                       const struct annotations *a, struct error *err)
{
    const Cri__LinuxContainerResources *r = config->linux ? config->linux->resources : NULL;
    struct annotation_job job = {.err = err, .name = "memory-reservation"};
    uint64_t limit = r && r->memory_limit_in_bytes > 0 ? (uint64_t)r->memory_limit_in_bytes : UINT64_MAX;
    if (a->cgroup.has_reservation && a->cgroup.reservation_bytes > limit)
        return annotation_bad(&job, "%llu is more than the memory limit of %llu",
                              (unsigned long long)a->cgroup.reservation_bytes, (unsigned long long)limit);
    job.name = "cpu-rt-runtime";
    uint64_t period = a->cgroup.has_rt_period ? a->cgroup.rt_period_us : 1000000;
    if (a->cgroup.has_rt_runtime && a->cgroup.rt_runtime_us > period)
        return annotation_bad(&job, "%llu is more than the period of %llu microseconds",
                              (unsigned long long)a->cgroup.rt_runtime_us, (unsigned long long)period);
    return check_ulimits(p, a, err);
}

// What the pod says of the container was allowed when the pod was made; the configuration may be another now.
static int check_still_allowed(const struct policy *p, const Cri__PodSandboxConfig *pod,
                               const Cri__ContainerConfig *config, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        char key[128];
        bool by_pod;
        if (known[i].scope != CONTAINER || !value_of(pod, config, known[i].name, &by_pod) || !by_pod)
            continue;
        (void)snprintf(key, sizeof(key), ANNOTATION_PREFIX "%s", known[i].name);
        int r = check_allowed(p, &known[i], key, err);
        if (r < 0)
            return error_wrap(err, "the pod sandbox's");
    }
    return 0;
}

int annotations_check_container(const struct policy *p, const Cri__PodSandboxConfig *pod,
                                const Cri__ContainerConfig *config, struct error *err)
{
    _cleanup_(arena_freep) struct arena *arena = NULL;
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->n_annotations; i++) {
        const char *key = config->annotations[i]->key;
        if (!str_has_prefix(key, ANNOTATION_PREFIX))
            continue;
        if (!arena)
            arena = arena_new(CHECK_ARENA);
        struct annotation_job job = job_new(pod, arena, err);
        if (!job.out)
            return error_errno(err, ENOMEM, "read the annotations");
        job.value = config->annotations[i]->value;
        r = check_one(p, key, false, &job);
    }
    if (r < 0 || (!arena && pod->n_annotations == 0))
        return r;
    r = check_still_allowed(p, pod, config, err);
    if (r < 0)
        return r;
    _cleanup_(arena_freep) struct arena *whole = arena_new(CHECK_ARENA);
    struct annotations *all = NULL;
    r = whole ? annotations_read(pod, config, whole, &all, err)
              : error_errno(err, ENOMEM, "read the annotations");
    return r < 0 || !all ? r : check_whole(p, config, all, err);
}

// ---- Reading ----

bool annotations_any(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config)
{
    for (size_t i = 0; config && i < config->n_annotations; i++) {
        if (str_has_prefix(config->annotations[i]->key, ANNOTATION_PREFIX))
            return true;
    }
    for (size_t i = 0; i < pod->n_annotations; i++) {
        if (str_has_prefix(pod->annotations[i]->key, ANNOTATION_PREFIX))
            return true;
    }
    return false;
}

int annotations_read(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config,
                     struct arena *arena, struct annotations **out, struct error *err)
{
    *out = NULL;
    if (!annotations_any(pod, config))
        return 0;
    struct annotation_job job = job_new(pod, arena, err);
    if (!job.out)
        return error_errno(err, ENOMEM, "read the annotations");
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if ((known[i].scope == POD) != (config == NULL))
            continue;
        bool by_pod;
        job.value = value_of(pod, config, known[i].name, &by_pod);
        int r = job.value ? read_one(&known[i], &job) : 0;
        if (r < 0)
            return r;
    }
    *out = job.out;
    return 0;
}

uint64_t annotations_shm_bytes(const Cri__PodSandboxConfig *pod, uint64_t otherwise)
{
    _cleanup_(arena_freep) struct arena *arena = annotations_any(pod, NULL) ? arena_new(CHECK_ARENA) : NULL;
    struct annotations *all = NULL;
    bool found = arena && annotations_read(pod, NULL, arena, &all, NULL) == 0 && all && all->shm_bytes > 0;
    return found ? all->shm_bytes : otherwise;
}

uint64_t annotations_storage_bytes(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config)
{
    _cleanup_(arena_freep) struct arena *arena = annotations_any(pod, config) ? arena_new(CHECK_ARENA) : NULL;
    struct annotations *all = NULL;
    return arena && annotations_read(pod, config, arena, &all, NULL) == 0 && all ? all->storage_bytes : 0;
}
