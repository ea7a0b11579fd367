// Which versions plugins speak: asked once for each version of a plugin's file, never on a pod's path.
#ifndef CNI_PROBE_H
#define CNI_PROBE_H

#include "base/ctx.h"
#include "base/error.h"
#include "cni/conflist.h"

struct cni_probe; // remembers answers by the file's identity and time; not thread-safe

struct cni_probe *cni_probe_new(void); // NULL on ENOMEM
void cni_probe_free(struct cni_probe *probe);

// The versions of plugin `type`: *versions stays the probe's and is valid until the next call.
int cni_probe_versions(struct cni_probe *probe, const char *const *bin_dirs, const char *type,
                       const struct ctx *ctx, const char *const **versions, struct error *err);
// The newest version of the list's that all its plugins speak into version. FAILED_PRECONDITION naming the
// plugin that doesn't speak any, or that isn't installed.
int cni_probe_negotiate(struct cni_probe *probe, const char *const *bin_dirs, const struct cni_conflist *list,
                        const struct ctx *ctx, char version[CNI_VERSION_MAX], struct error *err);

#endif
