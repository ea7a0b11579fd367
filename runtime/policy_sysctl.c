// Sysctls: those of the pod's namespaces, and no others.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/policy_internal.h"

#define SYSCTLS_MAX 256
#define NAME_LEN    256
#define VALUE_MAX   1024

// What namespace a sysctl belongs to; one that belongs to none would change the node.
enum sysctl_ns { SYSCTL_NODE, SYSCTL_NET, SYSCTL_IPC, SYSCTL_UTS };

static enum sysctl_ns namespace_of(const char *name)
{
    static const char *const ipc[] = {"kernel.shmall",          "kernel.shmmax",     "kernel.shmmni",
                                      "kernel.shm_rmid_forced", "kernel.msgmax",     "kernel.msgmnb",
                                      "kernel.msgmni",          "kernel.sem",        "kernel.shm_next_id",
                                      "kernel.msg_next_id",     "kernel.sem_next_id"};
    for (size_t i = 0; i < ARRAY_SIZE(ipc); i++) {
        if (str_eq(name, ipc[i]))
            return SYSCTL_IPC;
    }
    if (str_has_prefix(name, "fs.mqueue."))
        return SYSCTL_IPC;
    if (str_eq(name, "kernel.domainname"))
        return SYSCTL_UTS;
    return str_has_prefix(name, "net.") ? SYSCTL_NET : SYSCTL_NODE;
}

// Both separators are in use: net.ipv4.conf.eth0/1.forwarding is net/ipv4/conf/eth0.1/forwarding. The one
// that comes first separates; name gets the form with dots.
static int normalize(const char *key, char name[NAME_LEN])
{
    if (strlen(key) >= NAME_LEN || str_empty(key) || strstr(key, "..") || strstr(key, "//"))
        return -EINVAL;
    bool slashes = strcspn(key, "/") < strcspn(key, ".");
    for (size_t i = 0; i <= strlen(key); i++)
        name[i] = (char)(slashes && key[i] == '/' ? '.' : slashes && key[i] == '.' ? '/' : key[i]);
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("._-/", *p))
            return -EINVAL;
    }
    return 0;
}

static int check_sysctl(const Cri__PodSandboxConfig *pod, const char *key, const char *value,
                        struct error *err)
{
    char name[NAME_LEN];
    if (normalize(key, name) < 0)
        return policy_bad(err, "linux.sysctls: \"%.100s\" is not the name of a sysctl", key);
    if (strlen(value) > VALUE_MAX)
        return policy_bad(err, "linux.sysctls: the value of \"%.100s\" is longer than %d bytes", key,
                          VALUE_MAX);
    const char *shared = NULL;
    switch (namespace_of(name)) {
    case SYSCTL_IPC:
        shared = policy_host_ipc(pod) ? "IPC" : NULL;
        break;
    case SYSCTL_NET:
        shared = policy_host_network(pod) ? "network" : NULL;
        break;
    case SYSCTL_UTS:
        shared = policy_host_network(pod) ? "network and name" : NULL;
        break;
    case SYSCTL_NODE:
        if (str_eq(name, "kernel.hostname"))
            return policy_bad(err, "linux.sysctls: \"%s\" is set by the pod's field hostname", key);
        return policy_bad(
            err, "linux.sysctls: \"%s\" belongs to no namespace of the pod: it would change the node", key);
    }
    return shared ? policy_bad(err, "linux.sysctls: \"%s\" would be the node's, as the pod uses its %s", key,
                               shared)
                  : 0;
}

int policy_check_sysctls(const Cri__PodSandboxConfig *pod, struct error *err)
{
    if (pod->linux->n_sysctls > SYSCTLS_MAX)
        return policy_bad(err, "linux.sysctls: more than %d", SYSCTLS_MAX);
    for (size_t i = 0; i < pod->linux->n_sysctls; i++) {
        int r = check_sysctl(pod, pod->linux->sysctls[i]->key, pod->linux->sysctls[i]->value, err);
        if (r < 0)
            return r;
    }
    return 0;
}

// ---- Those that the node's configuration gives to every pod ----

int policy_check_default_sysctls(char *const *defaults, struct error *err)
{
    for (size_t i = 0; defaults && defaults[i]; i++) {
        const char *value = strchr(defaults[i], '=');
        char key[NAME_LEN], name[NAME_LEN];
        int n = value ? snprintf(key, sizeof(key), "%.*s", (int)(value - defaults[i]), defaults[i]) : -1;
        if (n < 0 || n >= NAME_LEN || i == SYSCTLS_MAX || normalize(key, name) < 0)
            return policy_bad(err, "runtime.default_sysctls: \"%.100s\" is not NAME=VALUE", defaults[i]);
        if (namespace_of(name) == SYSCTL_NODE)
            return policy_bad(
                err, "runtime.default_sysctls: \"%s\" belongs to no namespace: it would change the node",
                key);
    }
    return 0;
}

static bool applies(const Cri__PodSandboxConfig *pod, const char *name)
{
    switch (namespace_of(name)) {
    case SYSCTL_IPC:
        return !policy_host_ipc(pod);
    case SYSCTL_NET:
        // The range's end may be no group of a user namespace, and then is refused.
        return !policy_host_network(pod) &&
               !(policy_own_userns(pod) && str_eq(name, "net.ipv4.ping_group_range"));
    case SYSCTL_UTS:
        return !policy_host_network(pod);
    default:
        return false;
    }
}

static bool is_set(const Cri__LinuxPodSandboxConfig *config, const char *name)
{
    char other[NAME_LEN];
    for (size_t i = 0; config && i < config->n_sysctls; i++) {
        if (normalize(config->sysctls[i]->key, other) == 0 && str_eq(other, name))
            return true;
    }
    return false;
}

static int add(struct arena *arena, Pod__Sysctl **list, size_t *n, char *name, char *value)
{
    Pod__Sysctl *s = arena_alloc(arena, sizeof(*s));
    if (!s || !name || !value)
        return -ENOMEM;
    pod__sysctl__init(s);
    s->name = name;
    s->value = value;
    list[(*n)++] = s;
    return 0;
}

int policy_pod_sysctls(const struct policy *p, const Cri__PodSandboxConfig *pod, struct arena *arena,
                       Pod__Sysctl ***out, size_t *n)
{
    const Cri__LinuxPodSandboxConfig *config = pod->linux;
    size_t own = config ? config->n_sysctls : 0, defaults = 0;
    while (p->default_sysctls && p->default_sysctls[defaults])
        defaults++;
    Pod__Sysctl **list = arena_alloc(arena, (own + defaults + 1) * sizeof(Pod__Sysctl *));
    int r = list ? 0 : -ENOMEM;
    *n = 0;
    for (size_t i = 0; r == 0 && i < defaults; i++) {
        const char *text = p->default_sysctls[i], *value = strchr(text, '=');
        char name[NAME_LEN], *key = arena_strndup(arena, text, (size_t)(value - text));
        if (!key)
            r = -ENOMEM;
        else if (normalize(key, name) == 0 && applies(pod, name) && !is_set(config, name))
            r = add(arena, list, n, key, arena_strdup(arena, value + 1));
    }
    for (size_t i = 0; r == 0 && i < own; i++)
        r = add(arena, list, n, config->sysctls[i]->key, config->sysctls[i]->value);
    *out = list;
    return r;
}
