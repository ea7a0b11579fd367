// One run of one plugin: environment, stdin, stdout, and what its failures mean.
#ifndef CNI_PLUGIN_H
#define CNI_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "base/error.h"

struct cni_call {
    const char *command;      // ADD, DEL, CHECK, STATUS, GC, VERSION
    const char *container_id; // NULL, as the next three: not part of the command
    const char *netns;        // "" with DEL: the namespace is gone
    const char *ifname;
    const char *args;            // CNI_ARGS
    const char *const *bin_dirs; // NULL-terminated
};

// Error codes of the specification that mean something to a runtime.
enum cni_code {
    CNI_CODE_NONE = 0, // it failed without an error object, or wasn't run
    CNI_CODE_INCOMPATIBLE_VERSION = 1,
    CNI_CODE_UNKNOWN_CONTAINER = 3, // nothing needs to be torn down
    CNI_CODE_INVALID_CONFIG = 7,
    CNI_CODE_TRY_AGAIN_LATER = 11,
    CNI_CODE_UNAVAILABLE = 50, // STATUS: ADD would fail
    CNI_CODE_LIMITED = 51,     // STATUS: and existing containers may have lost their network
};

// The plugin's file: the first executable regular file `type` in bin_dirs. FAILED_PRECONDITION that names the
// folders if there is none. The caller frees *path.
int cni_plugin_find(const char *const *bin_dirs, const char *type, char **path, struct error *err);

// Runs plugin `type` with `input` on stdin. On success *out is what it printed (at most CNI_RESULT_MAX_BYTES;
// init and done are the caller's). A failure carries the plugin's own code and message (*code may be NULL)
// and the end of what it wrote to stderr: UNAVAILABLE (codes 11, 50, 51), FAILED_PRECONDITION (1, 7),
// DEADLINE_EXCEEDED or CANCELLED (it and its process group were killed), INTERNAL otherwise.
int cni_plugin_run(const struct cni_call *call, const char *type, const char *input, const struct ctx *ctx,
                   struct buf *out, unsigned *code, struct error *err);

#endif
