// What a pod may ask for.
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/annotation.h"
#include "runtime/cgroup.h"
#include "runtime/policy_internal.h"

#define HOSTNAME_MAX 64 // the kernel's
#define DNS_MAX      64 // entries of each kind
#define PORTS_MAX    4096

static int check_metadata(const Cri__PodSandboxMetadata *m, struct error *err)
{
    if (!m)
        return policy_bad(err, "metadata: is missing");
    if (str_empty(m->name))
        return policy_bad(err, "metadata.name: is empty");
    if (str_empty(m->uid))
        return policy_bad(err, "metadata.uid: is empty");
    if (str_empty(m->namespace_))
        return policy_bad(err, "metadata.namespace: is empty");
    return 0;
}

static int check_hostname(const char *name, struct error *err)
{
    if (strlen(name) > HOSTNAME_MAX)
        return policy_bad(err, "hostname: \"%.100s\" is longer than %d bytes", name, HOSTNAME_MAX);
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '.' && *p != '_')
            return policy_bad(err, "hostname: \"%.100s\" has a character that no host name has", name);
    }
    return 0;
}

// Each goes into a line of resolv.conf as it is.
static int check_dns(const char *field, char *const *list, size_t n, struct error *err)
{
    if (n > DNS_MAX)
        return policy_bad(err, "dns_config.%s: more than %d", field, DNS_MAX);
    for (size_t i = 0; i < n; i++) {
        bool bad = list[i][0] == '\0' || strlen(list[i]) > 255;
        for (const char *p = list[i]; *p && !bad; p++)
            bad = isspace((unsigned char)*p) || iscntrl((unsigned char)*p);
        if (bad)
            return policy_bad(err, "dns_config.%s[%zu]: \"%.100s\" can't be written to resolv.conf", field, i,
                              list[i]);
    }
    return 0;
}

static int check_ports(const Cri__PodSandboxConfig *pod, struct error *err)
{
    if (pod->n_port_mappings > PORTS_MAX)
        return policy_bad(err, "port_mappings: more than %d", PORTS_MAX);
    for (size_t i = 0; i < pod->n_port_mappings; i++) {
        const Cri__PortMapping *m = pod->port_mappings[i];
        struct in6_addr address;
        if (m->protocol > CRI__PROTOCOL__SCTP)
            return policy_bad(err, "port_mappings[%zu].protocol: unknown protocol %d", i, (int)m->protocol);
        if (m->container_port < 0 || m->container_port > 65535 ||
            (m->host_port > 0 && m->container_port == 0))
            return policy_bad(err, "port_mappings[%zu].container_port: %d is not a port", i,
                              m->container_port);
        if (m->host_port < 0 || m->host_port > 65535)
            return policy_bad(err, "port_mappings[%zu].host_port: %d is not a port", i, m->host_port);
        if (!str_empty(m->host_ip) && inet_pton(AF_INET, m->host_ip, &address) != 1 &&
            inet_pton(AF_INET6, m->host_ip, &address) != 1)
            return policy_bad(err, "port_mappings[%zu].host_ip: \"%.60s\" is not an IP address", i,
                              m->host_ip);
    }
    return 0;
}

static int check_namespaces(const struct policy *p, const Cri__NamespaceOption *o, struct error *err)
{
    static const char field[] = "linux.security_context.namespace_options";
    if (!o)
        return 0;
    if (o->network != CRI__NAMESPACE_MODE__POD && o->network != CRI__NAMESPACE_MODE__NODE)
        return policy_bad(err, "%s.network: %d is neither POD nor NODE", field, (int)o->network);
    if (o->ipc != CRI__NAMESPACE_MODE__POD && o->ipc != CRI__NAMESPACE_MODE__NODE)
        return policy_bad(err, "%s.ipc: %d is neither POD nor NODE", field, (int)o->ipc);
    if (o->pid > CRI__NAMESPACE_MODE__NODE)
        return policy_bad(err, "%s.pid: %d is not POD, CONTAINER or NODE", field, (int)o->pid);
    return policy_check_userns(p, "linux.security_context.namespace_options.userns_options",
                               o->userns_options, err);
}

// Nothing of the pod runs as anybody: there is no pause container. What kubelet sends for one is checked, so
// that a mistake shows here and not in the first container.
static int check_security(const struct policy *p, const Cri__LinuxSandboxSecurityContext *sc,
                          struct error *err)
{
    static const char prefix[] = "linux.security_context";
    int r = check_namespaces(p, sc->namespace_options, err);
    if (r == 0)
        r = policy_check_ids(prefix, sc->run_as_user, false, sc->run_as_group, sc->supplemental_groups,
                             sc->n_supplemental_groups, err);
    if (r == 0)
        r = policy_check_groups_policy("linux.security_context.supplemental_groups_policy",
                                       sc->supplemental_groups_policy, err);
    if (r == 0)
        r = policy_check_selinux(p, "linux.security_context.selinux_options", sc->selinux_options, err);
    if (r == 0)
        r = policy_check_seccomp("linux.security_context.seccomp", sc->seccomp, sc->seccomp_profile_path,
                                 err);
    if (r == 0)
        r = policy_check_apparmor(p, "linux.security_context.apparmor", sc->apparmor, NULL, false, err);
    return r;
}

static int check_linux(const struct policy *p, const Cri__PodSandboxConfig *pod, struct error *err)
{
    char path[CGROUP_PATH_MAX];
    int r = cgroup_pod_path(p->cgroups, pod->linux->cgroup_parent, "pod", path, err);
    if (r == 0)
        r = policy_check_sysctls(pod, err);
    if (r == 0 && pod->linux->security_context)
        r = check_security(p, pod->linux->security_context, err);
    if (r == 0)
        r = policy_validate_overhead(p, pod->linux->overhead, err);
    return r < 0 ? r : policy_validate_resources(p, pod->linux->resources, err);
}

int policy_validate_pod(const struct policy *p, const Cri__PodSandboxConfig *pod, struct error *err)
{
    if (!pod)
        return policy_bad(err, "config: is missing");
    if (pod->windows)
        return policy_bad(err, "windows: this runtime runs Linux containers only");
    int r = check_metadata(pod->metadata, err);
    if (r == 0)
        r = check_hostname(pod->hostname, err);
    if (r == 0 && !str_empty(pod->log_directory))
        r = policy_check_path("log_directory", pod->log_directory, err);
    const Cri__DNSConfig *dns = pod->dns_config;
    if (r == 0 && dns)
        r = check_dns("servers", dns->servers, dns->n_servers, err);
    if (r == 0 && dns)
        r = check_dns("searches", dns->searches, dns->n_searches, err);
    if (r == 0 && dns)
        r = check_dns("options", dns->options, dns->n_options, err);
    if (r == 0)
        r = check_ports(pod, err);
    if (r == 0)
        r = annotations_check_pod(p, pod, err);
    return r < 0 || !pod->linux ? r : check_linux(p, pod, err);
}
