#include "runtime/gate.h"

#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"

struct notify_waiter {
    struct notify_waiter *next;
    struct notify_waiter **link; // what points at this one
    int fd;
};

static void waiter_link(struct notify *n, struct notify_waiter *w)
{
    w->next = n->first;
    w->link = &n->first;
    if (w->next)
        w->next->link = &w->next;
    n->first = w;
}

static void waiter_unlink(struct notify_waiter *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
}

int notify_wait(pthread_mutex_t *lock, struct notify *n, const struct ctx *ctx, struct error *err)
{
    _cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return error_errno(err, errno, "wait: make an eventfd");

    struct notify_waiter waiter = {.fd = fd};
    waiter_link(n, &waiter);
    pthread_mutex_unlock(lock);
    int r = ctx_wait_fd(ctx, fd, POLLIN, err);
    pthread_mutex_lock(lock);
    waiter_unlink(&waiter);
    return r < 0 ? r : 0;
}

void notify_wake(struct notify *n)
{
    for (struct notify_waiter *w = n->first; w; w = w->next) {
        uint64_t one = 1;
        // It can only fail with EAGAIN, when the counter is full: then it is readable anyway.
        ssize_t r = write(w->fd, &one, sizeof(one));
        (void)r;
    }
}

int gate_enter(pthread_mutex_t *lock, struct gate *g, const struct ctx *ctx, struct error *err)
{
    while (g->held) {
        int r = notify_wait(lock, &g->freed, ctx, err);
        if (r < 0)
            return r;
    }
    g->held = true;
    return 0;
}

void gate_leave(struct gate *g)
{
    g->held = false;
    notify_wake(&g->freed);
}
