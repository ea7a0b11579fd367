// ListContainers, StreamContainers and ContainerStatus: answered from memory, but for resources that weren't
// read for a second.
#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc_list.h"
#include "cri/rpc_util.h"
#include "runtime/policy.h"
#include "runtime/runtime.h"

static Cri__ContainerState state_of(const struct container_view *v)
{
    switch (v->state) {
    case CONTAINER_MAKING:
    case CONTAINER_CREATED:
        return CRI__CONTAINER_STATE__CONTAINER_CREATED;
    case CONTAINER_RUNNING:
        return CRI__CONTAINER_STATE__CONTAINER_RUNNING;
    case CONTAINER_EXITED:
        return CRI__CONTAINER_STATE__CONTAINER_EXITED;
    case CONTAINER_UNKNOWN:
        break;
    }
    return CRI__CONTAINER_STATE__CONTAINER_UNKNOWN;
}

// As the user wrote it: kubelet resolves names to ids before it creates a container.
static Cri__ImageSpec *image_of(struct rpc_call *call, const struct container *c)
{
    if (!c->config->image)
        return RPC_NEW(call, cri__image_spec, Cri__ImageSpec);
    Cri__ImageSpec *spec = (Cri__ImageSpec *)pb_dup(&c->config->image->base, call->arena);
    if (spec && !str_empty(spec->user_specified_image))
        spec->image = spec->user_specified_image;
    return spec;
}

// ---- List ----

static bool matches(const struct container *c, const struct container_view *v, const Cri__ContainerFilter *f)
{
    if (!f)
        return true;
    if (!str_empty(f->id) && !str_has_prefix(c->id, f->id))
        return false;
    if (!str_empty(f->pod_sandbox_id) && !str_has_prefix(c->pod->id, f->pod_sandbox_id))
        return false;
    if (f->state && f->state->state != state_of(v))
        return false;
    return rpc_map_matches(c->config->n_labels, c->config->labels, f->n_label_selector, f->label_selector);
}

static Cri__Container *list_item(struct rpc_call *call, const struct container *c,
                                 const struct container_view *v)
{
    const Cri__ContainerConfig *config = c->config;
    Cri__Container *item = RPC_NEW(call, cri__container, Cri__Container);
    bool full = false;
    if (!item)
        return NULL;
    item->id = arena_strdup(call->arena, c->id);
    item->pod_sandbox_id = arena_strdup(call->arena, c->pod->id);
    item->metadata = (Cri__ContainerMetadata *)pb_dup(&config->metadata->base, call->arena);
    item->image = image_of(call, c);
    item->image_ref = item->image_id = arena_strdup(call->arena, c->image_id);
    item->state = state_of(v);
    item->created_at = c->created_at_ns;
    item->n_labels = config->n_labels;
    item->labels = rpc_map_copy(call, config->n_labels, config->labels,
                                &cri__container__labels_entry__descriptor, &full);
    item->n_annotations = config->n_annotations;
    item->annotations = rpc_map_copy(call, config->n_annotations, config->annotations,
                                     &cri__container__annotations_entry__descriptor, &full);
    return full || !item->id || !item->pod_sandbox_id || !item->metadata || !item->image || !item->image_ref
               ? NULL
               : item;
}

static int list(struct rpc_call *call, const Cri__ContainerFilter *filter,
                const ProtobufCMessageDescriptor *type, bool stream, ProtobufCMessage **response,
                struct error *err)
{
    struct container **all;
    struct rpc_list l;
    size_t n;
    int r = runtime_container_list(call->daemon->runtime, NULL, false, &all, &n, err);
    if (r < 0)
        return r;
    r = rpc_list_begin(&l, call, type, stream, n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct container_view v;
        runtime_container_view(call->daemon->runtime, all[i], &v);
        if (matches(all[i], &v, filter))
            r = rpc_list_add(&l, list_item(&l.call, all[i], &v), err);
    }
    runtime_containers_free(all, n);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_containers)
{
    const Cri__ListContainersRequest *in = (const Cri__ListContainersRequest *)request;
    return list(call, in->filter, &cri__list_containers_response__descriptor, false, response, err);
}

