// For tests of plans: a small container, and what is planned for it.
#ifndef RUNTIME_PLAN_FIXTURE_H
#define RUNTIME_PLAN_FIXTURE_H

#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/cgroup.h"
#include "runtime/plan.h"
#include "runtime/policy.h"

#define MAX 8

// A config that a test fills, and what is made of it.
struct fixture {
    struct cgroup_host *cgroups;
    struct policy *policy;
    struct arena *arena;
    char dir[64];

    Cri__NamespaceOption pod_namespaces, namespaces;
    Cri__LinuxSandboxSecurityContext pod_security;
    Cri__LinuxPodSandboxConfig pod_linux;
    Cri__PodSandboxConfig pod;
    Cri__LinuxContainerSecurityContext security;
    Cri__LinuxContainerResources resources;
    Cri__LinuxContainerConfig linux;
    Cri__ContainerConfig config;
    Pull__ImageConfig image;
    Cri__Mount mount[MAX];
    Cri__Mount *mounts[MAX];
    Cri__Device device;
    Cri__Device *devices;
    struct plan_input in;
    struct error err;
};

static const char *lowers[] = {"b", "a"};

static inline void reset(struct fixture *f)
{
    cri__namespace_option__init(&f->pod_namespaces);
    cri__namespace_option__init(&f->namespaces);
    cri__linux_sandbox_security_context__init(&f->pod_security);
    cri__linux_pod_sandbox_config__init(&f->pod_linux);
    cri__pod_sandbox_config__init(&f->pod);
    f->pod.linux = &f->pod_linux;
    f->pod_linux.security_context = &f->pod_security;
    cri__linux_container_security_context__init(&f->security);
    cri__linux_container_resources__init(&f->resources);
    cri__linux_container_config__init(&f->linux);
    f->linux.security_context = &f->security;
    f->linux.resources = &f->resources;
    cri__container_config__init(&f->config);
    f->config.linux = &f->linux;
    cri__device__init(&f->device);
    f->devices = &f->device;
    pull__image_config__init(&f->image);
    static char *cmd[] = {(char *)"/bin/sh"};
    f->image.cmd = cmd;
    f->image.n_cmd = 1;
    for (size_t i = 0; i < MAX; i++) {
        cri__mount__init(&f->mount[i]);
        f->mounts[i] = &f->mount[i];
        f->mount[i].host_path = f->dir;
    }
    f->config.mounts = f->mounts;
    f->in = (struct plan_input){
        .config = &f->config,
        .pod = &f->pod,
        .image = &f->image,
        .rootfs =
            {.layers_dir = "/layers", .lowers = lowers, .n_lowers = 2, .upper = "/upper", .work = "/work"},
        .hostname = "box",
        .hosts_path = "/run/pod/hosts",
        .hostname_path = "/run/pod/hostname",
        .resolv_conf_path = "/run/pod/resolv.conf",
        .shm_path = "/run/pod/shm",
    };
    f->err = ERROR_INIT;
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cgroup_options o = {.parent = "/crisp-plan-test"};
    *state = f;
    f->arena = arena_new(64u << 20);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/crisp-plan-test-XXXXXX");
    if (!f->arena || !mkdtemp(f->dir) || cgroup_host_open(&o, &f->cgroups, NULL) < 0)
        return -1;
    reset(f);
    return policy_open(f->cgroups, &f->policy, NULL);
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    policy_close(f->policy);
    cgroup_host_close(f->cgroups);
    arena_free(f->arena);
    int r = rmdir(f->dir);
    free(f);
    return r;
}

static inline Pod__LaunchPlan *build(struct fixture *f)
{
    Pod__LaunchPlan *plan = NULL;
    if (plan_build(f->policy, &f->in, f->arena, &plan, &f->err) < 0)
        fail_msg("%s", f->err.message);
    return plan;
}

static inline const Pod__Mount *mount_at(const Pod__LaunchPlan *plan, const char *destination)
{
    const Pod__Mount *found = NULL;
    for (size_t i = 0; i < plan->n_mounts; i++) {
        if (str_eq(plan->mounts[i]->destination, destination)) {
            assert_null(found); // never twice
            found = plan->mounts[i];
        }
    }
    return found;
}

static inline const Pod__Device *device_at(const Pod__LaunchPlan *plan, const char *path)
{
    for (size_t i = 0; i < plan->n_devices; i++) {
        if (str_eq(plan->devices[i]->path, path))
            return plan->devices[i];
    }
    return NULL;
}

#endif
