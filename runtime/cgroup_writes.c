// Lists of values to write into a place's files, and carrying them out whole or not at all.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "runtime/cgroup_internal.h"

int cgroup_writes_add(struct cgroup_writes *ws, const struct cgroup_hierarchy_fd *root, const char *field,
                      struct error *err, const char *file, const char *format, ...)
{
    if (ws->n == CGROUP_WRITES_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG, "%s: more than %d resource values at once",
                         field, CGROUP_WRITES_MAX);
    struct cgroup_write *w = &ws->w[ws->n];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->value, sizeof(w->value), format, args);
    va_end(args);
    int m = snprintf(w->file, sizeof(w->file), "%s", file);
    if (n < 0 || (size_t)n >= sizeof(w->value) || m < 0 || (size_t)m >= sizeof(w->file))
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "%s: the value for %.60s is longer than %d bytes", field, file,
                         CGROUP_VALUE_MAX - 1);
    w->root = root;
    w->field = field;
    w->before[0] = '\0';
    ws->n++;
    return 0;
}

int cgroup_writes_add_hugepages(struct cgroup_host *h, const Cri__LinuxContainerResources *r,
                                const char *suffix, struct cgroup_writes *ws, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(h, CGROUP_HUGETLB);
    for (size_t i = 0; i < r->n_hugepage_limits; i++) {
        const Cri__HugepageLimit *limit = r->hugepage_limits[i];
        // kubelet sends a limit of 0 for every size that the node knows and the pod doesn't ask for; where
        // the controller is missing there is nothing to forbid.
        if (!root && limit->limit == 0)
            continue;
        if (!root)
            return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                             "linux.resources.hugepage_limits: this host has no hugetlb cgroup controller");
        char file[64];
        (void)snprintf(file, sizeof(file), "hugetlb.%.32s.%s", limit->page_size, suffix);
        int n = cgroup_writes_add(ws, root, "linux.resources.hugepage_limits", err, file, "%llu",
                                  (unsigned long long)limit->limit);
        if (n < 0)
            return n;
    }
    return 0;
}

// What the kernel says to a value it won't take, as opposed to a failure of its own.
static bool is_callers_fault(int errnum)
{
    return errnum == EINVAL || errnum == ERANGE || errnum == E2BIG || errnum == EACCES || errnum == EPERM ||
           errnum == EBUSY || errnum == ENOSPC;
}

int cgroup_writes_run(const char *path, struct cgroup_writes *ws, bool restore, struct error *err)
{
    for (size_t i = 0; i < ws->n; i++) {
        struct cgroup_write *w = &ws->w[i];
        if (restore && cgroup_file_read(w->root, path, w->file, w->before, sizeof(w->before)) < 0)
            w->before[0] = '\0';
        int r = cgroup_file_write(w->root, path, w->file, w->value);
        if (r == 0)
            continue;
        for (size_t k = i; restore && k-- > 0;) {
            if (ws->w[k].before[0])
                (void)cgroup_file_write(ws->w[k].root, path, ws->w[k].file, ws->w[k].before);
        }
        (void)error_errno(err, -r, "%s: write \"%s\" to %s of cgroup %s", w->field, w->value, w->file, path);
        if (err && is_callers_fault(-r))
            error_restatus(err, STATUS_INVALID_ARGUMENT);
        return r;
    }
    return 0;
}

uint64_t cgroup_weight_of_shares(int64_t shares)
{
    if (shares <= 2)
        return 1;
    if (shares >= 262144)
        return 10000;
    // The straight line from (2, 1) to (262144, 10000) would give the default of 1024 shares a weight of 39,
    // far below other processes' default of 100; OCI runtimes use this curve through all three points.
    double l = log2((double)shares);
    return (uint64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}
