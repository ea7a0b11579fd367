// For tests of policy: configs that hold everything, and the policy of this host.
#ifndef RUNTIME_POLICY_FIXTURE_H
#define RUNTIME_POLICY_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "runtime/cgroup.h"
#include "runtime/policy.h"

// Configs that hold everything that a case may spoil.
struct configs {
    Cri__PodSandboxMetadata pod_metadata;
    Cri__DNSConfig dns;
    Cri__PortMapping port;
    Cri__PortMapping *ports;
    Cri__LinuxPodSandboxConfig__SysctlsEntry sysctl;
    Cri__LinuxPodSandboxConfig__SysctlsEntry *sysctls;
    Cri__NamespaceOption pod_namespaces;
    Cri__LinuxSandboxSecurityContext pod_security;
    Cri__LinuxPodSandboxConfig pod_linux;
    Cri__PodSandboxConfig pod;

    Cri__ContainerMetadata metadata;
    Cri__ImageSpec image, mount_image;
    Cri__KeyValue env;
    Cri__KeyValue *envs;
    Cri__Mount mount;
    Cri__Mount *mounts;
    Cri__Device device;
    Cri__Device *devices;
    Cri__CDIDevice cdi;
    Cri__CDIDevice *cdis;
    Cri__Int64Value user, group;
    Cri__SecurityProfile seccomp, apparmor;
    Cri__SELinuxOption selinux;
    Cri__UserNamespace userns, host_userns;
    Cri__IDMapping mapping;
    Cri__IDMapping *mappings[2];
    Cri__NamespaceOption namespaces;
    Cri__HugepageLimit hugepage;
    Cri__HugepageLimit *hugepages;
    Cri__LinuxContainerResources__UnifiedEntry unified_entry;
    Cri__LinuxContainerResources__UnifiedEntry *unified;
    Cri__LinuxContainerResources resources;
    Cri__LinuxContainerSecurityContext security;
    Cri__LinuxContainerConfig linux;
    Cri__ContainerConfig container;
    Cri__WindowsPodSandboxConfig pod_windows;
    Cri__WindowsContainerConfig windows;
};

static inline void init_pod(struct configs *c)
{
    cri__pod_sandbox_metadata__init(&c->pod_metadata);
    c->pod_metadata.name = c->pod_metadata.uid = c->pod_metadata.namespace_ = (char *)"x";
    cri__dnsconfig__init(&c->dns);
    cri__port_mapping__init(&c->port);
    c->port.container_port = 80;
    c->ports = &c->port;
    cri__linux_pod_sandbox_config__sysctls_entry__init(&c->sysctl);
    c->sysctl.key = (char *)"net.ipv4.ip_forward";
    c->sysctl.value = (char *)"1";
    c->sysctls = &c->sysctl;
    cri__namespace_option__init(&c->pod_namespaces);
    cri__linux_sandbox_security_context__init(&c->pod_security);
    c->pod_security.namespace_options = &c->pod_namespaces;
    cri__linux_pod_sandbox_config__init(&c->pod_linux);
    c->pod_linux.security_context = &c->pod_security;
    c->pod_linux.sysctls = &c->sysctls;
    c->pod_linux.n_sysctls = 1;
    cri__pod_sandbox_config__init(&c->pod);
    c->pod.metadata = &c->pod_metadata;
    c->pod.dns_config = &c->dns;
    c->pod.port_mappings = &c->ports;
    c->pod.n_port_mappings = 1;
    c->pod.linux = &c->pod_linux;
    cri__windows_pod_sandbox_config__init(&c->pod_windows);
}

static inline void init_parts(struct configs *c)
{
    cri__int64_value__init(&c->user);
    cri__int64_value__init(&c->group);
    cri__security_profile__init(&c->seccomp);
    cri__security_profile__init(&c->apparmor);
    cri__selinux_option__init(&c->selinux);
    cri__user_namespace__init(&c->userns);
    cri__idmapping__init(&c->mapping);
    cri__user_namespace__init(&c->host_userns);
    c->host_userns.mode = CRI__NAMESPACE_MODE__NODE;
    c->mapping.host_id = c->mapping.length = 65536;
    c->mappings[0] = c->mappings[1] = &c->mapping;
    cri__cdidevice__init(&c->cdi);
    c->cdi.name = (char *)"vendor.com/class";
    c->cdis = &c->cdi;
    cri__image_spec__init(&c->mount_image);
    c->mount_image.image = (char *)"volume";
    cri__hugepage_limit__init(&c->hugepage);
    c->hugepage.page_size = (char *)"2MB";
    c->hugepages = &c->hugepage;
    cri__linux_container_resources__unified_entry__init(&c->unified_entry);
    c->unified_entry.key = (char *)"memory.high";
    c->unified_entry.value = (char *)"1";
    c->unified = &c->unified_entry;
    cri__windows_container_config__init(&c->windows);
}

static inline void init_container(struct configs *c)
{
    cri__container_metadata__init(&c->metadata);
    c->metadata.name = (char *)"x";
    cri__image_spec__init(&c->image);
    c->image.image = (char *)"busybox";
    cri__key_value__init(&c->env);
    c->env.key = (char *)"KEY";
    c->envs = &c->env;
    cri__mount__init(&c->mount);
    c->mount.container_path = c->mount.host_path = (char *)"/data";
    c->mounts = &c->mount;
    cri__device__init(&c->device);
    c->device.container_path = c->device.host_path = (char *)"/dev/null";
    c->device.permissions = (char *)"rw";
    c->devices = &c->device;
    cri__namespace_option__init(&c->namespaces);
    cri__linux_container_resources__init(&c->resources);
    cri__linux_container_security_context__init(&c->security);
    c->security.namespace_options = &c->namespaces;
    cri__linux_container_config__init(&c->linux);
    c->linux.security_context = &c->security;
    c->linux.resources = &c->resources;
    cri__container_config__init(&c->container);
    c->container.metadata = &c->metadata;
    c->container.image = &c->image;
    c->container.envs = &c->envs;
    c->container.n_envs = 1;
    c->container.mounts = &c->mounts;
    c->container.n_mounts = 1;
    c->container.devices = &c->devices;
    c->container.n_devices = 1;
    c->container.linux = &c->linux;
}

static inline struct configs *init(struct configs *c)
{
    memset(c, 0, sizeof(*c));
    init_pod(c);
    init_parts(c);
    init_container(c);
    return c;
}

static struct cgroup_host *cgroups;
static struct policy *policy;

static inline int setup(void **state)
{
    (void)state;
    struct cgroup_options o = {.parent = "/crisp-policy-test"};
    if (cgroup_host_open(&o, &cgroups, NULL) < 0 || policy_open(cgroups, &policy, NULL) < 0)
        return -1;
    (void)snprintf(policy->userns_why_not, sizeof(policy->userns_why_not), "of this test");
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    policy_close(policy);
    cgroup_host_close(cgroups);
    return 0;
}

#endif
