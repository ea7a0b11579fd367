// A layer's part: what it has below a folder that it has no entry for (lib/x.so) where the layers below have
// a symbolic link (lib, to usr/lib). The link stays and what is below it goes where it leads, as if the layer
// had been unpacked over the others. The part lies right above its layer: its link hides the layer's folder.
//
// Whose entries came first in the archive isn't known any longer. Where the layer has the same at both places
// (lib/x and usr/lib/x) the former is taken; a whiteout takes away what layers below have, not the layer's
// own.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "image/mend_internal.h"

#define BLOCK       4096
#define BYTES_MAX   (1ull << 30) // of what is copied for one layer
#define ENTRIES_MAX 50000

// A folder of the layer, and where it goes. Its metadata comes last, for entries made in it would change its
// times and inherit its ACLs.
struct move {
    char *from, *to;
    bool named;  // the layer has an entry for it
    bool opaque; // what lower layers have there is hidden
};

struct part {
    struct mend *m;
    const struct mend_view *layer;
    size_t below;         // the views that are below the layer
    struct mend_view out; // its fd is -1 until there is something to move
    const char *to;
    size_t number;
    struct move *moves; // those from `next` on are still to be made
    size_t n, alloc, next;
    struct map *targets; // from -> to
    struct map *origins; // inode -> where its copy is
    uint64_t bytes, entries;
    struct mend_stats *stats;
    struct error *err;
};

static int out_of_memory(struct part *p)
{
    return error_errno(p->err, ENOMEM, "mend an image");
}

static int failed(struct part *p, const char *path)
{
    return error_errno(p->err, errno, "make \"%s\" where a link leads", path);
}

static int count(struct part *p, uint64_t bytes)
{
    p->bytes += bytes;
    if (++p->entries <= ENTRIES_MAX && p->bytes <= BYTES_MAX)
        return 0;
    return error_set(p->err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
                     "a layer has too much in folders that are symbolic links in layers below (\"%s\"): %llu "
                     "MiB and %d entries are possible; build the image with the links' targets in the names",
                     p->moves[0].from, BYTES_MAX >> 20, ENTRIES_MAX);
}

// The folder of path, opened, and the last component.
static int open_parent(struct part *p, const char *path, const char **leaf)
{
    int fd = mend_open_parent(p->out.fd, path, leaf);

    return fd >= 0 ? fd : error_errno(p->err, -fd, "make \"%s\" where a link leads", path);
}

// What the layer has at path, which is there.
static int look_at(struct part *p, const char *path, struct stat *st)
{
    bool opaque;
    int r = mend_look_at(p->layer, path, st, &opaque);

    return r > 0 ? 0 : error_errno(p->err, r < 0 ? -r : EIO, "look for \"%s\" in a layer", path);
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

// 1: something is there already that stays. A whiteout doesn't.
static int make_room(int dir, const char *leaf)
{
    struct stat st;

    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!is_whiteout(&st))
        return 1;
    return unlinkat(dir, leaf, 0) < 0 ? -errno : 0;
}

static int make_one_dir(struct part *p, const char *path)
{
    const char *leaf;
    _cleanup_fd_ int dir = open_parent(p, path, &leaf);

    if (dir < 0)
        return dir;
    int r = make_room(dir, leaf);
    if (r > 0) // if it is no folder, what goes into it says so
        return 0;
    if (r < 0 || mkdirat(dir, leaf, 0755) < 0) {
        errno = r < 0 ? -r : errno;
        return failed(p, path);
    }
    p->stats->inodes++;
    p->stats->bytes += BLOCK;
    r = count(p, BLOCK);
    return r == 0 && map_set(p->out.implicit, path, p) < 0 ? out_of_memory(p) : r;
}

// With all that lead to it; `itself`: path too.
static int make_dirs(struct part *p, const char *path, bool itself)
{
    int r = 0;

    for (const char *slash = path; r == 0 && (slash = strchr(slash, '/')); slash++) {
        _cleanup_free_ char *prefix = strndup(path, (size_t)(slash - path));
        r = prefix ? make_one_dir(p, prefix) : out_of_memory(p);
    }
    return r == 0 && itself && *path ? make_one_dir(p, path) : r;
}

