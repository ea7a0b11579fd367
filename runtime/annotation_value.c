// The annotations with short values.
#include "runtime/annotation_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "runtime/policy.h"

#define RT_PERIOD_MAX_US 3600000000ull // more than anybody wants; the kernel looks at the rest
#define DURATION_MAX_NS  (24 * 3600 * NS_PER_SEC)
#define SHM_MIN_BYTES    4096u

bool annotation_parse_size(const char *text, size_t len, uint64_t *out)
{
    static const char units[] = "bkmgt";
    char digits[24];
    unsigned shift = 0;
    const char *unit = len > 0 ? strchr(units, tolower((unsigned char)text[len - 1])) : NULL;
    if (unit && *unit) {
        shift = 10 * (unsigned)(unit - units);
        len--;
    }
    if (len == 0 || len >= sizeof(digits))
        return false;
    memcpy(digits, text, len);
    digits[len] = '\0';
    if (str_parse_u64(digits, 0, (uint64_t)INT64_MAX >> shift, out) < 0)
        return false;
    *out <<= shift;
    return true;
}

bool annotation_parse_duration(const char *text, int64_t *ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ms", NS_PER_MS}, {"h", 3600 * NS_PER_SEC}, {"m", 60 * NS_PER_SEC}, {"s", NS_PER_SEC}};
    *ns = 0;
    if (str_eq(text, "0"))
        return true;
    if (text[0] == '\0')
        return false;
    while (*text) {
        size_t digits = strspn(text, "0123456789"), i = 0;
        int64_t number = 0;
        if (digits == 0 || digits > 9)
            return false;
        for (size_t k = 0; k < digits; k++)
            number = number * 10 + (text[k] - '0');
        text += digits;
        while (i < 4 && !str_has_prefix(text, units[i].name))
            i++;
        if (i == 4 || number > DURATION_MAX_NS / units[i].ns)
            return false;
        *ns += number * units[i].ns;
        text += strlen(units[i].name);
        if (*ns > DURATION_MAX_NS)
            return false;
    }
    return true;
}

char *annotation_next(struct annotation_job *job, const char **rest, char separator)
{
    const char *from = *rest;
    if (!from)
        return NULL;
    const char *to = strchr(from, separator);
    *rest = to ? to + 1 : NULL;
    return arena_strndup(job->arena, from, to ? (size_t)(to - from) : strlen(from));
}

static int read_number(struct annotation_job *job, uint64_t min, uint64_t max, uint64_t *out)
{
    if (str_parse_u64(job->value, min, max, out) == 0)
        return 0;
    return annotation_bad(job, "\"%.100s\" is not a whole number from %llu to %llu", job->value,
                          (unsigned long long)min, (unsigned long long)max);
}

static int read_size(struct annotation_job *job, uint64_t min, uint64_t *out)
{
    if (annotation_parse_size(job->value, strlen(job->value), out) && *out >= min)
        return 0;
    return annotation_bad(job,
                          "\"%.100s\" is not a size of at least %llu bytes, such as 512m (b, k, m, g, t)",
                          job->value, (unsigned long long)min);
}

int annotation_read_rt_period(struct annotation_job *job)
{
    job->out->has_cgroup = job->out->cgroup.has_rt_period = true;
    return read_number(job, 1, RT_PERIOD_MAX_US, &job->out->cgroup.rt_period_us);
}

int annotation_read_rt_runtime(struct annotation_job *job)
{
    job->out->has_cgroup = job->out->cgroup.has_rt_runtime = true;
    return read_number(job, 0, RT_PERIOD_MAX_US, &job->out->cgroup.rt_runtime_us);
}

int annotation_read_reservation(struct annotation_job *job)
{
    job->out->has_cgroup = job->out->cgroup.has_reservation = true;
    return read_size(job, 1, &job->out->cgroup.reservation_bytes);
}

int annotation_read_swappiness(struct annotation_job *job)
{
    job->out->has_cgroup = job->out->cgroup.has_swappiness = true;
    return read_number(job, 0, 100, &job->out->cgroup.swappiness);
}

int annotation_read_oom_kill_disable(struct annotation_job *job)
{
    bool yes = str_eq(job->value, "true");
    if (!yes && !str_eq(job->value, "false"))
        return annotation_bad(job, "\"%.100s\" is neither true nor false", job->value);
    job->out->cgroup.oom_kill_disable = yes;
    job->out->has_cgroup |= yes;
    return 0;
}

int annotation_read_pids(struct annotation_job *job)
{
    job->out->has_cgroup = job->out->cgroup.has_pids = true;
    job->out->cgroup.pids = 0;
    return str_eq(job->value, "-1") ? 0 : read_number(job, 1, INT32_MAX, &job->out->cgroup.pids);
}

int annotation_read_weight(struct annotation_job *job)
{
    job->out->has_cgroup = true;
    return read_number(job, 10, 1000, &job->out->cgroup.blkio_weight);
}

int annotation_read_storage(struct annotation_job *job)
{
    return read_size(job, 1u << 20, &job->out->storage_bytes);
}

