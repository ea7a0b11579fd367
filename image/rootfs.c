// Containers' root filesystems: the folders of their overlays.
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/map.h"
#include "base/str.h"
#include "image/quota.h"
#include "image/store.h"

#define EMPTY_LAYER  "empty"  // the only lower of an image without layers
#define EMPTY_SECOND "empty2" // overlay without an upper layer wants two different ones
#define BASE_LAYER   "base"   // below every container's: what is mounted on

// Ids become names of folders.
static int check_id(const char *id, struct error *err)
{
    size_t len = strlen(id);

    if (len > 0 && len <= NAME_MAX && id[0] != '.' && !strchr(id, '/'))
        return 0;
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "container id \"%.80s\" can't be a folder's name",
                     id);
}

void image_rootfs_done(struct image_rootfs *rootfs)
{
    free(rootfs->layers_dir);
    strv_free(rootfs->lowers);
    free(rootfs->upper);
    free(rootfs->work);
    free(rootfs->volumes);
    *rootfs = (struct image_rootfs){0};
}

static bool is_among(char *const *v, const char *name)
{
    while (*v && !str_eq(*v, name))
        v++;
    return *v != NULL;
}

// A layer that an image has twice (empty ones, mostly) is mounted once, at its highest place: overlay refuses
// a directory that it has already, and what the lower one has is hidden by its twin anyway.
static int list_lowers(const struct image *image, char ***lowers)
{
    int r = 0;

    *lowers = strv_new(0);
    if (!*lowers)
        return -ENOMEM;
    for (char **l = image->layers; r == 0 && *l; l++)
        if (!is_among(*lowers, *l))
            r = strv_append(lowers, *l);
    if (r == 0 && !image->layers[0])
        r = strv_append(lowers, EMPTY_LAYER);
    return r;
}

static int make_empty_layer(struct image_store *s, const char *name, struct error *err)
{
    _cleanup_free_ char *path = str_printf("%s/%s", s->layers_dir, name);

    return path ? file_mkdir_p(path, 0755, err) : error_errno(err, ENOMEM, "make an empty layer");
}

static const struct {
    const char *path;
    bool file;
} base_entries[] = {
    {"proc", false},
    {"sys", false},
    {"dev", false},
    {"etc", false},
    {"etc/hosts", true},
    {"etc/hostname", true},
    {"etc/resolv.conf", true},
};

// The places that every container has something mounted on. Where the image lacks one it would else be made
// in each container's upper layer, with a copy of its directory: a tenth of a millisecond and some blocks.
static int make_base_layer(struct image_store *s, struct error *err)
{
    _cleanup_free_ char *path = str_printf("%s/" BASE_LAYER, s->layers_dir);
    size_t last = ARRAY_SIZE(base_entries) - 1;

    if (!path)
        return error_errno(err, ENOMEM, "make the base layer");
    _cleanup_free_ char *whole = str_printf("%s/%s", path, base_entries[last].path);
    if (!whole)
        return error_errno(err, ENOMEM, "make the base layer");
    if (access(whole, F_OK) == 0)
        return 0;
    int r = file_mkdir_p(path, 0755, err);
    _cleanup_fd_ int dir = r < 0 ? r : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (r == 0 && dir < 0)
        r = error_errno(err, errno, "open %s", path);
    for (size_t i = 0; r == 0 && i <= last; i++) {
        const char *name = base_entries[i].path;
        int made = base_entries[i].file ? mknodat(dir, name, S_IFREG | 0644, 0) : mkdirat(dir, name, 0755);
        if (made < 0 && errno != EEXIST)
            r = error_errno(err, errno, "make %s/%s", path, name);
    }
    return r;
}

