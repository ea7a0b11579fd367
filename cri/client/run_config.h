// CRI's messages for what `crisp run` was asked for. Nothing is sent and nothing made here: a wrong value is
// an error (INVALID_ARGUMENT) that names the option, the value and what it must be.
#ifndef CRI_CLIENT_RUN_CONFIG_H
#define CRI_CLIENT_RUN_CONFIG_H

#include <stddef.h>

#include "api/cri/api.pb-c.h"
#include "base/arena.h"
#include "base/error.h"
#include "cri/client/run_options.h"

#define RUN_ANNOTATION    "crisp.run/"        // the prefix of those that mean something to crispd
#define RUN_LABEL_ID      "crisp.run/id"      // pod and container belong together, and are of `crisp run`
#define RUN_LABEL_REMOVE  "crisp.run/rm"      // "true": was run with --rm
#define RUN_LABEL_TIMEOUT "crisp.run/timeout" // --stop-timeout, in seconds
#define RUN_LOG_NAME      "container.log"

// The messages point at each other, at the options' words and into the arena.
struct run_config {
    struct arena *arena;
    Cri__PodSandboxConfig pod;
    Cri__PodSandboxMetadata pod_meta;
    Cri__LinuxPodSandboxConfig pod_linux;
    Cri__LinuxSandboxSecurityContext pod_security;
    Cri__DNSConfig dns;
    Cri__ContainerConfig container;
    Cri__ContainerMetadata meta;
    Cri__ImageSpec image;
    Cri__LinuxContainerConfig container_linux;
    Cri__LinuxContainerResources resources;
    Cri__LinuxContainerSecurityContext security;
    Cri__Capability capabilities;
    Cri__SecurityProfile seccomp, apparmor;
    Cri__SELinuxOption selinux;
    Cri__Int64Value user, group;
    Cri__NamespaceOption namespaces; // the pod's and the container's
    Cri__UserNamespace userns;
    const char *runtime_handler;
    char **image_volumes; // images that are mounted: they have to be there, too
    size_t n_image_volumes;
    bool userns_auto; // the ids are still to be chosen
};

// name, uid: of the pod; label: RUN_LABEL_ID's value; args: NULL-terminated. All are kept by the caller. The
// log directory is filled in later.
int run_config_make(struct run_config *c, struct run_options *o, const char *name, const char *uid,
                    const char *label, const char *image, char **args, struct error *err);
void run_config_done(struct run_config *c);

// The parts, one file for each topic.
int run_config_resources(struct arena *a, Cri__LinuxContainerResources *r, const struct resource_options *o,
                         const char **pids_annotation, struct error *err);
int run_config_extra(struct run_config *c, const struct extra_options *o, struct error *err);
int run_config_health(struct run_config *c, const struct extra_options *o, struct error *err);
int run_config_process(struct run_config *c, const struct process_options *o, char **args, struct error *err);
int run_config_security(struct run_config *c, const struct security_options *o, struct error *err);
int run_config_mounts(struct run_config *c, struct run_options *o,
                      struct error *err); // adds to o->extra.tmpfs
int run_config_pod(struct run_config *c, const struct pod_options *o, struct error *err);

// Ids first_id to first_id + size - 1 of the host are 0 to size - 1 in the pod.
void run_config_map_ids(struct run_config *c, uint32_t first_id, uint32_t size);

// Memory that lives as long as the configuration, zeroed. Running out of it ends the program: nothing is made
// yet.
void *run_config_alloc(struct arena *a, size_t size);
char *run_config_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
// For lists of a message: c->list = RUN_CONFIG_ADD(a, c->list, c->n_list, item).
#define RUN_CONFIG_ADD(arena, list, n, item)                                                                 \
    ((list) = run_config_grow((arena), (list), (n)), (list)[(n)++] = (item))
void *run_config_grow(struct arena *a, void *list, size_t n); // list with room for one more

void run_config_label(struct run_config *c, const char *key, const char *value); // of pod and container
void run_config_annotate(struct run_config *c, const char *key, const char *value);
void run_config_annotate_pod(struct run_config *c, const char *key, const char *value);

// "--OPTION "VALUE": must be WHAT", INVALID_ARGUMENT.
int run_config_bad(struct error *err, const char *option, const char *value, const char *must_be);
// "K=V" -> K, V in the arena; -EINVAL when there is no "=" or no K.
int run_config_pair(struct arena *a, const char *text, char **key, char **value);
int run_config_number(const char *option, const char *text, int64_t min, int64_t max, int64_t *out,
                      struct error *err);
int run_config_size(const char *option, const char *text, int64_t *bytes, struct error *err);

#endif
