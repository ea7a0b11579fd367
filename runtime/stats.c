#include "runtime/stats.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/stats_cache.h"
#include "runtime/store.h"

#define RATE_MIN_NS   (500 * NS_PER_MS) // several clients may ask in turn: the window doesn't shrink below
#define RATE_FIRST_NS NS_PER_MS         // less than this after the beginning tells nothing

// ---- CPU rate ----

static uint64_t rate_between(const struct cpu_sample *from, int64_t now_mono_ns, uint64_t usage_ns)
{
    int64_t span = now_mono_ns - from->mono_ns;
    if (span < RATE_FIRST_NS || usage_ns < from->usage_ns)
        return CGROUP_UNKNOWN;
    return (uint64_t)((__extension__(__int128)(usage_ns - from->usage_ns)) * NS_PER_SEC / span);
}

uint64_t cpu_rate_add(struct cpu_rate *rate, int64_t now_mono_ns, uint64_t usage_ns, int64_t since_mono_ns)
{
    const struct cpu_sample now = {.mono_ns = now_mono_ns, .usage_ns = usage_ns};
    if (rate->last.mono_ns == 0 || usage_ns < rate->last.usage_ns) // a cgroup that was made again counts anew
        rate->before = (struct cpu_sample){.mono_ns = since_mono_ns};
    else if (now_mono_ns - rate->last.mono_ns >= RATE_MIN_NS)
        rate->before = rate->last;
    else
        return rate_between(&rate->before, now_mono_ns, usage_ns);
    rate->last = now;
    return rate_between(&rate->before, now_mono_ns, usage_ns);
}

// ---- The cache ----

void stats_cache_init(struct stats_cache *s)
{
    pthread_mutex_init(&s->lock, NULL);
    cgroup_usage_files_init(&s->files);
    s->net_fd = -1;
}

void stats_cache_done(struct stats_cache *s)
{
    stats_cache_close(s);
    pthread_mutex_destroy(&s->lock);
}

void stats_cache_close(struct stats_cache *s)
{
    pthread_mutex_lock(&s->lock);
    cgroup_usage_files_close(&s->files);
    fd_closep(&s->net_fd);
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
}

// The cache's lock is held.
static int read_usage(struct runtime *rt, struct stats_cache *s, const char *cgroup, uint32_t which,
                      int64_t since_ns, struct cgroup_usage *usage, uint64_t *nano_cores)
{
    if (s->closed)
        return -ENOENT;
    int r = cgroup_usage_read(rt->cgroups, cgroup, which, &s->files, usage);
    if (r < 0)
        return r;
    int64_t now = clock_mono_ns();
    int64_t age = clock_wall_ns() - since_ns;
    *nano_cores = CGROUP_UNKNOWN;
    if (usage->cpu_ns != CGROUP_UNKNOWN)
        *nano_cores = cpu_rate_add(&s->rate, now, usage->cpu_ns, now - (age > 0 ? age : 0));
    return 0;
}

// ---- Containers ----

int runtime_container_stats(struct runtime *rt, struct container *c, struct container_stats *out,
                            struct error *err)
{
    struct stats_cache *s = &c->private->stats;
    struct container_view v;
    struct pod_view pod;
    runtime_container_view(rt, c, &v);
    runtime_pod_view(rt, c->pod, &pod);
    if (v.state == CONTAINER_EXITED)
        stats_cache_close(s);
    if (v.state == CONTAINER_EXITED || v.state == CONTAINER_MAKING ||
        (v.state == CONTAINER_CREATED && pod.state != POD_READY)) // it will never run
        return -ENOENT;
    *out = (struct container_stats){.timestamp_ns = clock_wall_ns()};
    pthread_mutex_lock(&s->lock);
    int r =
        read_usage(rt, s, c->cgroup, CGROUP_USAGE_CONTAINER, c->created_at_ns, &out->usage, &out->nano_cores);
    pthread_mutex_unlock(&s->lock);
    if (r < 0 && r != -ENOENT)
        return error_errno(err, -r, "read what container %s uses", c->id);
    return r;
}

// ---- Pods ----

// The cache's lock is held. A network that can't be read is left out: the rest is still true.
static void read_network(struct pod *pod, struct stats_cache *s, struct arena *arena, struct pod_stats *out)
{
    if (s->net_fd < 0) {
        int fd = stats_net_open(pod->netns);
        if (fd < 0)
            return;
        s->net_fd = fd;
    }
    out->has_network = stats_net_read(s->net_fd, arena, &out->interfaces, &out->n_interfaces) == 0;
}

int runtime_pod_stats(struct runtime *rt, struct pod *pod, struct arena *arena, struct pod_stats *out,
                      struct error *err)
{
    struct stats_cache *s = &pod->private->stats;
    struct pod_view v;
    runtime_pod_view(rt, pod, &v);
    if (v.state != POD_READY)
        return -ENOENT;
    *out = (struct pod_stats){.timestamp_ns = clock_wall_ns()};
    pthread_mutex_lock(&s->lock);
    int r = read_usage(rt, s, v.cgroup, CGROUP_USAGE_POD, pod->created_at_ns, &out->usage, &out->nano_cores);
    if (r == 0 && !pod->host_network)
        read_network(pod, s, arena, out);
    pthread_mutex_unlock(&s->lock);
    if (r < 0 && r != -ENOENT)
        return error_errno(err, -r, "read what pod sandbox %s uses", pod->id);
    return r;
}
