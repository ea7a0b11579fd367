// What is behind runtime/runtime.h: shared by the files of runtime/ that implement it, and by nobody else.
#ifndef RUNTIME_STORE_H
#define RUNTIME_STORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/map.h"
#include "runtime/cgroup.h"
#include "runtime/gate.h"
#include "runtime/podconn.h"
#include "runtime/policy.h"
#include "runtime/runtime.h"
#include "runtime/stats_cache.h"
#include "runtime/worker.h"

// How long crisp-pod gets for what it answers at once. Far more than it needs: only a broken one runs into
// it.
#define ANSWER_TIMEOUT_NS (10 * NS_PER_SEC)
// For a container's launch up to exec: a mount source on a network file system may take its time.
#define LAUNCH_TIMEOUT_NS (100 * NS_PER_SEC)
// From SIGKILL to the exit being visible. Longer: a process hangs in the kernel, and somebody has to know.
#define KILL_TIMEOUT_NS (10 * NS_PER_SEC)

struct runtime {
    struct db *db;
    char *run_dir, *pods_dir, *netns_dir;
    char *crisp_pod_path;
    char node_name[65]; // uname -n: the hostname of pods in the host's network
    char boot_id[37];
    uint64_t shm_bytes; // of a pod's /dev/shm
    int64_t pids_limit; // of a container's cgroup; 0: none
    int crisp_pod_fd;   // copy of the program that all crisp-pods are executed from
    int mount_template; // mount_template.h
    int shutdown_fd;    // eventfd: readable once runtime_shutdown() was called
    struct cgroup_host *cgroups;
    struct policy *policy;
    struct cdi *cdi;
    struct monitor *monitor;
    struct worker *worker;
    struct worker *hook_worker;   // poststop hooks, which may take minutes
    struct worker *health_worker; // health checks
    struct health_turns *health_turns;

    pthread_mutex_t lock;        // all below, and what is marked so in pods, containers, execs
    struct map *pods;            // by id; each holds a reference
    struct map *pod_names;       // by namespace/name/uid/attempt
    struct map *containers;      // by id; each holds a reference
    struct map *container_names; // by pod id/name/attempt
    struct map *execs;           // running ones by their id (exec.c)
};

struct pod_private {
    atomic_uint refs;
    struct runtime *rt;
    char *key;              // in rt->pod_names
    char *cgroup;           // the pod's place
    char *supervisor_leaf;  // crisp-pod's
    uint32_t cgroup_levels; // of cgroup, made by us
    struct pod_network network_storage;
    struct stats_cache stats; // its own lock

    // rt->lock:
    enum pod_state state;
    const struct pod_network *network;
    struct podconn *conn; // NULL: not started, or gone
    bool attached;        // conn holds a reference to the pod
    int pid;
    bool launched;     // there may be something to take down
    bool claimed;      // somebody is making it
    bool forgotten;    // not in the maps any more
    bool reconnecting; // a job is at it
    unsigned checks;   // health checks under way
    struct gate gate;
    struct notify changed; // made or not, crisp-pod gone
    struct error *failure; // of the creation, for those that joined
    // As updates have left them; malloc'd; NULL: the configuration's.
    Cri__LinuxContainerResources *resources, *overhead;
};

struct container_private {
    atomic_uint refs;
    struct runtime *rt;
    char *key; // in rt->container_names
    char *image_id, *cgroup, *log_path;
    char **mounted_images;
    Pod__StartRequest *start; // as recorded; malloc'd; NULL while MAKING
    struct stats_cache stats; // its own lock
    // rt->lock:
    enum container_state state;
    bool starting;    // a StartRequest is out
    bool in_poststop; // somebody runs its poststop hooks
    bool called_off;  // the start under way, by who wants it stopped or gone
    int *hooks_event; // of the start whose hooks run: an eventfd; NULL: none
    bool forgotten;   // not in the maps any more
    bool saving;      // a job that records the state is queued or runs
    bool unsaved;     // it has something to record
    int64_t started_at_ns, finished_at_ns;
    int32_t exit_code;
    int pid;
    const char *reason;      // static
    char *message;           // set once
    Pod__ResolvedUser *user; // malloc'd; set once
    struct health *health;   // its checks; set once, by the first start that is seen; NULL: none
    int64_t kill_at_mono_ns; // of the stops under way, the earliest; INT64_MAX: no stop
    int64_t killed_mono_ns;  // when a stop sent SIGKILL; 0: not yet
    unsigned n_stops;
    struct gate gate;
    struct notify changed; // exited, made or not, kill_at brought forward
    struct error *failure;
    // container_resources.c; both malloc'd:
    Cri__LinuxContainerResources *asked;    // as updates have left them; NULL: the configuration's
    Cri__LinuxContainerResources *in_force; // read from the kernel; NULL: not since `asked` was set
    int64_t in_force_mono_ns;
    unsigned resources_version; // of `asked`
};

