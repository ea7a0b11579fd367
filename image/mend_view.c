#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/mend_internal.h"

#define LINKS_MAX 40 // of links to links

// What one layer has at a path.
enum state {
    ABSENT,  // nothing: ask the layer below
    COVERED, // nothing, and what is below isn't seen: a whiteout, an opaque folder, a file where a folder
             // should be
    THERE,
    LINK, // a hard link that this layer couldn't make
};

int mend_open(struct mend *m, const char *layers_dir, size_t n, struct error *err)
{
    *m = (struct mend){.layers_dir = layers_dir, .views = calloc(2 * n + 1, sizeof(*m->views))};
    return m->views ? 0 : error_errno(err, ENOMEM, "mend an image");
}

static int split(const char *path, char dir[PATH_MAX], const char **name)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;

    if (len >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(dir, path, len);
    dir[len] = '\0';
    *name = slash ? slash + 1 : path;
    return 0;
}

// path with its folder resolved in the layers up to `end`; NULL and err.
static char *resolve_folder(const struct mend *m, const char *path, size_t end, struct error *err)
{
    char dir[PATH_MAX], real[PATH_MAX];
    const char *name;
    char *out;
    int r = split(path, dir, &name);

    if (r < 0) {
        error_errno(err, -r, "hard link \"%.100s\"", path);
        return NULL;
    }
    if (mend_resolve(m, dir, end, real, err) < 0)
        return NULL;
    out = str_printf("%s%s%s", real, *real ? "/" : "", name);
    if (!out)
        error_errno(err, ENOMEM, "mend an image");
    return out;
}

// Both names may lead through links: of this layer, or of those below where the layer itself has nothing.
static int index_link(struct mend *m, struct mend_view *v, const Pull__LooseLink *link, struct error *err)
{
    _cleanup_free_ char *name = resolve_folder(m, link->name, m->n, err);
    _cleanup_free_ char *target = name ? resolve_folder(m, link->target, m->n, err) : NULL;
    struct mend_found found;

    if (target && mend_find(m, target, m->n - 1, &found, err) == 0) {
        free(target);
        target = resolve_folder(m, link->target, m->n - 1, err);
    }
    if (!target)
        return error_wrap(err, "entry \"%s\" is a hard link to \"%s\"", link->name, link->target);
    free(map_remove(v->links, name));
    if (map_set(v->links, name, target) < 0)
        return error_errno(err, ENOMEM, "mend an image");
    (void)steal_ptr(&target);
    return 0;
}

