// The end of a container: the rest of its processes killed, its output read to the end, the exit recorded,
// and only then anybody told.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/container.h"
#include "runtime/pod/sys.h"

#define END_MAX_NS    NS_PER_SEC      // for killing and draining together
#define END_REPEAT_NS (2 * NS_PER_MS) // between two passes of killing

// No fsync: the run directory does not outlive a boot, and a kill -9 of anybody loses nothing that was
// written. On a disk it would stop this single thread, and so the pod's other containers, for milliseconds.
static void write_record(const struct container *c)
{
    Pod__ExitRecord r = POD__EXIT_RECORD__INIT;
    _cleanup_free_ char *path = str_printf("%s/exits/%s", c->pod->dir, c->id);
    _cleanup_free_ uint8_t *data = NULL;
    struct error err;
    size_t len;

    container_fill_exit(c, &r);
    int rc = path && pb_pack(&r.base, &data, &len) == 0
                 ? file_write_atomic(path, data, len, 0600, false, &err)
                 : error_errno(&err, ENOMEM, "write an exit record");
    if (rc < 0) // crispd still gets it from the event and from StateRequest
        log_error("an exit record can't be written", "container", c->id, "error", err.message);
}

static void finish(struct container *c)
{
    struct pod *p = c->pod;
    Pod__Event event = POD__EVENT__INIT;
    Pod__ExitRecord r = POD__EXIT_RECORD__INIT;

    loop_disarm(&p->loop, &c->end_timer);
    container_drain_output(c);
    container_close_output(c);
    fd_closep(&c->stdin_fd);
    exec_end_container(c);
    c->oom_killed = oom_watch_explains(&c->oom, c->place, c->exit_code, c->exit_signal, c->reaped_mono_ns);
    oom_watch_done(&c->oom);
    c->phase = CONTAINER_EXITED;
    write_record(c);
    container_fill_exit(c, &r);
    fd_closep(&c->log.fd);
    launch_done(&c->launch);
    event.exit = &r;
    conn_event(p, 0, &event);
    pod_container_gone(p);
}

static void end_timer_fired(struct timer *t)
{
    container_begin_end(container_of(t, struct container, end_timer));
}

// Called again until everything is dead and drained, or the time for it is over.
void container_begin_end(struct container *c)
{
    struct loop *loop = &c->pod->loop;

    if (c->phase == CONTAINER_RUNNING) {
        c->phase = CONTAINER_ENDING;
        c->end_timer.fired = end_timer_fired;
        loop_disarm(loop, &c->signal_timer);
        c->end_deadline_mono_ns = clock_mono_ns() + END_MAX_NS;
    }
    const char *dir = c->place ? cgroups_kill_dir(c->place) : NULL;
    int64_t left = c->end_deadline_mono_ns - clock_mono_ns();
    bool alive = dir && cgroups_kill(dir, c->place->v2) > 0;
    if (left <= 0 || (!alive && !container_output_open(c))) {
        finish(c);
        return;
    }
    // While only output is open its end of file calls again, and the timer is for the last moment.
    loop_arm(loop, &c->end_timer, alive && left > END_REPEAT_NS ? END_REPEAT_NS : left);
}

static struct container *container_by_pid(struct pod *p, pid_t pid)
{
    struct container *c = p->containers;

    while (c && (c->launch.pid != pid || c->reaped))
        c = c->next;
    return c;
}

bool container_reap(struct pod *p, pid_t pid, int status)
{
    struct container *c = container_by_pid(p, pid);

    // Unknown: maybe the second process of a launch, of which the first has told already.
    for (struct container *other = c ? NULL : p->containers; other && !c; other = other->next)
        if (launch_goes_on(&other->launch, pid))
            c = container_by_pid(p, pid);
    if (!c)
        return false;
    if (launch_goes_on(&c->launch, pid)) // it was the first one
        return true;
    c->reaped = true;
    oom_watch_reaped(&c->oom);
    c->wait_status = status;
    c->finished_at_ns = clock_wall_unique_ns();
    c->reaped_mono_ns = clock_mono_ns();
    c->exit_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    c->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    switch (c->phase) {
    case CONTAINER_PARKED: // killed from outside; a start makes another
        container_free(c);
        break;
    case CONTAINER_LAUNCHING:
        launch_child_gone(&c->launch, status); // ends in launched(), which sees that it is reaped
        break;
    case CONTAINER_FAILING:
        container_end_failed(c);
        break;
    case CONTAINER_RUNNING:
        container_begin_end(c);
        break;
    case CONTAINER_ENDING:
    case CONTAINER_EXITED:
        break;
    }
    return true;
}
