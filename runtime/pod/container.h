// A container as crisp-pod holds it: its first process, output, log, and in the end its exit.
#ifndef RUNTIME_POD_CONTAINER_H
#define RUNTIME_POD_CONTAINER_H

#include "runtime/pod/oom.h"
#include "runtime/pod/launch.h"
#include "runtime/pod/pod.h"

#define CONTAINER_WAITERS_MAX 4

enum container_phase {
    CONTAINER_PARKED,    // a child has, or builds, the root and waits for the order to start
    CONTAINER_LAUNCHING, // the child is on its way to exec
    CONTAINER_FAILING,   // the launch has failed; its child is being waited for
    CONTAINER_RUNNING,
    CONTAINER_ENDING, // the first process is dead; killing the rest and draining output
    CONTAINER_EXITED,
};

struct container;

// An output of the container: a pipe, or the pty's master.
struct output {
    struct source source;
    struct container *container;
    enum crilog_stream stream;
};

struct container {
    struct container *next;
    struct pod *pod;
    char *id;
    enum container_phase phase;
    Pod__CgroupPlace *place;
    Pod__PidMode pid_mode;
    struct launch launch; // valid while parked or launching; its pid and pidfd until the exit
    bool planned;         // its child has its plan
    bool prepared;        // that child was there before the start: when it fails, the start makes its own
    int plan_fd;          // prepared: the plan, for that one
    uint64_t plan_len;
    uint64_t place_len; // of what stands behind it there: the place, for a child that was made without one
    int64_t launch_end_mono_ns; // when the launch has to be done
    bool reaped;                // the first process has been waited for
    int wait_status;
    struct waiter waiters[CONTAINER_WAITERS_MAX];
    size_t n_waiters;
    uint64_t holder; // the connection whose ProceedRequest this launch will wait for, or waits for; 0: none
    uint64_t placer; // the connection whose PlacedRequest its prepared child waits for; 0: none
    bool tty, has_stdin;
    struct crilog log;
    struct output outputs[CRILOG_STREAMS];
    int stdin_fd; // the writing end of its stdin, or -1
    struct launch_user *user;
    int64_t started_at_ns, finished_at_ns;
    struct timer end_timer; // repeats the kill, and bounds the draining
    int64_t end_deadline_mono_ns;
    int kept_signal; // for a first process that has no handler yet (container_signal.c); 0: none
    struct timer signal_timer;
    int64_t keep_delay_ns;
    struct oom_watch oom; // while it runs
    int64_t reaped_mono_ns;
    bool oom_killed;
    unsigned long oom_kills_seen; // those that an exec's end was explained with
    int exit_code, exit_signal;
};

struct container *container_find(struct pod *p, const char *id);
void container_free(struct container *c);
void container_fill_exit(const struct container *c, Pod__ExitRecord *r);
// A container that is none of the pod's yet, or NULL.
struct container *container_alloc(struct pod *p, Pod__PidMode mode);
// Gives it its name and place (may be NULL), and to the pod. On failure it is still the caller's.
int container_enlist(struct container *c, const char *id, const Pod__CgroupPlace *place, struct error *err);
// container_start.c: makes its child, which joins its cgroups (now, or when it is told that they are there)
// and waits for the order. One without a name gets its place with the plan.
int container_park(struct container *c, const char *target, bool hold, bool place_later, struct error *err);
// container_spare.c: makes a child for a container that is not known yet.
void spare_make(struct pod *p, Pod__PidMode mode);
// That child as the container of the request, its name and place given, or NULL.
struct container *spare_take(struct pod *p, const Pod__PrepareRequest *request);
// The launch has failed, and its child is gone (or won't go): tells who waits, and forgets the container.
void container_end_failed(struct container *c);
// SIGKILL for all of it, however it can be reached.
void container_kill(struct container *c);
// container_end.c: the first process has been reaped.
void container_begin_end(struct container *c);
// container_io.c: pipes for a start. stdio: the child's ends, the caller's to close.
int container_open_stdio(struct container *c, int stdio[3], struct error *err);
int container_watch_output(struct container *c, struct error *err);
// In a child: what crisp-pod had of containers' unfinished lines.
void container_forget_output(const struct pod *p);
bool container_output_open(const struct container *c);
// Reads what is there at the last moment. The time for the end may have gone by while crisp-pod could not
// read (a slow disk under the log, a busy machine). Bounded: somebody outside the container may write on for
// ever.
void container_drain_output(struct container *c);
void container_close_output(struct container *c); // what is held of a last line is written

// exec.c: kills all execs of a container that has ended, and removes their cgroups.
void exec_end_container(struct container *c);

#endif
