// What a pod and a container may have: checks every field of the configs before anything is made, and keeps
// what the daemon knows of its host for that (capabilities held, security modules, compiled seccomp filters).
//
// No field is silently ignored: a bad value is INVALID_ARGUMENT and a feature that is not there is
// UNIMPLEMENTED or FAILED_PRECONDITION, each naming the field as CRI spells it.
#ifndef RUNTIME_POLICY_H
#define RUNTIME_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/rlimit.h"

struct apparmor;
struct cgroup_host;
struct seccomp_cache;
struct selinux;

struct policy {
    struct cgroup_host *cgroups; // the caller's
    uint64_t caps_held;          // bit n: capability n, of the daemon's own permitted and bounding set
    struct apparmor *apparmor;   // NULL: the kernel has none, or it is disabled
    struct selinux *selinux;     // likewise
    bool userns;                 // pods may have user namespaces
    char userns_why_not[256];    // if they may not
    bool device_ownership;       // devices belong to run_as_user and run_as_group; the opener's to set
    bool recursive_readonly;     // mounts can be made read-only with all below them
    struct rlimit_list rlimits;  // of all containers; the opener sets them
    // Of the configuration; the opener's to set, NULL-terminated or NULL. Both outlive the policy.
    char *const *default_sysctls;       // "NAME=VALUE", passed by policy_check_default_sysctls()
    char *const *absent_sources_denied; // missing mount sources below these are not made
    char *const *annotations_allowed;   // patterns over names (runtime/annotation.h)
    struct seccomp_cache *seccomp;      // compiled filters by profile and capabilities
};

// Looks at the host. cgroups stays the caller's and must outlive the policy.
int policy_open(struct cgroup_host *cgroups, struct policy **out, struct error *err);
void policy_close(struct policy *p); // NULL is fine

// Warns in the log, once each, of what this host or its configuration makes less than it could be.
void policy_log_limits(const struct policy *p);
// What the host has of all this, for the verbose Status: JSON that the caller frees, or NULL.
char *policy_host_json(const struct policy *p);

int policy_validate_pod(const struct policy *p, const Cri__PodSandboxConfig *pod, struct error *err);
int policy_validate_container(const struct policy *p, const Cri__PodSandboxConfig *pod,
                              const Cri__ContainerConfig *config, struct error *err);
int policy_validate_resources(const struct policy *p, const Cri__LinuxContainerResources *r,
                              struct error *err);
// A pod's overhead: only what can be added to its containers' sum.
int policy_validate_overhead(const struct policy *p, const Cri__LinuxContainerResources *r,
                             struct error *err);

// The number of the signal that stops a container: the config's, else the image's ("SIGQUIT", "QUIT", "3",
// "RTMIN+3"), else SIGTERM. An image's signal that nobody knows counts as SIGTERM.
int policy_stop_signal(const Cri__ContainerConfig *config, const char *image_signal);
// CRI's enumeration of signals to numbers; 0 for RUNTIME_DEFAULT and for what isn't there.
int policy_signal_number(Cri__Signal signal);
// The other way, for ContainerStatus.stop_signal.
Cri__Signal policy_signal_of_number(int signal);

// Whether the pod's containers use the host's namespaces (a missing security context means: the pod's own).
bool policy_host_network(const Cri__PodSandboxConfig *pod);
bool policy_host_ipc(const Cri__PodSandboxConfig *pod);
bool policy_pod_pid(const Cri__PodSandboxConfig *pod); // one pid namespace shared by the pod's containers
bool policy_host_pid(const Cri__PodSandboxConfig *pod);
bool policy_own_pids(const Cri__PodSandboxConfig *pod);   // asked for: one pid namespace for each container
bool policy_own_userns(const Cri__PodSandboxConfig *pod); // a user namespace of the pod's own

// What the configuration's default sysctls must be: names of some namespace's. INVALID_ARGUMENT.
int policy_check_default_sysctls(char *const *defaults, struct error *err);
// All sysctls of a pod in arena, in the order of setting: the defaults that it has a namespace of its own for
// and doesn't set itself, then its own. 0 or -ENOMEM.
int policy_pod_sysctls(const struct policy *p, const Cri__PodSandboxConfig *pod, struct arena *arena,
                       Pod__Sysctl ***out, size_t *n);

// The pod's user namespace: which of the host's ids its own are. NULL: it uses the host's.
const Cri__UserNamespace *policy_userns(const Cri__PodSandboxConfig *pod);
// The host's ids of root in the pod.
void policy_root_ids(const Cri__PodSandboxConfig *pod, uint32_t *uid, uint32_t *gid);

#endif
