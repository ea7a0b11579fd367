#include "image/mend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/mend_internal.h"

#define BLOCK 4096

// A folder made; its times are set when all is in it.
struct made_dir {
    char *path;
    struct timespec times[2];
};

struct work {
    struct mend m;
    int to;             // -1: nothing was to be mended yet
    const char *to_dir; // the path of it
    int cancel_fd;
    struct mend_stats *stats;
    struct map *dirs;    // path -> struct made_dir
    struct map *origins; // "layer/path" of what a link names -> where its copy is
    struct error *err;
};

static int out_of_memory(struct work *w)
{
    return error_errno(w->err, ENOMEM, "mend an image");
}

static int open_parent(struct work *w, const char *path, const char **leaf)
{
    int fd = mend_open_parent(w->to, path, leaf);

    return fd >= 0 ? fd : error_errno(w->err, -fd, "open the folder of %s/%s", w->to_dir, path);
}

static int make_at(struct work *w, const char *path)
{
    const char *leaf;
    _cleanup_fd_ int dir = open_parent(w, path, &leaf);

    if (dir < 0)
        return dir;
    return mkdirat(dir, leaf, 0755) == 0 ? 0 : error_errno(w->err, errno, "make %s/%s", w->to_dir, path);
}

// Called between entries: each costs a few system calls for every layer.
static int check_cancelled(const struct work *w)
{
    struct pollfd fd = {.fd = w->cancel_fd, .events = POLLIN}; // -1 is never readable

    if (poll(&fd, 1, 0) <= 0)
        return 0;
    return error_set(w->err, STATUS_CANCELLED, ECANCELED, "nobody waits for it any more");
}

static int make_one_dir(struct work *w, const char *path)
{
    const char *name = *path ? path : ".";
    struct made_dir *dir;
    struct mend_found from;
    bool mended;
    int r;

    if (map_get(w->dirs, path))
        return 0;
    r = *path ? make_at(w, path) : 0;
    // The root's metadata is the uppermost layer's, as it would be without this folder.
    if (r == 0)
        r = mend_find_dir(&w->m, name, &from, &mended, w->err);
    if (r < 0)
        return r;
    dir = calloc(1, sizeof(*dir));
    if (!dir || !(dir->path = strdup(name)) || map_set(w->dirs, path, dir) < 0) {
        if (dir)
            free(dir->path);
        free(dir);
        return out_of_memory(w);
    }
    w->stats->inodes++;
    w->stats->bytes += BLOCK;
    dir->times[0].tv_nsec = dir->times[1].tv_nsec = UTIME_OMIT;
    if (r == 0) // no layer has an entry for it
        return 0;
    dir->times[0] = from.st.st_atim;
    dir->times[1] = from.st.st_mtim;
    return mend_copy_metadata(w->m.views[from.layer].fd, name, &from.st, w->to, name, w->err);
}

