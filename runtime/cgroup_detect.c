// Which cgroup hierarchies this host has.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define MOUNTINFO_MAX (16u << 20) // bytes; a node with thousands of pods' mounts has some MiB

static const struct {
    const char *v1, *v2;
} controller_names[CGROUP_CONTROLLERS] = {
    [CGROUP_CPU] = {"cpu", "cpu"},
    [CGROUP_CPUACCT] = {"cpuacct", NULL},
    [CGROUP_CPUSET] = {"cpuset", "cpuset"},
    [CGROUP_MEMORY] = {"memory", "memory"},
    [CGROUP_DEVICES] = {"devices", NULL},
    [CGROUP_FREEZER] = {"freezer", NULL},
    [CGROUP_BLKIO] = {"blkio", "io"},
    [CGROUP_PIDS] = {"pids", "pids"},
    [CGROUP_HUGETLB] = {"hugetlb", "hugetlb"},
    [CGROUP_NET_CLS] = {"net_cls", NULL},
    [CGROUP_NET_PRIO] = {"net_prio", NULL},
    [CGROUP_PERF_EVENT] = {"perf_event", NULL},
    [CGROUP_RDMA] = {"rdma", "rdma"},
    [CGROUP_MISC] = {"misc", "misc"},
};

const char *cgroup_controller_name(enum cgroup_controller c, bool v2)
{
    return v2 ? controller_names[c].v2 : controller_names[c].v1;
}

int cgroup_controller_parse(const char *name)
{
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        if (str_eq(name, controller_names[i].v1) || str_eq(name, controller_names[i].v2))
            return i;
    }
    return -1;
}

// mountinfo writes space, tab, newline and backslash as \ooo.
static void unescape_octal(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
            s[3] <= '7') {
            *out++ = (char)(((s[1] - '0') << 6) | ((s[2] - '0') << 3) | (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

struct mount_line {
    char *dev, *root, *mount_point, *type, *options;
};

// "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - tmpfs tmpfs rw,mode=755"
static bool parse_line(char *line, struct mount_line *m)
{
    char *rest = line;
    char *head[6];
    for (int i = 0; i < 6; i++) {
        head[i] = strsep(&rest, " ");
        if (!rest)
            return false;
    }
    for (char *word = strsep(&rest, " "); !str_eq(word, "-"); word = strsep(&rest, " ")) {
        if (!rest)
            return false;
    }
    m->type = strsep(&rest, " ");
    (void)strsep(&rest, " "); // the source
    if (!rest)
        return false;
    m->dev = head[2];
    m->root = head[3];
    m->mount_point = head[4];
    m->options = rest;
    unescape_octal(m->mount_point);
    return true;
}

// Picks what names the hierarchy out of the super block's options: its controllers, or "name=…".
static uint32_t parse_options(char *options, char *data, size_t size)
{
    uint32_t controllers = 0;
    data[0] = '\0';
    for (char *word; (word = strsep(&options, ",")) != NULL;) {
        int c = cgroup_controller_parse(word);
        if (c >= 0)
            controllers |= 1u << c;
        else if (!str_has_prefix(word, "name="))
            continue;
        size_t used = strlen(data);
        (void)snprintf(data + used, size - used, "%s%s", used ? "," : "", word);
    }
    return controllers;
}

static int add_hierarchy(struct cgroup_host *h, const struct mount_line *m, const char *data,
                         uint32_t controllers, bool v2, struct error *err)
{
    unsigned major = 0, minor = 0;
    if (sscanf(m->dev, "%u:%u", &major, &minor) != 2)
        return 0;
    dev_t dev = makedev(major, minor);
    for (size_t i = 0; i < h->n; i++) {
        if (h->devs[i] == dev)
            return 0; // mounted twice
    }
    if (h->n == CGROUP_HIERARCHIES_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, E2BIG,
                         "more than %d cgroup hierarchies are mounted", CGROUP_HIERARCHIES_MAX);
    _cleanup_fd_ int fd = open(m->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open the cgroup hierarchy %s", m->mount_point);
    const char *slash = strrchr(m->mount_point, '/');
    struct cgroup_hierarchy *new = &h->hierarchies[h->n];
    new->name = strdup(v2 ? "" : slash + 1);
    new->data = strdup(data);
    new->mount_point = strdup(m->mount_point);
    h->devs[h->n] = dev;
    h->controllers[h->n] = controllers;
    h->fds[h->n].fd = steal_fd(&fd);
    h->n++; // also when memory is short: close frees what is there
    if (!new->name || !new->data || !new->mount_point)
        return error_errno(err, ENOMEM, "note the cgroup hierarchy %s", m->mount_point);
    return 0;
}

static uint32_t read_v2_controllers(const struct cgroup_hierarchy_fd *root)
{
    char text[512];
    uint32_t controllers = 0;
    if (cgroup_file_read(root, "", "cgroup.controllers", text, sizeof(text)) < 0)
        return 0;
    char *rest = text;
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        int c = cgroup_controller_parse(word);
        if (c >= 0)
            controllers |= 1u << c;
    }
    return controllers;
}

static int detect_type(struct cgroup_host *h, const char *table, bool v2, struct error *err)
{
    _cleanup_free_ char *copy = strdup(table);
    if (!copy)
        return error_errno(err, ENOMEM, "read the mount table");
    char *rest = copy;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        struct mount_line m;
        char data[256];
        if (!parse_line(line, &m) || !str_eq(m.type, v2 ? "cgroup2" : "cgroup"))
            continue;
        uint32_t controllers = v2 ? 0 : parse_options(m.options, data, sizeof(data));
        if (!v2 && data[0] == '\0')
            continue;
        int r = add_hierarchy(h, &m, v2 ? "" : data, controllers, v2, err);
        if (r < 0)
            return r;
        if (v2)
            break; // there is only one v2 tree
    }
    return 0;
}

static void forget_all(struct cgroup_host *h)
{
    for (size_t i = 0; i < h->n; i++) {
        fd_closep(&h->fds[i].fd);
        free((char *)h->hierarchies[i].name);
        free((char *)h->hierarchies[i].data);
        free((char *)h->hierarchies[i].mount_point);
    }
    h->n = 0;
}

int cgroup_detect(struct cgroup_host *h, const char *mountinfo, struct error *err)
{
    _cleanup_free_ char *table = NULL;
    int r = file_read(mountinfo, MOUNTINFO_MAX, &table, NULL, err);
    if (r < 0)
        return r;
    r = detect_type(h, table, false, err);
    uint32_t v1 = 0;
    for (size_t i = 0; i < h->n; i++)
        v1 |= h->controllers[i];
    if (r == 0 && v1 == 0) { // at most named hierarchies: the controllers are in the v2 tree
        forget_all(h);
        r = detect_type(h, table, true, err);
        h->v2 = true;
        if (r == 0 && h->n > 0)
            h->controllers[0] = read_v2_controllers(&h->fds[0]);
    }
    if (r == 0 && h->n == 0)
        r = error_set(err, STATUS_FAILED_PRECONDITION, ENOENT,
                      "no cgroup file system is mounted (looked in %s): mount cgroup2 on /sys/fs/cgroup",
                      mountinfo);
    if (r < 0)
        forget_all(h);
    return r;
}
