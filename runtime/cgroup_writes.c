// Lists of values to write into a place's files, and carrying them out whole or not at all.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/cgroup_internal.h"

#define HUGEPAGES "linux.resources.hugepage_limits"

// ---- Lists ----

int cgroup_writes_add(struct cgroup_writes *ws, const struct cgroup_hierarchy_fd *root, const char *field,
                      struct error *err, const char *file, const char *format, ...)
{
    char value[CGROUP_VALUE_MAX];
    if (ws->n == CGROUP_WRITES_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG, "%s: more than %d resource values at once",
                         field, CGROUP_WRITES_MAX);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(value))
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "%s: the value for %.60s is longer than %d bytes", field, file,
                         CGROUP_VALUE_MAX - 1);
    struct cgroup_write *w = &ws->w[ws->n++]; // from here on it is the list's to free
    *w = (struct cgroup_write){.root = root, .field = field, .file = strdup(file), .value = strdup(value)};
    return w->file && w->value ? 0 : error_errno(err, ENOMEM, "%s", field);
}

void cgroup_writes_done(struct cgroup_writes *ws)
{
    for (size_t i = 0; i < ws->n; i++) {
        free(ws->w[i].file);
        free(ws->w[i].value);
        free(ws->w[i].before);
    }
    ws->n = 0;
}

int cgroup_writes_add_hugepages(struct cgroup_host *h, const char *path,
                                const Cri__LinuxContainerResources *r, const char *suffix,
                                struct cgroup_writes *ws, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_HUGETLB);
    for (size_t i = 0; i < r->n_hugepage_limits; i++) {
        const Cri__HugepageLimit *limit = r->hugepage_limits[i];
        char file[64];
        (void)snprintf(file, sizeof(file), "hugetlb.%.32s.%s", limit->page_size, suffix);
        // kubelet sends a limit of 0 for every size that the node knows and the pod doesn't ask for; where
        // the controller or the size is missing there is nothing to forbid.
        bool there = root && cgroup_file_exists(root, path, file);
        if (!there && limit->limit == 0)
            continue;
        if (!root)
            return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                             HUGEPAGES ": this host has no hugetlb cgroup controller");
        if (!there)
            return error_set(err, STATUS_INVALID_ARGUMENT, ENOENT,
                             HUGEPAGES "[%zu].page_size: this kernel has no huge pages of %.32s", i,
                             limit->page_size);
        int n = cgroup_writes_add(ws, root, HUGEPAGES, err, file, "%llu", (unsigned long long)limit->limit);
        if (n < 0)
            return n;
    }
    return 0;
}

int cgroup_writes_add_settings(struct cgroup_host *h, const char *path, const struct cgroup_limits *limits,
                               struct cgroup_writes *ws, struct error *err)
{
    for (size_t i = 0; i < limits->n_settings; i++) {
        const struct cgroup_setting *s = &limits->settings[i];
        int controller = cgroup_controller_parse(s->controller);
        const struct cgroup_hierarchy_fd *root =
            controller < 0 ? NULL : cgroup_root_of(h, (enum cgroup_controller)controller);
        if (!root)
            return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                             "%s: this host has no %s cgroup controller", s->field, s->controller);
        if (!cgroup_file_exists(root, path, s->file))
            return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP, "%s: this kernel's cgroups have no %s",
                             s->field, s->file);
        int r = cgroup_writes_add(ws, root, s->field, err, s->file, "%s", s->value);
        if (r < 0)
            return r;
    }
    return 0;
}

// ---- Carrying out ----

// Files of a line for each device or resource, of which one write changes one.
static const struct keyed {
    const char *file;
    const char *none; // what a key that has no line is set to
} keyed[] = {
    {"io.max", "rbps=max wbps=max riops=max wiops=max"},
    {"io.latency", "target=0"},
    {"io.weight", "default"},
    {"io.bfq.weight", "default"},
    {"misc.max", "max"},
    {"rdma.max", "hca_handle=max hca_object=max"},
};

// The line of `before` that has the key of `value`, or what stands for none, in out.
static void line_before(const struct keyed *k, const struct cgroup_write *w, char out[CGROUP_TEXT_MAX])
{
    size_t len = strcspn(w->value, " ");
    const char *key = w->value;
    if (str_has_suffix(k->file, "weight") && !memchr(key, ':', len)) { // "50" is "default 50"
        key = "default";
        len = strlen(key);
    }
    for (const char *line = w->before; *line;) {
        size_t n = strcspn(line, "\n");
        if (n > len && memcmp(line, key, len) == 0 && line[len] == ' ') {
            (void)snprintf(out, CGROUP_TEXT_MAX, "%.*s", (int)n, line);
            return;
        }
        line += n + (line[n] == '\n');
    }
    (void)snprintf(out, CGROUP_TEXT_MAX, "%.*s %s", (int)len, key, k->none);
}

// Linux 6.1 refuses to empty the cpuset of a place that has processes: what an empty one stands for is then
// written out.
static int widen(const char *path, const struct cgroup_write *w)
{
    char parent[CGROUP_PATH_MAX], file[80], all[CGROUP_TEXT_MAX];
    (void)snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
    (void)snprintf(file, sizeof(file), "%.64s.effective", w->file);
    int r = cgroup_file_read(w->root, parent, file, all, sizeof(all));
    return r < 0 ? r : cgroup_file_write(w->root, path, w->file, all);
}

