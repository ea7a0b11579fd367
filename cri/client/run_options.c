// The table of `crisp run`'s options. docs/docker-run.md has a line for each; a test holds them together.
#include "cri/client/run_options.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/cli.h"

#define SWITCH(field, name, letter, help)                                                                    \
    OPTION_ROW(struct run_options, field, name, letter, OPTION_SWITCH, NULL, help)
#define TEXT(field, name, letter, value, help)                                                               \
    OPTION_ROW(struct run_options, field, name, letter, OPTION_TEXT, value, help)
#define LIST(field, name, letter, value, help)                                                               \
    OPTION_ROW(struct run_options, field, name, letter, OPTION_LIST, value, help)

static const struct option_row rows[] = {
    SWITCH(detach, "detach", 'd', "in the background: print the id and end"),
    SWITCH(remove, "rm", 0, "remove the container, its pod and its log afterwards"),
    TEXT(name, "name", 0, "NAME", "of the pod and the container (one is made up)"),
    TEXT(cidfile, "cidfile", 0, "FILE", "write the id there; it must not exist yet"),
    TEXT(pull, "pull", 0, "WHEN", "missing, always or never (missing)"),
    LIST(label, "label", 'l', "K=V", "a label of pod and container"),
    LIST(annotation, "annotation", 0, "K=V", "an annotation of pod and container"),

    TEXT(process.entrypoint, "entrypoint", 0, "PROGRAM", "in place of the image's entrypoint and command"),
    LIST(process.env, "env", 'e', "K=V", "an environment variable; K alone: crisp's own"),
    LIST(process.env_file, "env-file", 0, "FILE", "such variables, a line for each"),
    TEXT(process.workdir, "workdir", 'w', "DIR", "working directory"),
    TEXT(process.user, "user", 'u', "USER[:GID]", "a name or a number, and a group's number"),
    LIST(process.group_add, "group-add", 0, "GID", "a further group's number"),
    TEXT(process.stop_signal, "stop-signal", 0, "SIGNAL", "what `crisp stop` sends first (TERM)"),
    TEXT(process.stop_timeout, "stop-timeout", 0, "SECONDS", "how long it then waits (10)"),

    RESOURCE_ROWS(struct run_options),
    TEXT(extra.cpu_rt_period, "cpu-rt-period", 0, "USEC", "period of real-time scheduling"),
    TEXT(extra.cpu_rt_runtime, "cpu-rt-runtime", 0, "USEC", "real-time CPU time per period"),
    TEXT(extra.memory_reservation, "memory-reservation", 0, "SIZE", "memory to keep when others want it"),
    TEXT(extra.memory_swappiness, "memory-swappiness", 0, "N", "0 to 100"),
    SWITCH(extra.oom_kill_disable, "oom-kill-disable", 0, "wait for memory instead of being killed"),
    TEXT(extra.blkio_weight, "blkio-weight", 0, "N", "weight of I/O against others, 10 to 1000"),
    LIST(extra.device_read_bps, "device-read-bps", 0, "DEVICE:SIZE", "bytes read per second: /dev/sda:1m"),
    LIST(extra.device_write_bps, "device-write-bps", 0, "DEVICE:SIZE", "bytes written per second"),
    LIST(extra.device_read_iops, "device-read-iops", 0, "DEVICE:N", "reads per second"),
    LIST(extra.device_write_iops, "device-write-iops", 0, "DEVICE:N", "writes per second"),
    LIST(extra.storage_opt, "storage-opt", 0, "size=SIZE", "limit of what the container writes to its root"),
    TEXT(extra.shm_size, "shm-size", 0, "SIZE", "of /dev/shm (64m)"),
    LIST(extra.ulimit, "ulimit", 0, "NAME=SOFT[:HARD]", "a resource limit: nofile=1024:4096"),

    LIST(security.cap_add, "cap-add", 0, "CAP", "a capability more: NET_ADMIN, or ALL"),
    LIST(security.cap_drop, "cap-drop", 0, "CAP", "a capability less"),
    SWITCH(security.privileged, "privileged", 0, "all capabilities and devices, nothing hidden"),
    SWITCH(security.read_only, "read-only", 0, "root file system read-only"),
    LIST(security.security_opt, "security-opt", 0, "OPTION",
         "seccomp=FILE|unconfined, apparmor=PROFILE|unconfined,\n"
         "no-new-privileges, label=user:U|role:R|type:T|level:L,\n"
         "systempaths=unconfined"),

    LIST(volume, "volume", 'v', "HOST:PATH[:OPT,…]", "mount a path of the host: ro, rslave, z …"),
    LIST(mount, "mount", 0, "type=bind|tmpfs|image,…", "the same with names: source=, target=, readonly"),
    LIST(extra.tmpfs, "tmpfs", 0, "PATH[:OPT,…]", "a file system in memory: /run:size=64m,mode=755"),
    LIST(device, "device", 0, "HOST[:PATH[:rwm]]", "a device; or a CDI name: vendor.com/class=name"),

    TEXT(pod.hostname, "hostname", 'h', "NAME", "host name (the pod's name)"),
    TEXT(pod.network, "network", 0, "MODE", "host, or default: the pod's own"),
    TEXT(pod.pid, "pid", 0, "MODE", "host, pod, or default: the container's own"),
    TEXT(pod.ipc, "ipc", 0, "MODE", "host, or private: the pod's own"),
    TEXT(pod.userns, "userns", 0, "MODE", "host, auto, or HOST_ID[:SIZE]: a user namespace"),
    LIST(pod.publish, "publish", 'p', "[IP:]PORT:PORT[/PROTO]", "reach a port of the pod at the host's"),
    LIST(pod.dns, "dns", 0, "ADDRESS", "a name server"),
    LIST(pod.dns_search, "dns-search", 0, "DOMAIN", "a domain to look for names in"),
    LIST(pod.dns_option, "dns-option", 0, "OPTION", "an option of the resolver"),
    LIST(pod.sysctl, "sysctl", 0, "NAME=VALUE", "a kernel parameter of the pod's namespaces"),
    TEXT(pod.cgroup_parent, "cgroup-parent", 0, "PATH", "where the pod's cgroup is made"),
    TEXT(pod.runtime, "runtime", 0, "HANDLER", "the runtime's handler"),

    TEXT(extra.health_cmd, "health-cmd", 0, "COMMAND", "a shell's command that tells whether it is healthy"),
    TEXT(extra.health_interval, "health-interval", 0, "TIME", "between two checks (30s)"),
    TEXT(extra.health_timeout, "health-timeout", 0, "TIME", "of one check (30s)"),
    TEXT(extra.health_retries, "health-retries", 0, "N", "failures in a row until it is unhealthy (3)"),
    TEXT(extra.health_start_period, "health-start-period", 0, "TIME", "in which failures don't count (0s)"),
    TEXT(extra.health_start_interval, "health-start-interval", 0, "TIME", "between checks meanwhile (5s)"),
};

