#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/policy_fixture.h"

static char *masked[] = {(char *)"/proc/kcore", (char *)"relative"};
static char *dns_servers[] = {(char *)"10.0.0.1\nnameserver 6.6.6.6"};
static int64_t bad_groups[] = {-1}, unmapped_groups[] = {70000};

static void good_ones_pass(void **state)
{
    (void)state;
    struct configs c;
    struct error err = ERROR_INIT;
    init(&c);
    assert_int_equal(policy_validate_pod(policy, &c.pod, &err), 0);
    assert_int_equal(policy_validate_container(policy, &c.pod, &c.container, &err), 0);
    c.container.linux = NULL;
    c.pod.linux = NULL;
    c.pod.dns_config = NULL;
    assert_int_equal(policy_validate_pod(policy, &c.pod, &err), 0);
    assert_int_equal(policy_validate_container(policy, &c.pod, &c.container, &err), 0);
    // As kubelet sends them.
    init(&c);
    c.pod_namespaces.userns_options = c.namespaces.userns_options = &c.userns;
    c.userns.mode = CRI__NAMESPACE_MODE__NODE;
    c.apparmor.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    c.security.apparmor = &c.apparmor;
    c.security.seccomp = &c.seccomp;
    c.security.selinux_options = c.pod_security.selinux_options = &c.selinux; // there, and empty
    c.resources.hugepage_limits = &c.hugepages;
    c.resources.n_hugepage_limits = 1;
    c.mount.selinux_relabel = true;
    c.container.stdin_once = true;
    assert_int_equal(policy_validate_pod(policy, &c.pod, &err), 0);
    assert_int_equal(policy_validate_container(policy, &c.pod, &c.container, &err), 0);
}

// A user namespace as kubelet asks for it.
static Cri__UserNamespace *map_ids(struct configs *c)
{
    c->userns.mode = CRI__NAMESPACE_MODE__POD;
    c->userns.uids = c->userns.gids = c->mappings;
    c->userns.n_uids = c->userns.n_gids = 1;
    return &c->userns;
}

static void user_namespaces_are_taken(void **state)
{
    (void)state;
    struct configs c;
    struct error err = ERROR_INIT;
    struct policy host = *policy;
    uint32_t uid, gid;
    host.userns = true;
    init(&c);
    policy_root_ids(&c.pod, &uid, &gid);
    assert_true(uid == 0 && gid == 0 && !policy_userns(&c.pod));
    c.pod_namespaces.userns_options = c.namespaces.userns_options = map_ids(&c);
    c.mount.uidmappings = c.mount.gidmappings = c.mappings;
    c.mount.n_uidmappings = c.mount.n_gidmappings = 1;
    c.user.value = 65535;
    c.security.run_as_user = &c.user;
    assert_int_equal(policy_validate_pod(&host, &c.pod, &err), 0);
    assert_int_equal(policy_validate_container(&host, &c.pod, &c.container, &err), 0);
    c.namespaces.userns_options = NULL; // the pod's, then
    assert_int_equal(policy_validate_container(&host, &c.pod, &c.container, &err), 0);
    policy_root_ids(&c.pod, &uid, &gid);
    assert_true(uid == 65536 && gid == 65536 && policy_userns(&c.pod) == &c.userns);
}

struct bad_case {
    void (*spoil)(struct configs *c);
    enum status status;
    const char *text; // the message begins so
};

#define SPOIL(name, code)                                                                                    \
    static void name(struct configs *c)                                                                      \
    {                                                                                                        \
        code;                                                                                                \
    }

SPOIL(pod_no_metadata, c->pod.metadata = NULL)
SPOIL(pod_no_name, c->pod_metadata.name = (char *)"")
SPOIL(pod_no_uid, c->pod_metadata.uid = (char *)"")
SPOIL(pod_no_namespace, c->pod_metadata.namespace_ = (char *)"")
SPOIL(pod_is_windows, c->pod.windows = &c->pod_windows)
SPOIL(pod_hostname, c->pod.hostname = (char *)"a b")
SPOIL(pod_long_hostname,
      c->pod.hostname = (char *)"0123456789012345678901234567890123456789012345678901234567890123456789")
