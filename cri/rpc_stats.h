// Messages of the stats RPCs (rpc_stats_message.c), made in the call's arena; NULL: that is full.
#ifndef CRI_RPC_STATS_H
#define CRI_RPC_STATS_H

#include "api/cri/api.pb-c.h"
#include "cri/rpc.h"
#include "runtime/stats.h"

// s: NULL for one that doesn't run: its attributes and what its writable layer takes remain.
Cri__ContainerStats *rpc_stats_of_container(struct rpc_call *call, const struct container *c,
                                            const struct container_stats *s);
// Without its containers.
Cri__PodSandboxStats *rpc_stats_of_pod(struct rpc_call *call, const struct pod *pod,
                                       const struct pod_stats *s);

#endif
