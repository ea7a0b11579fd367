// Control groups: v1 (each controller a hierarchy, also with the named "systemd" one), and v2. A place is a
// path that holds below the root of every hierarchy, e.g. "/kubepods/burstable/podX/CONTAINER".
//
// On a hybrid host (v1 controllers and an almost empty v2 tree) the v1 hierarchies are used.
#ifndef RUNTIME_CGROUP_H
#define RUNTIME_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"
#include "base/arena.h"
#include "base/error.h"

#define CGROUP_PATH_MAX 1024 // bytes of a place, with its NUL

struct cgroup_host;

struct cgroup_options {
    const char *driver;    // who makes pods' places: "cgroupfs" (also NULL) or "systemd"
    const char *parent;    // where pods without a cgroup_parent live: "/crisp"; with systemd "crisp.slice"
    const char *bus;       // D-Bus address of systemd; NULL: its own (tests give another)
    const char *owner;     // marks leaves as this daemon's (its run directory); NULL: "crisp"
    const char *mountinfo; // NULL: /proc/self/mountinfo (tests give another)
};

// Finds the hierarchies and keeps a directory descriptor of each. Thread-safe afterwards. FAILED_PRECONDITION
// where the driver is systemd and there is none.
int cgroup_host_open(const struct cgroup_options *o, struct cgroup_host **out, struct error *err);
// Also removes the options' parent if it is empty (systemd: its slice stays).
void cgroup_host_close(struct cgroup_host *h); // NULL is fine
bool cgroup_host_is_v2(const struct cgroup_host *h);

// One mount of a cgroup file system as a container gets to see it.
struct cgroup_hierarchy {
    const char *name; // last component of the mount point: "cpu,cpuacct", "systemd"; v2: ""
    const char *data; // mount options that name it: "cpu,cpuacct", "name=systemd"; v2: ""
    const char *mount_point;
};
size_t cgroup_host_hierarchies(const struct cgroup_host *h, const struct cgroup_hierarchy **out);
bool cgroup_host_has(const struct cgroup_host *h, const char *controller); // "memory", "hugetlb"

// The pod's place. cgroupfs: cgroup_parent as it is, or <options' parent>/<pod id> when that is empty.
// systemd: the scope "crisp-<pod id>.scope" in the slice that cgroup_parent (or the options' parent) names,
// as "a-b.slice" or as the path that this has. INVALID_ARGUMENT names the field, also when it is the other
// driver's syntax.
int cgroup_pod_path(const struct cgroup_host *h, const char *cgroup_parent, const char *pod_id,
                    char out[CGROUP_PATH_MAX], struct error *err);
// Does the place bear the pod's id? Then all that is in it is the pod's; any other is kubelet's, or shared.
bool cgroup_pod_owns(const char *pod_path, const char *pod_id);
// The leaf of crisp-pod or of a container: <pod path>/<id>.
int cgroup_leaf_path(const char *pod_path, const char *id, char out[CGROUP_PATH_MAX], struct error *err);

// A pod's place is made in two steps, since systemd wants a scope's first process.
//
// First: makes the place where it is missing, and never changes one that is there (it is kubelet's).
// *made_levels: how many trailing components of pod_path had to be made (systemd: will have been); record it
// for cgroup_pod_remove().
int cgroup_pod_create(struct cgroup_host *h, const char *pod_path, uint32_t *made_levels, struct error *err);
// Then crisp-pod (pid) enters. systemd: makes the scope around it, and moves it to its leaf
// (cgroup_leaf_path()) where the scope could not hand down controllers otherwise (v2). cgroupfs: nothing,
// crisp-pod joins by itself.
int cgroup_pod_enter(struct cgroup_host *h, const char *pod_path, const char *leaf, pid_t pid,
                     struct error *err);
// Removes what the two have made, if it is empty. Absent is fine; -EBUSY: try again later. Levels above the
// place in which others live are theirs to remove then.
int cgroup_pod_remove(struct cgroup_host *h, const char *pod_path, uint32_t made_levels, struct error *err);

// Which devices the processes of a leaf may use. NULL for no policy at all (crisp-pod's leaf).
struct cgroup_device_rule {
    char type;            // 'c', 'b'
    int64_t major, minor; // -1: any
    const char *access;   // of "rwm"
};
struct cgroup_devices {
    bool allow_all;                         // privileged
    const struct cgroup_device_rule *rules; // besides the default set (null, zero, tty, ptys, mknod …)
    size_t n_rules;
};

