// Pods and containers: their records, their processes (through crisp-pod) and what survives a restart.
//
// runtime/ knows nothing of images and networks: cri/ composes the three (cri/pod_ops.c,
// cri/container_ops.c).
//
// Objects are counted; a pointer that a function hands out is the caller's to unref. What never changes after
// an object was made is read straight from it; what changes is read as a snapshot (runtime_pod_view(),
// runtime_container_view()) that never waits for anything slow.
//
// Locks: one mutex over all states, held for microseconds and never across a system call that can block.
// Whole operations (make, start, remove) of one object exclude each other by its gate (runtime/gate.h).
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/ctx.h"
#include "base/db/db.h"
#include "base/error.h"

#define RUNTIME_ID_LEN 64

struct runtime;
struct worker;

extern const struct db_module runtime_db_module;

struct runtime_options {
    struct db *db;              // opened with runtime_db_module; outlives the runtime
    const char *run_dir;        // "/run/crisp": pods/ID and netns/ID are made below
    const char *crisp_pod_path; // the program; copied into memory at open
    const char *cgroup_parent;  // for pods that name none: "/crisp"; with systemd "crisp.slice"
    const char *cgroup_driver;  // "cgroupfs", "systemd"
    char *const *cdi_dirs;      // NULL-terminated; NULL: none
    // Resource limits of all containers, as rlimit_parse() takes them; NULL-terminated; NULL: none.
    const char *const *rlimits;
    const char *image_dir; // holds the image store's layers and containers; NULL: no user namespaces
    bool device_ownership; // devices of containers belong to their run_as_user and run_as_group
    uint64_t shm_bytes;    // of a pod's /dev/shm; 0: 64 MiB
    int64_t pids_limit;    // processes and threads of each container; 0: none
    // Lists end with NULL, may be NULL, and outlive the runtime.
    char *const *default_sysctls;       // "NAME=VALUE", for pods with a namespace of their own
    char *const *absent_sources_denied; // missing mount sources at or below these paths are not made
    char *const *annotations_allowed;   // patterns of our own annotations' names; see runtime/annotation.h
};

// Reads the records, connects to the running crisp-pods (all at once, one deadline of some seconds) and
// brings states and exits up to date. Bad records are set aside with a loud message. What belongs to nobody
// is swept by runtime_sweep(), once cri/ has finished or undone what a crash interrupted.
int runtime_open(const struct runtime_options *options, struct runtime **out, struct error *err);
// Pods and containers run on. No other call may be under way. NULL is fine.
void runtime_close(struct runtime *rt);
// Calls off the long waits (stops, execs, joined creations) so that the server can drain.
void runtime_shutdown(struct runtime *rt);
// The bounds of work that outlives the client's wait: the daemon's end and nothing else.
struct ctx runtime_work_ctx(struct runtime *rt);
// Background threads for what could not be finished at once.
struct worker *runtime_worker(struct runtime *rt);
// The CDI directories, devices and errors, as JSON; the caller frees. NULL: no memory.
char *runtime_cdi_describe(struct runtime *rt);
// Why pods can't be run at present (crisp-pod missing, run directory not writable …): 0 or -errno.
int runtime_check(struct runtime *rt, struct error *err);

struct runtime_features { // what Status tells kubelet; each found out by doing it (runtime/features.h)
    bool recursive_read_only_mounts;
    bool user_namespaces; // also with the host's network
};
void runtime_get_features(const struct runtime *rt, struct runtime_features *out);

// What the host has of security modules and limits, as JSON: the caller frees; NULL when there is no memory.
char *runtime_host_json(struct runtime *rt);
// Kills processes and removes run directories and cgroups that no record owns. Once, at start.
void runtime_sweep(struct runtime *rt);

// ---- Pods ------------------------------------------------------------------------------------------------

enum pod_state {
    POD_MAKING, // RunPodSandbox is under way (recorded before anything is made)
    POD_READY,
    POD_NOTREADY, // stopped, or its crisp-pod died
};

// What the network gave it: set once, before READY.
struct pod_network {
    char **ips;        // NULL-terminated, first the primary one; may be empty
    int64_t plugin_ns; // spent in CNI plugins; 0 after a restart
};

struct pod { // constant parts first; the rest is runtime/'s own (store.h)
    char id[RUNTIME_ID_LEN + 1];
    int64_t created_at_ns;
    const Cri__PodSandboxConfig *config;
    const char *handler; // as in the request
    const char *dir;     // run_dir/pods/ID
    const char *netns;   // run_dir/netns/ID; "" with the host's network
    bool host_network;
    struct pod_private *private;
};

struct pod_view {
    enum pod_state state;
    const struct pod_network *network; // NULL until known; lives as long as the pod
    int pid;                           // crisp-pod's; 0 when it has ended
    const char *cgroup;                // its cgroup path; lives as long as the pod
};

struct pod *pod_ref(struct pod *pod);
void pod_unref(struct pod *pod);
void pod_unrefp(struct pod **pod);

