// Network namespaces as files: pinned under a run directory so that CNI plugins can open them by path.
#ifndef NETWORK_NETNS_H
#define NETWORK_NETNS_H

#include <stdbool.h>

#include "base/error.h"

// Bind-mounts the namespace over a new file at path (0444; the folder must exist). ALREADY_EXISTS if there is
// a file already. On failure neither file nor mount is left.
int netns_pin(int netns_fd, const char *path, struct error *err);
// Takes the pin away. Idempotent; also removes a plain file that a reboot left. The namespace itself goes
// when its last process and descriptor have.
int netns_unpin(const char *path, struct error *err);
// Is there a namespace at path (and not just a file, as after a reboot)?
bool netns_is_pinned(const char *path);

#endif
