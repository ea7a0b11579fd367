// The systemd driver: one scope per pod, delegated, so that all below it is ours and nothing of it is changed
// by a reload of systemd; and one call of systemd per pod.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/cgroup_bus.h"
#include "runtime/cgroup_internal.h"

#define START_TIMEOUT_NS (30 * NS_PER_SEC)
#define STOP_TIMEOUT_NS  (10 * NS_PER_SEC)

static int sd_open(struct cgroup_host *h, const struct cgroup_options *o, struct error *err)
{
    char parent[CGROUP_PATH_MAX];
    int r = cgroup_path_of_slice(o->parent, parent, err);
    if (r < 0)
        return error_wrap(err, "cgroup.parent, where pods without a cgroup_parent live");
    if (!o->bus && access(CGROUP_SYSTEMD_BOOTED, F_OK) < 0)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         "cgroup.driver is systemd, but systemd doesn't run this machine (there is "
                         "no " CGROUP_SYSTEMD_BOOTED "): set cgroup.driver to cgroupfs");
    r = cgroup_bus_open(o->bus, &h->bus, err);
    if (r < 0)
        return error_wrap(err, "cgroup.driver is systemd");
    h->parent = strdup(parent);
    return h->parent ? 0 : error_errno(err, ENOMEM, "open the cgroups");
}

static void sd_close(struct cgroup_host *h)
{
    (void)h; // slices are systemd's, and the connection the host's
}

static int sd_pod_path(const struct cgroup_host *h, const char *cgroup_parent, const char *pod_id,
                       char out[CGROUP_PATH_MAX], struct error *err)
{
    char slice[CGROUP_PATH_MAX], scope[CGROUP_PATH_MAX];
    int r = cgroup_parent ? cgroup_path_of_slice(cgroup_parent, slice, err) : 0;
    if (r < 0)
        return r;
    (void)snprintf(scope, sizeof(scope), CGROUP_SCOPE_PREFIX "%.512s" CGROUP_SCOPE_SUFFIX, pod_id);
    return cgroup_leaf_path(cgroup_parent ? slice : h->parent, scope, out, err);
}

static bool exists_anywhere(const struct cgroup_host *h, const char *path)
{
    for (size_t i = 0; i < h->n; i++) {
        if (cgroup_file_exists(&h->fds[i], path, ""))
            return true;
    }
    return false;
}

// Only looks: systemd makes slices together with the scope.
static int sd_pod_create(struct cgroup_host *h, const char *pod_path, uint32_t *made_levels,
                         struct error *err)
{
    unsigned levels = cgroup_path_levels(pod_path);
    uint32_t missing = 0;
    (void)err;
    for (char step[CGROUP_PATH_MAX]; missing < levels; missing++) {
        cgroup_path_prefix(pod_path, levels - missing, step);
        if (exists_anywhere(h, step))
            break;
    }
    *made_levels = missing;
    return 0;
}

// The hierarchy in which systemd keeps its units: v2's, or v1's named one.
static const struct cgroup_hierarchy_fd *units_root(const struct cgroup_host *h)
{
    for (size_t i = 0; i < h->n; i++) {
        if (h->v2 || str_eq(h->hierarchies[i].data, "name=systemd"))
            return &h->fds[i];
    }
    return NULL;
}

struct wanted {
    pid_t pid;
    bool found;
};

static void compare_pid(pid_t pid, void *arg)
{
    struct wanted *w = arg;
    w->found = w->found || pid == w->pid;
}

static bool scope_holds(const struct cgroup_host *h, const char *pod_path, pid_t pid)
{
    const struct cgroup_hierarchy_fd *root = units_root(h);
    struct wanted w = {.pid = pid};
    return root && cgroup_each_pid(root, pod_path, compare_pid, &w) >= 0 && w.found;
}

static int start_scope(struct cgroup_host *h, const char *pod_path, pid_t pid, struct error *err)
{
    char slice_path[CGROUP_PATH_MAX], description[128];
    cgroup_path_prefix(pod_path, cgroup_path_levels(pod_path) - 1, slice_path);
    const struct cgroup_bus_scope s = {.name = cgroup_path_base(pod_path),
                                       .slice = cgroup_path_base(slice_path),
                                       .description = description,
                                       .pid = pid};
    (void)snprintf(description, sizeof(description), "Pod sandbox of crispd %s", h->owner);
    if (pid <= 1) // systemd would take 0 for whoever asks
        return error_set(err, STATUS_UNAVAILABLE, ESRCH, "crisp-pod ended at once (see the log)");
    int r = cgroup_bus_start_scope(h->bus, &s, START_TIMEOUT_NS, err);
    if (r != -EEXIST)
        return r;
    if (scope_holds(h, pod_path, pid))
        return 0; // the call was sent twice, around a restart of systemd
    // Left from an earlier try of this pod: there are no two with one id.
    (void)cgroup_bus_stop_unit(h->bus, s.name, STOP_TIMEOUT_NS, NULL);
    (void)cgroup_bus_reset_failed(h->bus, s.name, STOP_TIMEOUT_NS, NULL);
    return cgroup_bus_start_scope(h->bus, &s, START_TIMEOUT_NS, err);
}

