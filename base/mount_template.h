// A mount namespace to begin with: what a container's is copied from.
//
// unshare(CLONE_NEWNS) copies every mount of the caller's namespace: 3 ms on a node with 2,000 of them, for
// each container, and then they must be unmounted again. So the daemon makes one namespace that has next to
// nothing in it, and launched processes enter that first. What a container needs of the host is opened before
// (open_tree(2), Linux 5.2) and attached by descriptor.
#ifndef BASE_MOUNT_TEMPLATE_H
#define BASE_MOUNT_TEMPLATE_H

#include "base/error.h"

// Sets *fd to the namespace, which lives as long as somebody holds a descriptor of it; close-on-exec, the
// caller's. Its root is a read-only tmpfs with:
//   /layers, /container, /root   empty directories to mount on
//   /null                        the host's /dev/null
// Needs CAP_SYS_ADMIN. The work is done by a thread that ends here: a namespace is entered for good.
int mount_template_new(int *fd, struct error *err);

#endif
