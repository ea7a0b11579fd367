// The network that new attachments use: loaded from a directory, followed as it changes, and its plugins
// looked after, by one thread.
#ifndef CNI_CONFIG_H
#define CNI_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cni/conflist.h"

struct cni_config;

// Starts the thread and waits up to three seconds for the first load; a missing or broken configuration is no
// error. Strings are copied.
int cni_config_open(const char *conf_dir, const char *const *bin_dirs, struct cni_config **out,
                    struct error *err);
void cni_config_close(struct cni_config *config); // ends the thread; NULL is fine

// The list in use (the caller's reference), NULL without one.
struct cni_conflist *cni_config_get(struct cni_config *config);

struct cni_config_state {
    struct cni_conflist *list; // the caller's reference; NULL: none loaded
    char load_error[512];      // why none is loaded, or about a broken file beside a loaded one; "" if none
    char problem[512];         // why the loaded one can't serve: plugin missing, wrong version, STATUS; ""
};
// Runs no plugin: looks at files only (are the plugins still there?).
void cni_config_get_state(struct cni_config *config, struct cni_config_state *state);

#endif
