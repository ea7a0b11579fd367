// The Container Device Interface: vendors describe in files what a container needs for a device (nodes,
// mounts, environment, groups, hooks), and containers ask for devices by name, "vendor.com/class=name".
//
// Spec versions 0.3.0 to 1.1.0 of github.com/cncf-tags/container-device-interface, as JSON or YAML files in
// the configured directories, a later directory before an earlier one. A file that is wrong is set aside with
// an error that names file and key; the others work on. What was read is kept until a file or directory
// changes.
#ifndef RUNTIME_CDI_H
#define RUNTIME_CDI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cri/api.pb-c.h"
#include "base/arena.h"
#include "base/error.h"

struct json_t;
struct cdi_snapshot;

#define CDI_NAME_MAX       512 // bytes of a qualified device name
#define CDI_REQUESTS_MAX   1024
#define CDI_ANNOTATION     "cdi.k8s.io/" // the prefix of annotations that name devices
#define CDI_FILE_BYTES_MAX ((size_t)4 << 20)

// ---- What a file says -------------------------------------------------------------------------------------

// Lists begin with the pointer, then the count (cdi_parse.c relies on it).
struct cdi_texts {
    char **v;
    size_t n;
};

struct cdi_number {
    bool set;
    int64_t value;
};

struct cdi_node {
    const char *path;      // in the container; absolute
    const char *host_path; // "": the same
    const char *type;      // "b", "c", "u" (as c), "p", "": the host's
    struct cdi_number major, minor, mode, uid, gid;
    const char *permissions; // of "rwm"; "": all; "none": no rule of the cgroup
};

struct cdi_mount {
    const char *host_path, *container_path; // absolute
    const char *type;                       // "": bind
    struct cdi_texts options;
};

enum cdi_hook_point {
    CDI_PRESTART,
    CDI_CREATE_RUNTIME,
    CDI_CREATE_CONTAINER,
    CDI_START_CONTAINER,
    CDI_POSTSTART,
    CDI_POSTSTOP,
    CDI_HOOK_POINTS,
};
extern const char *const cdi_hook_names[CDI_HOOK_POINTS];

struct cdi_hook {
    const char *name; // of cdi_hook_names
    enum cdi_hook_point point;
    const char *path; // absolute
    struct cdi_texts args, env;
    struct cdi_number timeout_s;
};

struct cdi_edits {
    struct cdi_texts env;
    struct {
        struct cdi_node *v;
        size_t n;
    } nodes;
    struct {
        struct cdi_mount *v;
        size_t n;
    } mounts;
    struct {
        struct cdi_hook *v;
        size_t n;
    } hooks;
    struct {
        uint32_t *v;
        size_t n;
    } gids;
    const char *unsupported; // NULL, or the key of something that we don't do: told to who asks for it
    const char *key;         // where in the file: "containerEdits", "devices[2].containerEdits"
};

struct cdi_device {
    const char *name;
    struct cdi_edits edits;
};

struct cdi_spec {
    const char *file;
    const char *version, *kind;
    struct cdi_edits edits; // for a container that gets any of the devices
    struct {
        struct cdi_device *v;
        size_t n;
    } devices;
};

// A spec in arena from a file's text. INVALID_ARGUMENT "FILE: KEY: what is wrong".
int cdi_parse(const char *file, const char *text, size_t len, bool yaml, struct arena *arena,
              struct cdi_spec **out, struct error *err);
// cdi_text.c: JSON or YAML as jansson's tree, the caller's; NULL: *err says why.
struct json_t *cdi_text_load(const char *file, const char *text, size_t len, bool yaml, struct error *err);

bool cdi_vendor_or_class_valid(const char *s, size_t len);
bool cdi_device_name_valid(const char *s, size_t len);
bool cdi_name_valid(const char *name); // "vendor.com/class=name"

// ---- The files -------------------------------------------------------------------------------------------

struct cdi;

// dirs: NULL-terminated, the least important first; copied. They need not exist. Nothing is read yet.
int cdi_open(char *const *dirs, struct cdi **out, struct error *err);
void cdi_close(struct cdi *c); // NULL is fine

// Edits in the order in which they apply. Each file's own edits come once, before those of its first device.
struct cdi_edit {
    const struct cdi_edits *edits;
    const char *device; // which was asked for
    const char *file;
};
struct cdi_set {
    const struct cdi_edit *v;
    size_t n;
    struct cdi *registry;
    struct cdi_snapshot *snapshot;
};

// The edits for these devices (a name that comes twice counts once), in arena; what they point to is held
// until cdi_set_done(). Thread-safe. FAILED_PRECONDITION names a device that no file has, or that two files
// of one directory have; UNIMPLEMENTED the key of an edit that can't be made.
int cdi_resolve(struct cdi *c, char *const *names, size_t n, struct arena *arena, struct cdi_set *out,
                struct error *err);
void cdi_set_done(struct cdi_set *set);

// What there is, as a JSON object: "dirs", "devices", "errors". The caller frees; NULL: no memory.
char *cdi_describe(struct cdi *c);

// ---- What a container asks for ---------------------------------------------------------------------------

// Is every name one? INVALID_ARGUMENT names the field or the annotation.
int cdi_check_requests(const Cri__ContainerConfig *config, struct error *err);
bool cdi_is_requested(const Cri__ContainerConfig *config);
// The names, in arena: those of CDI_devices, then those of annotations. The config was checked.
int cdi_list_requests(const Cri__ContainerConfig *config, struct arena *arena, char ***names, size_t *n,
                      struct error *err);

#endif
