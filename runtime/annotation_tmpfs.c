// crisp.run/tmpfs: "/run:size=64m,mode=0755;/tmp", in docker's words.
#include "runtime/annotation_internal.h"

#include <linux/mount.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/plan_internal.h"
#include "runtime/policy_internal.h"

#define DATA_MAX 255 // what fsconfig(2) takes in one piece before Linux 6.7, and is more than enough

static const struct {
    const char *name;
    uint64_t clear, set; // MOUNT_ATTR_*
} flags[] = {
    {"defaults", 0, 0},
    {"rw", MOUNT_ATTR_RDONLY, 0},
    {"ro", 0, MOUNT_ATTR_RDONLY},
    {"suid", MOUNT_ATTR_NOSUID, 0},
    {"nosuid", 0, MOUNT_ATTR_NOSUID},
    {"dev", MOUNT_ATTR_NODEV, 0},
    {"nodev", 0, MOUNT_ATTR_NODEV},
    {"exec", MOUNT_ATTR_NOEXEC, 0},
    {"noexec", 0, MOUNT_ATTR_NOEXEC},
    {"atime", MOUNT_ATTR__ATIME, 0},
    {"relatime", MOUNT_ATTR__ATIME, 0},
    {"noatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME},
    {"strictatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME},
    {"diratime", MOUNT_ATTR_NODIRATIME, 0},
    {"nodiratime", 0, MOUNT_ATTR_NODIRATIME},
};

static bool take_flag(const char *option, uint64_t *all)
{
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (str_eq(flags[i].name, option)) {
            *all = (*all & ~flags[i].clear) | flags[i].set;
            return true;
        }
    }
    return false;
}

// An id of the container's as the host has it; false: the pod's user namespace doesn't have it.
static bool map_id(const Cri__PodSandboxConfig *pod, bool group, uint64_t *id)
{
    const Cri__UserNamespace *ns = policy_userns(pod);
    if (!ns)
        return true;
    const Cri__IDMapping *m = group ? (ns->n_gids ? ns->gids[0] : NULL) : (ns->n_uids ? ns->uids[0] : NULL);
    if (!m || *id < m->container_id || *id - m->container_id >= m->length)
        return false;
    *id += (uint64_t)m->host_id - m->container_id;
    return true;
}

// The option as the kernel takes it, into text. false: not one that is known, or a bad value.
static bool take_value(struct annotation_job *job, const char *option, char text[64])
{
    uint64_t number;
    const char *value = strchr(option, '=');
    if (!value++)
        return false;
    size_t len = strlen(value);
    if (str_has_prefix(option, "size=") && len > 1 && value[len - 1] == '%') {
        char percent[4] = "";
        if (len > 4)
            return false;
        memcpy(percent, value, len - 1);
        (void)snprintf(text, 64, "%s", option);
        return str_parse_u64(percent, 1, 100, &number) == 0;
    }
    if (str_has_prefix(option, "size=") || str_has_prefix(option, "nr_inodes=") ||
        str_has_prefix(option, "nr_blocks=")) {
        (void)snprintf(text, 64, "%.*s%llu", (int)(value - option), option,
                       annotation_parse_size(value, len, &number) ? (unsigned long long)number : 0);
        return annotation_parse_size(value, len, &number) && number > 0;
    }
    if (str_has_prefix(option, "mode=")) {
        (void)snprintf(text, 64, "%.20s", option);
        return len > 0 && len <= 5 && strspn(value, "01234567") == len;
    }
    bool group = str_has_prefix(option, "gid=");
    if ((!group && !str_has_prefix(option, "uid=")) || str_parse_u64(value, 0, UINT32_MAX - 1, &number) < 0 ||
        !map_id(job->pod, group, &number))
        return false;
    (void)snprintf(text, 64, "%.4s%llu", option, (unsigned long long)number);
    return true;
}

static int read_options(struct annotation_job *job, const char *options, struct annotation_tmpfs *t)
{
    char data[DATA_MAX + 1] = "";
    size_t used = 0;
    for (char *option; options && (option = annotation_next(job, &options, ',')) != NULL;) {
        char text[64];
        if (take_flag(option, &t->flags))
            continue;
        if (!take_value(job, option, text))
            return annotation_bad(job,
                                  "\"%.100s\" is not an option of a tmpfs here; there are ro, rw, [no]exec, "
                                  "[no]suid, [no]dev, [no|rel|strict]atime, [no]diratime, size=SIZE or N%%, "
                                  "mode=OCTAL, uid=ID, gid=ID, nr_inodes=N, nr_blocks=N",
                                  option);
        int n = snprintf(data + used, sizeof(data) - used, "%s%s", used ? "," : "", text);
        if (n < 0 || (size_t)n >= sizeof(data) - used)
            return annotation_bad(job, "the options of %.200s are longer than %d bytes", t->destination,
                                  DATA_MAX);
        used += (size_t)n;
    }
    t->data = arena_strdup(job->arena, data);
    return t->data ? 0 : annotation_no_memory(job);
}

// What the runtime itself provides must be what it says it is; a link to it is not seen here, and of these
// crisp-pod refuses those to a procfs. clean: without "//" and "/./".
static bool is_ours(const char *clean)
{
    return str_eq(clean, "/") || str_eq(clean, "/dev") || str_eq(clean, "/sys") || str_eq(clean, "/proc") ||
           str_has_prefix(clean, "/proc/") || str_has_prefix(clean, "/sys/");
}

// The other one would never be seen, and its options be lost in silence.
static bool is_there_twice(const struct annotations *a)
{
    const char *last = a->tmpfs[a->n_tmpfs - 1].destination;
    for (size_t i = 0; i + 1 < a->n_tmpfs; i++) {
        if (str_eq(a->tmpfs[i].destination, last))
            return true;
    }
    return false;
}

int annotation_read_tmpfs(struct annotation_job *job)
{
    struct annotations *out = job->out;
    const char *rest = job->value;
    out->tmpfs = arena_alloc(job->arena, ANNOTATION_TMPFS_MAX * sizeof(*out->tmpfs));
    out->n_tmpfs = 0;
    if (!out->tmpfs)
        return annotation_no_memory(job);
    while (rest) {
        struct annotation_tmpfs *t = &out->tmpfs[out->n_tmpfs];
        char *entry = annotation_next(job, &rest, ';');
        if (!entry)
            return annotation_no_memory(job);
        if (out->n_tmpfs++ == ANNOTATION_TMPFS_MAX)
            return annotation_bad(job, "more than %d", ANNOTATION_TMPFS_MAX);
        char *colon = strchr(entry, ':');
        if (colon)
            *colon = '\0';
        struct error why = ERROR_INIT;
        if (policy_check_path("path", entry, &why) < 0)
            return annotation_bad(job, "%s", why.message);
        char *clean = plan_clean_path(job->arena, entry);
        if (!clean)
            return annotation_no_memory(job);
        if (is_ours(clean))
            return annotation_bad(job, "\"%.200s\" can't be covered by a tmpfs", entry);
        t->destination = clean;
        if (is_there_twice(out))
            return annotation_bad(job, "\"%.200s\" is there twice", clean);
        t->flags = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        int r = read_options(job, colon ? colon + 1 : NULL, t);
        if (r < 0)
            return r;
    }
    return 0;
}
