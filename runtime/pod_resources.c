// A pod's own resources: its containers' sum and its overhead, as kubelet tells them.
//
// The pod's place in the cgroups is kubelet's, which has limited it already: then they are kept and told, and
// nothing else. Only a place that is the pod's alone (a pod without a cgroup_parent) gets them: one that a
// cgroup_parent names may be another pod's as well, also where we had to make it. Nor does a scope: systemd
// writes a unit's own files again as it likes.
#include "runtime/resources.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/update_journal.h"

#define ARENA_MAX (2u << 20)

// A kubelet that doesn't manage pods' cgroups (cgroupsPerQOS: false) tells sums all the same, in which
// containers without a limit don't count: they would be bound by the limits of the others.
static bool is_kubelets(const struct pod *pod)
{
    for (size_t i = 0; i < pod->config->n_labels; i++) {
        if (str_eq(pod->config->labels[i]->key, "io.kubernetes.pod.uid"))
            return true;
    }
    return false;
}

static bool is_limited_here(const struct pod *pod)
{
    const char *place = pod->private->cgroup;
    return pod->private->cgroup_levels > 0 && cgroup_pod_owns(place, pod->id) &&
           !str_has_suffix(place, ".scope") && !is_kubelets(pod);
}

// What its containers were asked to have of its CPUs and memory nodes.
static int leaves_of(struct runtime *rt, struct pod *pod, struct arena *arena, struct cgroup_leaf **leaves,
                     size_t *n, struct error *err)
{
    struct container **all;
    int r = runtime_container_list(rt, pod, true, &all, n, err);
    if (r < 0)
        return r;
    *leaves = arena_alloc(arena, (*n + 1) * sizeof(**leaves));
    for (size_t i = 0; *leaves && i < *n; i++) {
        const Cri__LinuxContainerResources *asked = container_asked_resources(rt, all[i], arena);
        (*leaves)[i].path = arena_strdup(arena, all[i]->cgroup);
        if (asked)
            (*leaves)[i] = (struct cgroup_leaf){(*leaves)[i].path, asked->cpuset_cpus, asked->cpuset_mems};
        if (!(*leaves)[i].path)
            *leaves = NULL;
    }
    runtime_containers_free(all, *n);
    return *leaves ? 0 : error_errno(err, ENOMEM, "list the pod's containers");
}

static int apply(struct runtime *rt, struct pod *pod, const Cri__LinuxContainerResources *resources,
                 const Cri__LinuxContainerResources *overhead, struct update_journal *journal,
                 struct arena *arena, struct cgroup_undo **undo, struct error *err)
{
    struct cgroup_update_more more = {.journal = journal ? update_journal_save : NULL, .arg = journal};
    if (!is_limited_here(pod) || (!resources && !overhead))
        return 0;
    Cri__LinuxContainerResources *sum = resources_sum(resources, overhead, arena);
    if (!sum)
        return error_errno(err, ENOMEM, "add up the pod's resources");
    struct cgroup_leaf *leaves;
    int r = policy_validate_resources(rt->policy, sum, err);
    if (r == 0)
        r = leaves_of(rt, pod, arena, &leaves, &more.n_leaves, err);
    if (r < 0)
        return r;
    more.leaves = leaves;
    return cgroup_update_with(rt->cgroups, pod->private->cgroup, sum, &more, undo, err);
}

int pod_apply_resources(struct runtime *rt, struct pod *pod, struct error *err)
{
    const Cri__LinuxPodSandboxConfig *l = pod->config->linux;
    if (!l || (!l->resources && !l->overhead) || !is_limited_here(pod))
        return 0;
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(ARENA_MAX);
    if (!arena)
        return error_errno(err, ENOMEM, "limit the pod");
    int r = apply(rt, pod, l->resources, l->overhead, NULL, arena, NULL, err);
    return r < 0 ? error_wrap(err, "the pod's resources and overhead") : 0;
}

static Cri__LinuxContainerResources *current(Cri__LinuxContainerResources *updated,
                                             Cri__LinuxContainerResources *configured)
{
    return updated ? updated : configured;
}

