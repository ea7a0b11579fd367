#include "cri/client/usage.h"

#include <stdlib.h>
#include <string.h>

#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define MIN_DELTA_NS (50 * NS_PER_MS) // shorter ones tell nothing of a share

static uint64_t value_of(const Cri__UInt64Value *v)
{
    return v ? v->value : USAGE_UNKNOWN;
}

static bool wanted(char *const *ids, const char *id)
{
    for (; ids && *ids; ids++)
        if (str_eq(*ids, id))
            return true;
    return !ids;
}

static const struct usage *find(const struct usage_list *list, const char *id)
{
    for (size_t i = 0; list && i < list->n; i++)
        if (str_eq(list->items[i].id, id))
            return &list->items[i];
    return NULL;
}

static double cpu_percent(const struct usage *now, const struct usage *before)
{
    int64_t delta_ns = before ? now->time_ns - before->time_ns : 0;

    if (delta_ns >= MIN_DELTA_NS && now->cpu_ns != USAGE_UNKNOWN && before->cpu_ns != USAGE_UNKNOWN &&
        now->cpu_ns >= before->cpu_ns)
        return 100.0 * (double)(now->cpu_ns - before->cpu_ns) / (double)delta_ns;
    if (before && delta_ns < MIN_DELTA_NS && before->cpu_percent >= 0)
        return before->cpu_percent; // the runtime hasn't looked since
    return now->nano_cores == USAGE_UNKNOWN ? -1 : 100.0 * (double)now->nano_cores / (double)NS_PER_SEC;
}

static int add(struct usage_list *list, const Cri__ContainerStats *s, const Cri__LinuxPodSandboxStats *pod,
               const Cri__PodSandboxMetadata *meta)
{
    struct usage *larger = reallocarray(list->items, list->n + 1, sizeof(*larger));
    if (!larger)
        return -ENOMEM;
    list->items = larger;
    struct usage *u = &larger[list->n++];
    const Cri__ContainerMetadata *own = s->attributes->metadata;
    const Cri__NetworkInterfaceUsage *net = pod && pod->network ? pod->network->default_interface : NULL;
    *u = (struct usage){
        .id = strdup(s->attributes->id),
        .name = strdup(own ? own->name : ""),
        .pod = strdup(meta ? meta->name : ""),
        .namespace = strdup(meta ? meta->namespace_ : ""),
        .time_ns = s->cpu ? s->cpu->timestamp : 0,
        .cpu_ns = value_of(s->cpu ? s->cpu->usage_core_nano_seconds : NULL),
        .nano_cores = value_of(s->cpu ? s->cpu->usage_nano_cores : NULL),
        .memory = value_of(s->memory ? s->memory->working_set_bytes : NULL),
        .memory_limit = value_of(s->memory ? s->memory->available_bytes : NULL),
        .disk = value_of(s->writable_layer ? s->writable_layer->used_bytes : NULL),
        .inodes = value_of(s->writable_layer ? s->writable_layer->inodes_used : NULL),
        .rx = value_of(net ? net->rx_bytes : NULL),
        .tx = value_of(net ? net->tx_bytes : NULL),
        .pids = value_of(pod && pod->process ? pod->process->process_count : NULL),
    };
    // Available is what is left of the limit: 0 is one that is reached, and without a limit the field is
    // absent.
    if (u->memory == USAGE_UNKNOWN)
        u->memory_limit = USAGE_UNKNOWN;
    if (u->memory_limit != USAGE_UNKNOWN)
        u->memory_limit += u->memory;
    return u->id && u->name && u->pod && u->namespace ? 0 : -ENOMEM;
}

static int read_pods(struct cli *cli, char *const *ids, struct usage_list *out, struct error *err)
{
    _cleanup_message_ Cri__ListPodSandboxStatsResponse *response = NULL;
    Cri__ListPodSandboxStatsRequest request = CRI__LIST_POD_SANDBOX_STATS_REQUEST__INIT;

    int rc = cli_call(cli, "ListPodSandboxStats", &request.base, (ProtobufCMessage **)&response, err);
    for (size_t i = 0; rc == 0 && i < response->n_stats; i++) {
        const Cri__PodSandboxStats *pod = response->stats[i];
        for (size_t j = 0; rc == 0 && pod->linux && j < pod->linux->n_containers; j++) {
            const Cri__ContainerStats *s = pod->linux->containers[j];
            if (s->attributes && wanted(ids, s->attributes->id) &&
                add(out, s, pod->linux, pod->attributes ? pod->attributes->metadata : NULL) < 0)
                rc = error_errno(err, ENOMEM, "ListPodSandboxStats");
        }
    }
    return rc;
}

// Runtimes without statistics of pods: then nothing is known of networks and processes.
static int read_containers(struct cli *cli, char *const *ids, struct usage_list *out, struct error *err)
{
    _cleanup_message_ Cri__ListContainerStatsResponse *response = NULL;
    Cri__ListContainerStatsRequest request = CRI__LIST_CONTAINER_STATS_REQUEST__INIT;

    int rc = cli_call(cli, "ListContainerStats", &request.base, (ProtobufCMessage **)&response, err);
    for (size_t i = 0; rc == 0 && i < response->n_stats; i++) {
        const Cri__ContainerStats *s = response->stats[i];
        if (s->attributes && wanted(ids, s->attributes->id) && add(out, s, NULL, NULL) < 0)
            rc = error_errno(err, ENOMEM, "ListContainerStats");
    }
    return rc;
}

// The runtime has no statistics of pods, or can't make them: containerd's fail as a whole while any pod is
// without a cgroup parent (as those of `crisp run` are), though it knows what the containers use.
static bool has_none_of_pods(const struct error *err)
{
    return err->status == STATUS_UNIMPLEMENTED || err->status == STATUS_UNKNOWN ||
           err->status == STATUS_INTERNAL;
}

int usage_read(struct cli *cli, char *const *ids, const struct usage_list *previous, struct usage_list *out,
               struct error *err)
{
    *out = (struct usage_list){0};
    int rc = read_pods(cli, ids, out, err);
    if (rc < 0 && has_none_of_pods(err))
        rc = read_containers(cli, ids, out, err);
    for (size_t i = 0; rc == 0 && i < out->n; i++)
        out->items[i].cpu_percent = cpu_percent(&out->items[i], find(previous, out->items[i].id));
    if (rc < 0)
        usage_free(out);
    return rc;
}

void usage_free(struct usage_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].id);
        free(list->items[i].name);
        free(list->items[i].pod);
        free(list->items[i].namespace);
    }
    free(list->items);
    *list = (struct usage_list){0};
}

static int by_name(const void *a, const void *b)
{
    const struct usage *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->id, y->id);
}

static int by_cpu(const void *a, const void *b)
{
    double x = ((const struct usage *)a)->cpu_percent, y = ((const struct usage *)b)->cpu_percent;

    return x > y ? -1 : x < y ? 1 : by_name(a, b);
}

static int by_memory(const void *a, const void *b)
{
    // What is unknown comes last: one more than the largest number is 0.
    uint64_t x = ((const struct usage *)a)->memory + 1, y = ((const struct usage *)b)->memory + 1;

    return x > y ? -1 : x < y ? 1 : by_name(a, b);
}

void usage_sort(struct usage_list *list, enum usage_order order)
{
    if (list->n)
        qsort(list->items, list->n, sizeof(*list->items),
              order == USAGE_BY_CPU      ? by_cpu
              : order == USAGE_BY_MEMORY ? by_memory
                                         : by_name);
}
