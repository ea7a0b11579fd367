#include "runtime/pod/oom.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/pod/cgroups.h"
#include "runtime/pod/procstatus.h"
#include "runtime/pod/sys.h"

// A process that the OOM killer took is gone soon after; its memory may take a while to be freed.
#define VICTIM_NS (2 * NS_PER_SEC)
// A process whose child was taken may have things to do before it ends for that.
#define PARENT_NS (10 * NS_PER_SEC)
// A process that lives so long after a kill, until somebody signals it, was not the victim.
#define SURVIVED_NS (100 * NS_PER_MS)
// v1 tells of its being out of memory before it kills and counts; and both count just before they kill.
#define SETTLE_NS (50 * NS_PER_MS)

static void look(struct oom_watch *w)
{
    unsigned long kills = cgroups_oom_kills(w->place);

    if (kills > w->kills)
        w->last_mono_ns = clock_mono_ns();
    w->kills = kills;
}

// Once the kernel has counted nothing more for a while, whoever was to be killed knows it: a first process
// that does not has got over all kills so far. (Without a pause the count may be one further than the signal
// is.)
static void settle_fired(struct timer *t)
{
    struct oom_watch *w = container_of(t, struct oom_watch, timer);
    int64_t told = w->last_mono_ns;
    unsigned long before = w->kills;

    look(w);
    if (told)
        w->last_mono_ns = told;
    if (w->kills != before)
        loop_arm(w->loop, &w->timer, SETTLE_NS);
    else if (w->pid > 0 && procstatus_is_well(w->pid))
        w->survived = w->kills;
}

static void settle(struct oom_watch *w)
{
    w->timer.fired = settle_fired;
    loop_arm(w->loop, &w->timer, SETTLE_NS);
}

static void counted(struct oom_watch *w)
{
    unsigned long before = w->kills;

    look(w);
    if (w->kills != before)
        settle(w);
}

static void ready(struct source *s, uint32_t events)
{
    struct oom_watch *w = container_of(s, struct oom_watch, source);
    char text[512];

    (void)events;
    if (w->place->v2) {
        // Reading is what takes note of the event. In a cgroup that was removed it fails, for ever.
        if (pread(s->fd, text, sizeof(text), 0) < 0)
            oom_watch_done(w);
        else
            counted(w);
        return;
    }
    if (read(s->fd, text, sizeof(uint64_t)) == sizeof(uint64_t)) {
        w->last_mono_ns = clock_mono_ns();
        settle(w);
    }
}

// An eventfd that the kernel writes to when the cgroup is out of memory (cgroup-v1/memory.rst, 9 and 10), or
// -1.
static int open_v1(const char *dir)
{
    char text[64];
    _cleanup_free_ char *oom = str_printf("%s/memory.oom_control", dir);
    _cleanup_free_ char *control = str_printf("%s/cgroup.event_control", dir);
    _cleanup_fd_ int oom_fd = oom ? open(oom, O_RDONLY | O_CLOEXEC) : -1;
    _cleanup_fd_ int control_fd = control ? open(control, O_WRONLY | O_CLOEXEC) : -1;
    _cleanup_fd_ int event = oom_fd < 0 || control_fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (event < 0)
        return -1;
    int len = snprintf(text, sizeof(text), "%d %d", event, oom_fd);
    if (write(control_fd, text, (size_t)len) < 0)
        return -1;
    return steal_fd(&event);
}

static int open_v2(const char *dir)
{
    _cleanup_free_ char *path = str_printf("%s/memory.events", dir);

    return path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

static void begin_fired(struct timer *t)
{
    struct oom_watch *w = container_of(t, struct oom_watch, timer);
    int fd = w->place->v2 ? open_v2(w->place->memory_dir) : open_v1(w->place->memory_dir);

    if (fd >= 0 && loop_add(w->loop, &w->source, fd, w->place->v2 ? EPOLLPRI : EPOLLIN, NULL) < 0)
        fd_closep(&fd);
    counted(w); // what was before
}

void oom_watch_begin(struct oom_watch *w, struct loop *loop, const Pod__CgroupPlace *place, pid_t pid)
{
    *w = (struct oom_watch){.loop = loop, .place = place, .pid = pid, .source = {.fd = -1, .ready = ready}};
    if (!place || !*place->memory_dir)
        return;
    w->timer.fired = begin_fired;
    loop_arm(loop, &w->timer, 0);
}

void oom_watch_done(struct oom_watch *w)
{
    if (!w->loop)
        return;
    loop_disarm(w->loop, &w->timer);
    if (w->source.fd >= 0) {
        int fd = w->source.fd;
        loop_remove(w->loop, &w->source);
        (void)close(fd);
    }
    w->source.fd = -1;
}

void oom_watch_reaped(struct oom_watch *w)
{
    w->pid = 0;
}

void oom_watch_signal(struct oom_watch *w)
{
    if (!w->loop || !w->place)
        return;
    look(w);
    w->signal_mono_ns = clock_mono_ns();
    w->kills_at_signal = w->kills;
}

bool oom_watch_explains(struct oom_watch *w, const Pod__CgroupPlace *place, int exit_code, int signal,
                        int64_t ended_mono_ns)
{
    unsigned long kills = place ? cgroups_oom_kills(place) : 0;

    if (kills == 0 || exit_code == 0)
        return false;
    if (w->signal_mono_ns && kills == w->kills_at_signal &&
        (w->last_mono_ns == 0 || w->signal_mono_ns - w->last_mono_ns > SURVIVED_NS))
        return false; // the signal explains it
    if (signal == SIGKILL && kills == w->survived)
        return false; // an outsider's
    if (kills > w->kills || w->last_mono_ns == 0)
        return true; // just now
    return ended_mono_ns - w->last_mono_ns <= (signal == SIGKILL ? VICTIM_NS : PARENT_NS);
}