// v2 hands no controllers down from a place with processes in it. v1 does; there crisp-pod joins its leaf by
// itself, which is faster (a thread that moves itself needs no global lock).
static int move_to_leaf(struct cgroup_host *h, const char *pod_path, const char *leaf, pid_t pid,
                        struct error *err)
{
    char text[16];
    const struct cgroup_hierarchy_fd *root = units_root(h);
    if (!root)
        return error_set(
            err, STATUS_FAILED_PRECONDITION, ENOTSUP,
            "cgroup.driver systemd needs systemd's hierarchy (v1: name=systemd) mounted where crispd "
            "sees it: mount it, or set cgroup.driver to cgroupfs");
    if (!cgroup_file_exists(root, pod_path, ""))
        return error_set(
            err, STATUS_FAILED_PRECONDITION, ENOENT,
            "systemd has made the scope %s, but crispd doesn't see it in %s: both have to see the "
            "same cgroups (in a container: the same cgroup namespace)",
            pod_path, h->hierarchies[root - h->fds].mount_point);
    if (!h->v2)
        return 0;
    if (mkdirat(root->fd, leaf + 1, 0755) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make the cgroup %s", leaf);
    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    int r = cgroup_file_write(root, leaf, "cgroup.procs", text);
    return r < 0 ? error_errno(err, -r, "move crisp-pod to the cgroup %s", leaf) : 0;
}

static int sd_pod_enter(struct cgroup_host *h, const char *pod_path, const char *leaf, pid_t pid,
                        struct error *err)
{
    (void)pthread_rwlock_rdlock(&h->slice_lock);
    int r = start_scope(h, pod_path, pid, err);
    (void)pthread_rwlock_unlock(&h->slice_lock);
    if (r == 0)
        r = move_to_leaf(h, pod_path, leaf, pid, err);
    if (r < 0)
        return r;
    // All levels, which hand down what systemd doesn't know (hugetlb) or, on v1, has not made.
    uint32_t made;
    return cgroup_make_path(h, pod_path, false, &made, err);
}

// The level `gone` above the scope: one that systemd has made for us, implicitly. *stopped: nobody uses it
// any more; else whoever does is to remove it, and those above that we made.
static int stop_slice(struct cgroup_host *h, const char *pod_path, unsigned gone, uint32_t made_levels,
                      bool *stopped, struct error *err)
{
    const struct cgroup_hierarchy_fd *root = units_root(h);
    char path[CGROUP_PATH_MAX];
    int r = 0;
    *stopped = false;
    cgroup_path_prefix(pod_path, cgroup_path_levels(pod_path) - gone, path);
    if (gone >= made_levels && !cgroup_is_handed_over(h, path))
        return 0;
    (void)pthread_rwlock_wrlock(&h->slice_lock);
    if (root && !cgroup_populated(h, path) && !cgroup_has_children(root, path)) {
        r = cgroup_bus_stop_unit(h->bus, cgroup_path_base(path), STOP_TIMEOUT_NS, err);
        *stopped = r == 0;
        for (size_t i = 0; i < h->n && *stopped; i++) // those that systemd doesn't know
            (void)unlinkat(h->fds[i].fd, path + 1, AT_REMOVEDIR);
    } else {
        cgroup_hand_over(h, pod_path, gone, made_levels);
    }
    (void)pthread_rwlock_unlock(&h->slice_lock);
    return r;
}

// The directory goes at once, as kubelet wants to remove its slice right after StopPodSandbox. systemd
// forgets an empty scope by itself, but is told all the same: it may have missed the end of one whose
// directory went so soon.
static int remove_scope(struct cgroup_host *h, const char *pod_path, struct error *err)
{
    int r = cgroup_remove(h, pod_path, err);
    if (r == 0)
        (void)cgroup_bus_stop_unit(h->bus, cgroup_path_base(pod_path), 0, NULL);
    return r;
}

static int sd_pod_remove(struct cgroup_host *h, const char *pod_path, uint32_t made_levels, struct error *err)
{
    unsigned levels = cgroup_path_levels(pod_path);
    int r = remove_scope(h, pod_path, err);
    if (r < 0)
        return r;
    bool stopped = true;
    for (unsigned gone = 1; gone < levels && stopped; gone++) {
        char step[CGROUP_PATH_MAX];
        cgroup_path_prefix(pod_path, levels - gone, step);
        if (str_eq(step, h->parent))
            return 0; // stays for the next pod
        r = stop_slice(h, pod_path, gone, made_levels, &stopped, err);
        if (r < 0)
            return r;
    }
    return 0;
}

const struct cgroup_manager cgroup_manager_systemd = {
    .name = "systemd",
    .open = sd_open,
    .close = sd_close,
    .pod_path = sd_pod_path,
    .pod_create = sd_pod_create,
    .pod_enter = sd_pod_enter,
    .pod_remove = sd_pod_remove,
};
