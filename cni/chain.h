// The operations of CNI on a whole list of plugins.
#ifndef CNI_CHAIN_H
#define CNI_CHAIN_H

#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

#include "base/ctx.h"
#include "base/error.h"
#include "cni/conflist.h"

struct cni_attachment { // all borrowed
    const struct cni_conflist *list;
    const char *container_id;
    const char *netns; // path; "" with DEL when the namespace is gone
    const char *ifname;
    const char *args;        // CNI_ARGS, "K=V;K=V"
    json_t *capability_args; // object: capability -> value, given to the plugins that declare it; or NULL
    const char *const *bin_dirs;
};

// The names and values above, checked as the specification has it. INVALID_ARGUMENT.
int cni_attachment_check(const struct cni_attachment *a, struct error *err);

// ADD, plugin after plugin, each with the result of those before it. *result is the last plugin's (the
// caller's reference). When a plugin fails, *result is that of the plugins before it (maybe NULL): cni_del()
// is due, with it.
int cni_add(const struct cni_attachment *a, const struct ctx *ctx, json_t **result, struct error *err);

// DEL, in reverse order, with the result of ADD (NULL: unknown). Ends at the first failure; an "unknown
// container" is none.
int cni_del(const struct cni_attachment *a, json_t *result, const struct ctx *ctx, struct error *err);

// CHECK (0.4.0 and newer, unless disableCheck; otherwise nothing is run and all is well).
int cni_check(const struct cni_attachment *a, json_t *result, const struct ctx *ctx, struct error *err);

// STATUS (1.1.0 and newer; otherwise all is well): UNAVAILABLE when a plugin couldn't serve an ADD now.
int cni_status(const struct cni_conflist *list, const char *const *bin_dirs, const struct ctx *ctx,
               struct error *err);

struct cni_valid_attachment {
    const char *container_id, *ifname;
};
// GC (1.1.0 and newer, unless disableGC): the plugins drop whatever belongs to none of `valid`. All plugins
// are run; the first failure is returned. Only for a network that nobody else attaches to.
int cni_gc(const struct cni_conflist *list, const char *const *bin_dirs,
           const struct cni_valid_attachment *valid, size_t n, const struct ctx *ctx, struct error *err);

#endif
