// What belongs to the pod: names, networks, namespaces, sysctls.
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/run_config.h"

#define HOSTNAME_LEN 63 // Linux's

static int add_sysctls(struct run_config *c, char **sysctls, struct error *err)
{
    for (size_t i = 0; i < strv_len(sysctls); i++) {
        Cri__LinuxPodSandboxConfig__SysctlsEntry *entry = run_config_alloc(c->arena, sizeof(*entry));
        cri__linux_pod_sandbox_config__sysctls_entry__init(entry);
        if (run_config_pair(c->arena, sysctls[i], &entry->key, &entry->value) < 0)
            return run_config_bad(err, "sysctl", sysctls[i], "NAME=VALUE");
        RUN_CONFIG_ADD(c->arena, c->pod_linux.sysctls, c->pod_linux.n_sysctls, entry);
    }
    return 0;
}

static int take_port(const char *text, int32_t *port)
{
    int64_t number = 0;

    if (str_parse_i64(text, 1, 65535, &number) < 0)
        return -EINVAL;
    *port = (int32_t)number;
    return 0;
}

// [IP:]HOST_PORT:POD_PORT[/PROTO]; an IPv6 address in brackets.
static int add_port(struct run_config *c, const char *text, struct error *err)
{
    static const struct {
        const char *name;
        Cri__Protocol protocol;
    } protocols[] = {{"tcp", CRI__PROTOCOL__TCP}, {"udp", CRI__PROTOCOL__UDP}, {"sctp", CRI__PROTOCOL__SCTP}};
    static const char must_be[] =
        "HOST_PORT:PORT, with an address before (127.0.0.1:8080:80, [::1]:8080:80) and /tcp, /udp or /sctp "
        "behind it, if wanted";
    char *host = run_config_printf(c->arena, "%s", text);
    Cri__PortMapping *m = run_config_alloc(c->arena, sizeof(*m));

    cri__port_mapping__init(m);
    char *protocol = strchr(host, '/');
    if (protocol)
        *protocol++ = '\0';
    size_t i = 0;
    while (protocol && i < ARRAY_SIZE(protocols) && !str_eq(protocol, protocols[i].name))
        i++;
    char *port = strrchr(host, ':');
    if (i == ARRAY_SIZE(protocols) || !port || take_port(port + 1, &m->container_port) < 0)
        return run_config_bad(err, "publish", text, must_be);
    *port = '\0';
    m->protocol = protocols[i].protocol;
    char *host_port = strrchr(host, ':');
    if (host_port) {
        *host_port++ = '\0';
        size_t len = strlen(host);
        bool brackets = host[0] == '[' && len > 1 && host[len - 1] == ']';
        m->host_ip = brackets ? run_config_printf(c->arena, "%.*s", (int)len - 2, host + 1) : host;
    }
    if (take_port(host_port ? host_port : host, &m->host_port) < 0)
        return run_config_bad(err, "publish", text, must_be);
    RUN_CONFIG_ADD(c->arena, c->pod.port_mappings, c->pod.n_port_mappings, m);
    return 0;
}

static void take_dns(struct run_config *c, const struct pod_options *o)
{
    if (!o->dns && !o->dns_search && !o->dns_option)
        return;
    cri__dnsconfig__init(&c->dns);
    c->dns.servers = o->dns;
    c->dns.n_servers = strv_len(o->dns);
    c->dns.searches = o->dns_search;
    c->dns.n_searches = strv_len(o->dns_search);
    c->dns.options = o->dns_option;
    c->dns.n_options = strv_len(o->dns_option);
    c->pod.dns_config = &c->dns;
}

void run_config_map_ids(struct run_config *c, uint32_t first_id, uint32_t size)
{
    Cri__IDMapping *map = run_config_alloc(c->arena, sizeof(*map));
    Cri__UserNamespace *u = &c->userns;

    cri__idmapping__init(map);
    map->host_id = first_id;
    map->length = size;
    cri__user_namespace__init(u);
    u->mode = CRI__NAMESPACE_MODE__POD;
    RUN_CONFIG_ADD(c->arena, u->uids, u->n_uids, map);
    RUN_CONFIG_ADD(c->arena, u->gids, u->n_gids, map);
    c->namespaces.userns_options = u;
}

