// The cgroupfs driver: pods' places are directories that crispd makes and removes itself.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "runtime/cgroup_internal.h"

static int fs_open(struct cgroup_host *h, const struct cgroup_options *o, struct error *err)
{
    char path[CGROUP_PATH_MAX];
    if (str_has_suffix(o->parent, ".slice") && o->parent[0] != '/')
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "cgroup.parent \"%.200s\" is a systemd slice, but cgroup.driver is cgroupfs: give a "
                         "path such as /crisp",
                         o->parent);
    int n = snprintf(path, sizeof(path), "%s%s", o->parent[0] == '/' ? "" : "/", o->parent);
    while (n > 1 && (size_t)n < sizeof(path) && path[n - 1] == '/')
        path[--n] = '\0';
    if (n < 0 || (size_t)n >= sizeof(path) - 2 * 66 || !cgroup_path_is_sane(path))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "cgroup.parent \"%.300s\" is not a usable cgroup path", o->parent);
    h->parent = strdup(path);
    return h->parent ? 0 : error_errno(err, ENOMEM, "open the cgroups");
}

static void fs_close(struct cgroup_host *h)
{
    for (size_t i = 0; i < h->n && h->parent; i++) {
        if (h->fds[i].fd >= 0) // only succeeds when nobody uses it any more
            (void)unlinkat(h->fds[i].fd, h->parent + 1, AT_REMOVEDIR);
    }
}

static int fs_pod_path(const struct cgroup_host *h, const char *cgroup_parent, const char *pod_id,
                       char out[CGROUP_PATH_MAX], struct error *err)
{
    return cgroup_parent ? cgroup_path_of_directory(cgroup_parent, out, err)
                         : cgroup_leaf_path(h->parent, pod_id, out, err);
}

static int fs_pod_create(struct cgroup_host *h, const char *pod_path, uint32_t *made_levels,
                         struct error *err)
{
    return cgroup_make_path(h, pod_path, false, made_levels, err);
}

static int fs_pod_enter(struct cgroup_host *h, const char *pod_path, const char *leaf, pid_t pid,
                        struct error *err)
{
    (void)h;
    (void)pod_path;
    (void)leaf;
    (void)pid; // joins its leaf by itself
    (void)err;
    return 0;
}

// From every hierarchy: 0, -EBUSY in the error, -errno. Absent is fine.
static int remove_level(struct cgroup_host *h, const char *path, struct error *err)
{
    for (size_t i = 0; i < h->n; i++) {
        if (unlinkat(h->fds[i].fd, path + 1, AT_REMOVEDIR) < 0 && errno != ENOENT)
            return error_errno(err, errno, "remove the cgroup %s%s", h->hierarchies[i].mount_point, path);
    }
    return 0;
}

static int fs_pod_remove(struct cgroup_host *h, const char *pod_path, uint32_t made_levels, struct error *err)
{
    unsigned levels = cgroup_path_levels(pod_path);
    int r = 0;
    for (unsigned gone = 0; gone < levels && r == 0; gone++) {
        char step[CGROUP_PATH_MAX];
        cgroup_path_prefix(pod_path, levels - gone, step);
        if (str_eq(step, h->parent)) // stays for the next pod
            return 0;
        if (gone >= made_levels && !cgroup_is_handed_over(h, step))
            return 0;
        if (gone == 0) {
            r = remove_level(h, step, err);
            continue;
        }
        (void)pthread_rwlock_wrlock(&h->slice_lock);
        r = remove_level(h, step, err);
        if (r == -EBUSY) // another pod lives there too
            cgroup_hand_over(h, pod_path, gone, made_levels);
        (void)pthread_rwlock_unlock(&h->slice_lock);
        if (r == -EBUSY)
            return 0;
    }
    return r;
}

const struct cgroup_manager cgroup_manager_cgroupfs = {
    .name = "cgroupfs",
    .open = fs_open,
    .close = fs_close,
    .pod_path = fs_pod_path,
    .pod_create = fs_pod_create,
    .pod_enter = fs_pod_enter,
    .pod_remove = fs_pod_remove,
};
