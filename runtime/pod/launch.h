// Launching a process: the socket between crisp-pod and a child on its way to exec, and what is said on it.
//
// The child's end is close-on-exec: end of file after REPORT_EXECUTING means that the new program runs.
#ifndef RUNTIME_POD_LAUNCH_H
#define RUNTIME_POD_LAUNCH_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/pod/accounts.h"
#include "runtime/pod/pod.h"

#define LAUNCH_STEP_MAX 256

enum report_kind {
    REPORT_NAMESPACES = 1, // setup: a pod's new namespaces, as descriptors in the order of enum pod_ns
    REPORT_TTY,            // the pty's master, as a descriptor
    REPORT_EXECUTING,      // the next thing is execve(), as this user
    REPORT_FAILED,
    REPORT_HELD,   // namespaces and root are made; it waits for a byte (launch_plan_order.hold)
    REPORT_SECOND, // of two stages: the second one's pid, and its pidfd as a descriptor
};

struct report {
    uint32_t kind;
    uint32_t status; // REPORT_FAILED: enum status
    int32_t errnum;
    int32_t pid; // REPORT_SECOND; REPORT_NAMESPACES: the shared pid namespace's first process, or 0
    uint32_t uid, gid, n_groups; // REPORT_EXECUTING
    uint32_t may_trace;          // CAP_SYS_PTRACE is, or may come to be, among its capabilities
    char step[LAUNCH_STEP_MAX];
    char text[ERROR_MESSAGE_MAX];         // the error's message, or the user's home
    uint32_t groups[ACCOUNTS_GROUPS_MAX]; // only n_groups of them are sent
};

// What a container's child is told, in this order. First the plan (a memfd that comes with it): it builds its
// root.
struct launch_plan_order {
    uint64_t plan_len;
    uint64_t
        place_len; // a packed CgroupPlace behind the plan, for a child that was made without one; 0: none
    uint32_t hold; // report when the root is built, and wait for a byte, which comes after the order to go on
};

// Then to go on to exec, with descriptors: stdin, stdout, stderr as the mask says. One with `placed` may come
// before it: its cgroups are there now, and it goes no further than that.
struct launch_go_order {
    uint32_t stdio_mask;
    uint32_t tty;
    uint32_t placed;
};

// Who a process has become, in no more memory than it needs: crisp-pod keeps it for a container's life.
struct launch_user {
    uint32_t uid, gid;
    size_t n_groups;
    uint32_t *groups; // these two point behind the struct
    char *home;
};

// The parent's side of one launch.
struct launch {
    struct pod *pod;
    struct source source;  // the socket
    struct timer deadline; // kills the child
    pid_t pid;
    int pidfd;
    char *step; // a page shared with the child until its exec: what it is doing (for time-outs and kills)
    bool two_stages; // the child makes the process that executes (child_stage.c) …
    bool second;     // … and has: pid and pidfd are that one's
    bool only_first; // others may trace the second one: only the first one is believed (set before the clone)
    pid_t first;     // the child that was cloned
    pid_t reaped;    // the pid that was reaped last, while it is looked up
    bool executing, failed, timed_out, may_trace;
    struct error error;
    char failed_step[LAUNCH_STEP_MAX];
    int tty; // the master, once reported
    struct launch_user *user;
    bool held;
    // Called when it is held, if set before launch_watch().
    void (*on_held)(struct launch *l);
    // Called once: the program runs (launch->failed unset) or never will. May free what the launch is in.
    void (*done)(struct launch *l);
};

struct launch_options {
    bool new_pid_ns;
    int pid_ns_pidfd;      // join the pid namespace of this process (a pidfd) …
    int pid_ns_fd;         // … or this one; -1: neither
    const char *cgroup_v2; // clone straight into it; NULL: the child joins its cgroups itself
    void (*child)(void *arg, int sock, char *step); // runs in the child and never returns
    void *arg;
};

// Makes the child. On success its socket is not yet watched: launch_watch() does.
int launch_clone(struct launch *l, struct pod *p, const struct launch_options *o, struct error *err);
int launch_watch(struct launch *l, uint32_t deadline_ms, struct error *err);
// Of two stages: has the first one told of the second by now? Asked when pid has been reaped, whoever that
// is.
bool launch_goes_on(struct launch *l, pid_t pid);
// The child has been reaped: reads what it still said, and ends the launch if it hasn't ended.
void launch_child_gone(struct launch *l, int status);
// Lets go of everything but the child itself.
void launch_done(struct launch *l);

// Messages with descriptors over a SOCK_SEQPACKET socket; used by both sides. Return bytes or -errno;
// received descriptors are close-on-exec and the caller's, *n_fds in: room, out: count.
long launch_send(int sock, const void *data, size_t len, const int *fds, size_t n_fds);
long launch_recv(int sock, void *data, size_t size, int *fds, size_t *n_fds, int flags);
// Has the kernel add to each message who sent it: asked for before anybody can send.
int launch_name_senders(int sock);
// The same as launch_recv(). *sender (may be NULL): who sent it, in the caller's pid namespace; 0: unknown.
long launch_recv_from(int sock, void *data, size_t size, int *fds, size_t *n_fds, int flags, pid_t *sender);

#endif
