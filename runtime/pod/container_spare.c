// A child that waits for the pod's first container before anybody has asked for one: when the pod is made,
// kubelet creates a container at once. What does not depend on that one is done by then (the clone, the
// wake-up on another CPU, what child_begin() does), some 0.3 ms of the call that would wait for it.
#include "runtime/pod/container.h"

#include <poll.h>

#include "base/clock.h"
#include "runtime/pod/sys.h"

#define ENDED_MAX_MS 1000
#define SPARE_MAX_NS (2 * NS_PER_SEC) // it costs memory as long as it waits

void spare_end(struct pod *p)
{
    struct container *c = p->spare;

    p->spare = NULL;
    if (!c)
        return;
    container_kill(c);
    // The pod's cgroups are removed once crisp-pod has ended: nobody is to be dying in them still.
    struct pollfd ended = {.fd = p->shutting_down ? c->launch.pidfd : -1, .events = POLLIN};
    if (ended.fd >= 0)
        (void)poll(&ended, 1, ENDED_MAX_MS);
    container_free(c);
}

static void spare_fired(struct timer *t)
{
    spare_end(container_of(t, struct container, end_timer)->pod);
}

bool spare_reap(struct pod *p, pid_t pid)
{
    if (!p->spare || p->spare->launch.pid != pid)
        return false;
    p->spare->reaped = true;
    spare_end(p);
    return true;
}

// Not in a pid namespace where others would see it waiting.
void spare_make(struct pod *p, Pod__PidMode mode)
{
    struct error err;

    if (p->spare || p->shutting_down || !p->ready || mode != POD__PID_MODE__PID_PRIVATE)
        return;
    p->spare = container_alloc(p, mode);
    if (!p->spare)
        return;
    if (container_park(p->spare, "", false, true, &err) < 0) {
        spare_end(p);
        return;
    }
    p->spare->end_timer.fired = spare_fired;
    loop_arm(&p->loop, &p->spare->end_timer, SPARE_MAX_NS);
}

struct container *spare_take(struct pod *p, const Pod__PrepareRequest *request)
{
    struct container *c = p->spare;
    struct error err;

    if (!c || !request->cgroup_later || request->plan.len == 0 || request->pid_mode != c->pid_mode)
        return NULL;
    if (container_enlist(c, request->container_id, request->cgroup, &err) < 0) {
        spare_end(p);
        return NULL;
    }
    p->spare = NULL;
    loop_disarm(&p->loop, &c->end_timer);
    return c;
}