int mend_add_view(struct mend *m, const struct mend_layer *layer, struct error *err)
{
    _cleanup_free_ char *path = str_printf("%s/%s", m->layers_dir, layer->dir);
    const Pull__Loose *loose = layer->loose;
    struct mend_view *v = &m->views[m->n++];
    int r = 0;

    *v = (struct mend_view){.fd = -1, .opaque_root = loose && loose->opaque_root};
    v->implicit = map_new();
    v->links = map_new();
    if (!path || !v->implicit || !v->links)
        return error_errno(err, ENOMEM, "mend an image");
    v->fd = open(*layer->dir == '/' ? layer->dir : path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (v->fd < 0)
        return error_errno(err, errno, "open %s", *layer->dir == '/' ? layer->dir : path);
    for (size_t i = 0; loose && i < loose->n_implicit_dirs; i++)
        if (map_set(v->implicit, loose->implicit_dirs[i], v) < 0)
            return error_errno(err, ENOMEM, "mend an image");
    for (size_t i = 0; r == 0 && loose && i < loose->n_links; i++)
        r = index_link(m, v, loose->links[i], err);
    return r;
}

static void free_links(struct map *links)
{
    for (struct map_iter it = {0}; map_next(links, &it);)
        free(it.value);
    map_free(links);
}

void mend_close(struct mend *m)
{
    for (size_t i = 0; i < m->n; i++) {
        fd_closep(&m->views[i].fd);
        if (m->views[i].implicit)
            map_free(m->views[i].implicit);
        if (m->views[i].links)
            free_links(m->views[i].links);
    }
    free(m->views);
    *m = (struct mend){0};
}

static int is_opaque(int fd)
{
    char value[2], proc[64];

    (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    return getxattr(proc, MEND_OPAQUE, value, sizeof(value)) == 1 && value[0] == 'y';
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

// One component of path, len bytes of which are looked at: 1: a folder, and *at is it; 0: *state is said.
static int look_once(const struct mend_view *v, const char *path, size_t start, size_t len, int *at,
                     enum state *state, struct stat *st, bool *hides)
{
    bool last = path[len] == '\0';
    char prefix[PATH_MAX];

    memcpy(prefix, path, len);
    prefix[len] = '\0';
    if (map_get(v->links, prefix)) {
        *state = last ? LINK : COVERED;
        return 0;
    }
    if (str_eq(prefix + start, ".."))
        return -EINVAL;
    int fd = openat(*at, prefix + start, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        *state = *hides ? COVERED : ABSENT;
        return errno == ENOENT ? 0 : -errno;
    }
    if (*at != v->fd)
        (void)close(*at);
    *at = fd;
    if (fstat(fd, st) < 0)
        return -errno;
    if (!S_ISDIR(st->st_mode)) {
        *hides = true;
        *state = last && !is_whiteout(st) ? THERE : COVERED;
        return 0;
    }
    *hides = is_opaque(fd) || *hides;
    return 1;
}

// Component by component, never through a link. *hides: what layers below have at this path isn't seen (for
// THERE: isn't merged).
static int look(const struct mend_view *v, const char *path, enum state *state, struct stat *st, bool *hides)
{
    int at = v->fd, r = 1;

    *hides = v->opaque_root;
    *state = THERE;
    if (strlen(path) >= PATH_MAX || *path == '/')
        return -EINVAL;
    for (size_t start = 0, end = 0; r > 0; start = ++end) {
        end += strcspn(path + end, "/");
        r = look_once(v, path, start, end, &at, state, st, hides);
        if (path[end] == '\0')
            break;
    }
    if (at != v->fd)
        (void)close(at);
    return r < 0 ? r : 0;
}

int mend_look_at(const struct mend_view *v, const char *path, struct stat *st, bool *opaque)
{
    enum state state;
    int r = look(v, path, &state, st, opaque);

    return r < 0 ? r : state == THERE;
}

static int look_failed(int r, const char *path, struct error *err)
{
    return error_errno(err, -r, "look for \"%s\" in the layers", path);
}

int mend_find(const struct mend *m, const char *path, size_t end, struct mend_found *out, struct error *err)
{
    int links = 0;

    if (strlen(path) >= sizeof(out->path))
        return look_failed(-ENAMETOOLONG, path, err);
    memmove(out->path, path, strlen(path) + 1);
    for (size_t i = end; i-- > 0;) {
        const struct mend_view *v = &m->views[i];
        enum state state;
        bool hides;
        int r = look(v, out->path, &state, &out->st, &hides);

        if (r < 0)
            return look_failed(r, path, err);
        if (state == LINK) {
            const char *target = map_get(v->links, out->path);
            if (++links > LINKS_MAX || strlen(target) >= sizeof(out->path))
                return look_failed(-ELOOP, path, err);
            memcpy(out->path, target, strlen(target) + 1);
            continue;
        }
        if (state == THERE) {
            out->layer = i;
            return 1;
        }
        if (state == COVERED)
            return 0;
    }
    return 0;
}

// A link in the place of a folder that nobody named: what is in it belongs where the link leads.
static int refuse_link_below(const char *path, struct error *err)
{
    return error_set(
        err, STATUS_FAILED_PRECONDITION, ELOOP,
        "folder \"%s\" has no entry of its own in its layer, and a lower layer has a symbolic link "
        "there: such layers can't be used; the image has to be built with the link's target in the "
        "names",
        path);
}

int mend_find_dir(const struct mend *m, const char *path, struct mend_found *out, bool *mended,
                  struct error *err)
{
    bool implicit = false;

    *mended = false;
    for (size_t i = m->n; i-- > 0;) {
        const struct mend_view *v = &m->views[i];
        enum state state;
        bool hides;
        int r = look(v, path, &state, &out->st, &hides);

        if (r < 0)
            return look_failed(r, path, err);
        if (state == ABSENT)
            continue;
        if (state != THERE)
            return 0;
        if (!S_ISDIR(out->st.st_mode))
            return implicit && S_ISLNK(out->st.st_mode) ? refuse_link_below(path, err) : 0;
        if (!map_get(v->implicit, path)) {
            out->layer = i;
            memmove(out->path, path, strlen(path) + 1);
            *mended = implicit;
            return 1;
        }
        implicit = true;
        if (hides)
            return 0;
    }
    return 0;
}

int mend_is_seen(const struct mend *m, const char *path, size_t from, struct error *err)
{
    for (size_t i = m->n; i-- > from + 1;) {
        enum state state;
        struct stat st;
        bool hides;
        int r = look(&m->views[i], path, &state, &st, &hides);

        if (r < 0)
            return look_failed(r, path, err);
        if (state != ABSENT)
            return 0;
    }
    return 1;
}
