// What the host makes of the policy, told to people: in the log at start, and in the verbose Status.
#include <jansson.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "runtime/apparmor.h"
#include "runtime/policy.h"
#include "runtime/selinux.h"

static bool can_raise(const struct policy *p)
{
    return p->caps_held >> CAP_SYS_RESOURCE & 1;
}

void policy_log_limits(const struct policy *p)
{
    if (p->apparmor && !apparmor_parser(p->apparmor))
        log_warn(
            "AppArmor is enabled, but there is no apparmor_parser: containers that ask for no profile run"
            " unconfined by it");
    if (p->selinux && !selinux_process_default(p->selinux)[0])
        log_warn(
            "SELinux is enabled, but its policy has no type for containers: those that ask for no type run"
            " with the label that the policy gives to what crispd starts");
    for (size_t i = 0; i < p->rlimits.n; i++) {
        const struct rlimit_spec *r = &p->rlimits.items[i];
        uint64_t got;
        char text[32];
        if (!rlimit_is_out_of_reach(r, can_raise(p), &got))
            continue;
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)got);
        log_warn("a resource limit of runtime.rlimits can't be raised that far: containers get less", "limit",
                 rlimit_name(r->resource), "hard", text);
    }
}

static json_t *apparmor_json(const struct policy *p)
{
    const char *parser = p->apparmor ? apparmor_parser(p->apparmor) : NULL;
    return json_pack("{s:b, s:s?, s:s?}", "enabled", p->apparmor != NULL, "parser", parser, "defaultProfile",
                     parser ? APPARMOR_DEFAULT_NAME : NULL);
}

static json_t *selinux_json(const struct policy *p)
{
    const struct selinux *s = p->selinux;
    if (!s)
        return json_pack("{s:b}", "enabled", 0);
    return json_pack("{s:b, s:b, s:b, s:s, s:s}", "enabled", 1, "enforcing", selinux_is_enforcing(s),
                     "levels", selinux_has_levels(s), "processLabel", selinux_process_default(s), "fileLabel",
                     selinux_file_default(s));
}

static json_t *rlimits_json(const struct policy *p)
{
    json_t *all = json_object();
    for (size_t i = 0; i < p->rlimits.n; i++) {
        const struct rlimit_spec *r = &p->rlimits.items[i];
        uint64_t got = r->hard;
        (void)rlimit_is_out_of_reach(r, can_raise(p), &got);
        // -1 for no limit: JSON's numbers are signed.
        (void)json_object_set_new(all, rlimit_name(r->resource),
                                  json_pack("{s:I, s:I}", "soft", (json_int_t)(r->soft < got ? r->soft : got),
                                            "hard", (json_int_t)got));
    }
    return all;
}

char *policy_host_json(const struct policy *p)
{
    json_t *json = json_pack("{s:o, s:o, s:o}", "apparmor", apparmor_json(p), "selinux", selinux_json(p),
                             "rlimits", rlimits_json(p));
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