// Never a single directory: it would have to be bound, and a container that may remount could then write to
// the layer that all share. An image without layers is the empty one over another, as overlay takes none
// twice.
int image_volume_layers(struct image_store *s, const struct image *image, char ***lowers, struct error *err)
{
    int r = list_lowers(image, lowers);

    if (r == 0 && (*lowers)[1] == NULL)
        r = strv_append(lowers, image->layers[0] ? EMPTY_LAYER : EMPTY_SECOND);
    if (r < 0)
        r = error_errno(err, ENOMEM, "layers of image %s", image->id);
    if (r == 0)
        r = make_empty_layer(s, EMPTY_LAYER, err);
    if (r == 0 && !image->layers[0])
        r = make_empty_layer(s, EMPTY_SECOND, err);
    if (r < 0) {
        strv_free(*lowers);
        *lowers = NULL;
    }
    return r;
}

int image_rootfs_get(struct image_store *s, const struct image *image, const char *container_id,
                     struct image_rootfs *out, struct error *err)
{
    int r = check_id(container_id, err);

    *out = (struct image_rootfs){0};
    if (r < 0)
        return r;
    out->layers_dir = strdup(s->layers_dir);
    out->upper = str_printf("%s/%s/upper", s->containers_dir, container_id);
    out->work = str_printf("%s/%s/work", s->containers_dir, container_id);
    out->volumes = str_printf("%s/%s/volumes", s->containers_dir, container_id);
    if (!out->layers_dir || !out->upper || !out->work || !out->volumes)
        r = -ENOMEM;
    if (r == 0)
        r = list_lowers(image, &out->lowers);
    if (r == 0)
        r = strv_append(&out->lowers, BASE_LAYER);
    if (r < 0) {
        image_rootfs_done(out);
        return error_errno(err, ENOMEM, "root filesystem of container %s", container_id);
    }
    out->n_lowers = strv_len(out->lowers);
    return 0;
}

// The merged root directory is the upper one: it gets the owner and mode that the image's has.
static int make_upper(struct image_store *s, const struct image_rootfs *rootfs, struct error *err)
{
    _cleanup_free_ char *top = str_printf("%s/%s", s->layers_dir, rootfs->lowers[0]);
    struct stat st;
    int r;

    if (!top)
        return error_errno(err, ENOMEM, "make %s", rootfs->upper);
    if (str_eq(rootfs->lowers[0], EMPTY_LAYER)) {
        r = make_empty_layer(s, EMPTY_LAYER, err);
        if (r < 0)
            return r;
    }
    if (lstat(top, &st) < 0)
        return error_errno(err, errno, "layer %s", top);
    if (mkdir(rootfs->upper, 0755) < 0)
        return errno == EEXIST ? 0 : error_errno(err, errno, "make %s", rootfs->upper);
    if (chown(rootfs->upper, st.st_uid, st.st_gid) < 0 || chmod(rootfs->upper, st.st_mode & 07777) < 0)
        return error_errno(err, errno, "prepare %s", rootfs->upper);
    return 0;
}

int image_rootfs_create(struct image_store *s, const struct image *image, const char *container_id,
                        struct image_rootfs *out, struct error *err)
{
    _cleanup_free_ char *dir = NULL;
    int r = image_rootfs_get(s, image, container_id, out, err);

    if (r < 0)
        return r;
    dir = str_printf("%s/%s", s->containers_dir, container_id);
    if (!dir)
        r = error_errno(err, ENOMEM, "root filesystem of container %s", container_id);
    else if (mkdir(dir, 0711) < 0 && errno != EEXIST)
        r = error_errno(err, errno, "make %s", dir);
    if (r == 0)
        r = make_base_layer(s, err);
    if (r == 0)
        r = make_upper(s, out, err);
    if (r == 0 && mkdir(out->work, 0700) < 0 && errno != EEXIST)
        r = error_errno(err, errno, "make %s", out->work);
    if (r < 0)
        image_rootfs_done(out);
    else
        usage_add(s, container_id);
    return r;
}

int image_rootfs_limit(struct image_store *s, const char *container_id, uint64_t bytes, struct error *err)
{
    static const char *const inside[] = {"upper", "work", NULL};
    _cleanup_free_ char *dir = NULL;
    int r = check_id(container_id, err);

    if (r < 0)
        return r;
    dir = str_printf("%s/%s", s->containers_dir, container_id);
    if (!dir)
        return error_errno(err, ENOMEM, "root filesystem of container %s", container_id);
    return quota_limit(dir, inside, bytes, err);
}

