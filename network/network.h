// Pod networks: what the CRI service needs of CNI, in the words of pods. cni/ speaks the protocol.
//
// Thread-safe: any number of calls at once; calls for the same pod id run one after the other. Library code
// here doesn't log, but for the two threads that have no caller to tell (watcher and clean-up worker).
#ifndef NETWORK_NETWORK_H
#define NETWORK_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ctx.h"
#include "base/error.h"

struct network;

struct network_options {
    const char *conf_dir;        // *.conflist, *.conf, *.json; need not exist yet
    const char *const *bin_dirs; // NULL-terminated, searched in order
    const char *cache_dir;       // attachments: kept across restarts and reboots (e.g. under /var/lib)
    const char *netns_dir;       // pins of network namespaces (under /run); NULL: the caller minds it
    int64_t plugin_timeout_ns;   // for one whole ADD or DEL, all plugins of the list; 0: 120 s
    bool exclusive;              // nobody else uses these networks: CNI GC (1.1.0) may run at the sweep
};

// Makes the directories, loads the configuration and starts the watcher and the worker. A missing or broken
// configuration is no error: NetworkReady says so and follows the directory. All strings are copied.
int network_open(const struct network_options *options, struct network **out, struct error *err);
// Called once, when the daemon begins to end: what the worker does and what undoes a failed ADD is cut short
// and left to the next start, so that a plugin that hangs can't hold up the end. Attaching is for its caller
// to cancel.
void network_shutdown(struct network *net);
// Ends both threads (a plugin they run is killed). No other call may be under way. NULL is fine.
void network_close(struct network *net);

struct network_status {
    bool ready;
    char reason[64];   // CamelCase, "" when ready
    char message[512]; // "" when ready, or a warning (e.g. a broken newer file beside a loaded one)
};

// The NetworkReady condition. Cheap (a few stat(2)), never runs a plugin: STATUS of CNI 1.1.0 is asked by the
// watcher every ten seconds.
void network_get_status(struct network *net, struct network_status *out);
// Verbose Status info as JSON: loaded network, files, last load error, unfinished tear-downs. The caller
// frees; NULL on ENOMEM.
char *network_info_json(struct network *net);
// A network is loaded; false: network_attach() would fail with UNAVAILABLE.
bool network_is_loaded(struct network *net);

struct network_port {
    const char *protocol; // "tcp", "udp" or "sctp"; NULL: "tcp"
    int32_t container_port;
    int32_t host_port;   // 0: not mapped, the entry is skipped
    const char *host_ip; // "" or NULL: all addresses
};

struct network_bandwidth { // bits per second; 0: no limit
    int64_t ingress_bps;
    int64_t egress_bps;
};

struct network_pair {
    const char *key, *value;
};

struct network_pod { // borrowed for the time of the call
    const char *id;  // 64 hex digits: CNI_CONTAINERID
    const char *name, *namespace, *uid;
    const char *netns_path;
    const struct network_port *ports;
    size_t n_ports;
    const char *cgroup_path;                   // capability cgroupPath; NULL: none
    const struct network_bandwidth *bandwidth; // NULL: no limits
    const char *const *dns_servers;            // NULL-terminated or NULL, as dns_searches, dns_options:
    const char *const *dns_searches;           // capability dns
    const char *const *dns_options;
    const struct network_pair *annotations; // capability io.kubernetes.cri.pod-annotations
    size_t n_annotations;
};

struct network_result {
    char **ips;        // NULL-terminated (base/str.h strv), first the primary one, without prefix length
    char *json;        // the last plugin's result as it is kept in the cache
    int64_t plugin_ns; // time spent in CNI plugins
};
void network_result_done(struct network_result *result);

// CNI ADD of eth0. A failure, time-out or cancel is undone (DEL, with time of its own) before it returns;
// what could not be undone is left to the worker. A record is written before the first plugin runs, so that
// network_sweep() finds an ADD that a crash cut short. Errors: UNAVAILABLE without a loaded network,
// INVALID_ARGUMENT for a pod that can't be put into CNI's words, DEADLINE_EXCEEDED, CANCELLED, else what the
// plugin's error code means. Does not touch lo: see network/netns.h.
int network_attach(struct network *net, const struct network_pod *pod, const struct ctx *ctx,
                   struct network_result *result, struct error *err);

// CNI DEL by the configuration and result of the ADD, whether or not the configuration file still exists.
// Idempotent: fine for an unknown id, a gone netns. When a plugin fails, the error is returned, and the
// worker goes on trying with back-off, also after a restart of the daemon.
int network_detach(struct network *net, const char *pod_id, const struct ctx *ctx, struct error *err);

// The result of an attachment made before a restart. NOT_FOUND if there is none.
int network_load_result(struct network *net, const char *pod_id, struct network_result *result,
                        struct error *err);

// At start, before the first attach: every attachment that belongs to none of the live pods is handed to the
// worker for DEL, as are tear-downs that a restart interrupted. Plugins that a killed daemon left running for
// such are ended. Doesn't wait for DEL.
int network_sweep(struct network *net, const char *const *live_pod_ids, size_t n, struct error *err);

// UpdateRuntimeConfig's pod_cidr: one CIDR, or an IPv4 and an IPv6 one separated by a comma; "" is fine and
// changes nothing. INVALID_ARGUMENT otherwise. It is kept for network_info_json(); conflists are the
// administrator's or the network add-on's and are never written by us.
int network_set_pod_cidr(struct network *net, const char *cidr, struct error *err);

// A Kubernetes quantity as in the annotations kubernetes.io/ingress-bandwidth and egress-bandwidth ("10M",
// "1Gi", "1500k", "2e6"), 1k to 1P, in bits per second. INVALID_ARGUMENT otherwise.
int network_bandwidth_parse(const char *quantity, int64_t *bps, struct error *err);

#endif
