// Capabilities, profiles and what of /proc and /sys is hidden.
#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/run_config.h"

// What kubelet hides by default: CRI has no default of its own, an empty list hides nothing.
static const char *const masked_paths[] = {
    "/proc/asound",      "/proc/acpi",          "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
};
static const char *const readonly_paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                             "/proc/sysrq-trigger"};

// On the wire an empty list is no list, in whose place a runtime may put its own: this one hides what isn't
// there.
static const char *const nothing[] = {"/proc/nothing-is-hidden"};

static void hide(struct run_config *c, bool hidden)
{
    c->security.masked_paths = (char **)masked_paths;
    c->security.n_masked_paths = hidden ? ARRAY_SIZE(masked_paths) : 0;
    c->security.readonly_paths = (char **)readonly_paths;
    c->security.n_readonly_paths = hidden ? ARRAY_SIZE(readonly_paths) : 0;
}

// CRI's names have no CAP_; docker takes both, in any case.
static int add_capabilities(struct run_config *c, const char *option, char **names, char ***list, size_t *n,
                            struct error *err)
{
    for (size_t i = 0; i < strv_len(names); i++) {
        const char *bare = strncasecmp(names[i], "CAP_", 4) == 0 ? names[i] + 4 : names[i];
        char *name = run_config_printf(c->arena, "%s", bare);
        for (char *p = name; *p; p++) {
            *p = (char)toupper((unsigned char)*p);
            if (!isupper((unsigned char)*p) && *p != '_')
                return run_config_bad(err, option, names[i],
                                      "a capability's name, such as NET_ADMIN, or ALL");
        }
        if (*name == '\0')
            return run_config_bad(err, option, names[i], "a capability's name, such as NET_ADMIN, or ALL");
        RUN_CONFIG_ADD(c->arena, *list, *n, name);
    }
    return 0;
}

// The runtime reads the file, so its path must be whole.
static int take_seccomp(struct run_config *c, const char *value, struct error *err)
{
    char path[PATH_MAX];

    if (str_eq(value, "unconfined")) {
        c->seccomp.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    } else if (!str_eq(value, "builtin")) {
        if (!realpath(value, path))
            return error_errno(err, errno, "--security-opt seccomp=%s", value);
        c->seccomp.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
        c->seccomp.localhost_ref = run_config_printf(c->arena, "%s", path);
    }
    return 0;
}

static int take_apparmor(struct run_config *c, const char *value, struct error *err)
{
    if (str_empty(value))
        return run_config_bad(err, "security-opt", "apparmor=", "apparmor=PROFILE or apparmor=unconfined");
    cri__security_profile__init(&c->apparmor);
    c->security.apparmor = &c->apparmor;
    c->apparmor.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
    c->apparmor.localhost_ref = (char *)value;
    if (str_eq(value, "unconfined")) {
        c->apparmor.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
        c->apparmor.localhost_ref = (char *)"";
    } else if (str_eq(value, "runtime/default")) {
        c->apparmor.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
        c->apparmor.localhost_ref = (char *)"";
    }
    return 0;
}

static int take_label(struct run_config *c, const char *value, struct error *err)
{
    const struct {
        const char *prefix;
        char **field;
    } parts[] = {{"user:", &c->selinux.user},
                 {"role:", &c->selinux.role},
                 {"type:", &c->selinux.type},
                 {"level:", &c->selinux.level}};

    if (!c->security.selinux_options)
        cri__selinux_option__init(&c->selinux);
    c->security.selinux_options = &c->selinux;
    if (str_eq(value, "disable")) { // docker's word for the type that is confined by nothing
        c->selinux.type = (char *)"spc_t";
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (str_has_prefix(value, parts[i].prefix) && value[strlen(parts[i].prefix)]) {
            *parts[i].field = (char *)value + strlen(parts[i].prefix);
            return 0;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                     "--security-opt label=%s: must be label=user:U, role:R, type:T, level:L or disable",
                     value);
}

static int take_no_new_privileges(struct run_config *c, const char *text, const char *value,
                                  struct error *err)
{
    if (value && !str_eq(value, "true") && !str_eq(value, "false"))
        return run_config_bad(err, "security-opt", text, "no-new-privileges, with =true or =false");
    c->security.no_new_privs = !value || str_eq(value, "true");
    return 0;
}

// "name=value"; docker also takes ":" between them.
static int take_option(struct run_config *c, const char *text, struct error *err)
{
    size_t len = strcspn(text, "=:");
    char *name = run_config_printf(c->arena, "%.*s", (int)len, text);
    const char *value = text[len] ? text + len + 1 : NULL;

    if (str_eq(name, "no-new-privileges"))
        return take_no_new_privileges(c, text, value, err);
    if (value && str_eq(name, "seccomp"))
        return take_seccomp(c, value, err);
    if (value && str_eq(name, "apparmor"))
        return take_apparmor(c, value, err);
    if (value && str_eq(name, "label"))
        return take_label(c, value, err);
    if (str_eq(name, "systempaths") && str_eq(value, "unconfined")) {
        hide(c, false);
        c->security.masked_paths = (char **)nothing;
        c->security.n_masked_paths = ARRAY_SIZE(nothing);
        return 0;
    }
    return run_config_bad(err, "security-opt", text,
                          "seccomp=FILE, apparmor=PROFILE, no-new-privileges, label=PART:VALUE or "
                          "systempaths=unconfined");
}

int run_config_security(struct run_config *c, const struct security_options *o, struct error *err)
{
    Cri__Capability *caps = &c->capabilities;

    cri__security_profile__init(&c->seccomp); // RuntimeDefault
    c->security.seccomp = &c->seccomp;
    c->security.privileged = c->pod_security.privileged = o->privileged;
    c->security.readonly_rootfs = o->read_only;
    hide(c, !o->privileged);
    cri__capability__init(caps);
    c->security.capabilities = caps;
    int rc =
        add_capabilities(c, "cap-add", o->cap_add, &caps->add_capabilities, &caps->n_add_capabilities, err);
    if (rc == 0)
        rc = add_capabilities(c, "cap-drop", o->cap_drop, &caps->drop_capabilities,
                              &caps->n_drop_capabilities, err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->security_opt); i++)
        rc = take_option(c, o->security_opt[i], err);
    return rc;
}
