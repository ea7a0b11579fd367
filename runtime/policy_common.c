// Checks that pods and containers share.
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/apparmor.h"
#include "runtime/cgroup.h"
#include "runtime/policy_internal.h"
#include "runtime/selinux.h"

#define GROUPS_MAX    1024    // supplemental groups; the kernel takes 65,536
#define QUOTA_MIN_US  1000    // the kernel's bounds of CPU bandwidth
#define PERIOD_MIN_US 1000    //
#define PERIOD_MAX_US 1000000 //
#define HUGEPAGES_MAX 16
#define UNIFIED_MAX   32
#define RES(name)     "linux.resources." name

int policy_bad(struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int r = error_vset(err, STATUS_INVALID_ARGUMENT, EINVAL, format, args);
    va_end(args);
    return r;
}

int policy_missing(struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int r = error_vset(err, STATUS_UNIMPLEMENTED, ENOTSUP, format, args);
    va_end(args);
    return r;
}

static int check_id(const char *prefix, const char *name, int64_t id, struct error *err)
{
    // The kernel's (uid_t)-1 means "leave it".
    if (id >= 0 && id < UINT32_MAX)
        return 0;
    return policy_bad(err, "%s.%s: %lld is not between 0 and 4294967294", prefix, name, (long long)id);
}

int policy_check_ids(const char *prefix, const Cri__Int64Value *user, bool named_user,
                     const Cri__Int64Value *group, const int64_t *groups, size_t n_groups, struct error *err)
{
    if (user && named_user)
        return policy_bad(err, "%s: run_as_user and run_as_username are both set", prefix);
    int r = user ? check_id(prefix, "run_as_user", user->value, err) : 0;
    if (r == 0 && group && !user && !named_user)
        return policy_bad(err, "%s.run_as_group: is set without run_as_user or run_as_username", prefix);
    if (r == 0 && group)
        r = check_id(prefix, "run_as_group", group->value, err);
    if (r == 0 && n_groups > GROUPS_MAX)
        return policy_bad(err, "%s.supplemental_groups: more than %d", prefix, GROUPS_MAX);
    for (size_t i = 0; r == 0 && i < n_groups; i++)
        r = check_id(prefix, "supplemental_groups", groups[i], err);
    return r;
}

int policy_check_groups_policy(const char *field, Cri__SupplementalGroupsPolicy v, struct error *err)
{
    if (v == CRI__SUPPLEMENTAL_GROUPS_POLICY__Merge || v == CRI__SUPPLEMENTAL_GROUPS_POLICY__Strict)
        return 0;
    return policy_bad(err, "%s: unknown policy %d", field, (int)v);
}

int policy_check_seccomp(const char *field, const Cri__SecurityProfile *profile, const char *deprecated,
                         struct error *err)
{
    char ref[128]; // the field's or the deprecated one's name
    if (!profile) {
        (void)snprintf(ref, sizeof(ref), "%s_profile_path", field);
        if (str_empty(deprecated) || str_eq(deprecated, "unconfined") ||
            str_eq(deprecated, "runtime/default") || str_eq(deprecated, "docker/default"))
            return 0;
        if (!str_has_prefix(deprecated, "localhost/"))
            return policy_bad(err, "%s: unknown profile \"%.200s\"", ref, deprecated);
        return policy_check_path(ref, deprecated + strlen("localhost/"), err);
    }
    switch (profile->profile_type) {
    case CRI__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault:
    case CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined:
        if (!str_empty(profile->localhost_ref))
            return policy_bad(err, "%s.localhost_ref: is set, but profile_type isn't Localhost", field);
        return 0;
    case CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost:
        // Its content is judged when it is compiled.
        (void)snprintf(ref, sizeof(ref), "%s.localhost_ref", field);
        return policy_check_path(ref, profile->localhost_ref, err);
    default:
        return policy_bad(err, "%s.profile_type: unknown type %d", field, (int)profile->profile_type);
    }
}

int policy_check_apparmor(const struct policy *p, const char *field, const Cri__SecurityProfile *profile,
                          const char *deprecated, bool privileged, struct error *err)
{
    struct apparmor_choice choice;
    int r = apparmor_choose(field, profile, deprecated, &choice, err);
    // CRI's word for a privileged container: AppArmor is disabled, whatever the profile.
    return r < 0 || privileged ? r : apparmor_check(p->apparmor, field, &choice, err);
}

int policy_check_selinux(const struct policy *p, const char *field, const Cri__SELinuxOption *o,
                         struct error *err)
{
    struct selinux_labels labels;
    if (selinux_is_unset(o))
        return 0;
    if (!p->selinux)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         "%s: a label is asked for, but this host's kernel has no SELinux enabled", field);
    return selinux_make_labels(p->selinux, field, o, "", false, &labels, err);
}

int policy_check_path(const char *field, const char *path, struct error *err)
{
    if (str_empty(path))
        return policy_bad(err, "%s: is empty", field);
    if (path[0] != '/')
        return policy_bad(err, "%s: \"%.200s\" is not an absolute path", field, path);
    if (strlen(path) >= PATH_MAX)
        return policy_bad(err, "%s: is longer than %d bytes", field, PATH_MAX - 1);
    for (const char *p = path; *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return policy_bad(err, "%s: \"%.200s\" has a \"..\" in it", field, path);
        if (len > NAME_MAX)
            return policy_bad(err, "%s: a component of \"%.200s\" is longer than %d bytes", field, path,
                              NAME_MAX);
        p += len;
    }
    return 0;
}

// "0-3,7"
static int check_cpuset(const char *field, const char *value, struct error *err)
{
    if (strlen(value) < 500 && strspn(value, "0123456789,-") == strlen(value))
        return 0;
    return policy_bad(err, "%s: \"%.100s\" is not a list such as 0-3,7", field, value);
}