static inline void store_lock(struct runtime *rt)
{
    pthread_mutex_lock(&rt->lock);
}

static inline void store_unlock(struct runtime *rt)
{
    pthread_mutex_unlock(&rt->lock);
}

// store.c: the maps and counted objects.
struct pod *pod_new(struct runtime *rt, const char *id, int64_t created_at_ns,
                    const Cri__PodSandboxConfig *config, const char *handler, struct error *err);
struct container *container_new(struct runtime *rt, struct pod *pod, const char *id, int64_t created_at_ns,
                                const Cri__ContainerConfig *config, struct error *err);
int store_add_pod(struct runtime *rt, struct pod *pod);              // lock held: 0 or -ENOMEM
int store_add_container(struct runtime *rt, struct container *c);    // lock held: 0 or -ENOMEM
void store_drop_pod(struct runtime *rt, struct pod *pod);            // lock held
void store_drop_container(struct runtime *rt, struct container *c);  // lock held
struct podconn *store_pod_conn(struct runtime *rt, struct pod *pod); // counted; NULL: there is none

// store.c: a name that another call has claimed.
struct claim {
    bool same;                            // it wants the same: its end is worth waiting for
    bool (*under_way)(const void *owner); // is it still being made?
    const void *owner;
    const bool *forgotten; // it was given up
    struct error *const *failure;
    struct notify *changed;
};
// Waits for that call's end. Lock held, and released meanwhile. 1: the name is free, look again; 0: the owner
// is there; negative: as the other call failed, or as ctx_check().
int store_wait_claim(struct runtime *rt, const struct claim *claim, const struct ctx *ctx, struct error *err);

// record.c: rows of the database.
int record_pod_insert(struct runtime *rt, const struct pod *pod, struct error *err);
int record_pod_state(struct runtime *rt, struct pod *pod, enum pod_state state, struct error *err);
int record_pod_delete(struct runtime *rt, const struct pod *pod, struct error *err);
int record_container_insert(struct runtime *rt, const struct container *c, struct error *err);
int record_container_state(struct runtime *rt, struct container *c, struct error *err);
int record_container_resources(struct runtime *rt, const struct container *c,
                               const Cri__LinuxContainerResources *asked, struct error *err);
int record_pod_resources(struct runtime *rt, const struct pod *pod, const struct pod_resources *r,
                         struct error *err);
// Queues record_container_state(): states that crisp-pod can tell again need not be waited for.
void record_container_later(struct runtime *rt, struct container *c);
void record_flush(struct runtime *rt); // at the end, when nothing else runs
int record_container_delete(struct runtime *rt, const struct container *c, struct error *err);
// Whether the node was restarted since the last call of this; records that it was noticed.
int record_check_boot(struct runtime *rt, bool *rebooted, struct error *err);
// Loads all rows into the maps; what can't be read is moved to the table runtime_bad and logged.
int record_load(struct runtime *rt, struct error *err);

// rundir.c: a pod's files below run_dir.
int rundir_make(struct runtime *rt, const struct pod *pod, struct error *err); // the folders
int rundir_fill(struct runtime *rt, const struct pod *pod, struct error *err); // files, shm
int rundir_write_hosts(struct runtime *rt, const struct pod *pod, char *const *ips, struct error *err);
int rundir_remove(const char *dir, struct error *err);
const char *rundir_hostname(const struct runtime *rt, const struct pod *pod);
struct rundir_state { // of the crisp-pod that was started there
    int pid;
    uint64_t start_ticks;
    char boot_id[37];
    unsigned cgroup_levels;       // of the pod's place, made by us
    char cgroup[CGROUP_PATH_MAX]; // the pod's place
};
int rundir_write_state(const char *dir, const struct rundir_state *state, struct error *err);
int rundir_read_state(const char *dir, struct rundir_state *state, struct error *err);
int rundir_note_levels(const char *dir, unsigned cgroup_levels, struct error *err); // in what was written

// supervisor.c: crisp-pod, the process.
int supervisor_load_program(const char *path, int *program, struct error *err);
// Asks crisp-pod to try whether this host can run pods with user namespaces, and tells the policy.
void supervisor_probe_userns(int program_fd, const char *image_dir, struct policy *policy);
int supervisor_spawn(struct runtime *rt, struct pod *pod, struct error *err);
// Asks for the namespaces, and takes them: what was begun has to be ended.
struct supervisor_setup {
    struct podconn *conn;
    struct podconn_call call;
};
int supervisor_setup_begin(struct runtime *rt, struct pod *pod, struct supervisor_setup *s,
                           struct error *err);
