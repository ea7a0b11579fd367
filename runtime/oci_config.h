// A container in the words of the OCI runtime specification: for hooks.
#ifndef RUNTIME_OCI_CONFIG_H
#define RUNTIME_OCI_CONFIG_H

#include "api/cri/api.pb-c.h"
#include "api/pod/pod.pb-c.h"

#define OCI_VERSION "1.2.0"

struct oci_config_input {
    const Pod__LaunchPlan *plan;
    const Cri__ContainerConfig *config;
    Pod__PidMode pid_mode;
    const char *rootfs;   // where the root is until pivot_root, in the container's mount namespace
    const char *cgroup;   // its path
    const char *netns;    // a path to the pod's, unless it is the host's
    const char *hostname; // the pod's
};
// config.json; the caller frees. NULL: no memory.
char *oci_config_json(const struct oci_config_input *in);

// The members of a state but "status" and "pid", without braces: "ociVersion", "id", "bundle", "annotations".
// The caller frees. NULL: no memory.
char *oci_state_members(const char *id, const char *bundle, const Cri__ContainerConfig *config);

#endif
