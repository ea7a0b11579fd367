// The host's facts, and the questions that the rest of the runtime asks of a config.
#include "runtime/policy.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/apparmor.h"
#include "runtime/caps.h"
#include "runtime/features.h"
#include "runtime/seccomp.h"
#include "runtime/selinux.h"

// The first compilation learns all system calls' names, which takes milliseconds: not in a client's call.
static void warm(struct policy *p)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(1u << 20);
    const Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    struct seccomp_filter filter;
    if (arena)
        (void)seccomp_cache_get(p->seccomp, &profile, caps_default() & p->caps_held, arena, &filter, NULL);
}

int policy_open(struct cgroup_host *cgroups, struct policy **out, struct error *err)
{
    struct policy *p = calloc(1, sizeof(*p));
    if (!p)
        return error_errno(err, ENOMEM, "open the policy");
    p->cgroups = cgroups;
    p->recursive_readonly = features_probe_recursive_readonly("/");
    p->seccomp = seccomp_cache_new();
    int r = p->seccomp ? caps_held(&p->caps_held, err) : error_errno(err, ENOMEM, "open the policy");
    if (r == 0)
        r = apparmor_open(NULL, &p->apparmor, err);
    if (r == 0)
        r = selinux_open(NULL, &p->selinux, err);
    if (r < 0) {
        policy_close(p);
        return r;
    }
    warm(p);
    *out = p;
    return 0;
}

void policy_close(struct policy *p)
{
    if (!p)
        return;
    seccomp_cache_free(p->seccomp);
    apparmor_close(p->apparmor);
    selinux_close(p->selinux);
    free(p);
}

static const Cri__NamespaceOption *pod_namespaces(const Cri__PodSandboxConfig *pod)
{
    return pod->linux && pod->linux->security_context ? pod->linux->security_context->namespace_options
                                                      : NULL;
}

bool policy_host_network(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o = pod_namespaces(pod);
    return o && o->network == CRI__NAMESPACE_MODE__NODE;
}

bool policy_host_ipc(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o = pod_namespaces(pod);
    return o && o->ipc == CRI__NAMESPACE_MODE__NODE;
}

bool policy_host_pid(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o = pod_namespaces(pod);
    return o && o->pid == CRI__NAMESPACE_MODE__NODE;
}

bool policy_own_pids(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o = pod_namespaces(pod);
    return o && o->pid == CRI__NAMESPACE_MODE__CONTAINER;
}

bool policy_pod_pid(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o = pod_namespaces(pod);
    return o && o->pid == CRI__NAMESPACE_MODE__POD;
}

bool policy_own_userns(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o = pod_namespaces(pod);
    return o && o->userns_options && o->userns_options->mode == CRI__NAMESPACE_MODE__POD;
}
