// Annotations: what people want of containers and CRI has no field for. All have one prefix; whatever else is
// in a config's annotations is other programs'. docs/annotations.md has them for users.
//
// On a container's config they are "crisp.run/NAME". On a pod's they hold for all its containers, or, as
// "crisp.run/NAME.CONTAINER", for one: kubelet hands a pod's annotations to the pod only. The nearest wins.
#ifndef RUNTIME_ANNOTATION_H
#define RUNTIME_ANNOTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/rlimit.h"
#include "runtime/cgroup_extra.h"

#define ANNOTATION_PREFIX    "crisp.run/"
#define ANNOTATION_TMPFS_MAX 32 // of one container

struct policy; // runtime/policy.h

struct annotation_tmpfs {
    const char *destination; // absolute, no ".."
    uint64_t flags;          // MOUNT_ATTR_*
    const char *data;        // tmpfs(5)'s options: "size=65536k,mode=1770"
};

// A command that tells whether a container is well.
struct annotation_health {
    char **test; // argv
    size_t n_test;
    int64_t interval_ns, timeout_ns;            // between checks; of one
    int64_t start_period_ns, start_interval_ns; // failures count only after the one; until then, the other
    unsigned retries;                           // failures in a row that make it unhealthy
};

struct annotations {
    bool has_cgroup; // anything in:
    struct cgroup_extra cgroup;
    uint64_t storage_bytes; // of the writable layer; 0: no limit
    uint64_t shm_bytes;     // a pod's /dev/shm; 0: the configuration's
    struct rlimit_list ulimits;
    struct annotation_tmpfs *tmpfs;
    size_t n_tmpfs;
    struct annotation_health *health; // NULL: none
};

// Patterns of the configuration's annotations.allowed, such as "device-*" (NULL-terminated; NULL: none): one
// that matches nothing is a mistake. INVALID_ARGUMENT.
int annotations_check_allowed(char *const *patterns, struct error *err);

// All annotations of our prefix: known, allowed by the policy, with values that can be read.
// INVALID_ARGUMENT, or PERMISSION_DENIED for what the operator hasn't allowed; both name the annotation.
int annotations_check_pod(const struct policy *p, const Cri__PodSandboxConfig *pod, struct error *err);
int annotations_check_container(const struct policy *p, const Cri__PodSandboxConfig *pod,
                                const Cri__ContainerConfig *config, struct error *err);

// Is there any of our prefix?
bool annotations_any(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config);

// What holds for a container (config NULL: for the pod itself), without asking what is allowed. Strings and
// lists live in arena. *out is NULL when there are none.
int annotations_read(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config,
                     struct arena *arena, struct annotations **out, struct error *err);
// The size of the pod's /dev/shm, if it asks for one; else otherwise.
uint64_t annotations_shm_bytes(const Cri__PodSandboxConfig *pod, uint64_t otherwise);
// How much a container may write to its writable layer; 0: no limit.
uint64_t annotations_storage_bytes(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config);

#endif
