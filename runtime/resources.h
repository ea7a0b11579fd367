// CRI's resources as values, and what containers and pods do with them. Of runtime/ alone.
#ifndef RUNTIME_RESOURCES_H
#define RUNTIME_RESOURCES_H

#include "runtime/store.h"

// `old` (NULL: none) with what `change` sets: numbers other than 0, strings that aren't empty, hugepage
// limits by their page size, unified values by their key. The result's lists are in arena, and point to what
// the two have. NULL: no memory.
Cri__LinuxContainerResources *resources_merge(const Cri__LinuxContainerResources *old,
                                              const Cri__LinuxContainerResources *change,
                                              struct arena *arena);
// A pod's limits: its containers' and its overhead (either may be NULL). Shares add up; a quota or memory
// limit only where the containers have one. NULL: no memory.
Cri__LinuxContainerResources *resources_sum(const Cri__LinuxContainerResources *containers,
                                            const Cri__LinuxContainerResources *overhead,
                                            struct arena *arena);

// The asked ones of a container: the config's, and what updates have changed. Takes a heap message over.
void container_set_resources(struct runtime *rt, struct container *c, Cri__LinuxContainerResources *asked);
// A copy in arena of the asked ones. NULL: none were ever asked for, or no memory.
const Cri__LinuxContainerResources *container_asked_resources(struct runtime *rt, const struct container *c,
                                                              struct arena *arena);
// Once it runs: sees to its OOM score, and warns where the kernel didn't take it.
void container_settle_oom_score(struct runtime *rt, struct container *c, int pid);
// For commands in it.
int64_t container_oom_score(struct runtime *rt, struct container *c);

// A pod's place that is ours gets the pod's limits. Nothing to do: 0.
int pod_apply_resources(struct runtime *rt, struct pod *pod, struct error *err);

#endif
