#include "runtime/features.h"

#include <fcntl.h>
#include <sys/mount.h>

#include "base/cleanup.h"

bool features_probe_recursive_readonly(const char *dir)
{
    // A copy that is attached nowhere: it goes with its descriptor.
    _cleanup_fd_ int tree = open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

    return tree >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) == 0;
}
