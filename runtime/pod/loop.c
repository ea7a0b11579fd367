#include "runtime/pod/loop.h"

#include <stddef.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

int loop_init(struct loop *l, struct error *err)
{
    *l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    return l->epoll_fd < 0 ? error_errno(err, errno, "create the event loop") : 0;
}

void loop_done(struct loop *l)
{
    fd_closep(&l->epoll_fd);
}

int loop_add(struct loop *l, struct source *s, int fd, uint32_t events, struct error *err)
{
    struct epoll_event e = {.events = events, .data.ptr = s};

    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
        return error_errno(err, errno, "watch descriptor %d", fd);
    s->fd = fd;
    return 0;
}

void loop_change(struct loop *l, struct source *s, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};

    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
}

void loop_remove(struct loop *l, struct source *s)
{
    if (s->fd < 0)
        return;
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    s->fd = -1;
    for (int i = l->batch_pos; i < l->batch_len; i++)
        if (l->batch[i].data.ptr == s)
            l->batch[i].data.ptr = NULL;
}

void loop_arm(struct loop *l, struct timer *t, int64_t delay_ns)
{
    loop_disarm(l, t);
    t->at_mono_ns = clock_mono_ns() + delay_ns;
    t->armed = true;
    t->next = l->timers;
    l->timers = t;
}

void loop_disarm(struct loop *l, struct timer *t)
{
    if (!t->armed)
        return;
    for (struct timer **p = &l->timers; *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    t->armed = false;
}

static struct timer *earliest(const struct loop *l)
{
    struct timer *first = NULL;

    for (struct timer *t = l->timers; t; t = t->next)
        if (!first || t->at_mono_ns < first->at_mono_ns)
            first = t;
    return first;
}

// Fires what is due and returns epoll_wait()'s time-out until the next, in ms rounded up; -1 for none.
static int run_timers(struct loop *l)
{
    for (struct timer *t = earliest(l); t; t = earliest(l)) {
        int64_t left = t->at_mono_ns - clock_mono_ns();
        if (left > 0) {
            int64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
            return ms > 60000 ? 60000 : (int)ms;
        }
        loop_disarm(l, t);
        t->fired(t);
        if (l->stop)
            return 0;
    }
    return -1;
}

int loop_run(struct loop *l, struct error *err)
{
    while (!l->stop) {
        int timeout = run_timers(l);
        if (l->stop)
            break;
        int n = epoll_wait(l->epoll_fd, l->batch, LOOP_BATCH, timeout);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "wait for events");
        l->batch_len = n;
        for (l->batch_pos = 0; l->batch_pos < n && !l->stop;) {
            const struct epoll_event *e = &l->batch[l->batch_pos++];
            struct source *s = e->data.ptr;
            if (s)
                s->ready(s, e->events);
        }
        l->batch_len = l->batch_pos = 0;
    }
    return 0;
}
