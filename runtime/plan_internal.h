// What the files of the plan share; nobody else includes it.
#ifndef RUNTIME_PLAN_INTERNAL_H
#define RUNTIME_PLAN_INTERNAL_H

#include "runtime/plan.h"
#include "runtime/policy.h"

struct cgroup_device_rule;

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

// Sets one KEY=value, in the place of an earlier one with that key. p->env has room. NULL: no memory.
void plan_set_env(struct plan_builder *b, Pod__Process *p, char *entry);
// The plan's device at that path: one that is there already, or a new one. All but its path is to be set. 0,
// or -E2BIG, -ENOMEM.
int plan_device_at(struct plan_builder *b, const char *container, Pod__Device **out);

// plan_mounts.c. All in order; then plan->mounts is sorted.
int plan_add_mounts(struct plan_builder *b);
// A new last mount; the strings stay the caller's. NULL when there is no room: noticed at the end.
Pod__Mount *plan_new_mount(struct plan_builder *b, const char *destination, const char *type,
                           const char *source, uint64_t flags, const char *data);
// plan_volumes.c: the config's mounts, and the volumes that the image declares.
int plan_add_config_mounts(struct plan_builder *b);
int plan_add_volumes(struct plan_builder *b);
int plan_add_tmpfs(struct plan_builder *b);   // plan_annotations.c: what annotations ask for
int plan_add_devices(struct plan_builder *b); // plan_devices.c
int plan_add_process(struct plan_builder *b); // plan_process.c
// plan_annotations.c. The configuration's resource limits with the annotations' in their places.
struct rlimit_list;
void plan_rlimits(const struct plan_builder *b, struct rlimit_list *out);
int plan_add_cdi(struct plan_builder *b); // plan_cdi.c; after those above
// Adds what CDI devices may be used for to rules, which has room for so many.
int plan_add_cdi_rules(const struct cdi_set *cdi, struct cgroup_device_rule *rules, size_t room, size_t *n,
                       struct error *err);
// plan_labels.c: AppArmor and SELinux. The last: it relabels the mounts' sources.
int plan_add_labels(struct plan_builder *b);

// The plan needs a crisp-pod with this feature; a constant string, which may be named again.
void plan_require(struct plan_builder *b, const char *feature);

#endif
