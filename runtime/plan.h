// The launch plan: what CRI's configs, the image and the host's facts come to, in the OCI runtime spec's
// words. It is the one model of a container: compiled here, recorded, and executed by crisp-pod.
#ifndef RUNTIME_PLAN_H
#define RUNTIME_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"
#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/error.h"

#define PLAN_HOOK_TIMEOUT_MS 60000u // of a hook that names none

struct annotations;    // runtime/annotation.h
struct policy;         // runtime/policy.h
struct cdi_set;        // runtime/cdi.h
struct cgroup_devices; // runtime/cgroup.h

// The container's root: layers on disk, as image_rootfs_create() gives them, and where to mount it.
struct plan_rootfs {
    const char *layers_dir;    // absolute
    const char *const *lowers; // relative to layers_dir, top first
    size_t n_lowers;
    const char *upper, *work; // absolute
    const char *volumes; // absolute: where directories for the image's volumes are made; NULL: it has none
};

// An image that the config mounts (Mount.image).
struct plan_image {
    size_t mount; // index into config->mounts
    const char *image_id;
    const char *const *lowers; // two or more, relative to plan_rootfs.layers_dir, top first
    size_t n_lowers;
};

// Everything that a plan is made from. All pointers are the caller's, and need to live only as long as the
// arena that the plan is built in (the plan points into them).
struct plan_input {
    const Cri__ContainerConfig *config;
    const Cri__PodSandboxConfig *pod;
    const Pull__ImageConfig *image;
    struct plan_rootfs rootfs;
    const struct plan_image *images; // one for each mount that has an image
    size_t n_images;
    const char *hostname; // the pod's, or the node's with host network: HOSTNAME in the environment
    // Host paths of the pod's files. A NULL one is left out, and so is one that the config mounts over.
    const char *hosts_path;       // /etc/hosts
    const char *hostname_path;    // /etc/hostname
    const char *resolv_conf_path; // /etc/resolv.conf
    const char *id;               // the container's
    const char *bundle;           // where its bundle is, if it gets hooks
    const struct cdi_set *cdi;    // what CDI devices change; NULL: none were asked for
    const char *shm_path;         // /dev/shm: a mounted tmpfs that the pod shares (with host IPC: the host's)
    const struct annotations *annotations; // runtime/annotation.h; NULL: none
    const char *selinux_level; // the pod's, for containers that name none; NULL: the policy's default
};

// Builds the plan in arena. A mount source that is missing is made as a directory (0755), as peers do, and so
// are the directories of the image's volumes; nothing else is changed. Both configs must have passed
// policy_validate_*(). Errors name the field at fault.
int plan_build(struct policy *policy, const struct plan_input *in, struct arena *arena,
               Pod__LaunchPlan **plan, struct error *err);

// The message that starts the container: pid mode, stdio and log path from the configs, the plan packed.
// place: from cgroup_place(). deadline_ms: for the launch up to exec.
int plan_build_start(const struct plan_input *in, const char *container_id, const Pod__LaunchPlan *plan,
                     Pod__CgroupPlace *place, uint32_t deadline_ms, struct arena *arena,
                     Pod__StartRequest **start, struct error *err);

// A process that joins a running container: the first process's environment, directory and privileges with
// another argv. container: from the recorded plan; user: as crisp-pod resolved it at the start.
int plan_build_exec(const Pod__Process *container, const Pod__ResolvedUser *user, const char *const *cmd,
                    size_t n_cmd, bool tty, struct arena *arena, Pod__Process **process, struct error *err);

// Which pid namespace the container gets. Options that are not there at all ask for nothing: then it is one
// of its own, though the enumeration's zero value would be POD.
Pod__PidMode plan_pid_mode(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config);

// The device policy of the container's cgroup, for cgroup_create(): what the devices that were asked for may
// be used for. out points into arena.
int plan_device_rules(const struct plan_input *in, struct arena *arena, struct cgroup_devices *out,
                      struct error *err);

// log_directory/log_path, absolute; "" when no log is wanted. NULL only when the arena is full.
char *plan_log_path(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config,
                    struct arena *arena);

#endif
