// When the OOM killer has struck in a container's cgroup, so that its end can be told from an end by other
// causes. The kernel counts its kills, and tells nobody which end was one: the times have to be near.
#ifndef RUNTIME_POD_OOM_H
#define RUNTIME_POD_OOM_H

#include "api/pod/pod.pb-c.h"
#include "runtime/pod/loop.h"

struct oom_watch {
    struct loop *loop;
    const Pod__CgroupPlace *place;
    struct source source;   // v2: memory.events; v1: an eventfd
    struct timer timer;     // begins the watch; looks at what a kill has left
    pid_t pid;              // the container's first process; 0: it has ended
    unsigned long kills;    // as last read
    unsigned long survived; // that many kills the first process has got over
    int64_t last_mono_ns;   // when the last kill was seen; 0: none yet
    int64_t signal_mono_ns; // when somebody asked for a signal to the container; 0: nobody
    unsigned long kills_at_signal;
};

// Begins in the loop's next round, when whoever waits for the container's start has their answer. pid: of the
// first process. place outlives the watch.
void oom_watch_begin(struct oom_watch *w, struct loop *loop, const Pod__CgroupPlace *place, pid_t pid);
void oom_watch_reaped(struct oom_watch *w); // the first process: its pid may soon be another's
void oom_watch_done(struct oom_watch *w);   // also of one that has never begun
// The container is being sent a signal: if it ends now, that is likely why.
void oom_watch_signal(struct oom_watch *w);
// Did the container's first process end, with this exit code or signal (0: none), because of an OOM kill of
// itself or of one of its children? An exit code of 0 says that it got over it.
bool oom_watch_explains(struct oom_watch *w, const Pod__CgroupPlace *place, int exit_code, int signal,
                        int64_t ended_mono_ns);

#endif
