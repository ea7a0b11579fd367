// The launch plan as a whole.
#include "runtime/plan_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/pb.h"
#include "base/str.h"
#include "runtime/cgroup.h"

#define FEATURES_MAX 16 // that one plan requires of crisp-pod

#define HOOKS_TIME_MAX_MS 3600000u // of a start, together

// What kubelet and peers hide from containers that say nothing else. It leaks the host or lets its hardware
// be touched.
static const char *const default_masked[] = {
    "/proc/acpi",        "/proc/asound",        "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
};
static const char *const default_readonly[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

const Cri__LinuxContainerSecurityContext *plan_security(const Cri__ContainerConfig *config)
{
    static const Cri__LinuxContainerSecurityContext none = CRI__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
    return config->linux && config->linux->security_context ? config->linux->security_context : &none;
}

const Cri__LinuxContainerResources *plan_resources(const Cri__ContainerConfig *config)
{
    return config->linux ? config->linux->resources : NULL;
}

int plan_no_memory(struct error *err)
{
    return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "the container's config is too large");
}

char *plan_clean_path(struct arena *arena, const char *path)
{
    char *out = arena_alloc(arena, strlen(path) + 2);
    if (!out)
        return NULL;
    char *to = out;
    for (const char *p = path; *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (len > 0 && !(len == 1 && *p == '.')) {
            *to++ = '/';
            memcpy(to, p, len);
            to += len;
        }
        p += len;
    }
    if (to == out)
        *to++ = '/';
    *to = '\0';
    return out;
}

Pod__PidMode plan_pid_mode(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config)
{
    const Cri__NamespaceOption *o = plan_security(config)->namespace_options;
    switch (o ? o->pid : CRI__NAMESPACE_MODE__POD) { // no options are the pod's, as with peers
    case CRI__NAMESPACE_MODE__NODE:
        return POD__PID_MODE__PID_HOST;
    case CRI__NAMESPACE_MODE__TARGET:
        return POD__PID_MODE__PID_TARGET;
    case CRI__NAMESPACE_MODE__POD:
        if (policy_host_pid(pod))
            return POD__PID_MODE__PID_HOST;
        return policy_pod_pid(pod) ? POD__PID_MODE__PID_POD : POD__PID_MODE__PID_PRIVATE;
    default:
        return POD__PID_MODE__PID_PRIVATE;
    }
}

char *plan_log_path(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config, struct arena *arena)
{
    if (str_empty(pod->log_directory) || str_empty(config->log_path))
        return arena_strdup(arena, "");
    return arena_printf(arena, "%s/%s", pod->log_directory, config->log_path);
}

void plan_require(struct plan_builder *b, const char *feature)
{
    Pod__LaunchPlan *plan = b->plan;
    for (size_t i = 0; i < plan->n_required_features; i++) {
        if (str_eq(plan->required_features[i], feature))
            return;
    }
    if (!plan->required_features)
        plan->required_features = arena_alloc(b->arena, FEATURES_MAX * sizeof(*plan->required_features));
    if (!plan->required_features || plan->n_required_features == FEATURES_MAX)
        b->out_of_memory = true;
    else
        plan->required_features[plan->n_required_features++] = (char *)feature;
}

static void add_root(struct plan_builder *b)
{
    const struct plan_rootfs *fs = &b->in->rootfs;
    Pod__Root *root = arena_alloc(b->arena, sizeof(*root));
    char **lowers = arena_alloc(b->arena, (fs->n_lowers + 1) * sizeof(*lowers));
    if (!root || !lowers) {
        b->out_of_memory = true;
        return;
    }
    pod__root__init(root);
    for (size_t i = 0; i < fs->n_lowers; i++)
        lowers[i] = (char *)fs->lowers[i];
    root->lowers = lowers;
    root->n_lowers = fs->n_lowers;
    root->layers_dir = (char *)fs->layers_dir;
    root->upper = (char *)(fs->upper ? fs->upper : "");
    root->work = (char *)(fs->work ? fs->work : "");
    root->readonly = plan_security(b->in->config)->readonly_rootfs;
    root->propagation = (char *)"rslave";
    b->plan->root = root;
}

static void add_hidden_paths(struct plan_builder *b)
{
    const Cri__LinuxContainerSecurityContext *sc = plan_security(b->in->config);
    if (sc->privileged)
        return;
    b->plan->masked_paths = sc->masked_paths;
    b->plan->n_masked_paths = sc->n_masked_paths;
    b->plan->readonly_paths = sc->readonly_paths;
    b->plan->n_readonly_paths = sc->n_readonly_paths;
    // On the wire an empty list is no list. kubelet sends both, but for procMount: Unmasked, which it allows
    // in pods with a user namespace only (the kernel then guards what the masks hide); clients that send
    // nothing (crictl) must not get a container that can write to the host's /proc/sysrq-trigger.
    if (sc->n_masked_paths == 0 && sc->n_readonly_paths == 0 && !policy_own_userns(b->in->pod)) {
        b->plan->masked_paths = (char **)default_masked;
        b->plan->n_masked_paths = ARRAY_SIZE(default_masked);
        b->plan->readonly_paths = (char **)default_readonly;
        b->plan->n_readonly_paths = ARRAY_SIZE(default_readonly);
    }
}