// By id or unambiguous prefix. NOT_FOUND; INVALID_ARGUMENT for "" and for an ambiguous prefix.
int runtime_pod_find(struct runtime *rt, const char *id, struct pod **out, struct error *err);
void runtime_pod_view(struct runtime *rt, struct pod *pod, struct pod_view *out);
// All of them, newest first, those being made only if `making`; the caller unrefs each and frees the array,
// or calls runtime_pods_free().
int runtime_pod_list(struct runtime *rt, bool making, struct pod ***out, size_t *n, struct error *err);
void runtime_pods_free(struct pod **pods, size_t n);

// Claims (namespace, name, uid, attempt) and records the intent. *made: the caller has to make it, and to end
// with runtime_pod_ready() or runtime_pod_abandon(). Otherwise *out is READY with an identical configuration:
// an earlier call's, or one joined within ctx. ALREADY_EXISTS names the other pod and what differs.
int runtime_pod_claim(struct runtime *rt, const Cri__PodSandboxConfig *config, const char *handler,
                      const struct ctx *ctx, struct pod **out, bool *made, struct error *err);
// Cgroups, run directory, crisp-pod and namespaces. *netns_fd: the new network namespace (the caller's), -1
// with the host's network.
int runtime_pod_launch(struct runtime *rt, struct pod *pod, int *netns_fd, struct error *err);
// Made: records it, with its addresses (copied; NULL: none), and wakes those that joined.
int runtime_pod_ready(struct runtime *rt, struct pod *pod, char *const *ips, int64_t plugin_ns,
                      struct error *err);
// Not made: everything of runtime/'s has to be gone (runtime_pod_stop()); drops the record and gives why
// (the failure of the creation) to those that joined. why NULL: they try anew.
void runtime_pod_abandon(struct runtime *rt, struct pod *pod, const struct error *why);

// A pod that was half made when the daemon ended: the caller undoes it and ends with runtime_pod_abandon();
// who wants that pod meanwhile waits.
void runtime_pod_reclaim(struct runtime *rt, struct pod *pod);

// Waits for the pod's gate: stop and remove of one pod run one after the other. Within ctx.
int runtime_pod_enter(struct runtime *rt, struct pod *pod, const struct ctx *ctx, struct error *err);
void runtime_pod_leave(struct runtime *rt, struct pod *pod);
// The gate must be held. Marks it NOTREADY, kills its containers, all at once, and waits for their exits;
// then crisp-pod is still there, so that the network can be torn down while its namespace lives.
int runtime_pod_kill(struct runtime *rt, struct pod *pod, struct error *err);
// Ends crisp-pod, removes cgroups, mounts and run files. Idempotent; what is busy goes to the worker.
int runtime_pod_stop(struct runtime *rt, struct pod *pod, struct error *err);
// The gate must be held, the pod stopped and its containers removed: drops the record.
int runtime_pod_forget(struct runtime *rt, struct pod *pod, struct error *err);

// ---- Containers ------------------------------------------------------------------------------------------

enum container_state {
    CONTAINER_MAKING, // CreateContainer is under way (in memory only: nothing is recorded until it is whole)
    CONTAINER_CREATED,
    CONTAINER_RUNNING,
    CONTAINER_EXITED,
    CONTAINER_UNKNOWN, // its crisp-pod lives but doesn't answer
};

struct container {
    char id[RUNTIME_ID_LEN + 1];
    int64_t created_at_ns;
    const Cri__ContainerConfig *config;
    struct pod *pod;             // counted
    const char *log_path;        // absolute; "" when there is none
    const char *image_id;        // "sha256:…"; set before CREATED
    char *const *mounted_images; // ids of images that it mounts, NULL-terminated; set before CREATED
    int stop_signal;             // the kernel's number; set before CREATED
    const char *cgroup;          // its cgroup path; set before CREATED
    struct container_private *private;
};

struct container_view {
    enum container_state state;
    int64_t started_at_ns, finished_at_ns; // 0: not yet
    int32_t exit_code;
    int pid;                       // the host's; 0 unless running
    const char *reason;            // "Completed", "Error", "OOMKilled", "StartError" …; "" before; static
    const char *message;           // "" or details; lives as long as the container
    const Pod__ResolvedUser *user; // NULL until started; lives as long as the container
};

struct container *container_ref(struct container *c);
void container_unref(struct container *c);
void container_unrefp(struct container **c);

int runtime_container_find(struct runtime *rt, const char *id, struct container **out, struct error *err);
void runtime_container_view(struct runtime *rt, struct container *c, struct container_view *out);
// Newest first; of one pod, or of all (NULL). Those being made are not included unless making is set.
int runtime_container_list(struct runtime *rt, const struct pod *pod, bool making, struct container ***out,
                           size_t *n, struct error *err);
void runtime_containers_free(struct container **containers, size_t n);

