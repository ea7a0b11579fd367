// Whole operations on pods, across runtime, network and images.
#ifndef CRI_POD_OPS_H
#define CRI_POD_OPS_H

#include "api/cri/api.pb-c.h"
#include "base/ctx.h"
#include "base/error.h"

struct container;
struct daemon;
struct pod;

// RunPodSandbox: a new pod, or the one that an identical call has made or is making. ctx bounds the wait for
// another call only: what was begun here ends whether or not the client waits, READY or without a trace, and
// a retry adopts it. *out is the caller's.
int pod_ops_run(struct daemon *d, const Cri__PodSandboxConfig *config, const char *handler,
                const struct ctx *ctx, struct pod **out, struct error *err);
// StopPodSandbox: kills containers, tears down the network, ends crisp-pod. May be repeated for ever.
int pod_ops_stop(struct daemon *d, struct pod *pod, const struct ctx *ctx, struct error *err);
// RemovePodSandbox: stops it, removes its containers, drops the record.
int pod_ops_remove(struct daemon *d, struct pod *pod, const struct ctx *ctx, struct error *err);
// Takes down a pod that was never READY, and tells those that joined why (NULL: they try anew). Can't fail:
// what can't be undone now is left to background work.
void pod_ops_undo(struct daemon *d, struct pod *pod, const struct error *why);
// The same in the background, for what an earlier run of the daemon left half made: a network plugin that
// hangs must not keep the daemon from serving.
void pod_ops_undo_later(struct daemon *d, struct pod *pod);

#endif
