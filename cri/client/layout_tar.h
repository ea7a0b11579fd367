// An OCI image layout in a folder, as the tar that an import takes.
#ifndef CRI_CLIENT_LAYOUT_TAR_H
#define CRI_CLIENT_LAYOUT_TAR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef int (*layout_tar_fn)(void *data, const void *bytes, size_t len, bool end, struct error *err);

// Hands out oci-layout, index.json and the blobs of the folder dir_fd piece by piece. INVALID_ARGUMENT when
// it is no layout.
int layout_tar_write(int dir_fd, const char *path, layout_tar_fn fn, void *data, struct error *err);

#endif