void runtime_pod_resources(struct runtime *rt, struct pod *pod, struct arena *arena,
                           struct pod_resources *out)
{
    const Cri__LinuxPodSandboxConfig *l = pod->config->linux;
    store_lock(rt);
    const Cri__LinuxContainerResources *r = current(pod->private->resources, l ? l->resources : NULL),
                                       *o = current(pod->private->overhead, l ? l->overhead : NULL);
    out->resources = r ? (Cri__LinuxContainerResources *)pb_dup(&r->base, arena) : NULL;
    out->overhead = o ? (Cri__LinuxContainerResources *)pb_dup(&o->base, arena) : NULL;
    store_unlock(rt);
}

// On the heap; NULL (and *full) when there is no memory, or nothing to merge.
static Cri__LinuxContainerResources *merged(const Cri__LinuxContainerResources *old,
                                            const Cri__LinuxContainerResources *change, struct arena *arena,
                                            bool *full)
{
    if (!old && !change)
        return NULL;
    Cri__LinuxContainerResources none = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    Cri__LinuxContainerResources *m = resources_merge(old, change ? change : &none, arena);
    Cri__LinuxContainerResources *copy = m ? (Cri__LinuxContainerResources *)pb_dup(&m->base, NULL) : NULL;
    *full = *full || !copy;
    return copy;
}

static void swap_in(struct runtime *rt, struct pod *pod, struct pod_resources *new)
{
    struct pod_private *p = pod->private;
    struct pod_resources old;
    store_lock(rt);
    old = (struct pod_resources){.resources = p->resources, .overhead = p->overhead};
    p->resources = new->resources;
    p->overhead = new->overhead;
    store_unlock(rt);
    *new = old;
}

static void pod_resources_done(struct pod_resources *r)
{
    if (r->resources)
        cri__linux_container_resources__free_unpacked(r->resources, NULL);
    if (r->overhead)
        cri__linux_container_resources__free_unpacked(r->overhead, NULL);
}

static int update(struct runtime *rt, struct pod *pod, const Cri__LinuxContainerResources *overhead,
                  const Cri__LinuxContainerResources *resources, struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(ARENA_MAX);
    struct pod_resources now, new __attribute__((cleanup(pod_resources_done))) = {0};
    struct cgroup_undo *undo = NULL;
    bool full = false;
    if (!arena)
        return error_errno(err, ENOMEM, "merge the resources");
    runtime_pod_resources(rt, pod, arena, &now);
    new.resources = merged(now.resources, resources, arena, &full);
    new.overhead = merged(now.overhead, overhead, arena, &full);
    if (full)
        return error_errno(err, ENOMEM, "merge the resources");
    struct update_journal journal = {.pod = pod, .name = UPDATE_JOURNAL_POD};
    journal.record[0] = new.resources ? &new.resources->base : NULL;
    journal.record[1] = new.overhead ? &new.overhead->base : NULL;
    int r = apply(rt, pod, new.resources, new.overhead, &journal, arena, &undo, err);
    if (r == 0) {
        r = record_pod_resources(rt, pod, &new, err);
        if (r < 0 && undo)
            (void)cgroup_undo_update(rt->cgroups, undo, NULL);
        cgroup_undo_free(undo);
    }
    update_journal_drop(&journal);
    if (r == 0)
        swap_in(rt, pod, &new);
    return r;
}

int runtime_pod_update(struct runtime *rt, struct pod *pod, const Cri__LinuxContainerResources *overhead,
                       const Cri__LinuxContainerResources *resources, const struct ctx *ctx,
                       struct error *err)
{
    int r = policy_validate_overhead(rt->policy, overhead, err);
    if (r < 0)
        return error_wrap(err, "update pod sandbox %s: overhead", pod->id);
    r = policy_validate_resources(rt->policy, resources, err);
    if (r == 0)
        r = runtime_pod_enter(rt, pod, ctx, err);
    if (r < 0)
        return error_wrap(err, "update pod sandbox %s", pod->id);
    store_lock(rt);
    bool ready = pod->private->state == POD_READY;
    store_unlock(rt);
    r = ready ? update(rt, pod, overhead, resources, err)
              : error_set(err, STATUS_FAILED_PRECONDITION, ESHUTDOWN, "it is not ready");
    runtime_pod_leave(rt, pod);
    return r < 0 ? error_wrap(err, "update pod sandbox %s", pod->id) : 0;
}
