// The parts of building a container's root. root: an O_PATH descriptor of it; every path inside is resolved
// below it (openat2 RESOLVE_IN_ROOT), never from "/".
#ifndef RUNTIME_POD_CHILD_ROOT_H
#define RUNTIME_POD_CHILD_ROOT_H

#include "base/buf.h"
#include "runtime/pod/child.h"

// Detached copies of the bind mounts' sources, one per mount of the plan (-1: not a bind, or optional and
// missing). Taken before the mount namespace turns into a slave, so that a shared source stays a peer of the
// host's mount. *trees: n_mounts descriptors, the caller's (it ends by exec).
int mounts_open_sources(struct child *c, const Pod__LaunchPlan *plan, int **trees, struct error *err);
// child_copy.c: the directory is new: a child that was killed while it filled it has left a part. Before the
// host's mounts are out of sight.
int volumes_empty(const Pod__Mount *m, struct error *err);
// child_copy.c: fills the volumes that start with what the root has in their place. Before anything is
// mounted in the root: all that is read then is the image's own.
int volumes_fill(struct child *c, int root, const Pod__LaunchPlan *plan, const int *trees, struct error *err);
// A head start: the directories that bind mounts will go to, but those below other mounts. What fails here
// will fail there again, and be told.
void mounts_make_places(int root, const Pod__LaunchPlan *plan, const int *trees);
// trees: in; out: a descriptor of each file system that is the container's own, else -1.
int mounts_attach(struct child *c, int root, const Pod__LaunchPlan *plan, int *trees, struct error *err);
// Attaches a detached mount to an O_PATH descriptor.
int mounts_move(int tree, int target, const char *what, struct error *err);
// The same in two steps: a file system context (fsopen(2)), and a detached mount of it.
int mounts_configure_fs(const char *type, const char *data, const char *label, struct error *err);
int mounts_mount_fs(int fs, const char *type, const char *label, uint64_t attrs, struct error *err);
// A new instance of a file system as a detached mount. data: comma-separated options. label: SELinux's, or ""
// for the policy's own. -errno when it fails.
int mounts_new_fs(const char *type, const char *data, const char *label, uint64_t attrs, struct error *err);
// The place for a mount: an O_PATH descriptor, made (empty) if it is missing.
int mounts_open_target(int root, const char *path, bool directory, struct error *err);

// child_peer.c: can the source give and take what the propagation asks for? FAILED_PRECONDITION if not.
int peers_check(const Pod__Mount *m, struct error *err);
// child_dev.c: nothing is made in volumes, which are the host's: a device below one has to be there already,
// or is refused. trees: what mounts_attach() left.
int devices_make(struct child *c, int root, const Pod__LaunchPlan *plan, const int *trees, struct error *err);
// A pty of the root's devpts: the master goes to crisp-pod, the slave to c->tty and /dev/console.
int devices_make_tty(struct child *c, int root, struct error *err);
// child_inside.c: makes the container's first process inside the user namespace. Comes back in both: in that
// one (c->inside) when its root is built, or could not be.
int inside_make(struct child *c, const Pod__LaunchPlan *plan, struct error *err);
// In the builder: waits for c->proc_fs, as late as possible, as it is made meanwhile. Nothing to do
// otherwise.
int inside_take_proc(struct child *c, struct error *err);
// The builder has done its work, or failed to, and ends. Comes back, with an error, if the other is not
// there.
int inside_hand_over(struct child *c, int rc, struct error *err);
// child_proc.c: c->proc_tree, if the plan has a procfs, and the pid namespace to join is another one.
int proc_take(struct child *c, const Pod__LaunchPlan *plan, struct error *err);
// That mount with these flags: the caller's.
int proc_use(struct child *c, uint64_t attrs, struct error *err);
// child_mask.c
int masks_apply(struct child *c, int root, const Pod__LaunchPlan *plan, struct error *err);

// child_labels.c: SELinux labels of mounts; "" is none. For mount(2)'s options; for a file system context,
// not yet created; for the root of a detached mount, where the file system has no such option.
int labels_add_option(struct buf *options, const char *label);
int labels_set_new_fs(int fs, const char *type, const char *label, struct error *err);
int labels_set_new_root(int tree, const char *type, const char *label, struct error *err);
// For the top of a volume, and for what is made until the end.
int labels_begin_volume(struct child *c, int tree, const char *label, struct error *err);
void labels_end_volume(struct child *c, const char *label);

#endif
