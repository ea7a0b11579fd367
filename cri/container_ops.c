#include "cri/container_ops.h"

#include "base/log.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "image/image.h"
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

// Holds the image's layers, makes the root's folders, then the container; undoes in reverse order.
static int make(struct daemon *d, struct container *c, const struct image *image, struct error *err)
{
    struct image_rootfs rootfs = {0};
    int r = image_store_hold(d->images, image->id, c->id, err);
    if (r < 0)
        return r;
    r = image_rootfs_create(d->images, image, c->id, &rootfs, err);
    if (r == 0) {
        const struct container_rootfs root = {
            .image_id = image->id,
            .image_config = image->config,
            .layers_dir = rootfs.layers_dir,
            .lowers = rootfs.lowers,
            .n_lowers = rootfs.n_lowers,
            .upper = rootfs.upper,
            .work = rootfs.work,
        };
        r = runtime_container_create(d->runtime, c, &root, err);
        image_rootfs_done(&rootfs);
        if (r < 0)
            (void)image_rootfs_remove(d->images, c->id, NULL); // the start-up sweep gets what stays
    }
    if (r < 0)
        image_store_release(d->images, image->id, c->id);
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
    log_info("container is removed", "container", c->id, "pod", c->pod->id);
    return 0;
}