// As runtime_pod_claim(), for (pod, name, attempt): the pod has to be READY. Ends with
// runtime_container_created() or runtime_container_abandon().
int runtime_container_claim(struct runtime *rt, struct pod *pod, const Cri__ContainerConfig *config,
                            const struct ctx *ctx, struct container **out, bool *made, struct error *err);

struct Pull__ImageConfig;
struct container_image_mount { // an image that the config's mounts[mount] asks for
    size_t mount;
    const char *image_id;
    char *const *lowers; // two or more, top first
    size_t n_lowers;
};
struct container_rootfs { // from image/, in words that runtime/ knows
    const char *image_id;
    const struct Pull__ImageConfig *image_config;
    const char *layers_dir;
    char *const *lowers; // top first
    size_t n_lowers;
    const char *upper, *work;
    const char *volumes; // where directories for the image's volumes may be made
    const struct container_image_mount *mounts;
    size_t n_mounts;
};
// Cgroup, launch plan and record; asks crisp-pod to prepare. On failure nothing of it is left.
int runtime_container_create(struct runtime *rt, struct container *c, const struct container_rootfs *rootfs,
                             struct error *err);
// Not created: drops the claim, tells those that joined. The root filesystem is the caller's to remove.
void runtime_container_abandon(struct runtime *rt, struct container *c, const struct error *why);

// A failure makes it EXITED (128, StartError) and is returned. Joins a start under way; FAILED_PRECONDITION
// if it was started before.
int runtime_container_start(struct runtime *rt, struct container *c, const struct ctx *ctx,
                            struct error *err);
// Stop signal, then SIGKILL to all of it once timeout_s have passed; returns when the exit is visible. An
// earlier deadline of another call pre-empts a later one. Not running: 0.
int runtime_container_stop(struct runtime *rt, struct container *c, int64_t timeout_s, const struct ctx *ctx,
                           struct error *err);
// In this order: begin (waits for the gate, kills it, drops crisp-pod's part, its cgroup); then the caller
// removes root filesystem and hold; then end drops the record (done), or leaves it for another try (not).
int runtime_container_remove_begin(struct runtime *rt, struct container *c, const struct ctx *ctx, bool *gone,
                                   struct error *err);
int runtime_container_remove_end(struct runtime *rt, struct container *c, bool done, struct error *err);

int runtime_container_reopen_log(struct runtime *rt, struct container *c, struct error *err);
// What its health checks (docs/annotations.md) have told, as JSON that the caller frees. NULL: it has none,
// or there is no memory.
char *runtime_container_health(struct runtime *rt, struct container *c);
// The compiled plan, unpacked into arena: for verbose status.
const Pod__LaunchPlan *runtime_container_plan(struct runtime *rt, struct container *c, struct arena *arena);

// ---- Resources -------------------------------------------------------------------------------------------

struct container_resources {
    Cri__LinuxContainerResources *in_force; // in the arena; NULL: nothing was asked for, and nothing read yet
    int64_t asked_oom_score_adj;            // the kernel may keep another one
    bool fresh;                             // what the kernel had less than a second ago, or it runs no more
};
// From memory. Not fresh: runtime_container_read_resources() first, if you may wait for the kernel.
int runtime_container_resources(struct runtime *rt, struct container *c, struct arena *arena,
                                struct container_resources *out, struct error *err);
void runtime_container_read_resources(struct runtime *rt, struct container *c);
// Changes what is set in `change`, and records it: wholly or not at all. Also before the start.
// FAILED_PRECONDITION when it has exited, or when more memory is in use than it would get. An OOM score that
// the kernel doesn't take is no failure.
int runtime_container_update(struct runtime *rt, struct container *c,
                             const Cri__LinuxContainerResources *change, const struct ctx *ctx,
                             struct error *err);

struct pod_resources { // NULL: none
    Cri__LinuxContainerResources *resources, *overhead;
};
void runtime_pod_resources(struct runtime *rt, struct pod *pod, struct arena *arena,
                           struct pod_resources *out);
// Either may be NULL. The pod has to be READY.
int runtime_pod_update(struct runtime *rt, struct pod *pod, const Cri__LinuxContainerResources *overhead,
                       const Cri__LinuxContainerResources *resources, const struct ctx *ctx,
                       struct error *err);

// ---- Exec ------------------------------------------------------------------------------------------------

#define RUNTIME_EXEC_OUTPUT_MAX (16u << 20) // of stdout and of stderr; more is read and dropped

struct exec_result {
    int32_t exit_code;
    struct buf out, err; // done by exec_result_done()
};
// Runs args in the container and waits for its first process to end, and then for at most 100 ms for children
// that still hold its pipes. timeout_s 0: only ctx bounds it. On either bound the whole tree of the command
// is dead before DEADLINE_EXCEEDED (or CANCELLED) is returned. FAILED_PRECONDITION when it isn't running.
int runtime_exec_sync(struct runtime *rt, struct container *c, char *const *args, size_t n_args,
                      int64_t timeout_s, const struct ctx *ctx, struct exec_result *result,
                      struct error *err);
void exec_result_done(struct exec_result *result);

#endif