static int add_move(struct part *p, const char *from, const char *to, bool named, bool opaque)
{
    struct move move = {.from = strdup(from), .to = strdup(to), .named = named, .opaque = opaque};

    if (p->n == p->alloc) {
        size_t alloc = p->alloc ? 2 * p->alloc : 16;
        struct move *larger = reallocarray(p->moves, alloc, sizeof(*larger));
        p->moves = larger ? larger : p->moves;
        p->alloc = larger ? alloc : p->alloc;
    }
    if (!move.from || !move.to || p->n == p->alloc) {
        free(move.from);
        free(move.to);
        return out_of_memory(p);
    }
    p->moves[p->n++] = move;
    return map_set(p->targets, move.from, p->moves[p->n - 1].to) < 0 ? out_of_memory(p) : 0;
}

// The layer's own at path is not to be hidden with what is below it: then it is in the part, too. 1: it is.
static int keep_own(struct part *p, const char *path)
{
    bool opaque;
    struct stat st;
    int r = mend_look_at(p->layer, path, &st, &opaque);

    if (r < 0)
        return error_errno(p->err, -r, "look for \"%s\" in a layer", path);
    if (r > 0 && S_ISDIR(st.st_mode) && !map_get(p->targets, path))
        r = add_move(p, path, path, !map_get(p->layer->implicit, path), true);
    return r < 0 ? r : r > 0 || map_get(p->targets, path);
}

static int move_dir(struct part *p, const char *from, const char *to)
{
    bool named = !map_get(p->layer->implicit, from), opaque;
    char resolved[PATH_MAX];
    struct stat st;
    int r = mend_look_at(p->layer, from, &st, &opaque);

    if (r < 0)
        return error_errno(p->err, -r, "look for \"%s\" in a layer", from);
    if (!named) {
        r = mend_resolve(p->m, to, p->below, resolved, p->err);
        if (r < 0)
            return r;
        to = resolved;
    }
    r = add_move(p, from, to, named, opaque);
    if (r == 0 && opaque)
        r = keep_own(p, to);
    return r < 0 ? r : 0;
}

static int move_whiteout(struct part *p, const char *to)
{
    const char *leaf;
    int r = keep_own(p, to);

    if (r != 0)
        return r < 0 ? r : 0;
    _cleanup_fd_ int dir = open_parent(p, to, &leaf);
    if (dir < 0)
        return dir;
    if (mknodat(dir, leaf, S_IFCHR, makedev(0, 0)) < 0)
        return errno == EEXIST ? 0 : failed(p, to);
    p->stats->inodes++;
    return 0;
}

static int link_copy(struct part *p, const char *first, int dir, const char *leaf, const char *to)
{
    const char *first_leaf;
    _cleanup_fd_ int first_dir = open_parent(p, first, &first_leaf);

    if (first_dir < 0)
        return first_dir;
    return linkat(first_dir, first_leaf, dir, leaf, 0) < 0 ? failed(p, to) : 0;
}

static int move_file(struct part *p, const char *from, const char *to, const struct stat *st)
{
    const char *leaf;
    char key[32];
    _cleanup_fd_ int dir = open_parent(p, to, &leaf);
    int r = dir < 0 ? dir : make_room(dir, leaf);

    if (dir < 0 || r > 0)
        return dir < 0 ? dir : 0;
    if (r < 0)
        return error_errno(p->err, -r, "make \"%s\" where a link leads", to);
    (void)snprintf(key, sizeof(key), "%llx", (unsigned long long)st->st_ino);
    char *first = st->st_nlink > 1 ? map_get(p->origins, key) : NULL;
    if (first)
        return link_copy(p, first, dir, leaf, to);
    r = mend_copy_entry(p->layer->fd, from, st, dir, leaf, p->stats, p->err);
    if (r < 0 || st->st_nlink < 2)
        return r;
    first = strdup(to);
    if (!first || map_set(p->origins, key, first) < 0) {
        free(first);
        return out_of_memory(p);
    }
    return 0;
}

static int stat_entry(struct part *p, int dir, const char *name, struct stat *st)
{
    return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : failed(p, name);
}