int annotation_read_shm(struct annotation_job *job)
{
    if (policy_host_ipc(job->pod))
        return annotation_bad(job,
                              "the pod sandbox uses the host's IPC namespace (ipc NODE), and so the host's "
                              "/dev/shm");
    return read_size(job, SHM_MIN_BYTES, &job->out->shm_bytes);
}

// ---- Limits of disks ----

// The kernel limits whole disks only, and says nothing more than ENODEV of the rest.
static int find_disk(struct annotation_job *job, const char *path, struct cgroup_device_limit *out)
{
    char partition[64];
    struct stat st;
    if (path[0] != '/' || stat(path, &st) < 0)
        return annotation_bad(job, "\"%.200s\" is not the path of a device of this host", path);
    if (!S_ISBLK(st.st_mode))
        return annotation_bad(job, "%.200s is not a block device", path);
    out->major = major(st.st_rdev);
    out->minor = minor(st.st_rdev);
    (void)snprintf(partition, sizeof(partition), "/sys/dev/block/%u:%u/partition", out->major, out->minor);
    if (access(partition, F_OK) == 0)
        return annotation_bad(job, "%.200s is a partition: only a whole disk can be limited", path);
    return 0;
}

static int read_limit(struct annotation_job *job, char *entry, bool bytes, struct cgroup_device_limit *out)
{
    char *colon = strrchr(entry, ':');
    if (!colon)
        return annotation_bad(job, "\"%.200s\" is not PATH:%s", entry, bytes ? "BYTES" : "NUMBER");
    *colon = '\0';
    bool good = bytes ? annotation_parse_size(colon + 1, strlen(colon + 1), &out->rate)
                      : str_parse_u64(colon + 1, 1, INT64_MAX, &out->rate) == 0;
    if (!good || out->rate == 0)
        return annotation_bad(job, "\"%.100s\" is not a number of %s a second", colon + 1,
                              bytes ? "bytes (as in 1m)" : "operations");
    return find_disk(job, entry, out);
}

// The last word on a device counts.
static struct cgroup_device_limit *place_of(struct cgroup_device_limit *list, size_t *n,
                                            const struct cgroup_device_limit *one)
{
    for (size_t i = 0; i < *n; i++) {
        if (list[i].major == one->major && list[i].minor == one->minor)
            return &list[i];
    }
    return *n == CGROUP_THROTTLED_MAX ? NULL : &list[(*n)++];
}

int annotation_read_throttle(struct annotation_job *job)
{
    bool bytes = str_has_suffix(job->name, "bps"), reads = str_has_prefix(job->name, "device-read");
    enum cgroup_throttle kind =
        bytes ? (reads ? CGROUP_READ_BPS : CGROUP_WRITE_BPS) : (reads ? CGROUP_READ_IOPS : CGROUP_WRITE_IOPS);
    struct cgroup_extra *x = &job->out->cgroup;
    const char *rest = job->value;
    job->out->has_cgroup = true;
    while (rest) {
        struct cgroup_device_limit one, *place;
        char *entry = annotation_next(job, &rest, ',');
        int r = entry ? read_limit(job, entry, bytes, &one) : annotation_no_memory(job);
        if (r < 0)
            return r;
        place = place_of(x->throttles[kind], &x->n_throttles[kind], &one);
        if (!place)
            return annotation_bad(job, "more than %d devices", CGROUP_THROTTLED_MAX);
        *place = one;
    }
    return 0;
}

// ---- Resource limits ----

// Docker writes -1 for what setrlimit(2) calls unlimited.
static char *with_words(struct annotation_job *job, const char *entry)
{
    size_t name = strcspn(entry, "=");
    const char *soft = entry[name] ? entry + name + 1 : "";
    size_t len = strcspn(soft, ":");
    const char *hard = soft[len] ? soft + len + 1 : NULL;
    bool no_soft = len == 2 && memcmp(soft, "-1", 2) == 0;
    return arena_printf(job->arena, "%.*s=%.*s%s%s", (int)name, entry, no_soft ? 9 : (int)len,
                        no_soft ? "unlimited" : soft, hard ? ":" : "",
                        !hard                ? ""
                        : str_eq(hard, "-1") ? "unlimited"
                                             : hard);
}

int annotation_read_ulimit(struct annotation_job *job)
{
    struct rlimit_list *list = &job->out->ulimits;
    const char *rest = job->value;
    while (rest) {
        struct rlimit_spec one;
        size_t at = 0;
        char *entry = annotation_next(job, &rest, ',');
        char *words = entry ? with_words(job, entry) : NULL;
        if (!words)
            return annotation_no_memory(job);
        if (!rlimit_parse(words, &one))
            return annotation_bad(job, "\"%.100s\" is not NAME=SOFT[:HARD], such as nofile=1024:4096", entry);
        while (at < list->n && list->items[at].resource != one.resource)
            at++;
        list->items[at] = one;
        list->n += at == list->n;
    }
    return 0;
}
