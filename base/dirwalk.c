#include "base/dirwalk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

struct level {
    char *names; // of the children, each with its NUL
    size_t len, size, at;
};

struct walk {
    struct level *levels;
    size_t depth, room;
    size_t bytes, max_bytes;
    long total, failure;
};

static void note(struct walk *w, long result)
{
    if (result >= 0)
        w->total += result;
    else if (w->failure == 0 && result != -ENOENT)
        w->failure = result;
}

static bool level_grow(struct walk *w, struct level *l, size_t len)
{
    if (l->len + len <= l->size)
        return true;
    size_t size = l->size ? l->size * 2 : 256;
    char *names = w->bytes + size - l->size <= w->max_bytes ? realloc(l->names, size) : NULL;
    if (!names)
        return false;
    w->bytes += size - l->size;
    l->names = names;
    l->size = size;
    return l->len + len <= size || level_grow(w, l, len);
}

static void read_children(struct walk *w, struct level *l, int fd)
{
    int copy = openat(fd, ".", OPEN_FLAGS);
    _cleanup_(dir_closep) DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        note(w, copy < 0 ? -errno : -ENOMEM);
        if (copy >= 0)
            (void)close(copy);
        return;
    }
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) { // NOLINT(concurrency-mt-unsafe): own stream
        if (e->d_type != DT_DIR || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        size_t len = strlen(e->d_name) + 1;
        if (!level_grow(w, l, len)) {
            note(w, -E2BIG);
            return;
        }
        memcpy(l->names + l->len, e->d_name, len);
        l->len += len;
    }
}

// Goes down into fd. false: too deep.
static bool push(struct walk *w, int fd)
{
    if (w->depth == w->room) {
        size_t room = w->room ? w->room * 2 : 8, more = (room - w->room) * sizeof(*w->levels);
        struct level *levels =
            w->bytes + more <= w->max_bytes ? realloc(w->levels, room * sizeof(*levels)) : NULL;
        if (!levels) {
            note(w, -E2BIG);
            return false;
        }
        w->bytes += more;
        w->levels = levels;
        w->room = room;
    }
    struct level *l = &w->levels[w->depth++];
    *l = (struct level){0};
    read_children(w, l, fd);
    return true;
}

static void pop(struct walk *w)
{
    struct level *l = &w->levels[--w->depth];
    w->bytes -= l->size;
    free(l->names);
}

// The next child of the directory in *fd, which becomes *fd. false: there is none (any more).
static bool descend(struct walk *w, int *fd)
{
    struct level *l = &w->levels[w->depth - 1];
    while (l->at < l->len) {
        const char *name = l->names + l->at;
        _cleanup_fd_ int child = openat(*fd, name, OPEN_FLAGS);
        if (child < 0)
            note(w, -errno);
        bool down = child >= 0 && push(w, child);
        l = &w->levels[w->depth - (down ? 2 : 1)];
        l->at += strlen(l->names + l->at) + 1;
        if (down) {
            fd_closep(fd);
            *fd = steal_fd(&child);
            return true;
        }
    }
    return false;
}

// The name in the level above that was gone into last.
static const char *entered(const struct walk *w)
{
    const struct level *l = &w->levels[w->depth - 2];
    size_t start = l->at - 1;
    while (start > 0 && l->names[start - 1])
        start--;
    return l->names + start;
}

static void walk_from(struct walk *w, int at_fd, const char *name, int *fd, dirwalk_fn visit, void *arg)
{
    if (!push(w, *fd))
        return;
    for (;;) {
        if (descend(w, fd))
            continue;
        if (w->depth == 1) {
            note(w, visit(at_fd, name, *fd, arg));
            pop(w);
            return;
        }
        _cleanup_fd_ int parent = openat(*fd, "..", OPEN_FLAGS);
        if (parent < 0) { // removed under our feet: what is left is another call's
            note(w, -EAGAIN);
            return;
        }
        note(w, visit(parent, entered(w), *fd, arg));
        pop(w);
        fd_closep(fd);
        *fd = steal_fd(&parent);
    }
}

long dirwalk(int at_fd, const char *name, size_t max_bytes, dirwalk_fn visit, void *arg)
{
    struct walk w = {.max_bytes = max_bytes};
    _cleanup_fd_ int fd = openat(at_fd, name, OPEN_FLAGS);
    if (fd < 0)
        return -errno;
    walk_from(&w, at_fd, name, &fd, visit, arg);
    while (w.depth > 0)
        pop(&w);
    free(w.levels);
    return w.failure < 0 ? w.failure : w.total;
}