RPC_HANDLER(rpc_stream_containers)
{
    const Cri__StreamContainersRequest *in = (const Cri__StreamContainersRequest *)request;
    return list(call, in->filter, &cri__stream_containers_response__descriptor, true, response, err);
}

// ---- Status ----

static int add_mounts(struct rpc_call *call, const Cri__ContainerConfig *config, Cri__ContainerStatus *s)
{
    if (config->n_mounts == 0)
        return 0;
    s->mounts = arena_alloc(call->arena, config->n_mounts * sizeof(*s->mounts));
    for (size_t i = 0; s->mounts && i < config->n_mounts; i++) {
        s->mounts[i] = (Cri__Mount *)pb_dup(&config->mounts[i]->base, call->arena);
        if (!s->mounts[i])
            return -ENOMEM;
        s->n_mounts++;
    }
    return s->mounts ? 0 : -ENOMEM;
}

static int add_resources(struct rpc_call *call, const struct container_resources *resources,
                         Cri__ContainerStatus *s)
{
    if (!resources->in_force)
        return 0;
    s->resources = RPC_NEW(call, cri__container_resources, Cri__ContainerResources);
    if (!s->resources)
        return -ENOMEM;
    s->resources->linux = resources->in_force;
    return 0;
}

static int add_user(struct rpc_call *call, const Pod__ResolvedUser *user, Cri__ContainerStatus *s)
{
    if (!user)
        return 0;
    Cri__ContainerUser *outer = RPC_NEW(call, cri__container_user, Cri__ContainerUser);
    Cri__LinuxContainerUser *inner = RPC_NEW(call, cri__linux_container_user, Cri__LinuxContainerUser);
    if (!outer || !inner)
        return -ENOMEM;
    inner->uid = user->uid;
    inner->gid = user->gid;
    inner->supplemental_groups =
        arena_alloc(call->arena, (user->n_groups + 1) * sizeof(*inner->supplemental_groups));
    if (!inner->supplemental_groups)
        return -ENOMEM;
    for (size_t i = 0; i < user->n_groups; i++)
        inner->supplemental_groups[inner->n_supplemental_groups++] = user->groups[i];
    outer->linux = inner;
    s->user = outer;
    return 0;
}

static int add_labels(struct rpc_call *call, const Cri__ContainerConfig *config, Cri__ContainerStatus *s)
{
    bool full = false;
    s->n_labels = config->n_labels;
    s->labels = rpc_map_copy(call, config->n_labels, config->labels,
                             &cri__container_status__labels_entry__descriptor, &full);
    s->n_annotations = config->n_annotations;
    s->annotations = rpc_map_copy(call, config->n_annotations, config->annotations,
                                  &cri__container_status__annotations_entry__descriptor, &full);
    return full ? -ENOMEM : 0;
}

static Cri__ContainerStatus *status_of(struct rpc_call *call, const struct container *c,
                                       const struct container_view *v,
                                       const struct container_resources *resources)
{
    Cri__ContainerStatus *s = RPC_NEW(call, cri__container_status, Cri__ContainerStatus);
    if (!s)
        return NULL;
    s->id = arena_strdup(call->arena, c->id);
    s->metadata = (Cri__ContainerMetadata *)pb_dup(&c->config->metadata->base, call->arena);
    s->state = state_of(v);
    s->created_at = c->created_at_ns;
    s->started_at = v->started_at_ns;
    s->finished_at = v->finished_at_ns;
    s->exit_code = v->exit_code;
    s->image = image_of(call, c);
    s->image_ref = s->image_id = arena_strdup(call->arena, c->image_id);
    s->reason = rpc_str(v->reason);
    s->message = arena_strdup(call->arena, v->message);
    s->log_path = arena_strdup(call->arena, c->log_path);
    s->stop_signal = policy_signal_of_number(c->stop_signal);
    if (!s->id || !s->metadata || !s->image || !s->image_ref || !s->message || !s->log_path ||
        add_labels(call, c->config, s) < 0 || add_mounts(call, c->config, s) < 0 ||
        add_resources(call, resources, s) < 0 || add_user(call, v->user, s) < 0)
        return NULL;
    return s;
}

static json_t *strings_json(char *const *items, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(array, json_string(items[i])); // NULL (not UTF-8) is left out
    return array;
}

