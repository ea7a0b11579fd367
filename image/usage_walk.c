#include "image/usage_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

static const char *const tops[] = {"upper", "volumes"};

bool usage_walk_begin(struct usage_walk *w, const char *id)
{
    *w = (struct usage_walk){.id = strdup(id), .deep_max = USAGE_DEEP_MAX};
    return w->id != NULL;
}

void usage_walk_end(struct usage_walk *w)
{
    while (w->depth > 0)
        dir_closep(&w->open[--w->depth]);
    dir_closep(&w->deep);
    free(steal_ptr(&w->places));
    w->n_deep = w->room = 0;
    free(steal_ptr(&w->id));
}

static void note(struct usage_walk *w, int errnum)
{
    if (w->incomplete == 0 && errnum != ENOENT && errnum != ENOTDIR && errnum != ELOOP)
        w->incomplete = -errnum;
}

static DIR *open_dir(struct usage_walk *w, int dir_fd, const char *name)
{
    _cleanup_fd_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir)
        (void)steal_fd(&fd);
    else
        note(w, errno);
    return dir;
}

static bool make_room(struct usage_walk *w)
{
    if (w->n_deep < w->room)
        return true;
    size_t room = w->room ? w->room * 2 : 64;
    struct usage_place *places =
        w->n_deep < w->deep_max ? reallocarray(w->places, room, sizeof(*places)) : NULL;
    if (!places)
        return false;
    w->places = places;
    w->room = room;
    return true;
}

static void descend_deep(struct usage_walk *w, int dir_fd, const char *name)
{
    struct stat st;

    if (!make_room(w)) {
        note(w, E2BIG);
        return;
    }
    DIR *dir = open_dir(w, dir_fd, name);
    if (!dir)
        return;
    if (fstat(dirfd(dir), &st) < 0) {
        note(w, errno);
        dir_closep(&dir);
        return;
    }
    if (w->deep) {
        w->places[w->n_deep - 1].position = telldir(w->deep);
        dir_closep(&w->deep);
    }
    w->deep = dir;
    w->places[w->n_deep++] = (struct usage_place){.dev = st.st_dev, .ino = st.st_ino};
}

static void descend(struct usage_walk *w, int dir_fd, const char *name)
{
    if (w->depth == USAGE_OPEN_MAX) {
        descend_deep(w, dir_fd, name);
        return;
    }
    DIR *dir = open_dir(w, dir_fd, name);
    if (dir)
        w->open[w->depth++] = dir;
}

// From a directory that has been read back to where reading goes on. A deep one is moved away under our feet
// if its ".." is another than the one we came from: then the walk goes on in the last that stayed open, and
// the places between are not counted.
static void ascend(struct usage_walk *w)
{
    struct stat st;

    if (!w->deep) {
        dir_closep(&w->open[--w->depth]);
        return;
    }
    DIR *parent = NULL;
    if (--w->n_deep > 0) {
        const struct usage_place *place = &w->places[w->n_deep - 1];
        parent = open_dir(w, dirfd(w->deep), "..");
        if (parent && fstat(dirfd(parent), &st) == 0 && st.st_dev == place->dev && st.st_ino == place->ino) {
            seekdir(parent, place->position);
        } else {
            note(w, ESTALE);
            dir_closep(&parent);
            w->n_deep = 0;
        }
    }
    dir_closep(&w->deep);
    w->deep = parent;
}

static void look_at(struct usage_walk *w, int dir_fd, const char *name)
{
    struct stat st;
    double share;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        note(w, errno);
        return;
    }
    share = S_ISDIR(st.st_mode) || st.st_nlink < 2 ? 1 : 1 / (double)st.st_nlink;
    w->bytes += (double)st.st_blocks * 512 * share;
    w->inodes += share;
    if (S_ISDIR(st.st_mode))
        descend(w, dir_fd, name);
}

bool usage_walk_step(struct usage_walk *w, int containers_fd, unsigned max)
{
    char path[NAME_MAX + 32];

    for (unsigned n = 0; n < max;) {
        if (w->depth == 0) {
            if (w->next_top == ARRAY_SIZE(tops))
                return true;
            (void)snprintf(path, sizeof(path), "%s/%s", w->id, tops[w->next_top++]);
            look_at(w, containers_fd, path);
            n++;
            continue;
        }
        DIR *dir = w->deep ? w->deep : w->open[w->depth - 1];
        errno = 0;
        struct dirent *d = readdir(dir); // NOLINT(concurrency-mt-unsafe): own stream
        if (!d) {
            note(w, errno ? errno : ENOENT);
            ascend(w);
            n++;
        } else if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..")) {
            look_at(w, dirfd(dir), d->d_name);
            n++;
        }
    }
    return false;
}
