// The end of containers: what `crisp stop` and `crisp rm` share.
#ifndef CRI_CLIENT_END_H
#define CRI_CLIENT_END_H

#include "api/cri/api.pb-c.h"
#include "cri/client/cli.h"

// Stops a container and, if `crisp run` made it, its pod. grace_s: until it is killed; -1: what it was run
// with.
int end_stop(struct cli *cli, const Cri__Container *c, int64_t grace_s, struct error *err);
// Removes a container that doesn't run; what `crisp run` made goes with its pod and its log. What is gone
// already is fine.
int end_remove(struct cli *cli, const Cri__Container *c, struct error *err);

// For each of the names: finds the container and calls `end` on it. All are tried; each failure is told. The
// exit code.
typedef int (*end_fn)(struct cli *cli, const Cri__Container *c, void *data, struct error *err);
int end_each(struct cli *cli, char *const *names, end_fn end, void *data);

#endif
