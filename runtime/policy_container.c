// What a container may ask for.
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/annotation.h"
#include "runtime/caps.h"
#include "runtime/cdi.h"
#include "runtime/policy_internal.h"

#define MOUNTS_MAX  2048
#define DEVICES_MAX 1024
#define ENVS_MAX    32768
#define PATHS_MAX   1024 // masked or read-only ones

static int check_basics(const Cri__ContainerConfig *c, struct error *err)
{
    if (c->windows)
        return policy_bad(err, "windows: this runtime runs Linux containers only");
    if (!c->metadata || str_empty(c->metadata->name))
        return policy_bad(err, "metadata.name: is empty");
    if (!c->image || str_empty(c->image->image))
        return policy_bad(err, "image.image: is empty");
    if (c->stop_signal != CRI__SIGNAL__RUNTIME_DEFAULT && policy_signal_number(c->stop_signal) == 0)
        return policy_bad(err, "stop_signal: unknown signal %d", (int)c->stop_signal);
    if (!str_empty(c->working_dir) && c->working_dir[0] != '/')
        return policy_bad(err, "working_dir: \"%.200s\" is not an absolute path", c->working_dir);
    return 0;
}

static int check_log_path(const char *path, struct error *err)
{
    char absolute[4096];
    if (str_empty(path))
        return 0;
    int n = snprintf(absolute, sizeof(absolute), "/%s", path);
    if (path[0] == '/' || n < 0 || (size_t)n >= sizeof(absolute))
        return policy_bad(err, "log_path: \"%.200s\" is not a path below log_directory", path);
    return policy_check_path("log_path", absolute, err);
}

static int check_envs(const Cri__ContainerConfig *c, struct error *err)
{
    if (c->n_envs > ENVS_MAX)
        return policy_bad(err, "envs: more than %d variables", ENVS_MAX);
    for (size_t i = 0; i < c->n_envs; i++) {
        const Cri__KeyValue *kv = c->envs[i];
        if (str_empty(kv->key) || strchr(kv->key, '='))
            return policy_bad(err, "envs[%zu].key: \"%.100s\" is not the name of a variable", i, kv->key);
        if (kv->value.len > 0 && memchr(kv->value.data, '\0', kv->value.len))
            return policy_bad(err, "envs[%zu].value: the value of %.100s has a NUL byte in it", i, kv->key);
    }
    return 0;
}

static int check_read_only(const struct policy *p, const char *field, const Cri__Mount *m, struct error *err)
{
    if (!m->recursive_read_only)
        return 0;
    if (!m->readonly)
        return policy_bad(err, "%s.recursive_read_only: is set without readonly", field);
    if (m->propagation != CRI__MOUNT_PROPAGATION__PROPAGATION_PRIVATE)
        return policy_bad(err, "%s.recursive_read_only: needs PROPAGATION_PRIVATE", field);
    if (!p->recursive_readonly) // the word is kubelet's
        return policy_missing(err, "RROUnsupported: %s.recursive_read_only: this host's kernel can't", field);
    return 0;
}

// What of a container's /proc may be replaced: the files by which a container is told of its own limits
// instead of the node's, and a file that all read. Whatever else lies there steers the kernel, or is trusted
// by somebody.
static bool may_cover_proc(const char *path)
{
    static const char *const known[] = {"cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo",
                                        "stat",    "swaps",     "uptime",  "net/dev"};
    char clean[PATH_MAX], *to = clean; // without "//" and "/./"; path is shorter
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
    *to = '\0';
    if (!str_has_prefix(clean, "/proc/")) // all of /proc is fine, if it is a procfs: crisp-pod looks
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (str_eq(clean + strlen("/proc/"), known[i]))
            return true;
    }
    return false;
}

// A path such as "etc/app": relative to the image's root, whether it begins with a slash or not.
static int check_image_mount(const struct policy *p, const char *field, const Cri__Mount *m,
                             struct error *err)
{
    char name[80], path[PATH_MAX];
    if (!str_empty(m->host_path))
        return policy_bad(err, "%s: host_path and image are both set", field);
    // What is mounted is read-only and the container's alone: nothing can come from the host, or go there.
    if (m->propagation != CRI__MOUNT_PROPAGATION__PROPAGATION_PRIVATE &&
        m->propagation != CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER)
        return policy_bad(err, "%s.propagation: an image can't be mounted with %d", field,
                          (int)m->propagation);
    // SELinux's relabelling is no wish that could fail: an image is mounted with the container's label.
    int r = check_read_only(p, field, m, err);
    if (r < 0 || str_empty(m->image_sub_path))
        return r;
    (void)snprintf(name, sizeof(name), "%s.image_sub_path", field);
    if (snprintf(path, sizeof(path), "/%s", m->image_sub_path) >= (int)sizeof(path))
        return policy_bad(err, "%s: is longer than %d bytes", name, PATH_MAX - 2);
    return policy_check_path(name, path, err);
}

