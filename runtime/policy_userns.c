// User namespaces: what kubelet may ask for. It sends one mapping of user ids and one of group ids, both from
// 0 on inside; more than that no peer takes either.
#include <inttypes.h>
#include <stdio.h>

#include "base/str.h"
#include "runtime/policy_internal.h"

static int check_mapping(const char *field, const char *kind, Cri__IDMapping *const *list, size_t n,
                         struct error *err)
{
    if (n == 0)
        return policy_bad(err, "%s.%s: no mapping, but mode is POD", field, kind);
    if (n > 1)
        return policy_bad(err, "%s.%s: %zu mappings, but only one is supported", field, kind, n);
    const Cri__IDMapping *m = list[0];
    if (m->container_id != 0)
        return policy_bad(err, "%s.%s[0].container_id: is %" PRIu32 ", but id 0 has to be mapped", field,
                          kind, m->container_id);
    // The last id, 4294967295, is "none" to the kernel.
    if (m->length == 0 || (uint64_t)m->host_id + m->length > UINT32_MAX)
        return policy_bad(err, "%s.%s[0]: %" PRIu32 " ids from host_id %" PRIu32 " on can't be mapped", field,
                          kind, m->length, m->host_id);
    return 0;
}

int policy_check_userns(const struct policy *p, const char *field, const Cri__UserNamespace *o,
                        struct error *err)
{
    if (!o || o->mode == CRI__NAMESPACE_MODE__NODE) {
        if (o && (o->n_uids > 0 || o->n_gids > 0))
            return policy_bad(err, "%s: mode NODE (the host's user namespace) takes no uids or gids", field);
        return 0;
    }
    if (o->mode != CRI__NAMESPACE_MODE__POD)
        return policy_bad(err, "%s.mode: %d is neither POD nor NODE", field, (int)o->mode);
    int r = check_mapping(field, "uids", o->uids, o->n_uids, err);
    if (r == 0)
        r = check_mapping(field, "gids", o->gids, o->n_gids, err);
    if (r == 0 && !p->userns)
        r = error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                      "%s: this host can't run pods with user namespaces: %s", field, p->userns_why_not);
    return r;
}

const Cri__UserNamespace *policy_userns(const Cri__PodSandboxConfig *pod)
{
    const Cri__NamespaceOption *o =
        pod->linux && pod->linux->security_context ? pod->linux->security_context->namespace_options : NULL;
    const Cri__UserNamespace *u = o ? o->userns_options : NULL;
    return u && u->mode == CRI__NAMESPACE_MODE__POD && u->n_uids == 1 && u->n_gids == 1 ? u : NULL;
}

void policy_root_ids(const Cri__PodSandboxConfig *pod, uint32_t *uid, uint32_t *gid)
{
    const Cri__UserNamespace *u = policy_userns(pod);
    *uid = u ? u->uids[0]->host_id : 0;
    *gid = u ? u->gids[0]->host_id : 0;
}

static bool same(Cri__IDMapping *const *a, size_t n_a, Cri__IDMapping *const *b, size_t n_b)
{
    if (n_a != n_b)
        return false;
    for (size_t i = 0; i < n_a; i++) {
        if (a[i]->container_id != b[i]->container_id || a[i]->host_id != b[i]->host_id ||
            a[i]->length != b[i]->length)
            return false;
    }
    return true;
}

int policy_check_same_userns(const Cri__PodSandboxConfig *pod, const char *field, const Cri__UserNamespace *o,
                             struct error *err)
{
    const Cri__UserNamespace *u = policy_userns(pod);
    if (!o) // crictl says it for the pod only
        return 0;
    if (o->mode != CRI__NAMESPACE_MODE__POD && o->mode != CRI__NAMESPACE_MODE__NODE)
        return policy_bad(err, "%s.mode: %d is neither POD nor NODE", field, (int)o->mode);
    if (o->mode == CRI__NAMESPACE_MODE__NODE && (o->n_uids > 0 || o->n_gids > 0))
        return policy_bad(err, "%s: mode NODE (the host's user namespace) takes no uids or gids", field);
    if ((o->mode == CRI__NAMESPACE_MODE__POD) != (u != NULL) ||
        (u && (!same(o->uids, o->n_uids, u->uids, 1) || !same(o->gids, o->n_gids, u->gids, 1))))
        return policy_bad(err, "%s: differs from the pod's, whose user namespace all its containers share",
                          field);
    return 0;
}

int policy_check_mount_ids(const Cri__PodSandboxConfig *pod, const char *field, const Cri__Mount *m,
                           struct error *err)
{
    const Cri__UserNamespace *u = policy_userns(pod);
    if (m->n_uidmappings == 0 && m->n_gidmappings == 0)
        return 0;
    if (!u)
        return policy_bad(err, "%s.uidMappings: the pod has no user namespace that ids could be mapped for",
                          field);
    if (!same(m->uidmappings, m->n_uidmappings, u->uids, 1) ||
        !same(m->gidmappings, m->n_gidmappings, u->gids, 1))
        return policy_bad(err, "%s.uidMappings: the mappings differ from those of the pod's user namespace",
                          field);
    return 0;
}

static int check_id(const char *prefix, const char *name, const Cri__IDMapping *m, int64_t id,
                    struct error *err)
{
    if (id < m->length)
        return 0;
    return policy_bad(err, "%s.%s: %lld does not exist in the pod's user namespace, which maps 0 to %" PRIu32,
                      prefix, name, (long long)id, m->length - 1);
}

int policy_check_mapped(const Cri__PodSandboxConfig *pod, const char *prefix,
                        const Cri__LinuxContainerSecurityContext *sc, struct error *err)
{
    const Cri__UserNamespace *u = policy_userns(pod);
    if (!u)
        return 0;
    int r = sc->run_as_user ? check_id(prefix, "run_as_user", u->uids[0], sc->run_as_user->value, err) : 0;
    if (r == 0 && sc->run_as_group)
        r = check_id(prefix, "run_as_group", u->gids[0], sc->run_as_group->value, err);
    for (size_t i = 0; r == 0 && i < sc->n_supplemental_groups; i++)
        r = check_id(prefix, "supplemental_groups", u->gids[0], sc->supplemental_groups[i], err);
    return r;
}
