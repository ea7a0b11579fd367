// The event loop: descriptors (epoll, level-triggered) and timers of one thread.
#ifndef RUNTIME_POD_LOOP_H
#define RUNTIME_POD_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"

#define LOOP_BATCH 16

// Embedded in what owns the descriptor; not registered while fd is -1.
struct source {
    int fd;
    void (*ready)(struct source *s, uint32_t events); // EPOLL* bits
};

struct timer {
    struct timer *next;
    int64_t at_mono_ns;
    void (*fired)(struct timer *t);
    bool armed;
};

struct loop {
    int epoll_fd;
    struct timer *timers;
    struct epoll_event batch[LOOP_BATCH];
    int batch_len, batch_pos;
    bool stop;
};

int loop_init(struct loop *l, struct error *err);
void loop_done(struct loop *l);
// Registers s for fd, which stays the caller's to close (after loop_remove()).
int loop_add(struct loop *l, struct source *s, int fd, uint32_t events, struct error *err);
void loop_change(struct loop *l, struct source *s, uint32_t events);
// s may be freed at once, also from within a callback: its pending events are dropped.
void loop_remove(struct loop *l, struct source *s);
// Arms t (again) to fire once, delay_ns from now. `fired` must be set.
void loop_arm(struct loop *l, struct timer *t, int64_t delay_ns);
void loop_disarm(struct loop *l, struct timer *t);
// Runs until l->stop. 0 or -errno when epoll fails.
int loop_run(struct loop *l, struct error *err);

#endif
