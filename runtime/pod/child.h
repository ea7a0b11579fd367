// What runs in a child between clone and exec. A copy of crisp-pod's memory that it must not show to anybody:
// undumpable, descriptors closed at once, and nothing but its own plan.
#ifndef RUNTIME_POD_CHILD_H
#define RUNTIME_POD_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api/pod/pod.pb-c.h"
#include "base/error.h"
#include "runtime/pod/accounts.h"
#include "runtime/pod/pod.h"

struct child {
    int sock;      // to crisp-pod
    char *step;    // shared page: what is being done
    int proc_self; // this process's directory of the host's /proc
    int ns[POD_NS_COUNT];
    struct id_range uids, gids; // of the pod's user namespace, if ns[POD_NS_USER] is there
    bool split;      // the container's first process is made from inside the user namespace (child_inside.c)
    bool inside;     // this is that process
    int proc_fs;     // split: a procfs of its pid namespace, configured but not mounted; -1: none
    int built;       // split: the builder's socket to it
    bool proc_taken; // split: the builder has what proc_fs can be
    int join_pid;    // two stages: the second one's pid namespace, or a process of it; -1: this one's
    pid_t join_target; // … that of another container, whose first process this is; 0: the pod's
    int proc_tree;     // a detached mount of its procfs (child_proc.c); -1: none
    int copied_ns;     // CLONE_NEW* of what a container gets a copy of when it enters the user namespace
    int mount_template;
    int stdio[3]; // -1: /dev/null
    int tty;      // the slave, once there is one
    uint64_t key; // two stages (child_stage.c); 0: one
    struct account account;
    bool placed;                   // its cgroups are there
    bool gone, go_tty;             // child_receive_go() was called, and what it was told of a terminal
    const Pod__CgroupPlace *place; // to be joined yet; NULL: nothing
    bool cgroup_ns;                // a cgroup namespace is to be made then
    bool hold;                     // crispd runs hooks before pivot_root
    const Pod__Hooks *hooks;       // NULL: none
    int host_root;                 // with hooks: the host's root, in the copy of its mount namespace
};

// What a started child inherits (by copy) from crisp-pod.
struct child_start {
    const struct pod *pod;
    const Pod__CgroupPlace *place;
    bool in_cgroup;   // it was cloned into its (v2) cgroup
    bool place_later; // it is told when the (v1) cgroups are there
    bool spare;       // its place comes with the plan
    bool split;       // it is to make the container's first process, and is not that itself
    // Two stages: the pid namespace that the second one is to be in, as a descriptor, and a mount namespace
    // with a procfs of it; of another container (then target is its pid) its pidfd is both. -1: no stages.
    int join_pid, join_proc;
    pid_t target;
};
_Noreturn void child_start(const struct child_start *start, int sock, char *step);

struct child_exec {
    const struct pod *pod;
    const Pod__CgroupPlace *place;
    const char *exec_id;
    const Pod__Process *process;
    bool in_cgroup;
    int init_pidfd;  // the container's first process
    bool two_stages; // child_stage.c
    bool join_pid;   // two stages: into its pid namespace
    int stdio[3];
};
_Noreturn void child_exec(const struct child_exec *exec, int sock, char *step);

// child.c: the beginning and the end of every child.
// Dies with crisp-pod, default signals, own session and session keyring; closes every descriptor but the n in
// keep (-1 is skipped) and 0 to 2, which become /dev/null.
int child_begin(struct child *c, const int *keep, size_t n, struct error *err);
int child_leave_keyring(struct error *err); // for a new session keyring
void child_step(struct child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void child_fail(struct child *c, const struct error *err);
// The next thing is execve(): tells crisp-pod that, and the user.
void child_report_executing(struct child *c, const Pod__Process *process);

// Waits for the start, which brings standard streams.
void child_receive_go(struct child *c);

// child_place.c: the container's cgroups. Joins them, unless they are to be waited for.
int place_begin(struct child *c, const struct child_start *start, struct error *err);
// What came with the plan.
int place_receive(struct child *c, ProtobufCAllocator *allocator, const uint8_t *data, size_t len,
                  struct error *err);
// The mount namespace is made next: joins them if it must be before that.
int place_join_at_last(struct child *c, struct error *err);
// Joins them now at the latest, and makes the cgroup namespace where that has had to wait for it.
int place_join(struct child *c, struct error *err);

// child_hooks.c: a mount namespace that is a copy of the host's, with what the template has
// (base/mount_template.h) below root_dir, which is the root until hooks_leave_host().
int hooks_enter_host(struct child *c, bool own_cgroup_ns, struct error *err);
int hooks_leave_host(struct child *c, struct error *err);
// Waits for crispd's hooks, if it has any, and runs the createContainer hooks.
int hooks_before_pivot(struct child *c, struct error *err);
// startContainer hooks, each with what the process is going to have.
int hooks_before_exec(struct child *c, const Pod__Process *process, struct error *err);

// child_root.c: namespaces and the root file system, up to pivot_root.
int child_enter_root(struct child *c, const Pod__LaunchPlan *plan, struct error *err);
// child_user.c: who the process is. Paths are the new root's.
int child_resolve_user(struct child *c, const Pod__Process *process, struct error *err);
// child_privs.c
int child_write_sysctls(Pod__Sysctl *const *sysctls, size_t n, struct error *err);
int child_set_limits(const Pod__Process *process, struct error *err);
// What only the host's root may do: raise limits, write to its /proc.
int child_settle(struct child *c, const Pod__Process *process, struct error *err);
// child_labels.c: for the exec that comes.
int child_set_labels(struct child *c, const Pod__Process *process, struct error *err);
// Right before the exec: are they still what was asked for?
int child_confirm_labels(struct child *c, const Pod__Process *process, struct error *err);
// Really closes every descriptor from 3 on but the n in keep (-1 is skipped). 0 or -errno.
int child_close_others(const int *keep, size_t n);
// child_run.c: working directory, identity, privileges, exec. Does not come back on success.
int child_run(struct child *c, const Pod__Process *process, struct error *err);
// Standard streams belong to the user that the process is: while that can be set.
void child_own_stdio(const struct child *c);
int child_set_stdio(struct child *c, bool tty, struct error *err);
// child_privs.c: from root to what the process may be. After it only execve() may follow: the seccomp filter
// is in force (child_report_executing() was called right before).
int child_drop_privileges(struct child *c, const Pod__Process *process, struct error *err);

// child_stage.c: a process that appears in a pid namespace where others already are.
int stage_make_key(struct child *c, struct error *err);
// The plan's filter; with a key, those calls that the two stages still need can pass it.
int stage_install_filter(const struct child *c, const Pod__Process *process, struct error *err);
// What the first stage makes is from here on in the pid namespace that is to be joined.
int stage_enter_pid_ns(struct child *c, struct error *err);
// Comes back in the second stage only, or with an error. gate: a pipe, made before the filter.
int stage_hand_over(struct child *c, int gate[2], bool tty, struct error *err);
// For who made the first stage, on the other end of its socket (launch_name_senders()): waits until that
// tells of a second one, and sets its pidfd. 0: the first has ended without.
pid_t stage_await_second(int sock, pid_t first, int *pidfd);

#endif