static int check_hugepages(const Cri__LinuxContainerResources *r, struct error *err)
{
    if (r->n_hugepage_limits > HUGEPAGES_MAX)
        return policy_bad(err, RES("hugepage_limits") ": more than %d", HUGEPAGES_MAX);
    for (size_t i = 0; i < r->n_hugepage_limits; i++) {
        const char *size = r->hugepage_limits[i]->page_size;
        size_t digits = strspn(size, "0123456789");
        const char *unit = size + digits;
        if (digits == 0 || digits > 8 || !(str_eq(unit, "KB") || str_eq(unit, "MB") || str_eq(unit, "GB")))
            return policy_bad(
                err, RES("hugepage_limits[%zu].page_size") ": \"%.40s\" is not a size such as 2MB", i, size);
    }
    return 0;
}

static int check_unified(const struct policy *p, const Cri__LinuxContainerResources *r, struct error *err)
{
    if (r->n_unified > UNIFIED_MAX)
        return policy_bad(err, RES("unified") ": more than %d", UNIFIED_MAX);
    for (size_t i = 0; i < r->n_unified; i++) {
        const char *key = r->unified[i]->key;
        // "memory.high": a controller's file; cgroup.* would move processes or kill them.
        if (!strchr(key, '.') || key[0] == '.' || strchr(key, '/') || strlen(key) > 60 ||
            str_has_prefix(key, "cgroup.") || str_has_suffix(key, ".pressure"))
            return policy_bad(err, RES("unified") ": \"%.60s\" is not a resource such as memory.high", key);
        if (!cgroup_host_is_v2(p->cgroups))
            return policy_bad(err, RES("unified") ": \"%.60s\" needs cgroup v2, and this host has cgroup v1",
                              key);
        if (strspn(r->unified[i]->value, " \n") == strlen(r->unified[i]->value))
            return policy_bad(err, RES("unified") ": the value of \"%.60s\" is empty", key);
    }
    return 0;
}

static int check_cpu(const Cri__LinuxContainerResources *r, struct error *err)
{
    if (r->cpu_shares < 0)
        return policy_bad(err, RES("cpu_shares") ": %lld is negative", (long long)r->cpu_shares);
    if (r->cpu_period != 0 && (r->cpu_period < PERIOD_MIN_US || r->cpu_period > PERIOD_MAX_US))
        return policy_bad(err, RES("cpu_period") ": %lld is not between %d and %d microseconds",
                          (long long)r->cpu_period, PERIOD_MIN_US, PERIOD_MAX_US);
    if (r->cpu_quota != 0 && r->cpu_quota != -1 && r->cpu_quota < QUOTA_MIN_US)
        return policy_bad(err, RES("cpu_quota") ": %lld is neither -1 (no limit) nor %d microseconds or more",
                          (long long)r->cpu_quota, QUOTA_MIN_US);
    int n = str_empty(r->cpuset_cpus) ? 0 : check_cpuset(RES("cpuset_cpus"), r->cpuset_cpus, err);
    return n < 0 || str_empty(r->cpuset_mems) ? n : check_cpuset(RES("cpuset_mems"), r->cpuset_mems, err);
}

static int check_memory(const Cri__LinuxContainerResources *r, struct error *err)
{
    int64_t limit = r->memory_limit_in_bytes, swap = r->memory_swap_limit_in_bytes;
    if (limit < -1)
        return policy_bad(err, RES("memory_limit_in_bytes") ": %lld is negative", (long long)limit);
    if (swap < -1)
        return policy_bad(err, RES("memory_swap_limit_in_bytes") ": %lld is negative", (long long)swap);
    // The kernels differ: v1's refuses it, v2's would go on limiting swap by what it was beside a limit.
    if (swap > 0 && limit < 0)
        return policy_bad(
            err,
            RES("memory_limit_in_bytes") ": -1 is no limit, but memory and swap together are "
                                         "limited to %lld: give memory_swap_limit_in_bytes -1 too",
            (long long)swap);
    if (swap > 0 && limit > swap)
        return policy_bad(err,
                          RES("memory_swap_limit_in_bytes") ": %lld (memory and swap together) is below the "
                                                            "memory limit of %lld",
                          (long long)swap, (long long)limit);
    if (r->oom_score_adj < -1000 || r->oom_score_adj > 1000)
        return policy_bad(err, RES("oom_score_adj") ": %lld is not between -1000 and 1000",
                          (long long)r->oom_score_adj);
    return 0;
}

int policy_validate_resources(const struct policy *p, const Cri__LinuxContainerResources *r,
                              struct error *err)
{
    if (!r)
        return 0;
    int n = check_cpu(r, err);
    if (n == 0)
        n = check_memory(r, err);
    if (n == 0)
        n = check_hugepages(r, err);
    return n < 0 ? n : check_unified(p, r, err);
}

int policy_validate_overhead(const struct policy *p, const Cri__LinuxContainerResources *r, struct error *err)
{
    int n = policy_validate_resources(p, r, err);
    if (n < 0 || !r)
        return n;
    const struct {
        const char *name;
        bool set;
    } others[] = {{"cpuset_cpus", !str_empty(r->cpuset_cpus)},
                  {"cpuset_mems", !str_empty(r->cpuset_mems)},
                  {"unified", r->n_unified > 0},
                  {"oom_score_adj", r->oom_score_adj != 0}};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (others[i].set)
            return policy_bad(err,
                              "linux.overhead.%s: is nothing that an overhead adds to: give it as one of "
                              "the pod's resources",
                              others[i].name);
    }
    return 0;
}
