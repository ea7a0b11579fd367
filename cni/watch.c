#include "cni/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define MAX_FOLDERS 64 // on the way to the directory

struct folder {
    int wd;
    const char *next; // the only name of interest in it; NULL: all
    size_t next_len;
};

struct cni_watch {
    int fd;
    char *dir;
    struct folder folders[MAX_FOLDERS];
    size_t n;
};

static void add_folder(struct cni_watch *w, const char *path, const char *next, size_t next_len)
{
    // IN_CREATE is for links and folders: files count when they are complete.
    const uint32_t mask = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                          IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
    int wd = w->n < MAX_FOLDERS ? inotify_add_watch(w->fd, path, mask) : -1;
    if (wd >= 0)
        w->folders[w->n++] = (struct folder){.wd = wd, .next = next, .next_len = next_len};
}

static void add_ancestors(struct cni_watch *w)
{
    char path[PATH_MAX] = "/";
    size_t len = strlen(w->dir);
    for (size_t i = 0; i < len && i < sizeof(path) - 1;) {
        while (w->dir[i] == '/')
            i++;
        size_t n = strcspn(w->dir + i, "/");
        if (!n)
            break;
        memcpy(path, w->dir, i);
        path[i] = '\0';
        add_folder(w, path, w->dir + i, n);
        i += n;
    }
}

struct cni_watch *cni_watch_new(const char *dir, const char *sub)
{
    struct cni_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->dir = strdup(dir);
    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (!w->dir || w->fd < 0) {
        cni_watch_free(w);
        return NULL;
    }
    add_ancestors(w);
    add_folder(w, dir, NULL, 0);
    _cleanup_free_ char *path = sub ? str_printf("%s/%s", dir, sub) : NULL;
    if (path)
        add_folder(w, path, NULL, 0);
    return w;
}

void cni_watch_free(struct cni_watch *watch)
{
    if (!watch)
        return;
    fd_closep(&watch->fd);
    free(watch->dir);
    free(watch);
}

int cni_watch_fd(const struct cni_watch *watch)
{
    return watch->fd;
}

static bool is_wanted(const struct cni_watch *w, const struct inotify_event *event)
{
    if (event->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
        return true;
    for (size_t i = 0; i < w->n; i++) {
        const struct folder *f = &w->folders[i];
        if (f->wd == event->wd && event->len &&
            (!f->next || (strlen(event->name) == f->next_len && !memcmp(event->name, f->next, f->next_len))))
            return true;
    }
    return false;
}

bool cni_watch_changed(struct cni_watch *watch)
{
    _Alignas(struct inotify_event) char buf[4096];
    bool wanted = false;
    for (int rounds = 0; rounds < 1024; rounds++) {
        ssize_t n = read(watch->fd, buf, sizeof(buf));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (const char *p = buf; p < buf + n;) {
            const struct inotify_event *event = (const void *)p;
            wanted = is_wanted(watch, event) || wanted;
            p += sizeof(*event) + event->len;
        }
    }
    return wanted;
}