int image_rootfs_remove(struct image_store *s, const char *container_id, struct error *err)
{
    _cleanup_free_ char *dir = NULL;
    int r = check_id(container_id, err);

    if (r < 0)
        return r;
    dir = str_printf("%s/%s", s->containers_dir, container_id);
    if (!dir)
        return error_errno(err, ENOMEM, "root filesystem of container %s", container_id);
    quota_forget(dir);
    r = trash_put(s, dir, err);
    if (r == 0)
        usage_drop(s, container_id);
    return r;
}

static int sweep_child(struct image_store *s, const char *dir, const char *name, struct error *err)
{
    _cleanup_free_ char *child = str_printf("%s/%s", dir, name);

    if (!child)
        return error_errno(err, ENOMEM, "sweep %s", dir);
    quota_forget(child); // layers have none
    return trash_put(s, child, err);
}

// The names in a folder; the caller's to strv_free().
static int list_dir(const char *path, char ***names, struct error *err)
{
    _cleanup_(dir_closep) DIR *dir = opendir(path);
    _cleanup_strv_ char **found = strv_new(0);
    struct dirent *d;

    if (!dir)
        return error_errno(err, errno, "read %s", path);
    if (!found)
        return error_errno(err, ENOMEM, "read %s", path);
    while ((d = readdir(dir)))
        if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..") && strv_append(&found, d->d_name) < 0)
            return error_errno(err, ENOMEM, "read %s", path);
    *names = steal_ptr(&found);
    return 0;
}

static int sweep_containers(struct image_store *s, const struct map *live, struct error *err)
{
    _cleanup_strv_ char **names = NULL;
    int r = list_dir(s->containers_dir, &names, err);

    for (char **name = names; r == 0 && *name; name++) {
        if (map_get(live, *name))
            continue;
        r = sweep_child(s, s->containers_dir, *name, err);
        if (r == 0)
            usage_drop(s, *name);
    }
    return r;
}

static bool is_in(const struct layer *list, const char *dir)
{
    while (list && !str_eq(list->dir, dir))
        list = list->next;
    return list != NULL;
}

static bool is_layer_dir(struct image_store *s, const char *name)
{
    bool found = str_eq(name, EMPTY_LAYER) || str_eq(name, EMPTY_SECOND) || str_eq(name, BASE_LAYER);

    pthread_mutex_lock(&s->lock);
    for (struct map_iter it = {0}; !found && map_next(s->layers, &it);)
        found = str_eq(((struct layer *)it.value)->dir, name);
    // The worker's, once their rows are gone; and what containers may have mounted.
    found = found || is_in(s->doomed, name) || is_in(s->burying, name) || is_in(s->condemned, name);
    pthread_mutex_unlock(&s->lock);
    return found;
}

// First what is there, then what is known: a pull that publishes meanwhile has its folder's name in the map
// before the folder is there, so one that was seen and is not known is nobody's.
static int sweep_layers(struct image_store *s, struct error *err)
{
    _cleanup_strv_ char **names = NULL;
    int r = list_dir(s->layers_dir, &names, err);

    for (char **name = names; r == 0 && *name; name++)
        if (!is_layer_dir(s, *name))
            r = sweep_child(s, s->layers_dir, *name, err);
    return r;
}

int image_rootfs_sweep(struct image_store *s, const char *const *live_ids, size_t n_live, struct error *err)
{
    struct map *keep = map_new();
    int r = keep ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < n_live; i++)
        r = map_set(keep, live_ids[i], s);
    r = r < 0 ? error_errno(err, ENOMEM, "sweep containers") : sweep_containers(s, keep, err);
    map_free(keep);
    pthread_mutex_lock(&s->write);
    pthread_mutex_lock(&s->lock);
    s->settled = true;
    pthread_mutex_unlock(&s->lock);
    if (r == 0)
        r = records_collect(s, err);
    if (r == 0)
        r = sweep_layers(s, err);
    pthread_mutex_unlock(&s->write);
    return r;
}
