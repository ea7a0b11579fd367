// User namespaces: making one, and what a child does differently in a pod that has one.
//
// A container's root is made by a process that is still the host's root, in a mount namespace of the host's:
// it may idmap mounts, mount overlays and make device nodes. Only then it enters the user namespace, and with
// it a copy of the mount namespace, in which the kernel has locked all of these mounts: whatever capabilities
// the container has inside, it can't unmount a mask or make a read-only mount writable.
#ifndef RUNTIME_POD_USERNS_H
#define RUNTIME_POD_USERNS_H

#include "runtime/pod/child.h"

// A new user namespace as a descriptor (close-on-exec, the caller's); -errno when there can't be one. Needs
// CAP_SETUID and CAP_SETGID. Waits for a child process of the caller.
int userns_new(struct id_range uids, struct id_range gids, struct error *err);

// The pod has one, and the child is still outside.
bool userns_wanted(const struct child *c);
// The host's id of one inside; of what is not mapped the host's root, which nobody inside is. Without a user
// namespace: itself.
uint32_t userns_host_uid(const struct child *c, uint32_t id);
uint32_t userns_host_gid(const struct child *c, uint32_t id);
// A file system's options with "uid=" and "gid=" in the host's ids: the caller's, NULL when memory is short.
char *userns_host_options(const struct child *c, const char *options);

// Shows the files of a detached mount with their ids mapped into the pod's user namespace. what: for errors.
int userns_idmap(const struct child *c, int tree, const char *what, struct error *err);
// From here on, what is made belongs to the namespace's root. All capabilities stay.
int userns_own_files(const struct child *c, struct error *err);
// Whether the account's ids exist inside.
int userns_check_account(const struct child *c, struct error *err);
// Becomes root of the user namespace.
int userns_enter(struct child *c, struct error *err);
// And then a container's first process gets its own copy of the mount namespace that its root was built in.
int userns_copy(struct child *c, struct error *err);
// Each change of ids makes a process outlive its parent, and dumpable if fs.suid_dumpable says so: not ours.
void userns_after_new_ids(void);

// Can containers' roots be made of layers with mapped ids on this host? By a real overlay of a real mount, in
// a mount namespace that this process (which should end then) keeps. image_dir holds the directories layers
// and containers.
int userns_probe(const char *image_dir, struct error *err);

#endif