// A value for one file of a leaf, beyond what CRI's resources say: the configuration's, or an annotation's.
struct cgroup_setting {
    const char *field;      // who asks for it, for errors: "runtime.pids_limit"
    const char *controller; // "pids"
    const char *file;       // "pids.max"; which file it is depends on the cgroup version
    const char *value;      // of at most 511 bytes
};
struct cgroup_limits {
    const Cri__LinuxContainerResources *resources; // NULL: none
    const struct cgroup_setting *settings;         // written in this order, before the resources
    size_t n_settings;
};

// Makes a leaf and applies limits (NULL: none) and devices. On failure nothing is left. A leaf that is there
// already is taken over (a create that is tried again). INVALID_ARGUMENT or FAILED_PRECONDITION name the
// field.
int cgroup_create(struct cgroup_host *h, const char *path, const struct cgroup_limits *limits,
                  const struct cgroup_devices *devices, struct error *err);
// Changes only the fields that are set, in a leaf or a pod's place. Whole or nothing: what was written is put
// back on a failure. A memory limit below what is in use, once the kernel has reclaimed what it can, is
// FAILED_PRECONDITION. *undo (NULL: not wanted): for the caller to put all back, or only to free.
struct cgroup_undo;
int cgroup_update(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                  struct cgroup_undo **undo, struct error *err);
// What leaves below a pod's place were asked to have of its CPUs and memory nodes. On v1 no place can be left
// with less of them than what is below it has: there the leaves follow, those that were asked to have some
// with what is left of these. On v2 the kernel does so by itself.
struct cgroup_leaf {
    const char *path;
    const char *cpus, *mems; // NULL or "": all that the pod has
};
// Gets, before anything is written, what would put it all back: a text for cgroup_undo_parse(). 0, or an
// error that ends the update.
typedef int (*cgroup_journal_fn)(void *arg, const char *text, struct error *err);
struct cgroup_update_more {
    const struct cgroup_leaf *leaves;
    size_t n_leaves;
    cgroup_journal_fn journal; // NULL: none
    void *arg;
};
int cgroup_update_with(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *resources,
                       const struct cgroup_update_more *more, struct cgroup_undo **undo, struct error *err);
int cgroup_undo_parse(struct cgroup_host *h, const char *text, struct cgroup_undo **out, struct error *err);
int cgroup_undo_update(struct cgroup_host *h, const struct cgroup_undo *undo, struct error *err);
void cgroup_undo_free(struct cgroup_undo *undo); // NULL is fine
// The directories that crisp-pod joins.
int cgroup_place(const struct cgroup_host *h, const char *path, struct arena *arena, Pod__CgroupPlace **place,
                 struct error *err);
// The resources in force: `asked` (NULL: none) with the values that the kernel has: it rounds memory to
// pages, and others may have changed them. No limit is 0 where none was asked for, else -1. All of *out is in
// arena.
int cgroup_read_resources(struct cgroup_host *h, const char *path, const Cri__LinuxContainerResources *asked,
                          struct arena *arena, Cri__LinuxContainerResources **out, struct error *err);

// Gives every process there and below whose OOM score is `from` the score `to` (what it forks meanwhile,
// too). -EPERM: the kernel refused some, as lowering takes CAP_SYS_RESOURCE.
int cgroup_set_oom_score(struct cgroup_host *h, const char *path, int64_t from, int64_t to);

// SIGKILL for every process in the place and below it: for containers whose crisp-pod is dead. Returns once
// the signals are sent; an absent place is fine.
int cgroup_kill(struct cgroup_host *h, const char *path, struct error *err);
// The cgroup, at the place or above it, that somebody keeps frozen so that killed processes can't end: a
// place is thawed by the kill, but what is above it isn't ours (v1; v2's frozen processes end).
bool cgroup_frozen_above(struct cgroup_host *h, const char *path, char out[CGROUP_PATH_MAX]);
// Is any process there or below? An absent place has none.
bool cgroup_populated(struct cgroup_host *h, const char *path);
// Removes a leaf and what processes have made below it. Absent is fine; -EBUSY while processes are in it (the
// caller tries again from its worker: a killed process takes a moment to leave).
int cgroup_remove(struct cgroup_host *h, const char *path, struct error *err);
// How often the OOM killer has struck there, or -errno.
int64_t cgroup_oom_kills(struct cgroup_host *h, const char *path);
// The names of the child cgroups of a place (a NULL-terminated strv; the caller frees): for the start-up
// sweep.
int cgroup_children(struct cgroup_host *h, const char *path, char ***names, struct error *err);

#endif
