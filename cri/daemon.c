#include "cri/daemon.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/db/db.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/config.h"
#include "cri/recovery_ops.h"
#include "image/image.h"
#include "network/network.h"
#include "runtime/runtime.h"

// A directory of ours, its mode made right, and its lock.
static int own_dir(const char *path, mode_t mode, struct lockfile *lock, struct error *err)
{
    _cleanup_free_ char *file = str_printf("%s/lock", path);
    _cleanup_free_ char *what = str_printf("the directory %s", path);
    if (!file || !what)
        return error_errno(err, ENOMEM, "directory %s", path);
    int rc = file_mkdir_p(path, mode, err);
    if (rc != 0)
        return rc;
    if (chmod(path, mode) != 0)
        return error_errno(err, errno, "directory %s: chmod", path);
    return lockfile_take(lock, file, what, err);
}

static int open_db(struct daemon *d, struct error *err)
{
    const struct db_module modules[] = {image_db_module, runtime_db_module};
    _cleanup_free_ char *path = str_printf("%s/crisp.db", d->config->root);
    if (!path)
        return error_errno(err, ENOMEM, "open the records");
    return db_open(path, modules, ARRAY_SIZE(modules), &d->db, err);
}

static int open_images(struct daemon *d, bool offline, struct error *err)
{
    const struct config *c = d->config;
    _cleanup_free_ char *root = str_printf("%s/image", c->root);
    struct image_store_options options = {.root_dir = root,
                                          .crisp_pull_path = c->crisp_pull,
                                          .db = d->db,
                                          .registries = c->registries,
                                          .pinned = (const char *const *)c->image_pinned,
                                          .policies = c->image_policies,
                                          .allowed = c->image_allowed,
                                          .parallel_layers = (unsigned)c->image_pull_concurrency,
                                          .node_layers = (unsigned)c->image_pull_concurrency_node,
                                          .stall_ns = c->image_pull_stall_ns,
                                          .min_rate = (uint64_t)c->image_pull_min_rate,
                                          .sync_before_answer = c->image_sync_before_answer,
                                          .offline = offline};
    if (!root)
        return error_errno(err, ENOMEM, "open the image store");
    return image_store_open(&options, &d->images, err);
}

static int open_network(struct daemon *d, struct error *err)
{
    const struct config *c = d->config;
    struct network_options options = {.conf_dir = c->cni_conf_dir,
                                      .bin_dirs = (const char *const *)c->cni_bin_dirs,
                                      .cache_dir = c->cni_cache_dir,
                                      .plugin_timeout_ns = c->cni_plugin_timeout_ns,
                                      .exclusive = c->cni_exclusive};
    return network_open(&options, &d->network, err);
}

static int open_runtime(struct daemon *d, struct error *err)
{
    const struct config *c = d->config;
    _cleanup_free_ char *image_dir = str_printf("%s/image", c->root);
    struct runtime_options options = {.db = d->db,
                                      .run_dir = c->run_dir,
                                      .crisp_pod_path = c->crisp_pod,
                                      .cgroup_parent = c->cgroup_parent,
                                      .cdi_dirs = c->cdi_spec_dirs,
                                      .rlimits = (const char *const *)c->runtime_rlimits,
                                      .image_dir = image_dir,
                                      .device_ownership = c->device_ownership,
                                      .shm_bytes = (uint64_t)c->shm_mib << 20,
                                      .pids_limit = c->pids_limit,
                                      .default_sysctls = c->default_sysctls,
                                      .absent_sources_denied = c->absent_sources_denied,
                                      .annotations_allowed = c->annotations_allowed,
                                      .cgroup_driver =
                                          c->cgroup_driver == CONFIG_CGROUP_SYSTEMD ? "systemd" : "cgroupfs"};
    if (!image_dir)
        return error_errno(err, ENOMEM, "open the runtime");
    return runtime_open(&options, &d->runtime, err);
}

static int open_all(struct daemon *d, struct error *err)
{
    // The root holds images' layers with their setuid programs: nobody else may pass. The run directory may
    // be passed, for a socket that a group was given.
    int rc = own_dir(d->config->root, 0700, &d->root_lock, err);
    rc = rc ? rc : own_dir(d->config->run_dir, 0711, &d->run_lock, err);
    rc = rc ? rc : open_db(d, err);
    rc = rc ? rc : open_images(d, false, err);
    rc = rc ? rc : open_network(d, err);
    return rc ? rc : open_runtime(d, err);
}

int daemon_open(struct daemon *d, const struct config *config, struct error *err)
{
    *d = (struct daemon){.config = config, .root_lock = LOCKFILE_INIT, .run_lock = LOCKFILE_INIT};
    int rc = open_all(d, err);
    if (rc != 0)
        daemon_close(d);
    else
        recovery_run(d); // before the first call, whose new objects a sweep could take for leftovers
    return rc;
}

int daemon_verify_images(const struct config *config, struct image_verified *out, struct error *err)
{
    struct daemon d = {.config = config, .root_lock = LOCKFILE_INIT, .run_lock = LOCKFILE_INIT};
    int rc = own_dir(config->root, 0700, &d.root_lock, err);
    rc = rc ? rc : open_db(&d, err);
    rc = rc ? rc : open_images(&d, true, err);
    rc = rc ? rc : image_store_verify(d.images, out, err);
    daemon_close(&d);
    return rc;
}

void daemon_shutdown(void *data)
{
    struct daemon *d = data;
    runtime_shutdown(d->runtime);
}

void daemon_close(struct daemon *d)
{
    runtime_close(steal_ptr(&d->runtime));
    network_close(steal_ptr(&d->network));
    image_store_close(steal_ptr(&d->images));
    if (d->db)
        db_close(steal_ptr(&d->db));
    lockfile_release(&d->run_lock);
    lockfile_release(&d->root_lock);
}
