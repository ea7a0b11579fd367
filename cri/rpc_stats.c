// ContainerStats, PodSandboxStats, their lists and streams: what runtime/stats.h and the image store read, in
// CRI's words. Lists have what runs, as the API says; who asks for one that has ended gets what there is.
#include "api/cri/api.pb-c.h"
#include "base/pb.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc_image.h"
#include "cri/rpc_list.h"
#include "cri/rpc_util.h"
#include "image/image.h"
#include "runtime/runtime.h"
#include "runtime/stats.h"

// ---- Parts ----

// *out stays unset when the value is unknown. False: the arena is full.
static bool set(struct rpc_call *call, Cri__UInt64Value **out, uint64_t value)
{
    if (value == CGROUP_UNKNOWN)
        return true;
    *out = rpc_u64(call, value);
    return *out != NULL;
}

static Cri__PsiData *psi_line(struct rpc_call *call, const struct cgroup_psi_line *line)
{
    Cri__PsiData *out = RPC_NEW(call, cri__psi_data, Cri__PsiData);
    if (!out)
        return NULL;
    out->total = line->total_ns;
    out->avg10 = line->avg10;
    out->avg60 = line->avg60;
    out->avg300 = line->avg300;
    return out;
}

static bool set_psi(struct rpc_call *call, Cri__PsiStats **out, const struct cgroup_psi *psi)
{
    if (!psi->known)
        return true;
    *out = RPC_NEW(call, cri__psi_stats, Cri__PsiStats);
    return *out && ((*out)->some = psi_line(call, &psi->some)) && ((*out)->full = psi_line(call, &psi->full));
}

static Cri__CpuUsage *cpu_usage(struct rpc_call *call, const struct cgroup_usage *u, uint64_t nano_cores,
                                int64_t timestamp_ns)
{
    Cri__CpuUsage *out = RPC_NEW(call, cri__cpu_usage, Cri__CpuUsage);
    if (!out || !set(call, &out->usage_core_nano_seconds, u->cpu_ns) ||
        !set(call, &out->usage_nano_cores, nano_cores) || !set_psi(call, &out->psi, &u->cpu_psi))
        return NULL;
    out->timestamp = timestamp_ns;
    return out;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a == CGROUP_UNKNOWN || b == CGROUP_UNKNOWN ? CGROUP_UNKNOWN : a > b ? a - b : 0;
}

// kubelet's working set: what can't be had back at once. Its file cache that nobody has looked at again can.
static Cri__MemoryUsage *memory_usage(struct rpc_call *call, const struct cgroup_usage *u,
                                      int64_t timestamp_ns)
{
    uint64_t working_set = less(u->memory_bytes, u->inactive_file_bytes);
    Cri__MemoryUsage *out = RPC_NEW(call, cri__memory_usage, Cri__MemoryUsage);
    if (!out || !set(call, &out->working_set_bytes, working_set) ||
        !set(call, &out->available_bytes, less(u->memory_limit_bytes, working_set)) ||
        !set(call, &out->usage_bytes, u->memory_bytes) || !set(call, &out->rss_bytes, u->rss_bytes) ||
        !set(call, &out->page_faults, u->page_faults) ||
        !set(call, &out->major_page_faults, u->major_page_faults) ||
        !set_psi(call, &out->psi, &u->memory_psi))
        return NULL;
    out->timestamp = timestamp_ns;
    return out;
}

static bool set_io(struct rpc_call *call, Cri__IoUsage **out, const struct cgroup_usage *u,
                   int64_t timestamp_ns)
{
    if (!u->io_psi.known)
        return true;
    *out = RPC_NEW(call, cri__io_usage, Cri__IoUsage);
    if (!*out || !set_psi(call, &(*out)->psi, &u->io_psi))
        return false;
    (*out)->timestamp = timestamp_ns;
    return true;
}

static bool set_swap(struct rpc_call *call, Cri__SwapUsage **out, const struct cgroup_usage *u,
                     int64_t timestamp_ns)
{
    if (u->swap_bytes == CGROUP_UNKNOWN)
        return true;
    *out = RPC_NEW(call, cri__swap_usage, Cri__SwapUsage);
    if (!*out || !set(call, &(*out)->swap_usage_bytes, u->swap_bytes) ||
        !set(call, &(*out)->swap_available_bytes, less(u->swap_limit_bytes, u->swap_bytes)))
        return false;
    (*out)->timestamp = timestamp_ns;
    return true;
}

