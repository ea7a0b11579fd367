// A container in the words of the OCI runtime specification: for hooks.
#ifndef RUNTIME_OCI_CONFIG_H
#define RUNTIME_OCI_CONFIG_H

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"
#include "runtime/cgroup_extra.h"

#define OCI_VERSION "1.2.0"

struct oci_config_input {
    const Pod__LaunchPlan *plan;
    const Cri__ContainerConfig *config;
    Pod__PidMode pid_mode;
    const char *rootfs;   // where the root is until pivot_root, in the container's mount namespace
    const char *cgroup;   // its path
    const char *netns;    // a path to the pod's, unless it is the host's
    const char *hostname; // the pod's
    const Cri__LinuxContainerResources *resources; // as updates have left them; NULL: the config's
    const struct cgroup_extra *extra;              // of annotations; NULL: none
    int64_t pids_limit;                            // the configuration's; 0: none
};
// config.json; the caller frees. NULL: no memory.
char *oci_config_json(const struct oci_config_input *in);

// The limits of its cgroup ("linux.resources"): CRI's (NULL: none), the annotations' (likewise), the
// configuration's. The caller's. NULL: no memory.
struct json_t;
struct json_t *oci_resources_json(const Cri__LinuxContainerResources *asked, const struct cgroup_extra *extra,
                                  int64_t pids_limit);

// The members of a state but "status" and "pid", without braces: "ociVersion", "id", "bundle", "annotations".
// The caller frees. NULL: no memory.
char *oci_state_members(const char *id, const char *bundle, const Cri__ContainerConfig *config);

#endif
