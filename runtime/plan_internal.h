// What the files of the plan share; nobody else includes it.
#ifndef RUNTIME_PLAN_INTERNAL_H
#define RUNTIME_PLAN_INTERNAL_H

#include "runtime/plan.h"
#include "runtime/policy.h"

// A plan under construction. Memory comes from the arena; running out of it is noticed once, at the end.
struct plan_builder {
    struct policy *policy;
    const struct plan_input *in;
    struct arena *arena;
    Pod__LaunchPlan *plan;
    struct error *err;
    bool out_of_memory;
};

#define PLAN_MOUNTS_MAX  4096 // of one container, the defaults included
#define PLAN_DEVICES_MAX 4096
#define PLAN_ENV_MAX     65536

// The config's security context, or one where nothing is set.
const Cri__LinuxContainerSecurityContext *plan_security(const Cri__ContainerConfig *config);
const Cri__LinuxContainerResources *plan_resources(const Cri__ContainerConfig *config); // may be NULL

int plan_no_memory(struct error *err);
// A clean absolute path: no "//", no "/./", no trailing "/"; ".." is left (policy refuses it). NULL: no
// memory.
char *plan_clean_path(struct arena *arena, const char *path);
// Does the config mount something there, or (parents) on a directory above it?
bool plan_is_covered(const Cri__ContainerConfig *config, const char *destination, bool parents);

// plan_mounts.c. All in order; then plan->mounts is sorted.
int plan_add_mounts(struct plan_builder *b);
// A new last mount; the strings stay the caller's. NULL when there is no room: noticed at the end.
Pod__Mount *plan_new_mount(struct plan_builder *b, const char *destination, const char *type,
                           const char *source, uint64_t flags, const char *data);
// plan_volumes.c: the config's mounts, and the volumes that the image declares.
int plan_add_config_mounts(struct plan_builder *b);
int plan_add_volumes(struct plan_builder *b);
int plan_add_devices(struct plan_builder *b); // plan_devices.c
int plan_add_process(struct plan_builder *b); // plan_process.c
// plan_labels.c: AppArmor and SELinux. The last: it relabels the mounts' sources.
int plan_add_labels(struct plan_builder *b);

// The plan needs a crisp-pod with this feature; a constant string, which may be named again.
void plan_require(struct plan_builder *b, const char *feature);

#endif
