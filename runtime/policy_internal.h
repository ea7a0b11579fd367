// What the validating files share; nobody else includes it.
#ifndef RUNTIME_POLICY_INTERNAL_H
#define RUNTIME_POLICY_INTERNAL_H

#include "runtime/policy.h"

// The errors of a config: each begins with the field's name as CRI spells it.
int policy_bad(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
int policy_missing(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// prefix: "linux.security_context". Ids beyond 32 bits, a group without a user.
int policy_check_ids(const char *prefix, const Cri__Int64Value *user, bool named_user,
                     const Cri__Int64Value *group, const int64_t *groups, size_t n_groups, struct error *err);
int policy_check_seccomp(const char *field, const Cri__SecurityProfile *profile, const char *deprecated,
                         struct error *err);
int policy_check_apparmor(const struct policy *p, const char *field, const Cri__SecurityProfile *profile,
                          const char *deprecated, bool privileged, struct error *err);
int policy_check_selinux(const struct policy *p, const char *field, const Cri__SELinuxOption *o,
                         struct error *err);
// policy_userns.c. What a pod may ask for: one range of user ids and one of group ids, from 0 on inside.
int policy_check_userns(const struct policy *p, const char *field, const Cri__UserNamespace *o,
                        struct error *err);
// A container's own words must be the pod's, or none.
int policy_check_same_userns(const Cri__PodSandboxConfig *pod, const char *field, const Cri__UserNamespace *o,
                             struct error *err);
// field: "mounts[3]". A volume's mapping must be the pod's too.
int policy_check_mount_ids(const Cri__PodSandboxConfig *pod, const char *field, const Cri__Mount *m,
                           struct error *err);
// run_as_user and the like: ids that don't exist in the pod's user namespace can't be used.
int policy_check_mapped(const Cri__PodSandboxConfig *pod, const char *prefix,
                        const Cri__LinuxContainerSecurityContext *sc, struct error *err);
int policy_check_groups_policy(const char *field, Cri__SupplementalGroupsPolicy v, struct error *err);
int policy_check_sysctls(const Cri__PodSandboxConfig *pod, struct error *err);
// Absolute, without ".." components, shorter than PATH_MAX.
int policy_check_path(const char *field, const char *path, struct error *err);

#endif
