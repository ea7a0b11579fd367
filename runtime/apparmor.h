// AppArmor: which profile a container runs under, and the default profile of our own.
//
// Profiles live in the kernel, by name, for the whole host. A container's name one that somebody has loaded
// (Localhost), or ours (RuntimeDefault), which is loaded when it is first needed. crisp-pod's child asks for
// the profile just before its exec (/proc/self/attr/apparmor/exec).
#ifndef RUNTIME_APPARMOR_H
#define RUNTIME_APPARMOR_H

#include <stdbool.h>

#include "api/cri/api.pb-c.h"
#include "base/error.h"

#define APPARMOR_DEFAULT_NAME "crisp-default"
// A name and "exec " have to fit into one write to /proc/self/attr/apparmor/exec: less than a page.
#define APPARMOR_NAME_MAX 4000

extern const char apparmor_default_text[]; // the profile, in apparmor_parser's language

struct apparmor;

// Where things are; a NULL member means the host's usual place. For tests.
struct apparmor_paths {
    const char *enabled;        // says "Y" where the kernel enforces AppArmor
    const char *profiles;       // the loaded profiles, "NAME (MODE)" a line
    const char *const *parsers; // where apparmor_parser is looked for, NULL-terminated
};

// *out is NULL, which the other functions take, where the kernel has no AppArmor or it is disabled.
int apparmor_open(const struct apparmor_paths *paths, struct apparmor **out, struct error *err);
void apparmor_close(struct apparmor *a);

// The program that loads profiles, or NULL when the host has none.
const char *apparmor_parser(const struct apparmor *a);

enum apparmor_kind {
    APPARMOR_UNSET,      // nobody asks: the default profile, where it can be had
    APPARMOR_DEFAULT,    // asked for
    APPARMOR_LOCALHOST,  // one that is loaded, by name
    APPARMOR_UNCONFINED, //
};

struct apparmor_choice {
    enum apparmor_kind kind;
    const char *name; // APPARMOR_LOCALHOST: points into the config
};

// What a config asks for: the field, else its deprecated form ("", "runtime/default", "unconfined",
// "localhost/NAME"). field: its name, for errors (INVALID_ARGUMENT).
int apparmor_choose(const char *field, const Cri__SecurityProfile *profile, const char *deprecated,
                    struct apparmor_choice *choice, struct error *err);
// Can this host do it? Changes nothing. FAILED_PRECONDITION: no AppArmor here, the profile is not loaded, or
// ours can't be.
int apparmor_check(const struct apparmor *a, const char *field, const struct apparmor_choice *choice,
                   struct error *err);
// The name of the profile to run under: *name is "" for none. Loads the default profile if it isn't there
// yet, which waits for apparmor_parser; callers meanwhile wait for the same one. Threads may call.
int apparmor_resolve(struct apparmor *a, const char *field, const struct apparmor_choice *choice,
                     const char **name, struct error *err);

#endif