static json_t *mounts_json(const Pod__LaunchPlan *plan)
{
    json_t *array = json_array();
    for (size_t i = 0; i < plan->n_mounts; i++) {
        const Pod__Mount *m = plan->mounts[i];
        (void)json_array_append_new(array, json_pack("{s:s?, s:s?, s:s?}", "destination", m->destination,
                                                     "type", m->type, "source", m->source));
    }
    return array;
}

// The launch plan, as far as people ask for it. The environment is left out: it may hold secrets.
static json_t *plan_json(const Pod__LaunchPlan *plan)
{
    if (!plan || !plan->process || !plan->root)
        return json_null();
    return json_pack("{s:o, s:s?, s:b, s:o, s:o, s:s?, s:s?}", "args",
                     strings_json(plan->process->args, plan->process->n_args), "cwd", plan->process->cwd,
                     "readonlyRootfs", plan->root->readonly, "lowers",
                     strings_json(plan->root->lowers, plan->root->n_lowers), "mounts", mounts_json(plan),
                     "apparmorProfile", plan->process->apparmor_profile, "selinuxLabel",
                     plan->process->selinux_label);
}

// What was asked for and is not so, though nothing failed for it.
static json_t *warnings_json(const struct container_view *v, const struct container_resources *r)
{
    json_t *array = json_array();
    if (v->pid > 0 && r->in_force && r->in_force->oom_score_adj > r->asked_oom_score_adj)
        (void)json_array_append_new(
            array, json_sprintf("linux.resources.oom_score_adj: it is %d and not %d: lowering it takes "
                                "CAP_SYS_RESOURCE, or the container has raised it",
                                (int)r->in_force->oom_score_adj, (int)r->asked_oom_score_adj));
    return array;
}

static int add_info(struct rpc_call *call, struct container *c, const struct container_view *v,
                    const struct container_resources *resources, Cri__ContainerStatusResponse *out)
{
    const Pod__LaunchPlan *plan = runtime_container_plan(call->daemon->runtime, c, call->arena);
    _cleanup_free_ char *health = runtime_container_health(call->daemon->runtime, c);
    json_t *json =
        json_pack("{s:s, s:i, s:s, s:s, s:o, s:o, s:o*}", "sandboxID", c->pod->id, "pid", v->pid, "cgroup",
                  c->cgroup, "imageID", c->image_id, "plan", plan_json(plan), "warnings",
                  warnings_json(v, resources), "health", health ? json_loads(health, 0, NULL) : NULL);
    out->info = arena_alloc(call->arena, sizeof(*out->info));
    if (!out->info) {
        json_decref(json);
        return -ENOMEM;
    }
    out->info[0] = rpc_info_json(call, &cri__container_status_response__info_entry__descriptor, "info", json);
    out->n_info = 1;
    return out->info[0] ? 0 : -ENOMEM;
}

RPC_HANDLER(rpc_container_status)
{
    const Cri__ContainerStatusRequest *in = (const Cri__ContainerStatusRequest *)request;
    Cri__ContainerStatusResponse *out =
        RPC_NEW(call, cri__container_status_response, Cri__ContainerStatusResponse);
    struct container *c __attribute__((cleanup(container_unrefp))) = NULL;
    struct container_resources resources;
    struct container_view v;
    if (!out)
        return rpc_no_memory(err);
    struct runtime *rt = call->daemon->runtime;
    int r = runtime_container_find(rt, in->container_id, &c, err);
    if (r < 0)
        return r;
    runtime_container_view(rt, c, &v);
    if (v.state == CONTAINER_MAKING)
        return error_set(err, STATUS_NOT_FOUND, ENOENT, "container %s is still being created", c->id);
    if (call->may_block)
        runtime_container_read_resources(rt, c);
    r = runtime_container_resources(rt, c, call->arena, &resources, err);
    if (r < 0)
        return r;
    if (!resources.fresh && !call->may_block)
        return RPC_DEFER; // the kernel's files are read by a worker
    out->status = status_of(call, c, &v, &resources);
    if (!out->status || (in->verbose && add_info(call, c, &v, &resources, out) < 0))
        return rpc_no_memory(err);
    *response = &out->base;
    return 0;
}