SPOIL(pod_log_directory, c->pod.log_directory = (char *)"logs")
SPOIL(pod_dns, c->dns.servers = dns_servers; c->dns.n_servers = 1)
SPOIL(pod_protocol, c->port.protocol = (Cri__Protocol)9)
SPOIL(pod_port, c->port.container_port = 65536)
SPOIL(pod_host_port, c->port.host_port = -1)
SPOIL(pod_host_ip, c->port.host_ip = (char *)"localhost")
SPOIL(pod_cgroup, c->pod_linux.cgroup_parent = (char *)"/a/../../b")
SPOIL(pod_slice, c->pod_linux.cgroup_parent = (char *)"kubepods.slice")
SPOIL(pod_sysctl, c->sysctl.key = (char *)"vm.swappiness")
SPOIL(pod_sysctl_dots, c->sysctl.key = (char *)"net/../vm/swappiness")
SPOIL(pod_sysctl_network, c->pod_namespaces.network = CRI__NAMESPACE_MODE__NODE)
SPOIL(pod_sysctl_ipc, c->sysctl.key = (char *)"kernel.shmmax";
      c->pod_namespaces.ipc = CRI__NAMESPACE_MODE__NODE)
SPOIL(pod_sysctl_hostname, c->sysctl.key = (char *)"kernel/hostname")
SPOIL(pod_sysctl_domain, c->sysctl.key = (char *)"kernel.domainname";
      c->pod_namespaces.network = CRI__NAMESPACE_MODE__NODE)
SPOIL(pod_network, c->pod_namespaces.network = CRI__NAMESPACE_MODE__CONTAINER)
SPOIL(pod_ipc, c->pod_namespaces.ipc = CRI__NAMESPACE_MODE__TARGET)
SPOIL(pod_pid, c->pod_namespaces.pid = CRI__NAMESPACE_MODE__TARGET)
SPOIL(pod_userns, c->pod_namespaces.userns_options = &c->userns)
SPOIL(pod_userns_mode, c->pod_namespaces.userns_options = &c->userns;
      c->userns.mode = CRI__NAMESPACE_MODE__TARGET)
SPOIL(pod_userns_node, c->pod_namespaces.userns_options = map_ids(c);
      c->userns.mode = CRI__NAMESPACE_MODE__NODE)
SPOIL(pod_userns_twice, c->pod_namespaces.userns_options = map_ids(c); c->userns.n_gids = 2)
SPOIL(pod_userns_zero, c->pod_namespaces.userns_options = map_ids(c); c->mapping.container_id = 1)
SPOIL(pod_userns_none, c->pod_namespaces.userns_options = map_ids(c); c->mapping.length = 0)
SPOIL(pod_userns_end, c->pod_namespaces.userns_options = map_ids(c); c->mapping.host_id = UINT32_MAX - 65535)
SPOIL(pod_userns_lacking, c->pod_namespaces.userns_options = map_ids(c))
SPOIL(pod_group, c->pod_security.run_as_group = &c->group)
SPOIL(pod_groups, c->pod_security.supplemental_groups = bad_groups; c->pod_security.n_supplemental_groups = 1)
SPOIL(pod_groups_policy, c->pod_security.supplemental_groups_policy = (Cri__SupplementalGroupsPolicy)7)
SPOIL(pod_seccomp, c->seccomp.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
      c->pod_security.seccomp = &c->seccomp)
SPOIL(pod_overhead, c->resources.cpu_shares = -1; c->pod_linux.overhead = &c->resources)
SPOIL(pod_overhead_cpus, c->resources.cpuset_cpus = (char *)"0"; c->pod_linux.overhead = &c->resources)
SPOIL(pod_overhead_mems, c->resources.cpuset_mems = (char *)"0"; c->pod_linux.overhead = &c->resources)

