// A container's own mounts: the config's (directories and files of the host, images), and the volumes that
// its image declares.
#include "runtime/plan_internal.h"

#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define VOLUMES_MAX 256 // of one image

static Pod__Propagation propagation_of(Cri__MountPropagation p)
{
    switch (p) {
    case CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER:
        return POD__PROPAGATION__PROPAGATION_SLAVE;
    case CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL:
        return POD__PROPAGATION__PROPAGATION_SHARED;
    default:
        return POD__PROPAGATION__PROPAGATION_PRIVATE;
    }
}

// ---- What the config mounts ----

// A path that can't be is the client's mistake; a full or failing disk isn't.
static int bad_source(struct error *err, int errnum)
{
    static const int mistakes[] = {ENOENT, ENOTDIR, EEXIST, ELOOP, ENAMETOOLONG, EACCES, EPERM, EROFS};
    for (size_t i = 0; err && i < ARRAY_SIZE(mistakes); i++) {
        if (errnum == mistakes[i])
            error_restatus(err, STATUS_INVALID_ARGUMENT);
    }
    return -errnum;
}

// Peers make what is missing, and kubelet's hostPath type "" relies on it.
static bool may_be_made(const struct policy *p, const char *path)
{
    for (size_t i = 0; p->absent_sources_denied && p->absent_sources_denied[i]; i++) {
        const char *denied = p->absent_sources_denied[i];
        size_t len = strlen(denied);
        if (str_eq(denied, "/") || (str_has_prefix(path, denied) && (path[len] == '/' || path[len] == '\0')))
            return false;
    }
    return true;
}

static int ensure_source(const struct policy *p, const Cri__Mount *config, size_t index, struct error *err)
{
    struct stat st;
    if (stat(config->host_path, &st) == 0)
        return 0;
    int errnum = errno;
    if (errnum != ENOENT) {
        (void)error_errno(err, errnum, "mounts[%zu].host_path \"%.200s\"", index, config->host_path);
        return bad_source(err, errnum);
    }
    if (!may_be_made(p, config->host_path))
        return error_set(err, STATUS_INVALID_ARGUMENT, ENOENT,
                         "mounts[%zu].host_path \"%.200s\" is missing, and the configuration "
                         "(runtime.absent_mount_sources_to_reject) forbids to make it",
                         index, config->host_path);
    int r = file_mkdir_p(config->host_path, 0755, err);
    if (r == 0)
        return 0;
    (void)error_wrap(err, "mounts[%zu].host_path \"%.200s\" is missing and can't be made", index,
                     config->host_path);
    return bad_source(err, -r);
}

static int add_bind(struct plan_builder *b, const Cri__Mount *config, size_t index, const char *destination)
{
    int r = ensure_source(b->policy, config, index, b->err);
    if (r < 0)
        return r;
    Pod__Mount *m = plan_new_mount(b, destination, "bind", config->host_path,
                                   config->readonly ? MOUNT_ATTR_RDONLY : 0, "");
    if (!m)
        return plan_no_memory(b->err);
    m->recursive = true;
    m->idmap = config->n_uidmappings > 0; // policy has compared them with the pod's
    m->recursive_readonly = config->recursive_read_only;
    m->propagation = propagation_of(config->propagation);
    return 0;
}

// Always read-only, as CRI has it. Devices in it are of no use: what a container gets is in `devices`.
static int add_image(struct plan_builder *b, const Cri__Mount *config, size_t index, const char *destination)
{
    const struct plan_image *image = NULL;
    for (size_t i = 0; i < b->in->n_images; i++) {
        if (b->in->images[i].mount == index)
            image = &b->in->images[i];
    }
    if (!image)
        return error_set(b->err, STATUS_INTERNAL, EINVAL, "mounts[%zu].image: was not looked up", index);
    Pod__Mount *m =
        plan_new_mount(b, destination, "image", image->image_id, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, "");
    char **lowers = arena_alloc(b->arena, (image->n_lowers + 1) * sizeof(*lowers));
    if (!m || !lowers)
        return plan_no_memory(b->err);
    for (size_t i = 0; i < image->n_lowers; i++)
        lowers[i] = (char *)image->lowers[i];
    m->lowers = lowers;
    m->n_lowers = image->n_lowers;
    m->sub_path = config->image_sub_path;
    plan_require(b, "image-volume");
    return 0;
}

int plan_add_config_mounts(struct plan_builder *b)
{
    const Cri__ContainerConfig *c = b->in->config;
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->n_mounts; i++) {
        const Cri__Mount *m = c->mounts[i];
        char *destination = plan_clean_path(b->arena, m->container_path);
        if (!destination)
            return plan_no_memory(b->err);
        r = m->image && !str_empty(m->image->image) ? add_image(b, m, i, destination)
                                                    : add_bind(b, m, i, destination);
    }
    return r;
}

// ---- What the image declares ----

// "/a/../b" is "/b", "data" is "/data": what an image says is no mistake of the client's. "/" for what names
// the root. NULL: no memory.
static char *volume_path(struct arena *arena, const char *path)
{
    char *out = arena_alloc(arena, strlen(path) + 2), *to = out;
    for (const char *p = path; out && *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.') {
            while (to > out && *--to != '/')
                ;
        } else if (len > 0 && !(len == 1 && *p == '.')) {
            *to++ = '/';
            memcpy(to, p, len);
            to += len;
        }
        p += len;
    }
    if (out && to == out)
        *to++ = '/';
    if (out)
        *to = '\0';
    return out;
}

// What the runtime provides itself is not the image's to replace (images for systemd declare /sys/fs/cgroup).
static bool is_runtimes(const char *path)
{
    static const char *const ours[] = {"/proc", "/sys", "/dev"};
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        size_t len = strlen(ours[i]);
        if (str_has_prefix(path, ours[i]) && (path[len] == '\0' || path[len] == '/'))
            return true;
    }
    return false;
}

static bool is_there(const struct plan_builder *b, const char *destination)
{
    for (size_t i = 0; i < b->plan->n_mounts; i++) {
        if (str_eq(b->plan->mounts[i]->destination, destination))
            return true;
    }
    return false;
}

static int add_volume(struct plan_builder *b, const char *declared, size_t number)
{
    char *path = volume_path(b->arena, declared);
    char *source = arena_printf(b->arena, "%s/%zu", b->in->rootfs.volumes, number);
    if (!path || !source)
        return plan_no_memory(b->err);
    if (str_eq(path, "/"))
        return error_set(b->err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "the image declares its root a volume (\"%.200s\")", declared);
    if (is_runtimes(path) || is_there(b, path) || plan_is_covered(b->in->config, path, true))
        return 0;
    int r = file_mkdir_p(source, 0755, b->err);
    if (r < 0)
        return error_wrap(b->err, "the image's volume \"%.200s\"", declared);
    Pod__Mount *m = plan_new_mount(b, path, "bind", source, 0, "");
    if (!m)
        return plan_no_memory(b->err);
    m->copy_content = true;
    plan_require(b, "volume-content");
    return 0;
}

int plan_add_volumes(struct plan_builder *b)
{
    const Pull__ImageConfig *image = b->in->image;
    if (!b->in->rootfs.volumes)
        return 0;
    if (image->n_volumes > VOLUMES_MAX)
        return error_set(b->err, STATUS_INVALID_ARGUMENT, E2BIG, "the image declares more than %d volumes",
                         VOLUMES_MAX);
    int r = 0;
    for (size_t i = 0; r == 0 && i < image->n_volumes; i++)
        r = add_volume(b, image->volumes[i], i);
    return r;
}
