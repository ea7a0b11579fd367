// Whole operations on containers, across runtime and images.
#ifndef CRI_CONTAINER_OPS_H
#define CRI_CONTAINER_OPS_H

#include "api/cri/api.pb-c.h"
#include "base/ctx.h"
#include "base/error.h"

struct container;
struct daemon;
struct pod;

// CreateContainer: a new one, or the one that an identical call has made or is making (see pod_ops_run()).
int container_ops_create(struct daemon *d, struct pod *pod, const Cri__ContainerConfig *config,
                         const struct ctx *ctx, struct container **out, struct error *err);
// RemoveContainer: kills it if it runs. Its log files are left, as they are kubelet's.
int container_ops_remove(struct daemon *d, struct container *c, const struct ctx *ctx, struct error *err);

#endif