static int put_back(const char *path, const struct cgroup_write *w)
{
    char line[CGROUP_TEXT_MAX];
    for (size_t i = 0; i < sizeof(keyed) / sizeof(keyed[0]); i++) {
        if (!str_eq(keyed[i].file, w->file))
            continue;
        line_before(&keyed[i], w, line);
        return cgroup_file_write(w->root, path, w->file, line);
    }
    // A write of no bytes at all never reaches the kernel's handler: an empty cpuset is written as a line.
    int r = cgroup_file_write(w->root, path, w->file, w->before[0] ? w->before : "\n");
    return r == -ENOSPC && !w->before[0] ? widen(path, w) : r;
}

int cgroup_writes_undo(const char *path, const struct cgroup_writes *ws, struct error *err)
{
    int result = 0;
    for (size_t i = ws->n; i-- > 0;) {
        const struct cgroup_write *w = &ws->w[i];
        int r = w->before ? put_back(path, w) : 0;
        if (r < 0 && result == 0)
            result = error_errno(err, -r, "put %s of cgroup %s back to \"%.60s\"", w->file, path, w->before);
    }
    return result;
}

// What the kernel says to a value it won't take, as opposed to a failure of its own.
static enum status status_of(int errnum)
{
    switch (errnum) {
    case EINVAL:
    case ERANGE:
    case E2BIG:
    case EACCES:
    case EPERM:
    case ENOSPC:
    case ENODEV: // io.max of a device that isn't there
    case EOPNOTSUPP:
        return STATUS_INVALID_ARGUMENT;
    case EBUSY:  // the limit is below what is in use
    case ENOENT: // somebody has removed the cgroup: its container is there all the same
        return STATUS_FAILED_PRECONDITION;
    default:
        return error_status_of_errno(errnum);
    }
}

// What EBUSY means is the file's to say.
static const char *why_busy(const char *file)
{
    if (strstr(file, "cpuset."))
        return " (cgroups below it, or processes in it, need what it has)";
    return " (more than that is in use)";
}

static int write_failed(const char *path, const struct cgroup_write *w, int errnum, struct error *err)
{
    (void)error_errno(err, errnum, "%s: write \"%s\" to %s of cgroup %s%s", w->field, w->value, w->file, path,
                      errnum == EBUSY ? why_busy(w->file) : "");
    if (err)
        error_restatus(err, status_of(errnum));
    return -errnum;
}

static int note_before(const char *path, struct cgroup_write *w, struct error *err)
{
    char text[CGROUP_TEXT_MAX];
    if (w->before)
        return 0;
    int r = cgroup_file_read(w->root, path, w->file, text, sizeof(text));
    if (r == 0 && !(w->before = strdup(text)))
        r = -ENOMEM;
    if (r < 0 && error_errno(err, -r, "%s: read %s of cgroup %s", w->field, w->file, path) && err)
        error_restatus(err, status_of(-r));
    return r;
}

int cgroup_writes_note(const char *path, struct cgroup_writes *ws, struct error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < ws->n; i++)
        r = note_before(path, &ws->w[i], err);
    return r;
}

int cgroup_writes_run(const char *path, struct cgroup_writes *ws, bool restore, struct error *err)
{
    // All are read before any is written: a change that could not be taken back is not begun.
    int noted = restore ? cgroup_writes_note(path, ws, err) : 0;
    if (noted < 0)
        return noted;
    for (size_t i = 0; i < ws->n; i++) {
        const struct cgroup_write *w = &ws->w[i];
        int r = cgroup_file_write(w->root, path, w->file, w->value);
        if (r == 0)
            continue;
        struct cgroup_writes done = *ws;
        done.n = i;
        (void)write_failed(path, w, -r, err);
        if (restore && cgroup_writes_undo(path, &done, NULL) < 0 && err)
            (void)error_wrap(err, "some values could not be put back");
        return r;
    }
    return 0;
}

// ---- Reading ----

void cgroup_read_hugepages(struct cgroup_host *h, const char *path, const char *suffix,
                           Cri__LinuxContainerResources *io)
{
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_HUGETLB);
    for (size_t i = 0; root && i < io->n_hugepage_limits; i++) {
        Cri__HugepageLimit *limit = io->hugepage_limits[i];
        char file[64];
        int64_t now;
        (void)snprintf(file, sizeof(file), "hugetlb.%.32s.%s", limit->page_size, suffix);
        if (cgroup_file_read_i64(root, path, file, &now) == 0 && now >= 0)
            limit->limit = (uint64_t)now;
    }
}

void cgroup_read_unified(struct cgroup_host *h, const char *path, struct arena *arena,
                         Cri__LinuxContainerResources *io)
{
    for (size_t i = 0; i < io->n_unified; i++) {
        char text[CGROUP_TEXT_MAX];
        char *copy = NULL;
        if (cgroup_file_read(&h->fds[0], path, io->unified[i]->key, text, sizeof(text)) == 0)
            copy = arena_strdup(arena, text);
        if (copy)
            io->unified[i]->value = copy;
    }
}

// ---- CPU shares and weight ----

// Kubelets up to 1.34 at least, at the pod level, and older OCI runtimes take the straight line from (2, 1)
// to (262144, 10000): 1 + (shares - 2) * 9999 / 262142. It gives the default of 1024 shares a weight of 39,
// far below other processes' default of 100. Newer OCI runtimes (runc 1.3.2, crun 1.23) use this curve
// through all three points, and so do we: only siblings are weighed against each other, and a container's
// siblings are all ours.
uint64_t cgroup_weight_of_shares(int64_t shares)
{
    if (shares <= 2)
        return 1;
    if (shares >= 262144)
        return 10000;
    double l = log2((double)shares);
    return (uint64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}

int64_t cgroup_shares_of_weight(uint64_t weight, int64_t asked)
{
    if (asked != 0 && cgroup_weight_of_shares(asked) == weight)
        return asked;
    if (weight == 100)
        return 1024;
    int64_t low = 2, high = 262144;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (cgroup_weight_of_shares(middle) >= weight)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}
