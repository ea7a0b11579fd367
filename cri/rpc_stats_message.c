// What runtime/stats.h and the image store read, in CRI's words.
#include "cri/rpc_stats.h"

#include "base/pb.h"
#include "base/str.h"
#include "cri/daemon.h"
#include "cri/rpc_image.h"
#include "cri/rpc_util.h"
#include "image/image.h"

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

Cri__ContainerStats *rpc_stats_of_container(struct rpc_call *call, const struct container *c,
                                            const struct container_stats *s)
{
    Cri__ContainerStats *out = RPC_NEW(call, cri__container_stats, Cri__ContainerStats);
    if (!out || !(out->attributes = container_attributes(call, c)) ||
        !set_writable_layer(call, c, &out->writable_layer) || (s && !set_container_usage(call, s, out)))
        return NULL;
    return out;
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

Cri__PodSandboxStats *rpc_stats_of_pod(struct rpc_call *call, const struct pod *pod,
                                       const struct pod_stats *s)
{
    Cri__PodSandboxStats *out = RPC_NEW(call, cri__pod_sandbox_stats, Cri__PodSandboxStats);
    if (!out || !(out->attributes = pod_attributes(call, pod)) ||
        !(out->linux = RPC_NEW(call, cri__linux_pod_sandbox_stats, Cri__LinuxPodSandboxStats)) ||
        (s && !set_pod_usage(call, s, out->linux)))
        return NULL;
    return out;
}