static int start(struct work *w)
{
    if (w->to >= 0)
        return 0;
    if (mkdir(w->to_dir, 0755) < 0)
        return error_errno(w->err, errno, "make %s", w->to_dir);
    w->to = open(w->to_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return w->to >= 0 ? make_one_dir(w, "") : error_errno(w->err, errno, "open %s", w->to_dir);
}

// The folders that lead to path; with `itself` path too.
static int make_dirs(struct work *w, const char *path, bool itself)
{
    char prefix[PATH_MAX];
    int r = start(w);

    for (const char *slash = path; r == 0 && (slash = strchr(slash, '/')); slash++) {
        memcpy(prefix, path, (size_t)(slash - path));
        prefix[slash - path] = '\0';
        r = make_one_dir(w, prefix);
    }
    return r == 0 && itself ? make_one_dir(w, path) : r;
}

// A root without an entry is in most layers; that a lower one has another time is worth no folder.
static bool is_same_root(const struct work *w, const char *path, const struct mend_found *from)
{
    struct stat st;

    return str_eq(path, ".") && fstat(w->m.views[w->m.n - 1].fd, &st) == 0 &&
           st.st_mode == from->st.st_mode && st.st_uid == from->st.st_uid && st.st_gid == from->st.st_gid;
}

static int mend_dirs(struct work *w, const struct map *implicit)
{
    for (struct map_iter it = {0}; map_next(implicit, &it);) {
        struct mend_found from;
        bool mended;
        int r = check_cancelled(w);

        if (r == 0)
            r = mend_find_dir(&w->m, it.key, &from, &mended, w->err);
        if (r > 0 && mended && !is_same_root(w, it.key, &from))
            r = make_dirs(w, it.key, !str_eq(it.key, "."));
        if (r < 0)
            return r;
    }
    return 0;
}

// 1: done; 0: a copy is to be made, for there is none or it has as many names as the file system allows.
static int link_copy(struct work *w, const char *first, int dir, const char *leaf)
{
    const char *first_leaf;
    _cleanup_fd_ int first_dir = open_parent(w, first, &first_leaf);

    if (first_dir < 0)
        return first_dir;
    if (linkat(first_dir, first_leaf, dir, leaf, 0) == 0)
        return 1;
    return errno == EMLINK ? 0 : error_errno(w->err, errno, "link %s/%s", w->to_dir, leaf);
}

// Puts a copy of what was found at name; the second name of the same is a hard link.
static int place(struct work *w, const struct mend_found *from, const char *name)
{
    _cleanup_free_ char *key = str_printf("%zu/%llx", from->layer, (unsigned long long)from->st.st_ino);
    char *first = key ? map_get(w->origins, key) : NULL;
    int r = key ? make_dirs(w, name, false) : out_of_memory(w);
    const char *leaf;
    struct stat st;

    if (r < 0)
        return r;
    _cleanup_fd_ int dir = open_parent(w, name, &leaf);
    if (dir < 0)
        return dir;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    r = first ? link_copy(w, first, dir, leaf) : 0;
    if (r != 0)
        return r < 0 ? r : 0;
    r = mend_copy_entry(w->m.views[from->layer].fd, from->path, &from->st, dir, leaf, w->stats, w->err);
    if (r < 0)
        return r;
    free(map_remove(w->origins, key));
    first = strdup(name);
    if (!first || map_set(w->origins, key, first) < 0) {
        free(first);
        return out_of_memory(w);
    }
    return 0;
}

static int mend_link(struct work *w, size_t layer, const char *name, const char *target)
{
    struct mend_found from;
    int r = mend_find(&w->m, target, layer, &from, w->err);

    if (r < 0)
        return r;
    if (r == 0 || S_ISDIR(from.st.st_mode))
        return error_set(w->err, STATUS_FAILED_PRECONDITION, r == 0 ? ENOENT : EISDIR,
                         "entry \"%s\" is a hard link to \"%s\", which %s", name, target,
                         r == 0 ? "is neither in its layer nor in one below"
                                : "is a folder in a layer below");
    r = mend_is_seen(&w->m, name, layer, w->err);
    if (r > 0)
        r = place(w, &from, name);
    if (r < 0)
        return r;
    // The name linked to is the same file: it comes along, where it is still to be seen.
    r = mend_is_seen(&w->m, target, layer - 1, w->err);
    return r > 0 ? place(w, &from, target) : r;
}

static int mend_links(struct work *w, size_t layer, const struct map *links)
{
    int r = 0;

    for (struct map_iter it = {0}; r == 0 && map_next(links, &it);) {
        r = check_cancelled(w);
        if (r == 0)
            r = mend_link(w, layer, it.key, it.value);
    }
    return r;
}

static int set_times(struct work *w)
{
    for (struct map_iter it = {0}; map_next(w->dirs, &it);) {
        const struct made_dir *dir = it.value;
        const char *leaf;
        _cleanup_fd_ int parent = open_parent(w, dir->path, &leaf);
        if (parent < 0)
            return parent;
        if (utimensat(parent, leaf, dir->times, AT_SYMLINK_NOFOLLOW) < 0)
            return error_errno(w->err, errno, "set the times of %s/%s", w->to_dir, dir->path);
    }
    return 0;
}

static void free_work(struct work *w)
{
    for (struct map_iter it = {0}; w->dirs && map_next(w->dirs, &it);) {
        struct made_dir *dir = it.value;
        free(dir->path);
        free(dir);
    }
    for (struct map_iter it = {0}; w->origins && map_next(w->origins, &it);)
        free(it.value);
    if (w->dirs)
        map_free(w->dirs);
    if (w->origins)
        map_free(w->origins);
    mend_close(&w->m);
    fd_closep(&w->to);
}

static int add_part(struct work *w, uint32_t layer, Pull__Loose **parts)
{
    Pull__Loose *p = *parts;
    uint32_t *larger;

    if (!p && (p = malloc(sizeof(*p)))) {
        pull__loose__init(p);
        *parts = p;
    }
    larger = p ? reallocarray(p->parts, p->n_parts + 1, sizeof(*larger)) : NULL;
    if (!larger)
        return out_of_memory(w);
    p->parts = larger;
    p->parts[p->n_parts++] = layer;
    return 0;
}

// The layers, each with its part above it, if it needs one.
static int open_layers(struct work *w, const char *layers_dir, const struct mend_layer *layers, size_t n,
                       const char *to, Pull__Loose **parts)
{
    int r = mend_open(&w->m, layers_dir, n, w->err);

    for (size_t i = 0; r == 0 && i < n; i++) {
        r = check_cancelled(w);
        if (r == 0)
            r = mend_add_view(&w->m, &layers[i], w->err);
        if (r == 0)
            r = mend_make_part(&w->m, to, i, w->stats, w->err);
        if (r > 0)
            r = add_part(w, (uint32_t)i, parts);
    }
    return r;
}

static int mend_layers(struct work *w)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < w->m.n; i++)
        r = mend_links(w, i, w->m.views[i].links);
    for (size_t i = 1; r == 0 && i < w->m.n; i++)
        r = mend_dirs(w, w->m.views[i].implicit);
    return r == 0 ? set_times(w) : r;
}

int mend_make(const char *layers_dir, const struct mend_layer *layers, size_t n, const char *to,
              int cancel_fd, struct mend_stats *stats, Pull__Loose **parts, struct error *err)
{
    _cleanup_free_ char *top = str_printf("%s/top", to);
    struct work w = {.to = -1,
                     .to_dir = to,
                     .cancel_fd = cancel_fd,
                     .stats = stats,
                     .dirs = map_new(),
                     .origins = map_new(),
                     .err = err};
    bool loose = false;
    int r = w.dirs && w.origins && top ? 0 : out_of_memory(&w);

    *parts = NULL;
    *stats = (struct mend_stats){0};
    for (size_t i = 0; i < n; i++)
        loose = loose ||
                (layers[i].loose && (layers[i].loose->n_links > 0 || layers[i].loose->n_implicit_dirs > 0));
    if (r == 0 && loose)
        r = open_layers(&w, layers_dir, layers, n, to, parts);
    if (*parts)
        w.to_dir = top;
    if (r == 0 && loose)
        r = mend_layers(&w);
    if (*parts)
        (*parts)->top = w.to >= 0;
    if (r == 0)
        r = w.to >= 0 || *parts;
    if (r < 0 && *parts) {
        pull__loose__free_unpacked(*parts, NULL);
        *parts = NULL;
    }
    free_work(&w);
    return r;
}
