// Bounds of what a container may write to disk: project quotas of the store's file system (xfs; ext4 with the
// project feature, mounted with prjquota). A directory belongs to a project, and with it all that is made in
// it.
#ifndef IMAGE_QUOTA_H
#define IMAGE_QUOTA_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

// Makes the directory at path, with all that is already or comes to be in it, take at most so many bytes of
// disk. The directories below it that are there are listed in inside (names, NULL-terminated): the kernel
// hands on projects to new ones only. FAILED_PRECONDITION where the file system has no such quotas, or
// doesn't enforce them.
int quota_limit(const char *path, const char *const *inside, uint64_t bytes, struct error *err);
// Takes the limit away, so that the project's number is free once its files are gone. Anything that has none
// is fine.
void quota_forget(const char *path);

#endif
