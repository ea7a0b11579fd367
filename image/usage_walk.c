#include "image/usage_walk.h"

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
    w->id = strdup(id);
    w->next_top = w->depth = 0;
    w->bytes = w->inodes = 0;
    return w->id != NULL;
}

void usage_walk_end(struct usage_walk *w)
{
    while (w->depth > 0)
        dir_closep(&w->open[--w->depth]);
    free(steal_ptr(&w->id));
}

static void descend(struct usage_walk *w, int dir_fd, const char *name)
{
    _cleanup_fd_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (!dir)
        return;
    (void)steal_fd(&fd);
    w->open[w->depth++] = dir;
}

static void look_at(struct usage_walk *w, int dir_fd, const char *name)
{
    struct stat st;
    double share;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    share = S_ISDIR(st.st_mode) || st.st_nlink < 2 ? 1 : 1 / (double)st.st_nlink;
    w->bytes += (double)st.st_blocks * 512 * share;
    w->inodes += share;
    if (S_ISDIR(st.st_mode) && w->depth < USAGE_DEPTH_MAX)
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
        DIR *dir = w->open[w->depth - 1];
        struct dirent *d = readdir(dir); // NOLINT(concurrency-mt-unsafe): own stream
        if (!d) {
            dir_closep(&w->open[--w->depth]);
        } else if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..")) {
            look_at(w, dirfd(dir), d->d_name);
            n++;
        }
    }
    return false;
}
