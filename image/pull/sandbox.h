// The cage in which layers are unpacked.
#ifndef IMAGE_PULL_SANDBOX_H
#define IMAGE_PULL_SANDBOX_H

#include <stdint.h>

#include "base/error.h"

// Shuts the calling process (single-threaded, root) into dir for good: own network, IPC and UTS namespaces,
// chroot into a mount where devices can't be opened, no capabilities but those that creating files with
// owners, modes and devices takes (never CAP_SYS_ADMIN), no_new_privs, a seccomp filter, limits on memory, on
// open and on written files, no core dumps. Dies with its parent. Returns dir as a descriptor (O_PATH), or
// -errno.
int sandbox_enter(const char *dir, uint64_t max_file_bytes, struct error *err);

// The same for a process that only reads the files below dir: by a read-only mount, and with a filter that
// knows no call that changes anything.
int sandbox_enter_reader(const char *dir, struct error *err);

#endif