static int move_entry(struct part *p, int from_fd, const char *from_dir, const char *to_dir, const char *name)
{
    _cleanup_free_ char *from = str_printf("%s/%s", from_dir, name);
    _cleanup_free_ char *to = str_printf("%s%s%s", to_dir, *to_dir ? "/" : "", name);
    struct stat st;

    if (!from || !to)
        return out_of_memory(p);
    int r = stat_entry(p, from_fd, name, &st);
    if (r == 0)
        r = count(p, S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : 0);
    if (r < 0)
        return r;
    if (S_ISDIR(st.st_mode))
        return map_get(p->targets, from) ? 0 : move_dir(p, from, to);
    return is_whiteout(&st) ? move_whiteout(p, to) : move_file(p, from, to, &st);
}

static int move_entries(struct part *p, const char *from, const char *to)
{
    _cleanup_fd_ int fd = file_open_beneath(p->layer->fd, from, O_RDONLY | O_DIRECTORY);
    _cleanup_(dir_closep) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *d;
    int r = make_dirs(p, to, true);

    if (!dir)
        return r < 0 ? r : error_errno(p->err, fd < 0 ? -fd : errno, "read \"%s\" in a layer", from);
    (void)steal_fd(&fd);
    while (r == 0 && (d = readdir(dir)))
        if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, ".."))
            r = move_entry(p, dirfd(dir), from, to, d->d_name);
    return r;
}

// Moves may be added meanwhile, and be elsewhere in memory.
static int make_moves(struct part *p)
{
    int r = 0;

    for (; r == 0 && p->next < p->n; p->next++) {
        const char *from = p->moves[p->next].from, *to = p->moves[p->next].to;
        r = move_entries(p, from, to);
    }
    return r;
}

static int start(struct part *p)
{
    _cleanup_free_ char *path = str_printf("%s/%zu", p->to, p->number);

    if (p->out.fd >= 0)
        return 0;
    if (!path)
        return out_of_memory(p);
    if (mkdir(p->to, 0755) == 0) {
        p->stats->inodes++;
        p->stats->bytes += BLOCK;
    } else if (errno != EEXIST) {
        return error_errno(p->err, errno, "make %s", p->to);
    }
    if (mkdir(path, 0755) < 0)
        return error_errno(p->err, errno, "make %s", path);
    p->out.fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (p->out.fd < 0)
        return error_errno(p->err, errno, "open %s", path);
    p->stats->inodes++;
    p->stats->bytes += BLOCK;
    return map_set(p->out.implicit, ".", p) < 0 ? out_of_memory(p) : 0;
}

// Below an opaque folder of the layer nothing of the layers below is seen, no link either.
static int is_hidden(struct part *p, const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;
    struct stat st;
    bool opaque;

    if (p->layer->opaque_root || !slash)
        return p->layer->opaque_root;
    if (!dir)
        return out_of_memory(p);
    int r = mend_look_at(p->layer, dir, &st, &opaque);
    return r < 0 ? error_errno(p->err, -r, "look for \"%s\" in a layer", dir) : opaque;
}

// The link again, and what is in the layer's folder of that name where the link leads.
static int move_below_link(struct part *p, const char *path, const struct mend_found *link)
{
    const char *leaf;
    int r = start(p);

    if (r == 0)
        r = move_dir(p, path, path); // the link is followed
    if (r == 0)
        r = make_dirs(p, path, false);
    if (r < 0)
        return r;
    _cleanup_fd_ int dir = open_parent(p, path, &leaf);
    if (dir < 0)
        return dir;
    return mend_copy_entry(p->m->views[link->layer].fd, link->path, &link->st, dir, leaf, p->stats, p->err);
}

static int find_links(struct part *p)
{
    for (struct map_iter it = {0}; map_next(p->layer->implicit, &it);) {
        struct mend_found link;
        int r = str_eq(it.key, ".") ? 0 : mend_find(p->m, it.key, p->below, &link, p->err);
        int hidden = r > 0 && S_ISLNK(link.st.st_mode) ? is_hidden(p, it.key) : 1;

        if (r >= 0)
            r = hidden < 0 ? hidden : hidden ? 0 : move_below_link(p, it.key, &link);
        if (r < 0)
            return error_wrap(p->err, "folder \"%s\" has no entry in its layer", it.key);
    }
    return 0;
}