// *netns_fd: the new network namespace, the caller's; -1 with the host's.
int supervisor_setup_end(const struct pod *pod, struct supervisor_setup *s, int *netns_fd, struct error *err);
// Tells crisp-pod to join its leaf, which is there now. Not waited for. Not with a shared pid namespace:
// there the setup has said it.
int supervisor_enter(struct runtime *rt, struct pod *pod, struct error *err);
// Takes sock and pidfd over, makes them the pod's connection.
int supervisor_attach(struct runtime *rt, struct pod *pod, int pid, int sock, int pidfd, struct error *err);

// supervisor_find.c: finding it again.
// A socket connected to DIR/sock, or -errno.
int supervisor_open_socket(const char *dir_path, struct error *err);
// Is that pid still the process that was started?
bool supervisor_is_alive(const struct runtime *rt, const struct rundir_state *state);
// Connects to the crisp-pod that an earlier crispd started. -ESRCH: it has ended.
int supervisor_connect(struct runtime *rt, struct pod *pod, struct error *err);
// Asks for the states of all its containers, and applies them: in two halves, so that many can be asked at
// once. A question that was begun has to be ended.
struct supervisor_question {
    struct podconn *conn;
    struct podconn_call hello, state;
};
int supervisor_ask_begin(struct runtime *rt, struct pod *pod, struct supervisor_question *q,
                         struct error *err);
int supervisor_ask_end(struct runtime *rt, struct pod *pod, struct supervisor_question *q,
                       int64_t deadline_mono_ns, struct error *err);
// It didn't answer: what runs in it is UNKNOWN until it does; a job goes on trying.
void supervisor_ask_later(struct runtime *rt, struct pod *pod);
void supervisor_reconnect_later(struct runtime *rt, struct pod *pod, int64_t delay_ns);

// supervisor_end.c: ending it.
// Asks it to end (killing what runs), waits for that, kills it if it doesn't.
int supervisor_shutdown(struct runtime *rt, struct pod *pod, struct error *err);
// Kills the process that a run directory's state names, if it is that one still, and waits a little.
void supervisor_kill_stray(struct runtime *rt, const char *dir);
// The same for a pod that no record knows, politely first, so that its containers are killed too.
void supervisor_end_stray(struct runtime *rt, const char *dir);

// exits.c: how containers come to their ends.
void exits_apply(struct runtime *rt, struct container *c, const Pod__ExitRecord *exit);
void exits_apply_state(struct runtime *rt, struct pod *pod, const Pod__StateReply *reply);
// crisp-pod has ended: what it wrote down of exits is read, the rest is killed and marked as lost. -EAGAIN:
// processes are still dying, call again in a moment (attempt counts the calls).
int exits_supervisor_lost(struct runtime *rt, struct pod *pod, unsigned attempt);
// The same as a background job.
void exits_supervisor_lost_later(struct runtime *rt, struct pod *pod);
// The node was restarted: whatever ran has ended, nobody knows how.
void exits_rebooted(struct runtime *rt, struct pod *pod);
void exits_start_failed(struct runtime *rt, struct container *c, const char *message);
// Doesn't record it: that is the caller's.
void exits_started(struct runtime *rt, struct container *c, int pid, int64_t started_at_ns,
                   const Pod__ResolvedUser *user);

// exec.c
void exec_exited(struct runtime *rt, const Pod__ExecExit *exit);
// runtime_exec_sync() without its words, for the daemon's own use: at most output_max bytes of each stream.
int exec_bounded(struct runtime *rt, struct container *c, char *const *args, size_t n_args,
                 const struct ctx *ctx, size_t output_max, struct exec_result *result, struct error *err);
void exec_abandon_all(struct runtime *rt, const struct pod *pod); // their crisp-pod is gone

// container_life.c
int container_not_ready(const struct pod *pod,
                        struct error *err); // the error of a pod that takes no containers
void container_remove_cgroup(struct runtime *rt, struct container *c); // what is still busy: by a job
void container_forget_in_pod(struct runtime *rt, struct container *c); // also ends a prepared process
void container_start_over(struct runtime *rt, struct container *c);    // who has set `starting` is done

// container_stop.c
int container_kill(struct runtime *rt, struct container *c, int signal, bool all, struct error *err);
// After a SIGKILL: DEADLINE_EXCEEDED when it is still not gone after KILL_TIMEOUT_NS.
int container_wait_killed(struct runtime *rt, struct container *c, struct error *err);
bool container_is_running(struct runtime *rt, struct container *c); // or UNKNOWN

// config_diff.c: where two messages of one type differ first, e.g. "linux.cgroup_parent"; "" when nowhere.
void config_diff(const ProtobufCMessage *a, const ProtobufCMessage *b, char *path, size_t size);

extern const struct podconn_events pod_events; // supervisor.c; data is the pod, counted

#endif
