// The export mode of crisp-pull: images' layers become tars again, and together with configs and manifests an
// OCI image layout (which `docker load` reads, too) as one tar.
//
// Layers are kept unpacked only. A layer's tar is made anew from its files, in one canonical form: its digest
// is not that of the layer as it was pulled, and so the image's id is another, too.
#ifndef IMAGE_PULL_EXPORT_H
#define IMAGE_PULL_EXPORT_H

#include "api/pull/pull.pb-c.h"
#include "base/error.h"

// Writes the tar to out_fd, and tells crispd (over sock) of each image's new id. A child of the forker reads
// each layer.
int export_run(const Pull__ExportRequest *request, int sock, int forker, int out_fd, struct error *err);

#endif