// ---- Containers ----

static Cri__ContainerAttributes *container_attributes(struct rpc_call *call, const struct container *c)
{
    const Cri__ContainerConfig *config = c->config;
    Cri__ContainerAttributes *out = RPC_NEW(call, cri__container_attributes, Cri__ContainerAttributes);
    bool full = false;
    if (!out)
        return NULL;
    out->id = arena_strdup(call->arena, c->id);
    out->metadata = (Cri__ContainerMetadata *)pb_dup(&config->metadata->base, call->arena);
    out->n_labels = config->n_labels;
    out->labels = rpc_map_copy(call, config->n_labels, config->labels,
                               &cri__container_attributes__labels_entry__descriptor, &full);
    out->n_annotations = config->n_annotations;
    out->annotations = rpc_map_copy(call, config->n_annotations, config->annotations,
                                    &cri__container_attributes__annotations_entry__descriptor, &full);
    return full || !out->id || !out->metadata ? NULL : out;
}

static bool set_writable_layer(struct rpc_call *call, const struct container *c, Cri__FilesystemUsage **out)
{
    struct image_store *images = call->daemon->images;
    struct image_layer_usage usage;
    if (!image_rootfs_usage(images, c->id, &usage))
        return true;
    *out = rpc_filesystem_usage(call, image_fs_mountpoint(images), usage.timestamp_ns, usage.bytes,
                                usage.inodes);
    return *out != NULL;
}

static bool set_container_usage(struct rpc_call *call, const struct container_stats *s,
                                Cri__ContainerStats *out)
{
    out->cpu = cpu_usage(call, &s->usage, s->nano_cores, s->timestamp_ns);
    out->memory = memory_usage(call, &s->usage, s->timestamp_ns);
    return out->cpu && out->memory && set_swap(call, &out->swap, &s->usage, s->timestamp_ns) &&
           set_io(call, &out->io, &s->usage, s->timestamp_ns);
}

// 0: *out is set, but NULL when the container doesn't run and only those that do are wanted.
static int container_stats(struct rpc_call *call, struct container *c, bool running_only,
                           Cri__ContainerStats **out, struct error *err)
{
    struct container_stats s;
    *out = NULL;
    int r = runtime_container_stats(call->daemon->runtime, c, &s, err);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT && running_only)
        return 0;
    *out = RPC_NEW(call, cri__container_stats, Cri__ContainerStats);
    if (!*out || !((*out)->attributes = container_attributes(call, c)) ||
        !set_writable_layer(call, c, &(*out)->writable_layer) ||
        (r == 0 && !set_container_usage(call, &s, *out)))
        return rpc_no_memory(err);
    return 0;
}

RPC_HANDLER(rpc_container_stats)
{
    const Cri__ContainerStatsRequest *in = (const Cri__ContainerStatsRequest *)request;
    Cri__ContainerStatsResponse *out =
        RPC_NEW(call, cri__container_stats_response, Cri__ContainerStatsResponse);
    struct container *c = NULL;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_container_find(call->daemon->runtime, in->container_id, &c, err);
    if (r < 0)
        return r;
    r = container_stats(call, c, false, &out->stats, err);
    container_unref(c);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

static bool container_matches(const struct container *c, const Cri__ContainerStatsFilter *f)
{
    return !f ||
           ((str_empty(f->id) || str_has_prefix(c->id, f->id)) &&
            (str_empty(f->pod_sandbox_id) || str_has_prefix(c->pod->id, f->pod_sandbox_id)) &&
            rpc_map_matches(c->config->n_labels, c->config->labels, f->n_label_selector, f->label_selector));
}

static int list_containers(struct rpc_call *call, const Cri__ContainerStatsFilter *filter,
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
        Cri__ContainerStats *item = NULL;
        if (!container_matches(all[i], filter))
            continue;
        r = container_stats(&l.call, all[i], true, &item, err);
        if (r == 0 && item)
            r = rpc_list_add(&l, item, err);
    }
    runtime_containers_free(all, n);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_container_stats)
{
    const Cri__ListContainerStatsRequest *in = (const Cri__ListContainerStatsRequest *)request;
    return list_containers(call, in->filter, &cri__list_container_stats_response__descriptor, false, response,
                           err);
}

