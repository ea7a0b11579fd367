#include "cri/pod_ops.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/container_ops.h"
#include "cri/daemon.h"
#include "network/netns.h"
#include "network/network.h"
#include "runtime/runtime.h"
#include "runtime/worker.h"

#define PORTS_MAX 1024 // that a pod may map

// ---- What the network is told ----

static const char *annotation(const Cri__PodSandboxConfig *config, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < config->n_annotations; i++) {
        if (strcmp(config->annotations[i]->key, key) == 0)
            value = config->annotations[i]->value;
    }
    return value;
}

// *set: there is a limit at all.
static int bandwidth_of(const Cri__PodSandboxConfig *config, struct network_bandwidth *out, bool *set,
                        struct error *err)
{
    const char *ingress = annotation(config, "kubernetes.io/ingress-bandwidth");
    const char *egress = annotation(config, "kubernetes.io/egress-bandwidth");
    *out = (struct network_bandwidth){0};
    *set = ingress || egress;
    int r = ingress ? network_bandwidth_parse(ingress, &out->ingress_bps, err) : 0;
    if (r == 0 && egress)
        r = network_bandwidth_parse(egress, &out->egress_bps, err);
    return r;
}

static struct network_port port_of(const Cri__PortMapping *m)
{
    static const char *const protocols[] = {"tcp", "udp", "sctp"};
    return (struct network_port){
        .protocol = (unsigned)m->protocol < ARRAY_SIZE(protocols) ? protocols[m->protocol] : protocols[0],
        .container_port = m->container_port,
        .host_port = m->host_port,
        .host_ip = m->host_ip};
}

// protobuf-c's lists have a count, network.h's a NULL at the end.
static const char *const *terminated(struct arena *arena, char *const *list, size_t n)
{
    const char **out = arena_alloc(arena, (n + 1) * sizeof(*out));
    if (out && n > 0)
        memcpy(out, list, n * sizeof(*out));
    return out;
}

static int network_pod_fill(const struct pod *pod, const char *cgroup, struct arena *arena,
                            struct network_pod *out, struct error *err)
{
    const Cri__PodSandboxConfig *config = pod->config;
    const Cri__DNSConfig *dns = config->dns_config;
    if (config->n_port_mappings > PORTS_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "port_mappings: %zu entries, more than %d",
                         config->n_port_mappings, PORTS_MAX);
    struct network_port *ports = arena_alloc(arena, (config->n_port_mappings + 1) * sizeof(*ports));
    struct network_pair *pairs = arena_alloc(arena, (config->n_annotations + 1) * sizeof(*pairs));
    struct network_bandwidth *bandwidth = arena_alloc(arena, sizeof(*bandwidth));
    if (!ports || !pairs || !bandwidth)
        return error_errno(err, ENOMEM, "describe the pod to its network");
    for (size_t i = 0; i < config->n_port_mappings; i++)
        ports[i] = port_of(config->port_mappings[i]);
    for (size_t i = 0; i < config->n_annotations; i++)
        pairs[i] = (struct network_pair){config->annotations[i]->key, config->annotations[i]->value};
    bool limited;
    int r = bandwidth_of(config, bandwidth, &limited, err);
    if (r < 0)
        return r;
    *out = (struct network_pod){
        .id = pod->id,
        .name = config->metadata->name,
        .namespace = config->metadata->namespace_,
        .uid = config->metadata->uid,
        .netns_path = pod->netns,
        .ports = ports,
        .n_ports = config->n_port_mappings,
        .cgroup_path = cgroup,
        .bandwidth = limited ? bandwidth : NULL,
        .dns_servers = dns ? terminated(arena, dns->servers, dns->n_servers) : NULL,
        .dns_searches = dns ? terminated(arena, dns->searches, dns->n_searches) : NULL,
        .dns_options = dns ? terminated(arena, dns->options, dns->n_options) : NULL,
        .annotations = pairs,
        .n_annotations = config->n_annotations,
    };
    return 0;
}

// ---- Run ----

static int attach_network(struct daemon *d, struct pod *pod, int netns_fd, struct network_result *result,
                          struct error *err)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(4u << 20);
    struct pod_view view;
    struct network_pod what;
    struct ctx work = runtime_work_ctx(d->runtime);
    if (!arena)
        return error_errno(err, ENOMEM, "describe the pod to its network");
    int r = netns_pin(netns_fd, pod->netns, err);
    if (r < 0)
        return r;
    runtime_pod_view(d->runtime, pod, &view);
    r = network_pod_fill(pod, view.cgroup, arena, &what, err);
    return r < 0 ? r : network_attach(d->network, &what, &work, result, err);
}

static int make(struct daemon *d, struct pod *pod, struct error *err)
{
    _cleanup_fd_ int netns_fd = -1;
    struct network_result result = {0};
    int r = runtime_pod_launch(d->runtime, pod, &netns_fd, err);
    if (r == 0 && !pod->host_network)
        r = attach_network(d, pod, netns_fd, &result, err);
    if (r == 0)
        r = runtime_pod_ready(d->runtime, pod, result.ips, result.plugin_ns, err);
    network_result_done(&result);
    return r;
}

