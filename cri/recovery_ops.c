#include "cri/recovery_ops.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/config.h"
#include "cri/daemon.h"
#include "cri/pod_ops.h"
#include "image/image.h"
#include "network/netns.h"
#include "network/network.h"
#include "runtime/runtime.h"

static void hold_image(struct daemon *d, const char *image_id, const struct container *c)
{
    struct error err = ERROR_INIT;
    // It can still be reported, stopped and removed; starting it will say what is missing.
    if (image_store_hold(d->images, image_id, c->id, &err) < 0)
        log_warn("a container's image is missing", "container", c->id, "error", err.message);
}

static void hold_images(struct daemon *d, struct container *const *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hold_image(d, all[i]->image_id, all[i]);
        for (char *const *id = all[i]->mounted_images; *id; id++)
            hold_image(d, *id, all[i]);
    }
}

static void sweep_rootfs(struct daemon *d)
{
    struct container **all;
    struct error err = ERROR_INIT;
    size_t n;
    int r = runtime_container_list(d->runtime, NULL, false, &all, &n, &err);
    if (r == 0) {
        const char **ids = calloc(n + 1, sizeof(*ids));
        for (size_t i = 0; ids && i < n; i++)
            ids[i] = all[i]->id;
        hold_images(d, all, n);
        r = ids ? image_rootfs_sweep(d->images, ids, n, &err) : error_errno(&err, ENOMEM, "list containers");
        free(ids);
        runtime_containers_free(all, n);
    }
    if (r < 0)
        log_error("root filesystems were not swept", "error", err.message);
}

// A READY pod keeps its network; so does one whose crisp-pod died, until it is stopped. An interrupted
// StopPodSandbox is the client's to repeat.
static void settle_pods(struct daemon *d, struct pod *const *pods, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct pod_view view;
        runtime_pod_view(d->runtime, pods[i], &view);
        if (view.state != POD_MAKING)
            continue;
        log_warn("undoing a pod sandbox that was half made", "pod", pods[i]->id);
        pod_ops_undo_later(d, pods[i]);
    }
}

static void sweep_networks(struct daemon *d)
{
    struct pod **pods;
    struct error err = ERROR_INIT;
    size_t n;
    // Those that are being undone too: their network is torn down with the rest.
    int r = runtime_pod_list(d->runtime, true, &pods, &n, &err);
    if (r == 0) {
        const char **ids = calloc(n + 1, sizeof(*ids));
        for (size_t i = 0; ids && i < n; i++)
            ids[i] = pods[i]->id;
        r = ids ? network_sweep(d->network, ids, n, &err) : error_errno(&err, ENOMEM, "list pod sandboxes");
        free(ids);
        runtime_pods_free(pods, n);
    }
    if (r < 0)
        log_error("networks were not swept", "error", err.message);
}

static void sweep_netns(struct daemon *d)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/netns", d->config->run_dir);
    _cleanup_(dir_closep) DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct pod *pod = NULL;
        struct error err = ERROR_INIT;
        if (!str_is_hex(entry->d_name, RUNTIME_ID_LEN) ||
            runtime_pod_find(d->runtime, entry->d_name, &pod, NULL) == 0) {
            pod_unref(pod);
            continue;
        }
        snprintf(path, sizeof(path), "%s/netns/%s", d->config->run_dir, entry->d_name);
        log_warn("sweeping a network namespace that no record knows", "netns", path);
        if (netns_unpin(path, &err) < 0)
            log_warn("it could not be unpinned", "netns", path, "error", err.message);
    }
}

void recovery_run(struct daemon *d)
{
    struct pod **pods;
    size_t n;
    struct error err = ERROR_INIT;
    sweep_rootfs(d);
    runtime_sweep(d->runtime);
    sweep_networks(d); // also ends the plugins that a killed daemon left running, before any DEL of ours
    if (runtime_pod_list(d->runtime, true, &pods, &n, &err) < 0) {
        log_error("half made pod sandboxes were not undone", "error", err.message);
        return;
    }
    settle_pods(d, pods, n);
    runtime_pods_free(pods, n);
    sweep_netns(d);
}
