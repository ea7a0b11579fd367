// The parts of building a container's root. root: an O_PATH descriptor of it; every path inside is resolved
// below it (openat2 RESOLVE_IN_ROOT), never from "/".
#ifndef RUNTIME_POD_CHILD_ROOT_H
#define RUNTIME_POD_CHILD_ROOT_H

#include "runtime/pod/child.h"

// Detached copies of the bind mounts' sources, one per mount of the plan (-1: not a bind, or optional and
// missing). Taken before the mount namespace turns into a slave, so that a shared source stays a peer of the
// host's mount. *trees: n_mounts descriptors, the caller's (it ends by exec).
int mounts_open_sources(struct child *c, const Pod__LaunchPlan *plan, int **trees, struct error *err);
int mounts_attach(struct child *c, int root, const Pod__LaunchPlan *plan, int *trees, struct error *err);
// Attaches a detached mount to an O_PATH descriptor.
int mounts_move(int tree, int target, const char *what, struct error *err);
// A new instance of a file system as a detached mount. data: comma-separated options. -errno when it fails.
int mounts_new_fs(const char *type, const char *data, uint64_t attrs, struct error *err);
// The place for a mount: an O_PATH descriptor, made (empty) if it is missing.
int mounts_open_target(int root, const char *path, bool directory, struct error *err);

// child_dev.c
int devices_make(struct child *c, int root, const Pod__LaunchPlan *plan, struct error *err);
// A pty of the root's devpts: the master goes to crisp-pod, the slave to c->tty and /dev/console.
int devices_make_tty(struct child *c, int root, struct error *err);
// child_mask.c
int masks_apply(struct child *c, int root, const Pod__LaunchPlan *plan, struct error *err);

#endif
