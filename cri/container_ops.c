#include "cri/container_ops.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "cri/config.h"
#include "cri/daemon.h"
#include "image/image.h"
#include "runtime/annotation.h"
#include "runtime/runtime.h"

static int resolve_image(struct daemon *d, const Cri__ContainerConfig *config, struct image **image,
                         struct error *err)
{
    if (!config->image || str_empty(config->image->image))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "config.image.image is empty");
    int r = image_store_resolve(d->images, config->image->image, image, err);
    if (r == -ENOENT)
        return error_set(err, STATUS_NOT_FOUND, ENOENT, "image \"%s\" is not here: pull it first",
                         config->image->image);
    return r;
}

// The images that a container is made of: its own, and those that it mounts.
struct images {
    struct container_image_mount *mounts;
    size_t n_mounts;
    char **ids; // of those that are held, NULL-terminated
};

static void release_all(struct daemon *d, const char *holder, char *const *ids)
{
    for (size_t i = 0; ids && ids[i]; i++)
        image_store_release(d->images, ids[i], holder);
}

static void images_done(struct images *images)
{
    for (size_t i = 0; i < images->n_mounts; i++)
        strv_free((char **)images->mounts[i].lowers);
    free(images->mounts);
    strv_free(images->ids);
}

// The images stay for as long as the container does, whoever removes them.
static int hold(struct daemon *d, const struct container *c, const struct image *image, struct images *images,
                struct error *err)
{
    if (strv_append(&images->ids, image->id) < 0)
        return error_errno(err, ENOMEM, "hold image %s", image->id);
    return image_store_hold(d->images, image->id, c->id, err);
}

// ImageVolumeMountFailed is the word that kubelet knows.
static int hold_mounted(struct daemon *d, const struct container *c, size_t index, struct images *images,
                        struct error *err)
{
    const Cri__Mount *mount = c->config->mounts[index];
    struct container_image_mount *m = &images->mounts[images->n_mounts];
    struct image *image __attribute__((cleanup(image_unrefp))) = NULL;
    char **lowers = NULL;
    const char *handler = mount->image->runtime_handler;
    if (!str_empty(handler) && !str_eq(handler, d->config->runtime_handler))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "mounts[%zu].image.runtime_handler: \"%.100s\" is not known", index, handler);
    int r = image_store_resolve(d->images, mount->image->image, &image, err);
    if (r == -ENOENT)
        r = error_set(err, STATUS_NOT_FOUND, ENOENT, "image \"%s\" is not here: pull it first",
                      mount->image->image);
    if (r == 0)
        r = hold(d, c, image, images, err);
    if (r == 0)
        r = image_volume_layers(d->images, image, &lowers, err);
    if (r < 0)
        return error_wrap(err, "ImageVolumeMountFailed: mounts[%zu].image", index);
    *m = (struct container_image_mount){
        .mount = index, .image_id = images->ids[strv_len(images->ids) - 1], .lowers = lowers};
    m->n_lowers = strv_len(lowers);
    images->n_mounts++;
    return 0;
}

static int hold_all(struct daemon *d, const struct container *c, const struct image *image,
                    struct images *images, struct error *err)
{
    images->mounts = calloc(c->config->n_mounts + 1, sizeof(*images->mounts));
    images->ids = strv_new(0);
    if (!images->mounts || !images->ids)
        return error_errno(err, ENOMEM, "hold image %s", image->id);
    int r = hold(d, c, image, images, err);
    for (size_t i = 0; r == 0 && i < c->config->n_mounts; i++) {
        const Cri__Mount *mount = c->config->mounts[i];
        if (mount->image && !str_empty(mount->image->image))
            r = hold_mounted(d, c, i, images, err);
    }
    return r;
}

static int limit_storage(struct daemon *d, const struct container *c, struct error *err)
{
    uint64_t bytes = annotations_storage_bytes(c->pod->config, c->config);
    int r = bytes > 0 ? image_rootfs_limit(d->images, c->id, bytes, err) : 0;
    return r < 0 ? error_wrap(err, "annotation \"" ANNOTATION_PREFIX "storage-size\"") : 0;
}

static int make_rootfs(struct daemon *d, struct container *c, const struct image *image,
                       const struct images *images, struct error *err)
{
    struct image_rootfs rootfs = {0};
    int r = image_rootfs_create(d->images, image, c->id, &rootfs, err);
    if (r < 0)
        return r;
    const struct container_rootfs root = {
        .image_id = image->id,
        .image_config = image->config,
        .layers_dir = rootfs.layers_dir,
        .lowers = rootfs.lowers,
        .n_lowers = rootfs.n_lowers,
        .upper = rootfs.upper,
        .work = rootfs.work,
        .volumes = rootfs.volumes,
        .mounts = images->mounts,
        .n_mounts = images->n_mounts,
    };
    r = limit_storage(d, c, err);
    if (r == 0)
        r = runtime_container_create(d->runtime, c, &root, err);
    image_rootfs_done(&rootfs);
    if (r < 0)
        (void)image_rootfs_remove(d->images, c->id, NULL); // the start-up sweep gets what stays
    return r;
}

// Holds the images' layers, makes the root's folders, then the container; undoes in reverse order.
static int make(struct daemon *d, struct container *c, const struct image *image, struct error *err)
{
    struct images images = {0};
    int r = hold_all(d, c, image, &images, err);
    if (r == 0)
        r = make_rootfs(d, c, image, &images, err);
    if (r < 0)
        release_all(d, c->id, images.ids);
    images_done(&images);
    return r;
}

int container_ops_create(struct daemon *d, struct pod *pod, const Cri__ContainerConfig *config,
                         const struct ctx *ctx, struct container **out, struct error *err)
{
    struct container *c = NULL;
    bool made;
    int r = runtime_container_claim(d->runtime, pod, config, ctx, &c, &made, err);
    if (r < 0)
        return r;
    if (made) {
        struct image *image = NULL;
        r = resolve_image(d, config, &image, err);
        if (r == 0)
            r = make(d, c, image, err);
        image_unref(image);
        if (r < 0) {
            error_wrap(err, "create container \"%s\" in pod sandbox %s", config->metadata->name, pod->id);
            runtime_container_abandon(d->runtime, c, err);
            container_unref(c);
            return r;
        }
    }
    *out = c;
    return 0;
}

int container_ops_remove(struct daemon *d, struct container *c, const struct ctx *ctx, struct error *err)
{
    bool gone;
    int r = runtime_container_remove_begin(d->runtime, c, ctx, &gone, err);
    if (r < 0 || gone)
        return r;
    r = image_rootfs_remove(d->images, c->id, err);
    int ended = runtime_container_remove_end(d->runtime, c, r == 0, r == 0 ? err : NULL);
    if (r == 0)
        r = ended;
    if (r < 0)
        return error_wrap(err, "remove container %s", c->id);
    image_store_release(d->images, c->image_id, c->id);
    release_all(d, c->id, c->mounted_images);
    log_info("container is removed", "container", c->id, "pod", c->pod->id);
    return 0;
}
