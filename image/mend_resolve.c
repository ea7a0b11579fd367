// Where symbolic links lead in an image whose layers are not mounted.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/mend_internal.h"

#define LINKS_MAX 40 // as the kernel's

struct walk {
    char *out;           // what is resolved, without links
    char rest[PATH_MAX]; // what is still to be
    int links;
};

static int refuse(const char *path, int errnum, struct error *err)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, errnum,
                     "\"%s\" can't be made: the layers below have a symbolic link in it, or where it leads, "
                     "that can't be followed: %s",
                     path, strerror(errnum));
}

static void drop_last(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        *slash = '\0';
    else
        *path = '\0';
}

// The link's target takes the place of the last component.
static int follow(const struct mend *m, const struct mend_found *link, struct walk *w)
{
    char target[PATH_MAX], rest[PATH_MAX];
    const char *leaf;
    _cleanup_fd_ int dir = mend_open_parent(m->views[link->layer].fd, link->path, &leaf);
    ssize_t len = dir < 0 ? -1 : readlinkat(dir, leaf, target, sizeof(target) - 1);

    if (len < 0)
        return dir < 0 ? dir : -errno;
    target[len] = '\0';
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    if ((size_t)len + 1 + strlen(w->rest) >= sizeof(rest))
        return -ENAMETOOLONG;
    memcpy(rest, w->rest, strlen(w->rest) + 1);
    (void)snprintf(w->rest, sizeof(w->rest), "%s/%s", target, rest);
    if (*target == '/')
        *w->out = '\0';
    else
        drop_last(w->out);
    return 0;
}

static int step(const struct mend *m, size_t end, struct walk *w, const char *name, size_t len)
{
    size_t at = strlen(w->out);
    struct mend_found found;
    int r;

    if (len == 0 || (len == 1 && *name == '.'))
        return 0;
    if (len == 2 && memcmp(name, "..", 2) == 0) {
        drop_last(w->out);
        return 0;
    }
    if (at + 1 + len >= PATH_MAX)
        return -ENAMETOOLONG;
    if (at > 0)
        w->out[at++] = '/';
    memcpy(w->out + at, name, len);
    w->out[at + len] = '\0';
    r = mend_find(m, w->out, end, &found, NULL);
    if (r <= 0 || S_ISDIR(found.st.st_mode))
        return r < 0 ? r : 0;
    return S_ISLNK(found.st.st_mode) ? follow(m, &found, w) : -ENOTDIR;
}

int mend_resolve(const struct mend *m, const char *path, size_t end, char out[PATH_MAX], struct error *err)
{
    struct walk w = {.out = out};

    *out = '\0';
    if (strlen(path) >= sizeof(w.rest))
        return refuse(path, ENAMETOOLONG, err);
    memcpy(w.rest, path, strlen(path) + 1);
    while (*w.rest) {
        char name[NAME_MAX + 1];
        size_t len = strcspn(w.rest, "/");

        if (len > NAME_MAX)
            return refuse(path, ENAMETOOLONG, err);
        memcpy(name, w.rest, len);
        memmove(w.rest, w.rest + len + (w.rest[len] == '/'), strlen(w.rest + len) + (w.rest[len] != '/'));
        int r = step(m, end, &w, name, len);
        if (r < 0)
            return refuse(path, -r, err);
    }
    return 0;
}
