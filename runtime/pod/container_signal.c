// Signals to a container's first process.
//
// The kernel drops a signal that the first process of a pid namespace has no handler for (its default action
// would be to end it). A container that is stopped right after its start has often not come to install one:
// its stop signal is kept then, and sent once it is caught. Never twice: what was dropped was not delivered.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/container.h"
#include "runtime/pod/procstatus.h"
#include "runtime/pod/sys.h"

#define RETRY_FIRST_NS   (5 * NS_PER_MS)
#define RETRY_LONGEST_NS NS_PER_SEC

// Would the signal be dropped? Only the first process of the container's own namespace is protected so.
static bool would_be_dropped(const struct container *c, int signal)
{
    char status[PROCSTATUS_MAX];

    if (c->pid_mode != POD__PID_MODE__PID_PRIVATE || signal == SIGKILL || signal == SIGSTOP)
        return false;
    if (!procstatus_read(c->launch.pid, status))
        return false;
    // Ignored on purpose is no reason to wait; blocked ones stay pending in the kernel.
    uint64_t seen = procstatus_mask(status, "SigCgt") | procstatus_mask(status, "SigBlk") |
                    procstatus_mask(status, "SigIgn");
    return !(seen >> (signal - 1) & 1);
}

static void send_or_keep(struct container *c)
{
    if (!would_be_dropped(c, c->kept_signal)) {
        (void)pidfd_send_signal(c->launch.pidfd, c->kept_signal, NULL, 0); // ESRCH: it is just dying
        c->kept_signal = 0;
        return;
    }
    c->keep_delay_ns = c->keep_delay_ns ? c->keep_delay_ns * 2 : RETRY_FIRST_NS;
    if (c->keep_delay_ns > RETRY_LONGEST_NS)
        c->keep_delay_ns = RETRY_LONGEST_NS;
    loop_arm(&c->pod->loop, &c->signal_timer, c->keep_delay_ns);
}

static void signal_fired(struct timer *t)
{
    struct container *c = container_of(t, struct container, signal_timer);

    if (c->phase == CONTAINER_RUNNING && !c->reaped)
        send_or_keep(c);
}

static int deliver(struct container *c, const Pod__KillRequest *request, struct error *err)
{
    const char *dir = c->place ? cgroups_kill_dir(c->place) : NULL;

    if (request->signal < 1 || request->signal > SIGRTMAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%d is no signal", request->signal);
    if (request->signal != SIGKILL) // container_kill() does it, too
        oom_watch_signal(&c->oom);
    if (request->signal == SIGKILL) {
        container_kill(c); // no less when only the first is meant: its end is everybody's
    } else if (request->all && dir) {
        (void)cgroups_signal(dir, request->signal);
    } else if (c->phase == CONTAINER_RUNNING) {
        c->kept_signal = request->signal; // a later one takes the place of one that is still kept
        c->keep_delay_ns = 0;
        c->signal_timer.fired = signal_fired;
        send_or_keep(c);
    } else {
        (void)pidfd_send_signal(c->launch.pidfd, request->signal, NULL, 0);
    }
    return 0;
}

void container_signal(struct pod *p, struct waiter w, const Pod__KillRequest *request)
{
    struct container *c = container_find(p, request->container_id);
    struct error err;
    int rc;

    if (!c || c->phase >= CONTAINER_ENDING)
        rc = error_set(&err, STATUS_FAILED_PRECONDITION, ESRCH, "container %s does not run",
                       request->container_id);
    else
        rc = deliver(c, request, &err);
    if (rc < 0)
        conn_reply_error(p, w, &err, NULL);
    else
        conn_reply_ok(p, w);
}
