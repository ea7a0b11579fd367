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

#define NAMES_MIN 256       // bytes of a level's names: one has room in any case
#define READS_MAX (1 << 20) // of parts of directories, in one walk

struct level {
    char *names; // of the children, or of a part of them; each with its NUL
    size_t len, size, at;
    off_t from, next; // where this part began in the directory, and where the next one does
    bool more;        // there is a next one
};

struct walk {
    struct level *levels;
    size_t depth, room;
    size_t bytes, max_bytes;
    size_t reads;
    long total, failure;
};

static void note(struct walk *w, long result)
{
    if (result >= 0)
        w->total += result;
    else if (w->failure == 0 && result != -ENOENT)
        w->failure = result;
}

// Half of the memory is for levels further down, however wide those above are.
static bool level_grow(struct walk *w, struct level *l, size_t len)
{
    if (l->len + len <= l->size)
        return true;
    size_t size = l->size ? l->size * 2 : NAMES_MIN, max = l->size ? w->max_bytes / 2 : w->max_bytes;
    char *names = w->bytes + size - l->size <= max ? realloc(l->names, size) : NULL;
    if (!names)
        return false;
    w->bytes += size - l->size;
    l->names = names;
    l->size = size;
    return l->len + len <= size;
}

// The part of the directory that begins at l->next, as far as there is memory for it. false: for none of it.
static bool take_names(struct walk *w, struct level *l, DIR *dir)
{
    l->from = l->next;
    l->len = l->at = 0;
    l->more = false;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;
         l->next = e->d_off) { // NOLINT(concurrency-mt-unsafe): own stream
        if (e->d_type != DT_DIR || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        size_t len = strlen(e->d_name) + 1;
        if (!level_grow(w, l, len)) {
            l->more = true;
            return l->len > 0;
        }
        memcpy(l->names + l->len, e->d_name, len);
        l->len += len;
    }
    return true;
}

// false: there is no memory for a single name.
static bool read_children(struct walk *w, struct level *l, int fd)
{
    int copy = openat(fd, ".", OPEN_FLAGS);
    _cleanup_(dir_closep) DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir || (l->next && lseek(copy, l->next, SEEK_SET) < 0)) {
        note(w, copy < 0 ? -errno : dir ? -errno : -ENOMEM);
        if (!dir && copy >= 0)
            (void)close(copy);
        l->len = l->at = 0;
        l->more = false;
        return true;
    }
    if (take_names(w, l, dir))
        return true;
    note(w, -E2BIG);
    return false;
}

// The next part of a directory that had no room as a whole: it goes on at the place the kernel named, which
// in cgroup file systems is a name's hash and stays true when others come and go. Where many names have one
// hash it would not get on.
static bool read_more(struct walk *w, struct level *l, int fd)
{
    if (!l->more)
        return false;
    if (l->next == l->from || ++w->reads > READS_MAX) {
        note(w, -E2BIG);
        l->more = false;
        return false;
    }
    (void)read_children(w, l, fd);
    return l->len > 0;
}

static void pop(struct walk *w)
{
    struct level *l = &w->levels[--w->depth];
    w->bytes -= l->size;
    free(l->names);
}

// Goes down into fd. false: too deep for the memory.
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
    if (read_children(w, l, fd))
        return true;
    pop(w);
    return false;
}
// The next child of the directory in *fd, which becomes *fd. One that is too deep is visited without what is
// below it. false: there is none (any more).
static bool descend(struct walk *w, int *fd, dirwalk_fn visit, void *arg)
{
    struct level *l = &w->levels[w->depth - 1];
    while (l->at < l->len || read_more(w, l, *fd)) {
        const char *name = l->names + l->at;
        _cleanup_fd_ int child = openat(*fd, name, OPEN_FLAGS);
        if (child < 0)
            note(w, -errno);
        bool down = child >= 0 && push(w, child);
        l = &w->levels[w->depth - (down ? 2 : 1)];
        name = l->names + l->at;
        l->at += strlen(name) + 1;
        if (down) {
            fd_closep(fd);
            *fd = steal_fd(&child);
            return true;
        }
        if (child >= 0)
            note(w, visit(*fd, name, child, arg));
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
    if (!push(w, *fd)) {
        note(w, visit(at_fd, name, *fd, arg));
        return;
    }
    for (;;) {
        if (descend(w, fd, visit, arg))
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