static int take_userns(struct run_config *c, const char *text, struct error *err)
{
    int64_t first = 0, size = 65536;

    if (str_eq(text, "host"))
        return 0;
    c->userns_auto = str_eq(text, "auto");
    if (c->userns_auto)
        return 0;
    size_t len = strcspn(text, ":");
    char *id = run_config_printf(c->arena, "%.*s", (int)len, text);
    if (str_parse_i64(id, 1, UINT32_MAX - 1, &first) < 0 ||
        (text[len] && str_parse_i64(text + len + 1, 1, UINT32_MAX - first, &size) < 0))
        return run_config_bad(
            err, "userns", text,
            "host, auto, or HOST_ID[:SIZE]: the host's id that root has, and how many follow");
    run_config_map_ids(c, (uint32_t)first, (uint32_t)size);
    return 0;
}

static bool one_of(const char *text, const char *a, const char *b)
{
    return str_eq(text, a) || str_eq(text, b);
}

static int take_namespaces(struct run_config *c, const struct pod_options *o, struct error *err)
{
    Cri__NamespaceOption *n = &c->namespaces;

    n->pid = CRI__NAMESPACE_MODE__CONTAINER; // as people expect; the others are the pod's
    if (str_eq(o->pid, "host"))
        n->pid = CRI__NAMESPACE_MODE__NODE;
    else if (str_eq(o->pid, "pod"))
        n->pid = CRI__NAMESPACE_MODE__POD;
    else if (o->pid && !one_of(o->pid, "default", "private"))
        return run_config_bad(err, "pid", o->pid,
                              "host, pod or default: with CRI only containers of one pod share processes");
    if (str_eq(o->ipc, "host"))
        n->ipc = CRI__NAMESPACE_MODE__NODE;
    else if (o->ipc && !one_of(o->ipc, "private", "shareable") && !str_eq(o->ipc, "default"))
        return run_config_bad(err, "ipc", o->ipc,
                              "host, or private: with CRI only containers of one pod share memory");
    if (str_eq(o->network, "host"))
        n->network = CRI__NAMESPACE_MODE__NODE;
    else if (str_eq(o->network, "none"))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--network none: CRI has no pod without a network; a CNI network with the plugin "
                         "\"loopback\" alone is one");
    else if (o->network && !one_of(o->network, "default", "bridge"))
        return run_config_bad(err, "network", o->network,
                              "host or default: a CRI runtime has one network, its CNI configuration's");
    return o->userns ? take_userns(c, o->userns, err) : 0;
}

int run_config_pod(struct run_config *c, const struct pod_options *o, struct error *err)
{
    const char *hostname = o->hostname ? o->hostname : c->pod_meta.name;

    c->runtime_handler = o->runtime ? o->runtime : "";
    if (o->hostname && (str_empty(o->hostname) || strlen(o->hostname) > HOSTNAME_LEN))
        return run_config_bad(err, "hostname", o->hostname, "1 to 63 characters long");
    int rc = take_namespaces(c, o, err);
    if (rc == 0 && o->hostname && c->namespaces.network == CRI__NAMESPACE_MODE__NODE)
        return error_set(
            err, STATUS_INVALID_ARGUMENT, EINVAL,
            "--hostname and --network host exclude each other: the host's network brings its name");
    c->pod.hostname = run_config_printf(c->arena, "%.*s", HOSTNAME_LEN, hostname);
    if (o->cgroup_parent)
        c->pod_linux.cgroup_parent = (char *)o->cgroup_parent;
    if (rc == 0)
        rc = add_sysctls(c, o->sysctl, err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->publish); i++)
        rc = add_port(c, o->publish[i], err);
    take_dns(c, o);
    return rc;
}
