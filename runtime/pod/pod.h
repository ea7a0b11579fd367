// crisp-pod: one pod's supervisor. What its parts share.
//
// A single thread around an event loop. It never waits for a container, a client or a launch: children report
// over sockets, sends are queued and bounded, timers end what takes too long. It opens nothing inside a
// container's root; only the children that become container processes do (child*.c).
#ifndef RUNTIME_POD_POD_H
#define RUNTIME_POD_POD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api/pod/pod.pb-c.h"
#include "base/error.h"
#include "runtime/pod/crilog.h"
#include "runtime/pod/loop.h"

#define POD_PROTOCOL_VERSION 1
#define POD_ID_MAX           128 // bytes of a pod's, container's or exec's id
#define POD_CONNS_MAX        8
#define POD_CONTAINERS_MAX   1024
#define POD_EXECS_MAX        4096

struct conn;
struct container;
struct exec;

enum pod_ns {
    POD_NS_NET,
    POD_NS_IPC,
    POD_NS_UTS,
    POD_NS_PID,
    POD_NS_USER,
    POD_NS_PROC, // a mount namespace where POD_PROC_DIR is a procfs of POD_NS_PID (reaper.c)
    POD_NS_COUNT
};
#define POD_PROC_DIR "/root" // of the mount template

// Ids of a user namespace: 0 and on inside are host_id and on outside.
struct id_range {
    uint32_t host_id, length;
};

// Whom a reply is for: a request of a connection that may be gone by then.
struct waiter {
    uint64_t conn; // serial number; 0: nobody
    uint64_t request;
};

struct pod {
    struct loop loop;
    char id[POD_ID_MAX + 1];
    char *dir;
    struct source listener, signals;
    struct conn *conns;
    uint64_t last_conn;
    struct timer conn_timer;    // frees dropped ones
    int ns[POD_NS_COUNT];       // -1: the host's
    int mount_template;         // the mount namespace that containers' own are copied from
    struct id_range uids, gids; // of the user namespace
    int own_pid_ns;             // to return to after a clone into another one
    bool pid_ns_left;           // children are born in another one now
    uint64_t net_inode;
    bool ready;          // namespaces are there
    struct setup *setup; // under way
    struct container *containers;
    size_t n_containers;
    struct container *spare; // has no name yet, and is none of them (container_spare.c); NULL: none
    struct exec *execs;
    size_t n_execs;
    struct waiter shutdown; // who asked to end it, once all containers are dead
    bool shutting_down;
    struct timer shutdown_timer;
    struct timer idle_timer; // gives unused memory back, soon after the last work
};

extern const char *const pod_features[];
extern const size_t pod_n_features;

// What crisp-pod ignores, and its children must not.
extern const int pod_ignored_signals[];
extern const size_t pod_n_ignored_signals;

// An id that is used as a file name: 1..POD_ID_MAX of [A-Za-z0-9_.-], not beginning with a dot.
bool pod_id_valid(const char *id);

// Dispatches one request (fds: with its frame; those that a handler keeps are set to -1).
void pod_dispatch(struct pod *p, struct waiter w, const Pod__Request *request, int *fds, size_t n_fds);

// Connections (conn.c).
int conn_listen(struct pod *p, struct error *err);
int conn_add(struct pod *p, int fd, struct error *err); // takes fd
void conn_close_all(struct pod *p);                     // after what is queued was tried to be sent
// Sends a reply; the id is the waiter's. A waiter that is gone is nobody.
void conn_reply(struct pod *p, struct waiter w, Pod__Reply *reply, const int *fds, size_t n_fds);
void conn_reply_ok(struct pod *p, struct waiter w);
void conn_reply_error(struct pod *p, struct waiter w, const struct error *e, const char *step);
void conn_event(struct pod *p, uint64_t conn, Pod__Event *event); // conn 0: everybody

// Namespaces (setup.c, reaper.c).
void setup_start(struct pod *p, struct waiter w, const Pod__SetupRequest *request, int *fds, size_t n_fds);
void setup_enter(struct pod *p, struct waiter w, const Pod__EnterRequest *request);
bool setup_reap(struct pod *p, pid_t pid, int status); // was it one of setup's processes?
// The first process of a shared pid namespace (runs in the child, never returns).
// alive: a pipe whose end of file means that crisp-pod is gone. ready: gets a byte once all privileges are
// gone, with a POD_NS_PROC if there is a template (else -1).
_Noreturn void reaper_run(int alive, int ready, int mount_template);

// Containers (container.c, container_exit.c), execs (exec.c).
void container_prepare(struct pod *p, struct waiter w, const Pod__PrepareRequest *request);
void container_placed(struct pod *p, struct waiter w, const Pod__PlacedRequest *request);
void container_start(struct pod *p, struct waiter w, const Pod__StartRequest *request);
void container_proceed(struct pod *p, struct waiter w, const Pod__ProceedRequest *request);
void container_drop_conn(struct pod *p, uint64_t conn); // kills what is held for a crispd that is gone
void container_signal(struct pod *p, struct waiter w, const Pod__KillRequest *request);
void container_forget(struct pod *p, struct waiter w, const Pod__ForgetRequest *request);
void container_reopen_log(struct pod *p, struct waiter w, const Pod__ReopenLogRequest *request);
void container_list(struct pod *p, struct waiter w);
bool container_reap(struct pod *p, pid_t pid, int status);
void spare_end(struct pod *p); // container_spare.c: if there is one
bool spare_reap(struct pod *p, pid_t pid);
void exec_start(struct pod *p, struct waiter w, const Pod__ExecRequest *request, int *fds, size_t n_fds);
void exec_signal(struct pod *p, struct waiter w, const Pod__ExecKillRequest *request);
bool exec_reap(struct pod *p, pid_t pid, int status);
void exec_drop_conn(struct pod *p, uint64_t conn); // kills what nobody waits for any more

// The end (main.c).
void pod_shutdown(struct pod *p, struct waiter w, const Pod__ShutdownRequest *request);
void pod_active(struct pod *p);         // something was done: tidy up a while after
void pod_end_if_unused(struct pod *p);  // nobody is connected, and there are no namespaces: it ends
void pod_container_gone(struct pod *p); // a container has exited: maybe the last one that shutdown waits for

#endif