int pod_ops_run(struct daemon *d, const Cri__PodSandboxConfig *config, const char *handler,
                const struct ctx *ctx, struct pod **out, struct error *err)
{
    struct pod *pod = NULL;
    bool made;
    int r = runtime_pod_claim(d->runtime, config, handler, ctx, &pod, &made, err);
    if (r < 0)
        return r;
    if (made) {
        r = make(d, pod, err);
        if (r < 0) {
            const Cri__PodSandboxMetadata *m = config->metadata;
            error_wrap(err, "run pod sandbox %s/%s", m->namespace_, m->name);
            pod_ops_undo(d, pod, err);
            pod_unref(pod);
            return r;
        }
        log_info("pod sandbox is ready", "pod", pod->id, "namespace", config->metadata->namespace_, "name",
                 config->metadata->name);
    }
    *out = pod;
    return 0;
}

// ---- Undo ----

struct undo_job {
    struct daemon *d;
    struct pod *pod;
};

static int undo_run(void *data, unsigned attempt)
{
    struct undo_job *job = data;
    struct error err = ERROR_INIT;
    int r = runtime_pod_stop(job->d->runtime, job->pod, &err);
    if (r == 0 && !job->pod->host_network)
        r = netns_unpin(job->pod->netns, &err);
    if (r < 0 && attempt == 0)
        log_warn("a failed pod is not quite undone yet", "pod", job->pod->id, "error", err.message);
    return r;
}

static void undo_drop(void *data)
{
    struct undo_job *job = data;
    pod_unref(job->pod);
    free(job);
}

void pod_ops_undo(struct daemon *d, struct pod *pod, const struct error *why)
{
    struct error err = ERROR_INIT;
    struct ctx work = runtime_work_ctx(d->runtime);
    struct undo_job now = {d, pod};
    // Idempotent, also where the failure came before an ADD; what fails is journaled and tried again there.
    if (!pod->host_network && network_detach(d->network, pod->id, &work, &err) < 0)
        log_warn("a failed pod's network is torn down later", "pod", pod->id, "error", err.message);
    if (undo_run(&now, 0) < 0) {
        struct undo_job *later = malloc(sizeof(*later));
        if (later) {
            *later = (struct undo_job){d, pod_ref(pod)};
            (void)worker_add(runtime_worker(d->runtime), undo_run, undo_drop, later, 100 * NS_PER_MS);
        }
    }
    runtime_pod_abandon(d->runtime, pod, why);
}

static int undo_recovered(void *data, unsigned attempt)
{
    struct undo_job *job = data;
    (void)attempt;
    pod_ops_undo(job->d, job->pod, NULL);
    return 0;
}

void pod_ops_undo_later(struct daemon *d, struct pod *pod)
{
    struct undo_job *job = malloc(sizeof(*job));
    if (!job) // the next start tries again
        return;
    runtime_pod_reclaim(d->runtime, pod);
    *job = (struct undo_job){d, pod_ref(pod)};
    (void)worker_add(runtime_worker(d->runtime), undo_recovered, undo_drop, job, 0);
}

// ---- Stop ----

// The gate is held.
static int stop_entered(struct daemon *d, struct pod *pod, struct error *err)
{
    struct error network_err = ERROR_INIT;
    struct ctx work = runtime_work_ctx(d->runtime);
    int r = runtime_pod_kill(d->runtime, pod, err);
    if (r < 0)
        return r;
    // The pod is stopped all the same: a broken plugin must not keep kubelet from ever removing it. network/
    // keeps the attachment in its journal and goes on trying.
    if (!pod->host_network && network_detach(d->network, pod->id, &work, &network_err) < 0)
        log_warn("pod sandbox's network is torn down later", "pod", pod->id, "error", network_err.message);
    if (!pod->host_network)
        r = netns_unpin(pod->netns, err);
    return r < 0 ? r : runtime_pod_stop(d->runtime, pod, err);
}

int pod_ops_stop(struct daemon *d, struct pod *pod, const struct ctx *ctx, struct error *err)
{
    int r = runtime_pod_enter(d->runtime, pod, ctx, err);
    if (r < 0)
        return error_wrap(err, "stop pod sandbox %s", pod->id);
    r = stop_entered(d, pod, err);
    runtime_pod_leave(d->runtime, pod);
    return r;
}

// ---- Remove ----

static int remove_containers(struct daemon *d, struct pod *pod, const struct ctx *ctx, struct error *err)
{
    struct container **all;
    size_t n;
    int r = runtime_container_list(d->runtime, pod, true, &all, &n, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n && r == 0; i++)
        r = container_ops_remove(d, all[i], ctx, err);
    runtime_containers_free(all, n);
    return r;
}

int pod_ops_remove(struct daemon *d, struct pod *pod, const struct ctx *ctx, struct error *err)
{
    int r = runtime_pod_enter(d->runtime, pod, ctx, err);
    if (r < 0)
        return error_wrap(err, "remove pod sandbox %s", pod->id);
    r = stop_entered(d, pod, err);
    if (r == 0)
        r = remove_containers(d, pod, ctx, err);
    if (r == 0)
        r = runtime_pod_forget(d->runtime, pod, err);
    runtime_pod_leave(d->runtime, pod);
    if (r == 0)
        log_info("pod sandbox is removed", "pod", pod->id);
    return r < 0 ? error_wrap(err, "remove pod sandbox %s", pod->id) : 0;
}