RPC_HANDLER(rpc_stream_container_stats)
{
    const Cri__StreamContainerStatsRequest *in = (const Cri__StreamContainerStatsRequest *)request;
    return list_containers(call, in->filter, &cri__stream_container_stats_response__descriptor, true,
                           response, err);
}

// ---- Pods ----

static Cri__PodSandboxAttributes *pod_attributes(struct rpc_call *call, const struct pod *pod)
{
    const Cri__PodSandboxConfig *config = pod->config;
    Cri__PodSandboxAttributes *out = RPC_NEW(call, cri__pod_sandbox_attributes, Cri__PodSandboxAttributes);
    bool full = false;
    if (!out)
        return NULL;
    out->id = arena_strdup(call->arena, pod->id);
    out->metadata = (Cri__PodSandboxMetadata *)pb_dup(&config->metadata->base, call->arena);
    out->n_labels = config->n_labels;
    out->labels = rpc_map_copy(call, config->n_labels, config->labels,
                               &cri__pod_sandbox_attributes__labels_entry__descriptor, &full);
    out->n_annotations = config->n_annotations;
    out->annotations = rpc_map_copy(call, config->n_annotations, config->annotations,
                                    &cri__pod_sandbox_attributes__annotations_entry__descriptor, &full);
    return full || !out->id || !out->metadata ? NULL : out;
}

static Cri__NetworkInterfaceUsage *interface_usage(struct rpc_call *call, const struct interface_stats *i)
{
    Cri__NetworkInterfaceUsage *out = RPC_NEW(call, cri__network_interface_usage, Cri__NetworkInterfaceUsage);
    if (!out || !(out->name = arena_strdup(call->arena, i->name)) ||
        !(out->rx_bytes = rpc_u64(call, i->rx_bytes)) || !(out->rx_errors = rpc_u64(call, i->rx_errors)) ||
        !(out->tx_bytes = rpc_u64(call, i->tx_bytes)) || !(out->tx_errors = rpc_u64(call, i->tx_errors)))
        return NULL;
    return out;
}

// eth0 is what CNI gives a pod first.
static bool set_network(struct rpc_call *call, const struct pod_stats *s, Cri__NetworkUsage **out)
{
    if (!s->has_network)
        return true;
    Cri__NetworkUsage *n = *out = RPC_NEW(call, cri__network_usage, Cri__NetworkUsage);
    if (!n || !(n->interfaces = arena_alloc(call->arena, (s->n_interfaces + 1) * sizeof(*n->interfaces))))
        return false;
    n->timestamp = s->timestamp_ns;
    for (size_t i = 0; i < s->n_interfaces; i++) {
        Cri__NetworkInterfaceUsage *one = interface_usage(call, &s->interfaces[i]);
        if (!one)
            return false;
        if (str_eq(one->name, "eth0"))
            n->default_interface = one;
        else
            n->interfaces[n->n_interfaces++] = one;
    }
    return true;
}

static bool set_processes(struct rpc_call *call, const struct pod_stats *s, Cri__ProcessUsage **out)
{
    if (s->usage.pids == CGROUP_UNKNOWN)
        return true;
    *out = RPC_NEW(call, cri__process_usage, Cri__ProcessUsage);
    if (!*out)
        return false;
    (*out)->timestamp = s->timestamp_ns;
    return set(call, &(*out)->process_count, s->usage.pids);
}

static bool set_pod_usage(struct rpc_call *call, const struct pod_stats *s, Cri__LinuxPodSandboxStats *out)
{
    out->cpu = cpu_usage(call, &s->usage, s->nano_cores, s->timestamp_ns);
    out->memory = memory_usage(call, &s->usage, s->timestamp_ns);
    return out->cpu && out->memory && set_network(call, s, &out->network) &&
           set_processes(call, s, &out->process) && set_io(call, &out->io, &s->usage, s->timestamp_ns);
}

static int add_containers(struct rpc_call *call, const struct pod *pod, struct container *const *all,
                          size_t n, Cri__LinuxPodSandboxStats *out, struct error *err)
{
    size_t own = 0;
    for (size_t i = 0; i < n; i++)
        own += all[i]->pod == pod;
    out->containers = arena_alloc(call->arena, (own + 1) * sizeof(Cri__ContainerStats *));
    if (!out->containers)
        return rpc_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        Cri__ContainerStats *item = NULL;
        int r = all[i]->pod == pod ? container_stats(call, all[i], true, &item, err) : 0;
        if (r < 0)
            return r;
        if (item)
            out->containers[out->n_containers++] = item;
    }
    return 0;
}