static int check_mount(const struct policy *p, const Cri__PodSandboxConfig *pod, const Cri__Mount *m,
                       size_t index, struct error *err)
{
    char field[48], name[80];
    (void)snprintf(field, sizeof(field), "mounts[%zu]", index);
    (void)snprintf(name, sizeof(name), "%s.container_path", field);
    int r = policy_check_path(name, m->container_path, err);
    if (r < 0)
        return r;
    if (m->container_path[strspn(m->container_path, "/.")] == '\0')
        return policy_bad(err, "%s: \"%s\" would cover the container's whole root", name, m->container_path);
    if (!may_cover_proc(m->container_path))
        return policy_bad(err, "%s: \"%.200s\": only single files with figures may be mounted in /proc", name,
                          m->container_path);
    r = policy_check_mount_ids(pod, field, m, err);
    if (r < 0)
        return r;
    if (m->image && !str_empty(m->image->image))
        return check_image_mount(p, field, m, err);
    if (!str_empty(m->image_sub_path))
        return policy_bad(err, "%s.image_sub_path: is set without image", field);
    (void)snprintf(name, sizeof(name), "%s.host_path", field);
    // A ".." is the host's own business: only kubelet names host paths.
    if (str_empty(m->host_path) || m->host_path[0] != '/')
        return policy_bad(err, "%s: \"%.200s\" is not an absolute path", name, m->host_path);
    if (m->propagation > CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
        return policy_bad(err, "%s.propagation: unknown propagation %d", field, (int)m->propagation);
    if (m->propagation == CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL && policy_userns(pod))
        return policy_bad(
            err,
            "%s.propagation: PROPAGATION_BIDIRECTIONAL can't be had in a pod with a user namespace, "
            "whose mounts never reach the host",
            field);
    return check_read_only(p, field, m, err);
}

static int check_mounts(const struct policy *p, const Cri__PodSandboxConfig *pod,
                        const Cri__ContainerConfig *c, struct error *err)
{
    if (c->n_mounts > MOUNTS_MAX)
        return policy_bad(err, "mounts: more than %d", MOUNTS_MAX);
    for (size_t i = 0; i < c->n_mounts; i++) {
        int r = check_mount(p, pod, c->mounts[i], i, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_devices(const Cri__ContainerConfig *c, struct error *err)
{
    if (c->n_devices > DEVICES_MAX)
        return policy_bad(err, "devices: more than %d", DEVICES_MAX);
    for (size_t i = 0; i < c->n_devices; i++) {
        const Cri__Device *d = c->devices[i];
        char name[64];
        (void)snprintf(name, sizeof(name), "devices[%zu].container_path", i);
        int r = policy_check_path(name, d->container_path, err);
        if (r < 0)
            return r;
        if (str_empty(d->host_path) || d->host_path[0] != '/')
            return policy_bad(err, "devices[%zu].host_path: \"%.200s\" is not an absolute path", i,
                              d->host_path);
        if (strspn(d->permissions, "rwm") != strlen(d->permissions) || strlen(d->permissions) > 3)
            return policy_bad(err, "devices[%zu].permissions: \"%.20s\" is not made of r, w and m", i,
                              d->permissions);
    }
    return 0;
}

static int check_hidden(const char *field, char *const *paths, size_t n, struct error *err)
{
    if (n > PATHS_MAX)
        return policy_bad(err, "%s: more than %d", field, PATHS_MAX);
    for (size_t i = 0; i < n; i++) {
        int r = policy_check_path(field, paths[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

// The container lives in the pod's network and IPC; only its pid namespace is its own choice.
static int check_namespaces(const Cri__PodSandboxConfig *pod, const Cri__NamespaceOption *o,
                            struct error *err)
{
    static const char field[] = "linux.security_context.namespace_options";
    if (!o)
        return 0;
    int r = policy_check_same_userns(pod, "linux.security_context.namespace_options.userns_options",
                                     o->userns_options, err);
    if (r < 0)
        return r;
    if (o->network != CRI__NAMESPACE_MODE__POD && o->network != CRI__NAMESPACE_MODE__NODE)
        return policy_bad(err, "%s.network: %d is neither POD nor NODE", field, (int)o->network);
    if (o->network == CRI__NAMESPACE_MODE__NODE && !policy_host_network(pod))
        return policy_bad(err, "%s.network: is NODE, but the pod has a network of its own", field);
    if (o->ipc != CRI__NAMESPACE_MODE__POD && o->ipc != CRI__NAMESPACE_MODE__NODE)
        return policy_bad(err, "%s.ipc: %d is neither POD nor NODE", field, (int)o->ipc);
    if (o->ipc == CRI__NAMESPACE_MODE__NODE && !policy_host_ipc(pod))
        return policy_bad(err, "%s.ipc: is NODE, but the pod has an IPC namespace of its own", field);
    if (o->pid > CRI__NAMESPACE_MODE__TARGET)
        return policy_bad(err, "%s.pid: unknown mode %d", field, (int)o->pid);
    if (o->pid == CRI__NAMESPACE_MODE__NODE && !policy_host_pid(pod))
        return policy_bad(err, "%s.pid: is NODE, but the pod doesn't use the node's processes", field);
    if (o->pid == CRI__NAMESPACE_MODE__POD && policy_own_pids(pod))
        return policy_bad(err, "%s.pid: is POD, but the pod's containers have a pid namespace each", field);
    if ((o->pid == CRI__NAMESPACE_MODE__TARGET) == str_empty(o->target_id))
        return policy_bad(err, "%s.target_id: goes with pid TARGET, and only with it", field);
    return 0;
}

// The pod has to say beforehand that privileged containers will come
// (LinuxSandboxSecurityContext.privileged).
static int check_privileged(const Cri__PodSandboxConfig *pod, const Cri__LinuxContainerSecurityContext *sc,
                            struct error *err)
{
    bool pod_is = pod->linux && pod->linux->security_context && pod->linux->security_context->privileged;
    if (!sc->privileged || pod_is)
        return 0;
    return policy_bad(err, "linux.security_context.privileged: is set, but the pod sandbox isn't privileged");
}

static int check_security(const struct policy *p, const Cri__PodSandboxConfig *pod,
                          const Cri__LinuxContainerSecurityContext *sc, struct error *err)
{
    static const char prefix[] = "linux.security_context";
    Pod__Capabilities capabilities;
    int r = check_namespaces(pod, sc->namespace_options, err);
    if (r == 0)
        r = check_privileged(pod, sc, err);
    if (r == 0)
        r = policy_check_ids(prefix, sc->run_as_user, !str_empty(sc->run_as_username), sc->run_as_group,
                             sc->supplemental_groups, sc->n_supplemental_groups, err);
    if (r == 0)
        r = policy_check_mapped(pod, prefix, sc, err);
    if (r == 0)
        r = policy_check_groups_policy("linux.security_context.supplemental_groups_policy",
                                       sc->supplemental_groups_policy, err);
    if (r == 0)
        r = caps_compute(sc->capabilities, sc->privileged, p->caps_held, &capabilities, err);
    if (r == 0)
        r = check_hidden("linux.security_context.masked_paths", sc->masked_paths, sc->n_masked_paths, err);
    if (r == 0)
        r = check_hidden("linux.security_context.readonly_paths", sc->readonly_paths, sc->n_readonly_paths,
                         err);
    if (r < 0)
        return r;
    r = policy_check_selinux(p, "linux.security_context.selinux_options", sc->selinux_options, err);
    if (r == 0)
        r = policy_check_seccomp("linux.security_context.seccomp", sc->seccomp, sc->seccomp_profile_path,
                                 err);
    if (r == 0)
        r = policy_check_apparmor(p, "linux.security_context.apparmor", sc->apparmor, sc->apparmor_profile,
                                  sc->privileged, err);
    return r;
}

int policy_validate_container(const struct policy *p, const Cri__PodSandboxConfig *pod,
                              const Cri__ContainerConfig *config, struct error *err)
{
    if (!config)
        return policy_bad(err, "config: is missing");
    int r = check_basics(config, err);
    if (r == 0)
        r = check_log_path(config->log_path, err);
    if (r == 0)
        r = check_envs(config, err);
    if (r == 0)
        r = check_mounts(p, pod, config, err);
    if (r == 0)
        r = check_devices(config, err);
    if (r == 0)
        r = cdi_check_requests(config, err);
    if (r == 0)
        r = annotations_check_container(p, pod, config, err);
    if (r == 0 && config->linux)
        r = policy_validate_resources(p, config->linux->resources, err);
    if (r == 0 && config->linux && config->linux->security_context)
        r = check_security(p, pod, config->linux->security_context, err);
    return r;
}
