// A pod in CNI's words.
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>

#include "base/buf.h"
#include "base/str.h"
#include "cni/json.h"
#include "network/internal.h"

// The largest burst that plugins take: without a limit of its own, only the rate counts.
#define BURST_BITS INT32_MAX

char *network_make_args(const struct network_pod *pod, struct error *err)
{
    const struct network_pair args[] = {
        {"K8S_POD_NAMESPACE", pod->namespace},
        {"K8S_POD_NAME", pod->name},
        {"K8S_POD_INFRA_CONTAINER_ID", pod->id},
        {"K8S_POD_UID", pod->uid},
    };
    struct buf b;
    buf_init(&b, 16384);
    int r = buf_append_str(&b, "IgnoreUnknown=1");
    for (size_t i = 0; i < ARRAY_SIZE(args) && r == 0; i++) {
        const char *value = args[i].value ? args[i].value : "";
        if (strpbrk(value, ";=\n")) { // would become arguments of its own
            (void)error_set(
                err, STATUS_INVALID_ARGUMENT, EINVAL,
                "pod %s: \"%.100s\" can't be passed to CNI plugins as %s: it has ';', '=' or a newline",
                pod->id, value, args[i].key);
            buf_done(&b);
            return NULL;
        }
        r = buf_printf(&b, ";%s=%s", args[i].key, value);
    }
    char *text = r == 0 ? buf_steal(&b) : NULL;
    if (r < 0)
        (void)error_errno(err, -r, "CNI arguments of pod %s", pod->id);
    buf_done(&b);
    return text;
}

static int check_port(const struct network_pod *pod, const struct network_port *port, const char *protocol,
                      struct error *err)
{
    unsigned char raw[sizeof(struct in6_addr)];
    if (!str_eq(protocol, "tcp") && !str_eq(protocol, "udp") && !str_eq(protocol, "sctp"))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "pod %s: port mapping with unknown protocol \"%.32s\" (tcp, udp and sctp are known)",
                         pod->id, protocol);
    if (port->host_port < 1 || port->host_port > 65535 || port->container_port < 1 ||
        port->container_port > 65535)
        return error_set(err, STATUS_INVALID_ARGUMENT, ERANGE,
                         "pod %s: port mapping %d -> %d is outside 1 to 65535", pod->id, port->host_port,
                         port->container_port);
    if (!str_empty(port->host_ip) && inet_pton(AF_INET, port->host_ip, raw) != 1 &&
        inet_pton(AF_INET6, port->host_ip, raw) != 1)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "pod %s: \"%.64s\" is not an IP address",
                         pod->id, port->host_ip);
    return 0;
}

static int add_ports(const struct network_pod *pod, json_t *args, struct error *err)
{
    _cleanup_json_ json_t *array = json_array();
    for (size_t i = 0; i < pod->n_ports; i++) {
        const struct network_port *port = &pod->ports[i];
        const char *protocol = port->protocol ? port->protocol : "tcp";
        if (port->host_port == 0)
            continue;
        int r = check_port(pod, port, protocol, err);
        if (r < 0)
            return r;
        json_t *item = json_pack("{s:i, s:i, s:s, s:s}", "hostPort", (int)port->host_port, "containerPort",
                                 (int)port->container_port, "protocol", protocol, "hostIP",
                                 port->host_ip ? port->host_ip : "");
        if (!item || json_array_append_new(array, item) < 0)
            return error_errno(err, ENOMEM, "pod %s", pod->id);
    }
    if (json_array_size(array) && json_object_set(args, "portMappings", array) < 0)
        return error_errno(err, ENOMEM, "pod %s", pod->id);
    return 0;
}

static int add_bandwidth(const struct network_pod *pod, json_t *args)
{
    const struct network_bandwidth *bw = pod->bandwidth;
    if (!bw || (bw->ingress_bps <= 0 && bw->egress_bps <= 0))
        return 0;
    _cleanup_json_ json_t *value = json_object();
    if (bw->ingress_bps > 0 &&
        (json_object_set_new(value, "ingressRate", json_integer(bw->ingress_bps)) < 0 ||
         json_object_set_new(value, "ingressBurst", json_integer(BURST_BITS)) < 0))
        return -ENOMEM;
    if (bw->egress_bps > 0 && (json_object_set_new(value, "egressRate", json_integer(bw->egress_bps)) < 0 ||
                               json_object_set_new(value, "egressBurst", json_integer(BURST_BITS)) < 0))
        return -ENOMEM;
    return json_object_set(args, "bandwidth", value) < 0 ? -ENOMEM : 0;
}

static int add_strings(json_t *object, const char *key, const char *const *strings)
{
    if (!strings || !*strings)
        return 0;
    _cleanup_json_ json_t *array = json_array();
    for (; *strings; strings++)
        if (json_array_append_new(array, json_string(*strings)) < 0)
            return -EINVAL; // not UTF-8, or no memory
    return json_object_set(object, key, array) < 0 ? -ENOMEM : 0;
}

static int add_dns(const struct network_pod *pod, json_t *args)
{
    _cleanup_json_ json_t *dns = json_object();
    int r = add_strings(dns, "servers", pod->dns_servers);
    if (r == 0)
        r = add_strings(dns, "searches", pod->dns_searches);
    if (r == 0)
        r = add_strings(dns, "options", pod->dns_options);
    if (r == 0 && json_object_size(dns) && json_object_set(args, "dns", dns) < 0)
        r = -ENOMEM;
    return r;
}

static int add_annotations(const struct network_pod *pod, json_t *args)
{
    if (!pod->n_annotations)
        return 0;
    _cleanup_json_ json_t *object = json_object();
    for (size_t i = 0; i < pod->n_annotations; i++)
        if (json_object_set_new(object, pod->annotations[i].key, json_string(pod->annotations[i].value)) < 0)
            return -EINVAL;
    return json_object_set(args, "io.kubernetes.cri.pod-annotations", object) < 0 ? -ENOMEM : 0;
}

json_t *network_make_capability_args(const struct network_pod *pod, struct error *err)
{
    _cleanup_json_ json_t *args = json_object();
    int r = add_ports(pod, args, err);
    if (r < 0)
        return NULL;
    r = add_bandwidth(pod, args);
    if (r == 0)
        r = add_dns(pod, args);
    if (r == 0)
        r = add_annotations(pod, args);
    if (r == 0 && !str_empty(pod->cgroup_path) &&
        json_object_set_new(args, "cgroupPath", json_string(pod->cgroup_path)) < 0)
        r = -EINVAL;
    if (r == -EINVAL)
        (void)error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                        "pod %s: DNS settings, annotations or cgroup path are not valid UTF-8", pod->id);
    else if (r < 0)
        (void)error_errno(err, -r, "pod %s", pod->id);
    return r < 0 ? NULL : steal_ptr(&args);
}