// As container_stats(); containers: of this pod, and perhaps of others.
static int pod_stats(struct rpc_call *call, struct pod *pod, struct container *const *containers, size_t n,
                     bool ready_only, Cri__PodSandboxStats **out, struct error *err)
{
    struct pod_stats s;
    *out = NULL;
    int r = runtime_pod_stats(call->daemon->runtime, pod, call->arena, &s, err);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT && ready_only)
        return 0;
    *out = RPC_NEW(call, cri__pod_sandbox_stats, Cri__PodSandboxStats);
    if (!*out || !((*out)->attributes = pod_attributes(call, pod)) ||
        !((*out)->linux = RPC_NEW(call, cri__linux_pod_sandbox_stats, Cri__LinuxPodSandboxStats)) ||
        (r == 0 && !set_pod_usage(call, &s, (*out)->linux)))
        return rpc_no_memory(err);
    return add_containers(call, pod, containers, n, (*out)->linux, err);
}

RPC_HANDLER(rpc_pod_sandbox_stats)
{
    const Cri__PodSandboxStatsRequest *in = (const Cri__PodSandboxStatsRequest *)request;
    Cri__PodSandboxStatsResponse *out =
        RPC_NEW(call, cri__pod_sandbox_stats_response, Cri__PodSandboxStatsResponse);
    struct runtime *rt = call->daemon->runtime;
    struct pod *pod __attribute__((cleanup(pod_unrefp))) = NULL;
    struct container **containers;
    size_t n;
    if (!out)
        return rpc_no_memory(err);
    int r = runtime_pod_find(rt, in->pod_sandbox_id, &pod, err);
    if (r == 0)
        r = runtime_container_list(rt, pod, false, &containers, &n, err);
    if (r < 0)
        return r;
    r = pod_stats(call, pod, containers, n, false, &out->stats, err);
    runtime_containers_free(containers, n);
    if (r < 0)
        return r;
    *response = &out->base;
    return 0;
}

static bool pod_matches(const struct pod *pod, const Cri__PodSandboxStatsFilter *f)
{
    return !f || ((str_empty(f->id) || str_has_prefix(pod->id, f->id)) &&
                  rpc_map_matches(pod->config->n_labels, pod->config->labels, f->n_label_selector,
                                  f->label_selector));
}

static int list_pods(struct rpc_call *call, const Cri__PodSandboxStatsFilter *filter,
                     const ProtobufCMessageDescriptor *type, bool stream, ProtobufCMessage **response,
                     struct error *err)
{
    struct pod **pods;
    struct container **containers;
    struct rpc_list l;
    size_t n, n_containers;
    int r = runtime_pod_list(call->daemon->runtime, false, &pods, &n, err);
    if (r < 0)
        return r;
    r = runtime_container_list(call->daemon->runtime, NULL, false, &containers, &n_containers, err);
    if (r < 0) {
        runtime_pods_free(pods, n);
        return r;
    }
    r = rpc_list_begin(&l, call, type, stream, n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        Cri__PodSandboxStats *item = NULL;
        if (!pod_matches(pods[i], filter))
            continue;
        r = pod_stats(&l.call, pods[i], containers, n_containers, true, &item, err);
        if (r == 0 && item)
            r = rpc_list_add(&l, item, err);
    }
    runtime_containers_free(containers, n_containers);
    runtime_pods_free(pods, n);
    return rpc_list_end(&l, r, response, err);
}

RPC_HANDLER(rpc_list_pod_sandbox_stats)
{
    const Cri__ListPodSandboxStatsRequest *in = (const Cri__ListPodSandboxStatsRequest *)request;
    return list_pods(call, in->filter, &cri__list_pod_sandbox_stats_response__descriptor, false, response,
                     err);
}

RPC_HANDLER(rpc_stream_pod_sandbox_stats)
{
    const Cri__StreamPodSandboxStatsRequest *in = (const Cri__StreamPodSandboxStatsRequest *)request;
    return list_pods(call, in->filter, &cri__stream_pod_sandbox_stats_response__descriptor, true, response,
                     err);
}