int plan_build(struct policy *policy, const struct plan_input *in, struct arena *arena,
               Pod__LaunchPlan **plan, struct error *err)
{
    struct plan_builder b = {.policy = policy, .in = in, .arena = arena, .err = err};
    b.plan = arena_alloc(arena, sizeof(*b.plan));
    if (!b.plan)
        return plan_no_memory(err);
    pod__launch_plan__init(b.plan);
    plan_require(&b, "launch-1");
    const Cri__LinuxContainerSecurityContext *sc = plan_security(in->config);
    b.plan->host_network = b.plan->host_uts = policy_host_network(in->pod);
    b.plan->host_ipc = policy_host_ipc(in->pod);
    b.plan->privileged_sys = sc->privileged;
    b.plan->user_ns = policy_userns(in->pod) != NULL;
    if (b.plan->user_ns)
        plan_require(&b, "userns-1");
    // A privileged container on v2 manages the host's tree (as peers have it); on v1 each sees its own.
    b.plan->own_cgroup_ns = !(sc->privileged && cgroup_host_is_v2(policy->cgroups));
    add_root(&b);
    add_hidden_paths(&b);
    int r = plan_add_process(&b);
    if (r == 0)
        r = plan_add_mounts(&b);
    if (r == 0)
        r = plan_add_devices(&b);
    if (r == 0)
        r = plan_add_cdi(&b);
    if (r == 0)
        r = plan_add_labels(&b);
    if (r == 0 && b.out_of_memory)
        r = plan_no_memory(err);
    if (r == 0)
        *plan = b.plan;
    return r;
}

static Pod__Stdio *make_stdio(const struct plan_input *in, struct arena *arena)
{
    Pod__Stdio *io = arena_alloc(arena, sizeof(*io));
    if (!io)
        return NULL;
    pod__stdio__init(io);
    io->tty = in->config->tty;
    io->stdin = in->config->stdin;
    io->stdin_once = in->config->stdin_once;
    io->log_path = plan_log_path(in->pod, in->config, arena);
    return io->log_path ? io : NULL;
}

static uint64_t time_of(Pod__Hook *const *list, size_t n)
{
    uint64_t ms = 0;
    for (size_t i = 0; i < n; i++)
        ms += list[i]->timeout_ms ? list[i]->timeout_ms : PLAN_HOOK_TIMEOUT_MS;
    return ms;
}

// How long the hooks that a launch waits for may take.
static uint32_t hooks_time_ms(const Pod__Hooks *h)
{
    uint64_t ms = time_of(h->prestart, h->n_prestart) + time_of(h->create_runtime, h->n_create_runtime) +
                  time_of(h->create_container, h->n_create_container) +
                  time_of(h->start_container, h->n_start_container);
    return ms < HOOKS_TIME_MAX_MS ? (uint32_t)ms : HOOKS_TIME_MAX_MS;
}

int plan_build_start(const struct plan_input *in, const char *container_id, const Pod__LaunchPlan *plan,
                     Pod__CgroupPlace *place, uint32_t deadline_ms, struct arena *arena,
                     Pod__StartRequest **start, struct error *err)
{
    Pod__StartRequest *s = arena_alloc(arena, sizeof(*s));
    size_t len = pod__launch_plan__get_packed_size(plan);
    uint8_t *packed = arena_alloc(arena, len + 1);
    if (!s || !packed)
        return plan_no_memory(err);
    if (len > PB_FRAME_MAX / 2)
        return error_set(err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "the container's launch plan has %zu bytes, more than the %u that can be handed on",
                         len, PB_FRAME_MAX / 2);
    pod__start_request__init(s);
    s->container_id = (char *)container_id;
    s->cgroup = place;
    s->pid_mode = plan_pid_mode(in->pod, in->config);
    if (s->pid_mode == POD__PID_MODE__PID_TARGET)
        s->pid_target = plan_security(in->config)->namespace_options->target_id;
    s->stdio = make_stdio(in, arena);
    s->plan.len = pod__launch_plan__pack(plan, packed);
    s->plan.data = packed;
    s->hold = plan->hooks != NULL;
    s->deadline_ms = deadline_ms + (plan->hooks ? hooks_time_ms(plan->hooks) : 0);
    if (!s->stdio)
        return plan_no_memory(err);
    *start = s;
    return 0;
}
