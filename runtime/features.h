// What this host's kernel lets containers have, found out once by doing it: version numbers say nothing about
// backports, nor about what the runtime's own surroundings forbid.
#ifndef RUNTIME_FEATURES_H
#define RUNTIME_FEATURES_H

#include <stdbool.h>

// Recursive read-only mounts: mount_setattr(2) with AT_RECURSIVE (Linux 5.12). dir: any directory; nothing
// in it changes.
bool features_probe_recursive_readonly(const char *dir);

#endif