static const struct option_hint hints[] = {
    {"add-host", "CRI has no field for it; mount a file: -v FILE:/etc/hosts:ro"},
    {"attach", "without --detach all output is passed on"},
    {"blkio-weight-device", "kernels with cgroup v2 have it as a file: --cgroup-conf io.weight=…"},
    {"cgroupns", "containers always see their own cgroup as the root (unless --privileged)"},
    {"cpu-count", "it is Windows' own; see --cpus"},
    {"detach-keys", "there is no terminal to detach from"},
    {"device-cgroup-rule", "name devices by --device"},
    {"disable-content-trust", "the runtime checks what its registries' configuration says"},
    {"domainname", "--sysctl kernel.domainname=NAME sets it"},
    {"expose", "pods have an address of their own, where all ports can be reached; see --publish"},
    {"gpus", "--device takes CDI names: nvidia.com/gpu=all"},
    {"i", "there is no standard input; `crictl attach` has it, where the runtime can"},
    {"init", "let the image bring an init program, and name it by --entrypoint"},
    {"interactive", "there is no standard input; `crictl attach` has it, where the runtime can"},
    {"ip", "addresses are given by the CNI network's IPAM plugin"},
    {"ip6", "addresses are given by the CNI network's IPAM plugin"},
    {"isolation", "it is Windows' own"},
    {"kernel-memory", "kernel memory is part of --memory"},
    {"label-file", "give --label for each line"},
    {"link", "it is docker's own; use the other pod's address (`crisp inspect`)"},
    {"link-local-ip", "addresses are given by the CNI network's IPAM plugin"},
    {"log-driver", "logs are files in CRI's format; `crisp inspect` tells where"},
    {"log-opt", "logs are files in CRI's format; `crisp inspect` tells where"},
    {"mac-address", "addresses are given by the CNI network's plugins"},
    {"net", "it is called --network"},
    {"network-alias", "CNI has no names for pods"},
    {"no-healthcheck", "an image's own health check isn't run anyway"},
    {"P", "name ports by --publish"},
    {"platform", "the runtime pulls images for the platform that it runs on"},
    {"publish-all", "name ports by --publish"},
    {"restart", "a container is started once; kubelet or systemd can start another one"},
    {"sig-proxy", "SIGINT and SIGTERM stop the container"},
    {"t", "there is no terminal"},
    {"tty", "there is no terminal"},
    {"uts", "host names are the pod's own; with --network host it has the host's"},
    {"volume-driver", "mount it on the host, and then by --volume"},
    {"volumes-from", "give --volume for each of them"},
};

const struct options run_options_table = {
    .command = "run",
    .usage = "run [OPTION…] IMAGE [ARG…]",
    .intro = "Runs a container in a pod of its own, passes its output on and ends with its exit\n"
             "code (128 + n for signal n; 125: it couldn't be run; 126: its command can't be\n"
             "executed; 127: there is no such command). SIGINT and SIGTERM stop the container, a\n"
             "second one kills it. ARG… stands in the place of the image's command.\n",
    .footer = "Options without a field of CRI go by annotations crisp.run/…, which crispd honours where its\n"
              "configuration allows them (annotations.allowed): docs/docker-run.md tells which.\n"
              "\n"
              "The runtime writes the log into a folder that is made in $CRISP_LOG_DIR, else (as\n"
              "root) in /var/log/crisp, else in $TMPDIR or /tmp: the runtime must see it, too.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .hints = hints,
    .n_hints = ARRAY_SIZE(hints),
    .stops_at_word = true,
    .bad_code = CLI_EXIT_RUN_FAILED,
};

void run_options_done(struct run_options *o)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].kind == OPTION_LIST)
            strv_free(*(char ***)((char *)o + rows[i].offset));
}
