// SELinux: the labels of containers and of what is mounted for them.
//
// A label is USER:ROLE:TYPE:LEVEL. Which ones containers get by default is the policy's own matter: it says
// so in contexts/lxc_contexts (process = …, file = …). A pod's containers share a pair of categories that no
// other pod has, so that pods can't touch each other's files even where uid and path would let them.
// Everything goes through /sys/fs/selinux, extended attributes and /proc/self/attr; no library is needed.
#ifndef RUNTIME_SELINUX_H
#define RUNTIME_SELINUX_H

#include <stdbool.h>

#include "api/cri/api.pb-c.h"
#include "base/error.h"

// With its NUL. What goes to fsconfig(2) ends at 255 bytes.
#define SELINUX_LABEL_MAX 250
#define SELINUX_LEVEL_MAX 64

struct selinux;

// A NULL member means the host's usual place. For tests.
struct selinux_paths {
    const char *fs;  // "/sys/fs/selinux"
    const char *etc; // "/etc/selinux"
};

// *out is NULL where the kernel has SELinux disabled, or no policy is loaded.
int selinux_open(const struct selinux_paths *paths, struct selinux **out, struct error *err);
void selinux_close(struct selinux *s);

bool selinux_is_enforcing(const struct selinux *s);
bool selinux_has_levels(const struct selinux *s); // the policy has levels and categories (MCS, MLS)
// The policy's defaults, "" where it has none for containers (Debian's has not): then a process is labelled
// only if its type is asked for, and files are not.
const char *selinux_process_default(const struct selinux *s);
const char *selinux_file_default(const struct selinux *s);

struct selinux_labels {
    char process[SELINUX_LABEL_MAX]; // "": as the policy decides by itself at the exec
    char file[SELINUX_LABEL_MAX];    // of the root and of file systems made for the container; "": unlabelled
};

// options: the container's, or NULL. level: for options that name none; "" for the policy's own.
// A privileged container runs as spc_t where the policy has that, else unlabelled: CRI says that SELinux does
// not restrict it. Its options must be right all the same. field: for errors (INVALID_ARGUMENT).
int selinux_make_labels(const struct selinux *s, const char *field, const Cri__SELinuxOption *options,
                        const char *level, bool privileged, struct selinux_labels *out, struct error *err);

// Nothing is asked for: no options, or empty ones.
bool selinux_is_unset(const Cri__SELinuxOption *options);

// Gives everything in path (a host's file or directory; links in it are labelled, not followed) the label,
// and path itself last: when it has it already all of it has, and nothing is looked at. File systems that
// know no labels are left alone. FAILED_PRECONDITION for directories of the system's own, and for trees that
// are too deep.
int selinux_relabel(const char *path, const char *label, struct error *err);

// ---- selinux_level.c: pods' categories ----

// Once, before all else of these.
int selinux_level_prepare(const char *run_dir, struct error *err);
// The level of a pod, "s0:cA,cB" with categories that no other pod of this run directory has. The same pod
// gets the same one again until it is released.
int selinux_level_claim(const char *run_dir, const char *pod_id, char level[SELINUX_LEVEL_MAX],
                        struct error *err);
void selinux_level_release(const char *run_dir, const char *pod_id);
// Releases the levels of pods for which alive() says false.
void selinux_level_sweep(const char *run_dir, bool (*alive)(void *data, const char *pod_id), void *data);

#endif