static void bad_pods_are_refused(void **state)
{
    (void)state;
    static const struct bad_case cases[] = {
        {pod_no_metadata, STATUS_INVALID_ARGUMENT, "metadata: is missing"},
        {pod_no_name, STATUS_INVALID_ARGUMENT, "metadata.name: is empty"},
        {pod_no_uid, STATUS_INVALID_ARGUMENT, "metadata.uid: is empty"},
        {pod_no_namespace, STATUS_INVALID_ARGUMENT, "metadata.namespace: is empty"},
        {pod_is_windows, STATUS_INVALID_ARGUMENT, "windows: "},
        {pod_hostname, STATUS_INVALID_ARGUMENT, "hostname: \"a b\" "},
        {pod_long_hostname, STATUS_INVALID_ARGUMENT, "hostname: \"0123"},
        {pod_log_directory, STATUS_INVALID_ARGUMENT, "log_directory: \"logs\" is not an absolute path"},
        {pod_dns, STATUS_INVALID_ARGUMENT, "dns_config.servers[0]: "},
        {pod_protocol, STATUS_INVALID_ARGUMENT, "port_mappings[0].protocol: "},
        {pod_port, STATUS_INVALID_ARGUMENT, "port_mappings[0].container_port: 65536 is not a port"},
        {pod_host_port, STATUS_INVALID_ARGUMENT, "port_mappings[0].host_port: -1 is not a port"},
        {pod_host_ip, STATUS_INVALID_ARGUMENT,
         "port_mappings[0].host_ip: \"localhost\" is not an IP address"},
        {pod_cgroup, STATUS_INVALID_ARGUMENT, "linux.cgroup_parent \"/a/../../b\" "},
        {pod_slice, STATUS_INVALID_ARGUMENT, "linux.cgroup_parent \"kubepods.slice\" is a systemd slice"},
        {pod_sysctl, STATUS_INVALID_ARGUMENT, "linux.sysctls: \"vm.swappiness\" belongs to no namespace"},
        {pod_sysctl_dots, STATUS_INVALID_ARGUMENT, "linux.sysctls: \"net/../vm/swappiness\" "},
        {pod_sysctl_network, STATUS_INVALID_ARGUMENT,
         "linux.sysctls: \"net.ipv4.ip_forward\" would be the node's"},
        {pod_sysctl_ipc, STATUS_INVALID_ARGUMENT, "linux.sysctls: \"kernel.shmmax\" would be the node's"},
        {pod_sysctl_hostname, STATUS_INVALID_ARGUMENT,
         "linux.sysctls: \"kernel/hostname\" is set by the pod's"},
        {pod_sysctl_domain, STATUS_INVALID_ARGUMENT,
         "linux.sysctls: \"kernel.domainname\" would be the node's, as the pod uses its network and name"},
        {pod_network, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.network: "},
        {pod_ipc, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.ipc: "},
        {pod_pid, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.pid: "},
        {pod_userns, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.uids: no "},
        {pod_userns_mode, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.mode: 3 is neither POD nor NODE"},
        {pod_userns_node, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options: mode NODE "},
        {pod_userns_twice, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.gids: 2 mappings"},
        {pod_userns_zero, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.uids[0].container_id: is 1"},
        {pod_userns_none, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.uids[0]: 0 ids from"},
        {pod_userns_end, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.uids[0]: 65536 ids from"},
        {pod_userns_lacking, STATUS_FAILED_PRECONDITION,
         "linux.security_context.namespace_options.userns_options: this host can't run pods with user "
         "namespaces: "
         "of this test"},
        {pod_group, STATUS_INVALID_ARGUMENT,
         "linux.security_context.run_as_group: is set without run_as_user"},
        {pod_groups, STATUS_INVALID_ARGUMENT,
         "linux.security_context.supplemental_groups: -1 is not between"},
        {pod_groups_policy, STATUS_INVALID_ARGUMENT, "linux.security_context.supplemental_groups_policy: "},
        {pod_seccomp, STATUS_INVALID_ARGUMENT, "linux.security_context.seccomp.localhost_ref: is empty"},
        {pod_overhead, STATUS_INVALID_ARGUMENT, "linux.resources.cpu_shares: -1 is negative"},
        {pod_overhead_cpus, STATUS_INVALID_ARGUMENT,
         "linux.overhead.cpuset_cpus: is nothing that an overhead"},
        {pod_overhead_mems, STATUS_INVALID_ARGUMENT,
         "linux.overhead.cpuset_mems: is nothing that an overhead"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct configs c;
        struct error err = ERROR_INIT;
        cases[i].spoil(init(&c));
        if (policy_validate_pod(policy, &c.pod, &err) == 0)
            fail_msg("case %zu (%s) passed", i, cases[i].text);
        if (!str_has_prefix(err.message, cases[i].text) || err.status != cases[i].status)
            fail_msg("case %zu: %s \"%s\" instead of \"%s\"", i, error_status_name(err.status), err.message,
                     cases[i].text);
    }
}

SPOIL(no_name, c->container.metadata = NULL)
SPOIL(no_image, c->container.image = NULL)
SPOIL(is_windows, c->container.windows = &c->windows)
SPOIL(has_cdi, c->container.cdi_devices = &c->cdis; c->container.n_cdi_devices = 1)
SPOIL(stop_signal, c->container.stop_signal = (Cri__Signal)99)
SPOIL(working_dir, c->container.working_dir = (char *)"tmp")
SPOIL(log_path, c->container.log_path = (char *)"a/../../b")
SPOIL(log_absolute, c->container.log_path = (char *)"/b")
SPOIL(env_key, c->env.key = (char *)"A=B")
SPOIL(env_value, c->env.value.data = (uint8_t *)"a\0b"; c->env.value.len = 3)
SPOIL(mount_relative, c->mount.container_path = (char *)"data")
SPOIL(mount_dots, c->mount.container_path = (char *)"/a/../b")
SPOIL(mount_root, c->mount.container_path = (char *)"/./")
SPOIL(mount_proc, c->mount.container_path = (char *)"//proc/sys/kernel")
SPOIL(mount_proc_dot, c->mount.container_path = (char *)"/./proc/./self")
SPOIL(mount_host, c->mount.host_path = (char *)"")
SPOIL(mount_with_image, c->mount.image = &c->mount_image)
SPOIL(mount_image_shared, c->mount.image = &c->mount_image; c->mount.host_path = (char *)"";
      c->mount.propagation = CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
SPOIL(mount_image_dots, c->mount.image = &c->mount_image; c->mount.host_path = (char *)"";
      c->mount.image_sub_path = (char *)"a/../../b")
SPOIL(mount_sub_path, c->mount.image_sub_path = (char *)"a")
SPOIL(mount_propagation, c->mount.propagation = (Cri__MountPropagation)5)
SPOIL(mount_rro, c->mount.recursive_read_only = true)
SPOIL(mount_rro_right, c->mount.recursive_read_only = c->mount.readonly = true)
SPOIL(mount_rro_shared, c->mount.recursive_read_only = c->mount.readonly = true;
      c->mount.propagation = CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
SPOIL(device_path, c->device.container_path = (char *)"null")
SPOIL(device_host, c->device.host_path = (char *)"null")
SPOIL(device_permissions, c->device.permissions = (char *)"rx")
SPOIL(network_node, c->namespaces.network = CRI__NAMESPACE_MODE__NODE)
SPOIL(ipc_node, c->namespaces.ipc = CRI__NAMESPACE_MODE__NODE)
SPOIL(pid_node, c->namespaces.pid = CRI__NAMESPACE_MODE__NODE)
SPOIL(pid_pod, c->namespaces.pid = CRI__NAMESPACE_MODE__POD;
      c->pod_namespaces.pid = CRI__NAMESPACE_MODE__CONTAINER)
SPOIL(target_stray, c->namespaces.target_id = (char *)"x")
SPOIL(mount_image_rro, c->mount.image = &c->mount_image; c->mount.host_path = (char *)"";
      c->mount.recursive_read_only = true)
SPOIL(target_missing, c->namespaces.pid = CRI__NAMESPACE_MODE__TARGET)
SPOIL(userns, c->namespaces.userns_options = &c->userns)
SPOIL(userns_mode, c->namespaces.userns_options = &c->userns; c->userns.mode = CRI__NAMESPACE_MODE__CONTAINER)
SPOIL(userns_node, c->namespaces.userns_options = map_ids(c); c->userns.mode = CRI__NAMESPACE_MODE__NODE)
SPOIL(userns_leaves, c->pod_namespaces.userns_options = map_ids(c);
      c->namespaces.userns_options = &c->host_userns)
SPOIL(userns_user, c->pod_namespaces.userns_options = map_ids(c); c->user.value = 65536;
      c->security.run_as_user = &c->user)
SPOIL(userns_groups, c->pod_namespaces.userns_options = map_ids(c);
      c->security.supplemental_groups = unmapped_groups; c->security.n_supplemental_groups = 1)
SPOIL(userns_shared, c->pod_namespaces.userns_options = map_ids(c);
      c->mount.propagation = CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
SPOIL(mount_mappings, c->mount.uidmappings = c->mappings; c->mount.n_uidmappings = 1)
SPOIL(mount_other_ids, c->pod_namespaces.userns_options = map_ids(c); c->mount.uidmappings = c->mappings;
      c->mount.n_uidmappings = 1)
SPOIL(user_range, c->user.value = -2; c->security.run_as_user = &c->user)
SPOIL(user_max, c->user.value = UINT32_MAX; c->security.run_as_user = &c->user)
SPOIL(user_twice, c->security.run_as_user = &c->user; c->security.run_as_username = (char *)"x")
SPOIL(group_alone, c->security.run_as_group = &c->group)
SPOIL(privileged, c->security.privileged = true)
SPOIL(seccomp_type, c->seccomp.profile_type = (Cri__SecurityProfile__ProfileType)9;
      c->security.seccomp = &c->seccomp)
SPOIL(seccomp_ref, c->seccomp.localhost_ref = (char *)"/x"; c->security.seccomp = &c->seccomp)
SPOIL(apparmor_asked, c->security.apparmor = &c->apparmor)
SPOIL(selinux_asked, c->selinux.type = (char *)"spc_t"; c->security.selinux_options = &c->selinux)
SPOIL(masked_relative, c->security.masked_paths = masked; c->security.n_masked_paths = 2)
SPOIL(cpu_period, c->resources.cpu_period = 5)
SPOIL(cpu_quota, c->resources.cpu_quota = 500)
SPOIL(cpuset, c->resources.cpuset_cpus = (char *)"0-3;")
SPOIL(memory, c->resources.memory_limit_in_bytes = -5)
SPOIL(swap_alone, c->resources.memory_limit_in_bytes = -1; c->resources.memory_swap_limit_in_bytes = 5)
SPOIL(swap, c->resources.memory_limit_in_bytes = 10; c->resources.memory_swap_limit_in_bytes = 5)
SPOIL(oom, c->resources.oom_score_adj = 1001)
SPOIL(hugepages, c->resources.hugepage_limits = &c->hugepages; c->resources.n_hugepage_limits = 1;
      c->hugepage.page_size = (char *)"2MB/../x")
SPOIL(unified_key, c->resources.unified = &c->unified; c->resources.n_unified = 1;
      c->unified_entry.key = (char *)"cgroup.procs")

static void bad_containers_are_refused(void **state)
{
    (void)state;
    static const struct bad_case cases[] = {
        {no_name, STATUS_INVALID_ARGUMENT, "metadata.name: is empty"},
        {no_image, STATUS_INVALID_ARGUMENT, "image.image: is empty"},
        {is_windows, STATUS_INVALID_ARGUMENT, "windows: "},
        {has_cdi, STATUS_INVALID_ARGUMENT, "CDI_devices[0].name: \"vendor.com/class\" is not"},
        {stop_signal, STATUS_INVALID_ARGUMENT, "stop_signal: unknown signal 99"},
        {working_dir, STATUS_INVALID_ARGUMENT, "working_dir: \"tmp\" is not an absolute path"},
        {log_path, STATUS_INVALID_ARGUMENT, "log_path: \"/a/../../b\" has a \"..\" in it"},
        {log_absolute, STATUS_INVALID_ARGUMENT, "log_path: \"/b\" is not a path below log_directory"},
        {env_key, STATUS_INVALID_ARGUMENT, "envs[0].key: \"A=B\""},
        {env_value, STATUS_INVALID_ARGUMENT, "envs[0].value: "},
        {mount_relative, STATUS_INVALID_ARGUMENT,
         "mounts[0].container_path: \"data\" is not an absolute path"},
        {mount_dots, STATUS_INVALID_ARGUMENT, "mounts[0].container_path: \"/a/../b\" has a \"..\""},
        {mount_root, STATUS_INVALID_ARGUMENT, "mounts[0].container_path: \"/./\" would cover"},
        {mount_proc, STATUS_INVALID_ARGUMENT, "mounts[0].container_path: \"//proc/sys/kernel\": only"},
        {mount_proc_dot, STATUS_INVALID_ARGUMENT, "mounts[0].container_path: \"/./proc/./self\": only"},
        {mount_host, STATUS_INVALID_ARGUMENT, "mounts[0].host_path: \"\" is not an absolute path"},
        {mount_with_image, STATUS_INVALID_ARGUMENT, "mounts[0]: host_path and image are both set"},
        {mount_image_shared, STATUS_INVALID_ARGUMENT, "mounts[0].propagation: an image can't"},
        {mount_image_dots, STATUS_INVALID_ARGUMENT,
         "mounts[0].image_sub_path: \"/a/../../b\" has a \"..\" in it"},
        {mount_sub_path, STATUS_INVALID_ARGUMENT, "mounts[0].image_sub_path: "},
        {mount_propagation, STATUS_INVALID_ARGUMENT, "mounts[0].propagation: "},
        {mount_rro, STATUS_INVALID_ARGUMENT, "mounts[0].recursive_read_only: is set without readonly"},
        {mount_rro_shared, STATUS_INVALID_ARGUMENT,
         "mounts[0].recursive_read_only: needs PROPAGATION_PRIVATE"},
        {device_path, STATUS_INVALID_ARGUMENT, "devices[0].container_path: "},
        {device_host, STATUS_INVALID_ARGUMENT, "devices[0].host_path: "},
        {device_permissions, STATUS_INVALID_ARGUMENT, "devices[0].permissions: \"rx\""},
        {network_node, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.network: is NODE"},
        {ipc_node, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.ipc: is NODE"},
        {pid_node, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.pid: is NODE, but"},
        {pid_pod, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.pid: is POD, but"},
        {target_stray, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.target_id: goes"},
        {mount_image_rro, STATUS_INVALID_ARGUMENT, "mounts[0].recursive_read_only: is set without readonly"},
        {target_missing, STATUS_INVALID_ARGUMENT, "linux.security_context.namespace_options.target_id: "},
        {userns, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options: differs "},
        {userns_mode, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options.mode: 1 is neither"},
        {userns_node, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options: mode NODE "},
        {userns_leaves, STATUS_INVALID_ARGUMENT,
         "linux.security_context.namespace_options.userns_options: differs "},
        {userns_user, STATUS_INVALID_ARGUMENT, "linux.security_context.run_as_user: 65536 does not exist"},
        {userns_groups, STATUS_INVALID_ARGUMENT,
         "linux.security_context.supplemental_groups: 70000 does not"},
        {userns_shared, STATUS_INVALID_ARGUMENT,
         "mounts[0].propagation: PROPAGATION_BIDIRECTIONAL can't be had"},
        {mount_mappings, STATUS_INVALID_ARGUMENT, "mounts[0].uidMappings: the pod has no user namespace"},
        {mount_other_ids, STATUS_INVALID_ARGUMENT, "mounts[0].uidMappings: the mappings differ"},
        {user_range, STATUS_INVALID_ARGUMENT, "linux.security_context.run_as_user: -2 is not between"},
        {user_max, STATUS_INVALID_ARGUMENT, "linux.security_context.run_as_user: 4294967295 is not"},
        {user_twice, STATUS_INVALID_ARGUMENT, "linux.security_context: run_as_user and run_as_username"},
        {group_alone, STATUS_INVALID_ARGUMENT, "linux.security_context.run_as_group: is set without"},
        {privileged, STATUS_INVALID_ARGUMENT,
         "linux.security_context.privileged: is set, but the pod sandbox"},
        {seccomp_type, STATUS_INVALID_ARGUMENT,
         "linux.security_context.seccomp.profile_type: unknown type 9"},
        {seccomp_ref, STATUS_INVALID_ARGUMENT, "linux.security_context.seccomp.localhost_ref: is set"},
        {masked_relative, STATUS_INVALID_ARGUMENT, "linux.security_context.masked_paths: \"relative\""},
        {cpu_period, STATUS_INVALID_ARGUMENT, "linux.resources.cpu_period: 5 is not between"},
        {cpu_quota, STATUS_INVALID_ARGUMENT, "linux.resources.cpu_quota: 500 is neither"},
        {cpuset, STATUS_INVALID_ARGUMENT, "linux.resources.cpuset_cpus: \"0-3;\""},
        {memory, STATUS_INVALID_ARGUMENT, "linux.resources.memory_limit_in_bytes: -5 is negative"},
        {swap_alone, STATUS_INVALID_ARGUMENT, "linux.resources.memory_limit_in_bytes: -1 is no limit"},
        {swap, STATUS_INVALID_ARGUMENT, "linux.resources.memory_swap_limit_in_bytes: 5 "},
        {oom, STATUS_INVALID_ARGUMENT, "linux.resources.oom_score_adj: 1001"},
        {hugepages, STATUS_INVALID_ARGUMENT, "linux.resources.hugepage_limits[0].page_size: \"2MB/../x\""},
        {unified_key, STATUS_INVALID_ARGUMENT, "linux.resources.unified: \"cgroup.procs\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct configs c;
        struct error err = ERROR_INIT;
        cases[i].spoil(init(&c));
        if (policy_validate_container(policy, &c.pod, &c.container, &err) == 0)
            fail_msg("case %zu (%s) passed", i, cases[i].text);
        if (!str_has_prefix(err.message, cases[i].text) || err.status != cases[i].status)
            fail_msg("case %zu: %s \"%s\" instead of \"%s\"", i, error_status_name(err.status), err.message,
                     cases[i].text);
    }
}

// What a kernel lacks is refused.
static void security_modules_are_named(void **state)
{
    (void)state;
    struct policy host = *policy;
    struct configs c;
    struct error err = ERROR_INIT;
    host.apparmor = NULL;
    host.selinux = NULL;
    apparmor_asked(init(&c));
    assert_true(policy_validate_container(&host, &c.pod, &c.container, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_string_equal(err.message,
                        "linux.security_context.apparmor: a profile is asked for, but this host's "
                        "kernel has no AppArmor enabled");
    selinux_asked(init(&c));
    assert_true(policy_validate_container(&host, &c.pod, &c.container, &err) < 0);
    assert_int_equal(err.status, STATUS_FAILED_PRECONDITION);
    assert_string_equal(err.message, "linux.security_context.selinux_options: a label is asked for, but this "
                                     "host's kernel has no SELinux enabled");
    // A privileged container has no profile whatever is asked for; what is asked for must make sense.
    apparmor_asked(init(&c));
    c.security.privileged = c.pod_security.privileged = true;
    assert_int_equal(policy_validate_container(&host, &c.pod, &c.container, &err), 0);
    c.security.apparmor = NULL;
    c.security.apparmor_profile = (char *)"default";
    assert_true(policy_validate_container(&host, &c.pod, &c.container, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
}

static void recursive_readonly_needs_the_kernel(void **state)
{
    (void)state;
    struct policy host = *policy;
    struct configs c;
    struct error err = ERROR_INIT;
    mount_rro_right(init(&c));
    host.recursive_readonly = true;
    assert_int_equal(policy_validate_container(&host, &c.pod, &c.container, &err), 0);
    host.recursive_readonly = false;
    assert_true(policy_validate_container(&host, &c.pod, &c.container, &err) < 0);
    assert_int_equal(err.status, STATUS_UNIMPLEMENTED);
    assert_true(str_has_prefix(err.message, "RROUnsupported: mounts[0].recursive_read_only: "));
}

static void default_sysctls_are_the_pods(void **state)
{
    (void)state;
    static char *good[] = {(char *)"net.ipv4.ping_group_range=0 5", (char *)"net/ipv4/ip_forward=1",
                           (char *)"kernel.domainname=", (char *)"fs.mqueue.msg_max=20", NULL};
    static char *no_value[] = {(char *)"net.ipv4.ip_forward", NULL},
                *nodes[] = {(char *)"vm.swappiness=1", NULL};
    struct policy host = *policy;
    struct configs c;
    struct error err = ERROR_INIT;
    struct arena *arena = arena_new(1 << 20);
    Pod__Sysctl **list;
    size_t n;
    assert_int_equal(policy_check_default_sysctls(NULL, &err) | policy_check_default_sysctls(good, &err), 0);
    assert_true(policy_check_default_sysctls(no_value, &err) < 0);
    assert_string_equal(err.message, "runtime.default_sysctls: \"net.ipv4.ip_forward\" is not NAME=VALUE");
    assert_true(policy_check_default_sysctls(nodes, &err) < 0);
    assert_true(
        str_has_prefix(err.message, "runtime.default_sysctls: \"vm.swappiness\" belongs to no namespace"));
    // The pod's own ip_forward takes the default's place.
    host.default_sysctls = good;
    assert_int_equal(policy_pod_sysctls(&host, &init(&c)->pod, arena, &list, &n), 0);
    assert_int_equal(n, 4);
    assert_string_equal(list[0]->name, "net.ipv4.ping_group_range");
    assert_string_equal(list[0]->value, "0 5");
    assert_string_equal(list[1]->value, "");
    assert_ptr_equal(list[3]->name, c.sysctl.key);
    // What is the node's is left alone; a user namespace may lack the groups of the range.
    c.pod_linux.n_sysctls = 0;
    c.pod_namespaces.userns_options = &c.userns;
    assert_int_equal(policy_pod_sysctls(&host, &c.pod, arena, &list, &n), 0);
    assert_int_equal(n, 3);
    c.pod_namespaces.network = CRI__NAMESPACE_MODE__NODE;
    assert_int_equal(policy_pod_sysctls(&host, &c.pod, arena, &list, &n), 0);
    assert_int_equal(n, 1);
    c.pod_namespaces.ipc = CRI__NAMESPACE_MODE__NODE;
    assert_int_equal(policy_pod_sysctls(&host, &c.pod, arena, &list, &n), 0);
    assert_int_equal(n, 0);
    arena_free(arena);
}

static void namespaces_are_asked_for(void **state)
{
    (void)state;
    struct configs c;
    init(&c);
    assert_true(policy_pod_pid(&c.pod));
    assert_false(policy_host_network(&c.pod) || policy_host_ipc(&c.pod) || policy_host_pid(&c.pod));
    c.pod_namespaces.network = c.pod_namespaces.ipc = c.pod_namespaces.pid = CRI__NAMESPACE_MODE__NODE;
    assert_true(policy_host_network(&c.pod) && policy_host_ipc(&c.pod) && policy_host_pid(&c.pod));
    c.pod_security.namespace_options = NULL;
    assert_false(policy_pod_pid(&c.pod) || policy_host_network(&c.pod));
    c.pod.linux = NULL;
    assert_false(policy_pod_pid(&c.pod) || policy_host_pid(&c.pod));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_pass),
        cmocka_unit_test(user_namespaces_are_taken),
        cmocka_unit_test(bad_pods_are_refused),
        cmocka_unit_test(bad_containers_are_refused),
        cmocka_unit_test(security_modules_are_named),
        cmocka_unit_test(recursive_readonly_needs_the_kernel),
        cmocka_unit_test(default_sysctls_are_the_pods),
        cmocka_unit_test(namespaces_are_asked_for),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
