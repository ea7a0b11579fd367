#include "image/image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/store.h"

#define PREFIX_MIN          4 // hex digits that may stand for an id
#define NODE_LAYERS_DEFAULT 16
#define PARALLEL_DEFAULT    4
#define NODE_LAYERS_DEFAULT 16

struct image *image_ref(struct image *image)
{
    __atomic_add_fetch(&image->refs, 1, __ATOMIC_RELAXED);
    return image;
}

void image_unref(struct image *image)
{
    if (!image || __atomic_sub_fetch(&image->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    free(image->id);
    strv_free(image->repo_tags);
    strv_free(image->repo_digests);
    strv_free(image->layers);
    strv_free(image->diff_ids);
    if (image->config)
        pull__image_config__free_unpacked((Pull__ImageConfig *)image->config, NULL);
    free(image);
}

void image_unrefp(struct image **image)
{
    image_unref(*image);
    *image = NULL;
}

void image_list_free(struct image **images, size_t n)
{
    for (size_t i = 0; i < n; i++)
        image_unref(images[i]);
    free(images);
}

bool image_user_parse(const char *config_user, int64_t *uid, size_t *name_len)
{
    _cleanup_free_ char *user = NULL;

    *name_len = config_user ? strcspn(config_user, ":") : 0;
    if (*name_len == 0)
        return false;
    user = strndup(config_user, *name_len);
    return user && str_parse_i64(user, 0, INT64_MAX, uid) == 0;
}

// A set-group-id directory above (or a mount with "grpid") hands its group down, and layers have their own.
static int make_dir(const char *path, struct error *err)
{
    struct stat st;
    // 0711: containers in user namespaces must get through, nobody needs to list.
    int r = file_mkdir_p(path, 0711, err);

    if (r < 0 || (stat(path, &st) == 0 && !(st.st_mode & S_ISGID) && st.st_gid == getegid()))
        return r;
    if (chown(path, (uid_t)-1, getegid()) < 0 || chmod(path, 0711) < 0)
        return error_errno(err, errno, "set the group of %s", path);
    return 0;
}

static int make_dirs(struct image_store *s, const char *root, struct error *err)
{
    struct {
        char **path;
        const char *name;
    } dirs[] = {{&s->layers_dir, "layers"},
                {&s->containers_dir, "containers"},
                {&s->staging_dir, "staging"},
                {&s->trash_dir, "trash"}};

    s->root = strdup(root);
    if (!s->root)
        return error_errno(err, ENOMEM, "open the image store");
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        *dirs[i].path = str_printf("%s/%s", root, dirs[i].name);
        if (!*dirs[i].path)
            return error_errno(err, ENOMEM, "open the image store");
        int r = make_dir(*dirs[i].path, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int take_pinned(struct image_store *s, const char *const *pinned, struct error *err)
{
    for (; pinned && *pinned; pinned++) {
        struct reference ref;
        int r = reference_parse(*pinned, &ref, err);

        if (r < 0)
            return error_wrap(err, "pinned image");
        _cleanup_free_ char *normal = reference_format(&ref);
        reference_done(&ref);
        if (!normal || strv_append(&s->pinned, normal) < 0)
            return error_errno(err, ENOMEM, "pinned images");
    }
    return 0;
}

static int init_store(struct image_store *s, const struct image_store_options *o, struct error *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_condattr_t attr;

    pthread_mutex_init(&s->write, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->worker_wanted, &attr);
    pthread_condattr_destroy(&attr);
    s->db = o->db;
    s->registries = o->registries;
    s->node_layers = o->node_layers ? o->node_layers : NODE_LAYERS_DEFAULT;
    s->stall_ms = (uint32_t)(o->stall_ns / NS_PER_MS);
    s->min_rate = o->min_rate;
    s->policies = o->policies;
    s->allowed = o->allowed;
    s->parallel_layers = o->parallel_layers;
    s->sync_before_answer = o->sync_before_answer;
    if (s->parallel_layers == 0)
        s->parallel_layers = cpus > 0 && cpus < PARALLEL_DEFAULT ? (unsigned)cpus : PARALLEL_DEFAULT;
    s->crisp_pull_path = strdup(o->crisp_pull_path);
    s->records = map_new();
    s->names = map_new();
    s->layers = map_new();
    if (clock_boot_id(s->boot_id) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "read the boot's id");
    if (!s->crisp_pull_path || !s->records || !s->names || !s->layers)
        return error_errno(err, ENOMEM, "open the image store");
    return 0;
}

int image_store_open(const struct image_store_options *options, struct image_store **out, struct error *err)
{
    struct image_store *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return error_errno(err, ENOMEM, "open the image store");
    r = init_store(s, options, err);
    if (r == 0)
        r = make_dirs(s, options->root_dir, err);
    if (r == 0)
        r = take_pinned(s, options->pinned, err);
    if (r == 0)
        r = records_load(s, err);
    // What pulls had unpacked when the daemon ended.
    if (r == 0)
        r = trash_put(s, s->staging_dir, err);
    if (r == 0)
        r = make_dir(s->staging_dir, err);
    if (r == 0)
        r = spares_open(s, options->spare_ns, err);
    if (r == 0)
        r = schemes_open(s, err);
    if (r == 0)
        r = trash_start(s, err);
    if (r == 0)
        r = usage_start(s, err);
    if (r == 0 && !options->offline)
        r = settle_start(s, err);
    if (r < 0) {
        image_store_close(s);
        return error_wrap(err, "image store");
    }
    *out = s;
    return 0;
}

void image_store_close(struct image_store *s)
{
    if (!s)
        return;
    pull_ops_cancel_all(s);
    trash_stop(s);
    pull_ops_reap(s, true);
    spares_close(s);
    schemes_close(s);
    settle_stop(s);
    usage_stop(s);
    records_free(s);
    strv_free(s->pinned);
    free(s->root);
    free(s->layers_dir);
    free(s->containers_dir);
    free(s->staging_dir);
    free(s->trash_dir);
    free(s->crisp_pull_path);
    pthread_cond_destroy(&s->worker_wanted);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->write);
    free(s);
}

static struct image_record *find_prefix(const struct image_store *s, const char *hex, bool *ambiguous)
{
    struct image_record *found = NULL;

    *ambiguous = false;
    for (struct map_iter it = {0}; map_next(s->records, &it);) {
        struct image_record *record = it.value;

        if (!record->snapshot || !str_has_prefix(record->id + strlen("sha256:"), hex))
            continue;
        *ambiguous = found != NULL;
        if (found)
            return NULL;
        found = record;
    }
    return found;
}

static int not_here(const char *ref, struct error *err)
{
    return error_set(err, STATUS_NOT_FOUND, ENOENT, "image \"%s\" is not here; pull it first", ref);
}

// A damaged image, or one whose layers are compared, is not served, but it takes space: it can be removed by
// its names and id.
static bool is_findable(const struct image_record *record, bool damaged_too)
{
    return record && (record->snapshot || (damaged_too && !record->removed));
}

// `lock` is held.
static int find_record(struct image_store *s, const char *ref, bool damaged_too, struct image_record **out,
                       struct error *err)
{
    const char *hex = str_has_prefix(ref, "sha256:") ? ref + 7 : ref;
    size_t len = strlen(hex);
    char id[DIGEST_LEN + 1] = "sha256:";
    struct reference parsed;
    bool ambiguous = false;
    int r;

    *out = NULL;
    if (len == 64 && str_is_hex(hex, len)) {
        memcpy(id + 7, hex, 65);
        *out = map_get(s->records, id);
        return is_findable(*out, damaged_too) ? 0 : not_here(ref, err);
    }
    if (hex == ref) {
        r = reference_parse(ref, &parsed, err);
        if (r == 0) {
            _cleanup_free_ char *normal = reference_format(&parsed);
            reference_done(&parsed);
            if (!normal)
                return error_errno(err, ENOMEM, "find image");
            *out = map_get(s->names, normal);
            if (is_findable(*out, damaged_too))
                return 0;
        }
    } else {
        r = 0;
    }
    if (len >= PREFIX_MIN && len < 64 && str_is_hex(hex, len)) {
        *out = find_prefix(s, hex, &ambiguous);
        if (ambiguous)
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "image id \"%s\" is ambiguous; give more of its digits", ref);
        if (*out)
            return 0;
    }
    return r < 0 ? r : not_here(ref, err);
}

int image_store_resolve(struct image_store *s, const char *ref, struct image **out, struct error *err)
{
    struct image_record *record;
    int r;

    *out = NULL;
    if (str_empty(ref))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the image reference is empty");
    pthread_mutex_lock(&s->lock);
    r = find_record(s, ref, false, &record, err);
    if (r == 0)
        *out = image_ref(record->snapshot);
    pthread_mutex_unlock(&s->lock);
    return r;
}

int image_store_list(struct image_store *s, struct image ***out, size_t *n, struct error *err)
{
    struct image **images;
    int r = 0;

    *n = 0;
    pthread_mutex_lock(&s->lock);
    images = calloc(map_len(s->records) + 1, sizeof(*images));
    if (!images)
        r = error_errno(err, ENOMEM, "list images");
    for (struct map_iter it = {0}; r == 0 && map_next(s->records, &it);) {
        struct image_record *record = it.value;
        if (record->snapshot)
            images[(*n)++] = image_ref(record->snapshot);
    }
    pthread_mutex_unlock(&s->lock);
    *out = images;
    return r;
}

int image_store_remove(struct image_store *s, const char *ref, struct error *err)
{
    struct image_record *record = NULL;
    struct error why = ERROR_INIT;
    int r;

    if (str_empty(ref))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the image reference is empty");
    pthread_mutex_lock(&s->write);
    pthread_mutex_lock(&s->lock);
    r = find_record(s, ref, true, &record, &why);
    pthread_mutex_unlock(&s->lock);
    if (r == -ENOENT)
        r = 0;
    else if (r < 0)
        error_set(err, why.status, why.errnum, "%s", why.message);
    else
        r = records_remove(s, record, err);
    if (r == 0)
        r = records_collect(s, err);
    pthread_mutex_unlock(&s->write);
    return r;
}

int image_store_hold(struct image_store *s, const char *image_id, const char *holder, struct error *err)
{
    struct image_record *record;
    int r = 0;

    pthread_mutex_lock(&s->lock);
    record = map_get(s->records, image_id);
    if (!record || (record->removed && s->settled && strv_len(record->holders) == 0)) {
        r = not_here(image_id, err); // or about to be deleted
    } else {
        bool held = false;
        for (char **h = record->holders; h && *h; h++)
            held = held || str_eq(*h, holder);
        if (!held && strv_append(&record->holders, holder) < 0)
            r = error_errno(err, ENOMEM, "hold image %s", image_id);
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

static void drop_holder(struct image_record *record, const char *holder)
{
    size_t n = strv_len(record->holders);

    for (size_t i = 0; i < n; i++) {
        if (!str_eq(record->holders[i], holder))
            continue;
        free(record->holders[i]);
        record->holders[i] = record->holders[n - 1];
        record->holders[n - 1] = NULL;
        return;
    }
}

void image_store_release(struct image_store *s, const char *image_id, const char *holder)
{
    struct image_record *record;
    struct error err = ERROR_INIT;
    bool collect = false;

    pthread_mutex_lock(&s->lock);
    record = map_get(s->records, image_id);
    if (record && record->holders) {
        drop_holder(record, holder);
        collect = (record->removed || s->condemned) && !record->holders[0];
    }
    pthread_mutex_unlock(&s->lock);
    if (!collect)
        return;
    pthread_mutex_lock(&s->write);
    if (records_collect(s, &err) < 0)
        log_warn("delete a removed image", "image", image_id, "error", err.message);
    pthread_mutex_unlock(&s->write);
}
