// Every key of the configuration, in the order in which it is printed and documented.
#include "cri/config_internal.h"

#include <string.h>

#include "base/clock.h"
#include "image/parallel.h"

static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_names[] = {"text", "json", NULL};
static const char *const driver_names[] = {"cgroupfs", "systemd", NULL};

#define FIELD(name) offsetof(struct config, name)

const struct config_key config_keys[] = {
    {.path = "root",
     .type = CONFIG_PATH,
     .offset = FIELD(root),
     .default_value = "/var/lib/crisp",
     .doc =
         "Directory of records, images and containers' writable layers. Kept over reboots; one daemon each."},
    {.path = "run_dir",
     .type = CONFIG_PATH,
     .offset = FIELD(run_dir),
     .default_value = "/run/crisp",
     .doc = "Directory of sockets, locks and namespace pins. On a tmpfs: its content means nothing after a "
            "reboot. One daemon each."},
    {.path = "socket",
     .type = CONFIG_PATH,
     .offset = FIELD(socket),
     .default_value = "{run_dir}/crisp.sock",
     .valid = config_is_socket_path,
     .allowed = "an absolute path of at most 107 bytes",
     .doc = "The CRI endpoint: kubelet's --container-runtime-endpoint is unix:// and this path. Mode 0660."},
    {.path = "max_connections",
     .type = CONFIG_INT,
     .offset = FIELD(max_connections),
     .default_value = "256",
     .min = 8,
     .max = 4096,
     .doc = "Connections to the socket at one time; further ones are closed at once."},
    {.path = "shutdown_grace",
     .type = CONFIG_DURATION,
     .offset = FIELD(shutdown_grace_ns),
     .default_value = "5s",
     .min = 0,
     .max = 300 * NS_PER_SEC,
     .doc = "How long calls under way may go on after SIGTERM before they are cancelled. Containers run on "
            "in any case."},
    {.path = "log.level",
     .type = CONFIG_ENUM,
     .offset = FIELD(log_level),
     .default_value = "info",
     .names = level_names,
     .doc = "The least severe events that are logged. debug shows every call."},
    {.path = "log.format",
     .type = CONFIG_ENUM,
     .offset = FIELD(log_format),
     .default_value = "text",
     .names = format_names,
     .doc = "Lines of key=value pairs, or JSON objects, on stderr."},
    {.path = "cgroup.driver",
     .type = CONFIG_ENUM,
     .offset = FIELD(cgroup_driver),
     .default_value = "cgroupfs",
     .names = driver_names,
     .doc =
         "Who makes pods' cgroups: crispd by itself, or systemd (scopes in slices). Kubelet asks for it by "
         "RuntimeConfig and follows. Takes effect for new pods; those that run stay where they are."},
    {.path = "cgroup.parent",
     .type = CONFIG_STRING,
     .offset = FIELD(cgroup_parent),
     .default_value = "/crisp",
     .valid = config_is_cgroup_parent,
     .allowed = "an absolute cgroup path of at most 512 bytes, but not \"/\", without \".\" or \"..\"; with "
                "the driver systemd the name of a slice, as in a-b.slice",
     .doc =
         "Parent cgroup of pods whose configuration names none (kubelet always names one). With the driver "
         "systemd the default is crisp.slice."},
    {.path = "cni.conf_dir",
     .type = CONFIG_PATH,
     .offset = FIELD(cni_conf_dir),
     .default_value = "/etc/cni/net.d",
     .doc = "Directory of CNI network configurations, watched. The first by name is the pods' network. It "
            "need not exist yet."},
    {.path = "cni.bin_dirs",
     .type = CONFIG_PATHS,
     .offset = FIELD(cni_bin_dirs),
     .default_value = "/opt/cni/bin,/usr/lib/cni",
     .doc = "Where CNI plugins are looked for, in this order."},
    {.path = "cni.cache_dir",
     .type = CONFIG_PATH,
     .offset = FIELD(cni_cache_dir),
     .default_value = "{root}/cni",
     .doc = "What was attached to which network. Kept over reboots, so that addresses are given back after "
            "one."},
    {.path = "cni.plugin_timeout",
     .type = CONFIG_DURATION,
     .offset = FIELD(cni_plugin_timeout_ns),
     .default_value = "2m",
     .min = NS_PER_SEC,
     .max = 3600 * NS_PER_SEC,
     .doc = "How long all plugins of one network may take for one ADD or DEL."},
    {.path = "cni.exclusive",
     .type = CONFIG_BOOL,
     .offset = FIELD(cni_exclusive),
     .default_value = "false",
     .doc = "No other runtime uses these networks: plugins may be told to free whatever is not ours (GC)."},
    {.path = "streaming.address",
     .type = CONFIG_STRING,
     .offset = FIELD(streaming_address),
     .default_value = "127.0.0.1:0",
     .valid = config_is_address,
     .allowed = "a numeric IP address and a port, 127.0.0.1:10010 or [::1]:0 (port 0: any free one)",
     .doc = "Where exec, attach and port-forward streams are served to the kubelet."},
    {.path = "runtime.handler",
     .type = CONFIG_STRING,
     .offset = FIELD(runtime_handler),
     .default_value = "crisp",
     .valid = config_is_handler_name,
     .allowed = "1 to 63 lowercase letters, digits and inner dashes",
     .doc = "The name of the default handler (RuntimeClass handler), besides the empty one."},
    {.path = "runtime.device_ownership_from_security_context",
     .type = CONFIG_BOOL,
     .offset = FIELD(device_ownership),
     .default_value = "false",
     .doc = "Device nodes that a container asks for belong to its runAsUser and runAsGroup, where it names "
            "them, "
            "and not to the owner that they have on the host."},
    {.path = "runtime.rlimits",
     .type = CONFIG_STRINGS,
     .offset = FIELD(runtime_rlimits),
     .valid = config_is_rlimit,
     .allowed =
         "a list of NAME=SOFT:HARD or NAME=BOTH; names as in setrlimit(2) (nofile, nproc, core, memlock …);"
         " values are numbers or unlimited",
     .doc = "Resource limits of all containers and what is executed in them. Others are as crispd was started"
            " with. What can't be raised that far stays as it is, and is told in the log at start."},
    {.path = "runtime.default_sysctls",
     .type = CONFIG_STRINGS,
     .offset = FIELD(default_sysctls),
     .default_value = "net.ipv4.ip_unprivileged_port_start=0",
     .valid = config_is_assignment,
     .allowed = "a list of NAME=VALUE, of sysctls that belong to a network, IPC or UTS namespace",
     .doc = "Set in every pod that has a namespace of its own for them and doesn't set them itself. The "
            "default lets "
            "any user listen on ports below 1024; \"net.ipv4.ping_group_range=0 2147483647\" lets any user "
            "ping."},
    {.path = "runtime.shm_size_mib",
     .type = CONFIG_INT,
     .offset = FIELD(shm_mib),
     .default_value = "64",
     .min = 1,
     .max = 1 << 24,
     .doc = "Size of a pod's /dev/shm in MiB, a bound: only what is used takes memory (and counts as the "
            "container's)."},
    {.path = "runtime.pids_limit",
     .type = CONFIG_INT,
     .offset = FIELD(pids_limit),
     .default_value = "0",
     .min = 0,
     .max = 1 << 22,
     .doc = "How many processes and threads a container may have, unless it says otherwise itself (unified: "
            "pids.max). 0: no limit but the pod's, which kubelet sets (podPidsLimit), and the kernel's."},
    {.path = "runtime.absent_mount_sources_to_reject",
     .type = CONFIG_PATHS,
     .offset = FIELD(absent_sources_denied),
     .doc = "A host path that is to be mounted and isn't there is made, as a directory, unless it is one of "
            "these or "
            "below one of them: then the container is refused. /etc/hostname, say; or /, for all."},
    {.path = "annotations.allowed",
     .type = CONFIG_STRINGS,
     .offset = FIELD(annotations_allowed),
     .valid = config_is_name_pattern,
     .allowed =
         "a list of names of annotations after \"crisp.run/\", or patterns of them such as device-* or *",
     .doc = "Which annotations of crisp's own pods and containers may use (docs/annotations.md lists them). "
            "Others of that prefix are refused; annotations of other prefixes are none of crisp's business."},
    {.path = "cdi.spec_dirs",
     .type = CONFIG_PATHS,
     .offset = FIELD(cdi_spec_dirs),
     .default_value = "/etc/cdi,/var/run/cdi",
     .doc = "Directories of CDI specifications (*.json, *.yaml), looked at when a container asks for a "
            "device. A "
            "later directory's device takes the place of an earlier one's. They need not exist."},
    {.path = "image.pull_concurrency",
     .type = CONFIG_INT,
     .offset = FIELD(image_pull_concurrency),
     .default_value = "4",
     .min = 1,
     .max = IMAGE_PARALLEL_LAYERS_MAX,
     .doc = "Layers of one image that are fetched and unpacked at the same time."},
    {.path = "image.pull_concurrency_node",
     .type = CONFIG_INT,
     .offset = FIELD(image_pull_concurrency_node),
     .default_value = "16",
     .min = 1,
     .max = 1024,
     .doc =
         "Layers of all images that are fetched and unpacked at the same time; pulls wait for each other."},
    {.path = "image.sync_before_answer",
     .type = CONFIG_BOOL,
     .offset = FIELD(image_sync_before_answer),
     .default_value = "false",
     .doc = "A pull answers only when the disk has the whole image. Otherwise the disk gets it right after, "
            "and a "
            "power cut until then leaves the image absent, to be pulled again; never half."},
    {.path = "image.pull_stall_timeout",
     .type = CONFIG_DURATION,
     .offset = FIELD(image_pull_stall_ns),
     .default_value = "1m",
     .min = NS_PER_SEC,
     .max = 3600 * NS_PER_SEC,
     .doc = "How long a registry may send nothing, or less than image.pull_min_rate, before the connection "
            "is given up. What was fetched is kept: another connection, or the next mirror, continues it."},
    {.path = "image.pull_min_rate",
     .type = CONFIG_INT,
     .offset = FIELD(image_pull_min_rate),
     .default_value = "1024",
     .min = 1,
     .max = 1 << 30,
     .doc = "Bytes a second that a layer's connection has to bring to be worth waiting for."},
    {.path = "image.pinned",
     .type = CONFIG_STRINGS,
     .offset = FIELD(image_pinned),
     .doc =
         "References of images that are reported as pinned: the kubelet never removes them to free space."},
    {.path = "image.allowed",
     .type = CONFIG_STRINGS,
     .offset = FIELD(image_allowed),
     .valid = config_is_image_prefix,
     .allowed = "a list of registry hosts with or without a path, such as registry.k8s.io or ghcr.io/team",
     .doc = "Registries and repositories that images may come from, by whole components of their names. "
            "Empty: all."},
    {.path = "image.policies",
     .type = CONFIG_POLICIES,
     .offset = FIELD(image_policies),
     .doc = "Per registry or repository: whether its images are accepted, rejected, or must be signed; see "
            "below."},
    {.path = "registries",
     .type = CONFIG_REGISTRIES,
     .offset = FIELD(registries),
     .doc = "Mirrors and TLS per registry host (\"*\": every other host); see below."},
    {.path = "helpers.crisp_pod",
     .type = CONFIG_PATH,
     .offset = FIELD(crisp_pod),
     .doc = "The crisp-pod program. Default: beside crispd, else in ../libexec/crisp or /usr/libexec/crisp."},
    {.path = "helpers.crisp_pull",
     .type = CONFIG_PATH,
     .offset = FIELD(crisp_pull),
     .doc = "The crisp-pull program. Default: likewise."},
};
const size_t config_keys_len = sizeof(config_keys) / sizeof(config_keys[0]);

_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_KEYS_MAX, "raise CONFIG_KEYS_MAX");

const struct config_key *config_key_find(const char *path)
{
    for (size_t i = 0; i < config_keys_len; i++) {
        if (strcmp(config_keys[i].path, path) == 0)
            return &config_keys[i];
    }
    return NULL;
}