// Hard links that the layer couldn't make are made where their names lead.
static int move_links(struct part *p)
{
    _cleanup_strv_ char **names = strv_new(0);
    int r = names ? 0 : -ENOMEM;

    for (struct map_iter it = {0}; r == 0 && map_next(p->layer->links, &it);)
        r = strv_append(&names, it.key);
    for (char **name = names; r == 0 && *name; name++) {
        const char *slash = strrchr(*name, '/');
        _cleanup_free_ char *dir = slash ? strndup(*name, (size_t)(slash - *name)) : NULL;
        const char *to = dir ? map_get(p->targets, dir) : NULL;

        if (slash && !dir)
            return out_of_memory(p);
        if (!to || str_eq(to, dir))
            continue;
        _cleanup_free_ char *moved = str_printf("%s%s%s", to, *to ? "/" : "", slash + 1);
        char *target = map_remove(p->layer->links, *name);
        if (!moved || map_set(p->out.links, moved, target) < 0) {
            free(target);
            return out_of_memory(p);
        }
    }
    return r < 0 ? out_of_memory(p) : 0;
}

static int copy_dir_metadata(struct part *p, int layer, const char *from, const struct stat *st, int to,
                             const char *path)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    int r = mend_copy_metadata(layer, from, st, to, ".", p->err);

    (void)map_remove(p->out.implicit, path);
    if (r < 0)
        return r;
    return futimens(to, times) < 0 ? failed(p, path) : 0;
}

// Hidden are the entries of layers below, not what the folder itself is there.
static int finish_opaque(struct part *p, const struct move *move, int fd)
{
    struct mend_found found;
    int r = mend_find(p->m, move->to, p->below, &found, p->err);

    if (fsetxattr(fd, MEND_OPAQUE, "y", 1, 0) < 0)
        return failed(p, move->to);
    if (r <= 0 || move->named || !S_ISDIR(found.st.st_mode))
        return r < 0 ? r : 0;
    return copy_dir_metadata(p, p->m->views[found.layer].fd, found.path, &found.st, fd, move->to);
}

static int finish_dir(struct part *p, const struct move *move)
{
    _cleanup_fd_ int fd = -1;
    struct stat st;
    int r;

    if (*move->to == '\0' || (!move->named && !move->opaque))
        return 0;
    fd = file_open_beneath(p->out.fd, move->to, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return error_errno(p->err, -fd, "make \"%s\" where a link leads", move->to);
    r = move->opaque ? finish_opaque(p, move, fd) : 0;
    if (r < 0 || !move->named)
        return r;
    r = look_at(p, move->from, &st);
    if (r < 0)
        return r;
    return copy_dir_metadata(p, p->layer->fd, move->from, &st, fd, move->to);
}

static void part_done(struct part *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->moves[i].from);
        free(p->moves[i].to);
    }
    free(p->moves);
    for (struct map_iter it = {0}; p->origins && map_next(p->origins, &it);)
        free(it.value);
    map_free(p->origins);
    map_free(p->targets);
}

// Becomes a view, or goes.
static int add_part_view(struct part *p, int r)
{
    struct mend *m = p->m;

    m->views[m->n++] = p->out;
    return r < 0 ? r : 1; // mend_close() frees it
}

int mend_make_part(struct mend *m, const char *to, size_t number, struct mend_stats *stats, struct error *err)
{
    struct part p = {.m = m,
                     .layer = &m->views[m->n - 1],
                     .below = m->n - 1,
                     .out = {.fd = -1, .implicit = map_new(), .links = map_new()},
                     .to = to,
                     .number = number,
                     .targets = map_new(),
                     .origins = map_new(),
                     .stats = stats,
                     .err = err};
    int r = p.out.implicit && p.out.links && p.targets && p.origins ? 0 : out_of_memory(&p);

    if (r == 0)
        r = find_links(&p);
    if (r == 0)
        r = make_moves(&p);
    if (r == 0 && p.n > 0)
        r = move_links(&p);
    for (size_t i = 0; r == 0 && i < p.n; i++)
        r = finish_dir(&p, &p.moves[i]);
    if (p.out.fd >= 0) {
        r = add_part_view(&p, r);
    } else {
        map_free(p.out.implicit);
        map_free(p.out.links);
    }
    part_done(&p);
    return r;
}
