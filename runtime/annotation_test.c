#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/mount.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/annotation.h"
#include "runtime/policy.h"

#define MAX 8

// A pod and a container with annotations that a test sets.
struct configs {
    Cri__PodSandboxConfig pod;
    Cri__PodSandboxConfig__AnnotationsEntry pod_entry[MAX], *pod_entries[MAX];
    Cri__ContainerMetadata metadata;
    Cri__LinuxContainerResources resources;
    Cri__LinuxContainerConfig linux;
    Cri__ContainerConfig container;
    Cri__ContainerConfig__AnnotationsEntry entry[MAX], *entries[MAX];
    struct policy policy;
    struct arena *arena;
    struct error err;
};

static char *everything[] = {(char *)"*", NULL};

static void init(struct configs *c)
{
    *c = (struct configs){.err = ERROR_INIT};
    c->policy.annotations_allowed = everything;
    c->policy.caps_held = UINT64_MAX; // whatever limits this process has
    cri__pod_sandbox_config__init(&c->pod);
    cri__container_config__init(&c->container);
    cri__container_metadata__init(&c->metadata);
    cri__linux_container_resources__init(&c->resources);
    cri__linux_container_config__init(&c->linux);
    c->metadata.name = (char *)"main";
    c->container.metadata = &c->metadata;
    c->linux.resources = &c->resources;
    c->container.linux = &c->linux;
    c->pod.annotations = c->pod_entries;
    c->container.annotations = c->entries;
    for (size_t i = 0; i < MAX; i++) {
        cri__pod_sandbox_config__annotations_entry__init(&c->pod_entry[i]);
        cri__container_config__annotations_entry__init(&c->entry[i]);
        c->pod_entries[i] = &c->pod_entry[i];
        c->entries[i] = &c->entry[i];
    }
}

static void on_container(struct configs *c, const char *key, const char *value)
{
    c->entry[c->container.n_annotations].key = (char *)key;
    c->entry[c->container.n_annotations++].value = (char *)value;
}

static void on_pod(struct configs *c, const char *key, const char *value)
{
    c->pod_entry[c->pod.n_annotations].key = (char *)key;
    c->pod_entry[c->pod.n_annotations++].value = (char *)value;
}

static struct annotations *read_all(struct configs *c)
{
    struct annotations *out = NULL;
    arena_free(c->arena);
    c->arena = arena_new(1u << 20);
    assert_non_null(c->arena);
    if (annotations_check_container(&c->policy, &c->pod, &c->container, &c->err) < 0 ||
        annotations_read(&c->pod, &c->container, c->arena, &out, &c->err) < 0)
        fail_msg("%s", c->err.message);
    return out;
}

static void done(struct configs *c)
{
    arena_free(c->arena);
}

// ---- What is refused ----

static const struct {
    const char *key, *value, *message; // NULL: fine
} cases[] = {
    {"crisp.run/no-such-thing", "1", "annotation \"crisp.run/no-such-thing\": is not known"},
    {"crisp.run/", "1", "is not known"},
    {"crisp.run/tmpfs.main", "/x", "is not known"}, // a container's own needs no name
    {"crisp.run/shm-size", "1m", "set it in the pod sandbox's config"},
    {"crisp.running/x", "1", NULL}, // somebody else's
    {"io.kubernetes.x", "", NULL},
    {"crisp.run/memory-swappiness", "", "is empty"},
    {"crisp.run/memory-swappiness", "100", NULL},
    {"crisp.run/memory-swappiness", "101", "\"101\" is not a whole number from 0 to 100"},
    {"crisp.run/memory-swappiness", "-1", "is not a whole number"},
    {"crisp.run/memory-reservation", "64m", NULL},
    {"crisp.run/memory-reservation", "0", "not a size"},
    {"crisp.run/memory-reservation", "12q", "not a size"},
    {"crisp.run/memory-reservation", "m", "not a size"},
    {"crisp.run/memory-reservation", "9999999999g", "not a size"},
    {"crisp.run/oom-kill-disable", "true", NULL},
    {"crisp.run/oom-kill-disable", "yes", "neither true nor false"},
    {"crisp.run/pids-limit", "-1", NULL},
    {"crisp.run/pids-limit", "0", "is not a whole number from 1"},
    {"crisp.run/blkio-weight", "9", "from 10 to 1000"},
    {"crisp.run/cpu-rt-runtime", "950000", NULL},
    {"crisp.run/cpu-rt-runtime", "1000001", "more than the period of 1000000"},
    {"crisp.run/cpu-rt-period", "0", "from 1"},
    {"crisp.run/device-read-bps", "/dev/null:1m", "is not a block device"},
    {"crisp.run/device-read-bps", "/dev/no-such-disk:1m", "is not the path of a device"},
    {"crisp.run/device-read-bps", "vda:1m", "is not the path of a device"},
    {"crisp.run/device-read-bps", "/dev/null", "is not PATH:BYTES"},
    {"crisp.run/device-read-bps", "/dev/null:0", "not a number of bytes"},
    {"crisp.run/device-write-iops", "/dev/null:1m", "not a number of operations"},
    {"crisp.run/ulimit", "core=0,nofile=10:20", NULL},
    {"crisp.run/ulimit", "core=-1", NULL},
    {"crisp.run/ulimit", "core", "is not NAME=SOFT[:HARD]"},
    {"crisp.run/ulimit", "core=2:1", "is not NAME=SOFT[:HARD]"},
    {"crisp.run/ulimit", "files=1", "is not NAME=SOFT[:HARD]"},
    {"crisp.run/storage-size", "10g", NULL},
    {"crisp.run/storage-size", "1000k", "is not a size of at least 1048576 bytes"},
    {"crisp.run/tmpfs", "/run", NULL},
    {"crisp.run/tmpfs", "/run:size=50%,mode=755,uid=7,exec", NULL},
    {"crisp.run/tmpfs", "run", "is not an absolute path"},
    {"crisp.run/tmpfs", "/run;", "is empty"},
    {"crisp.run/tmpfs", "/../run", "has a \"..\" in it"},
    {"crisp.run/tmpfs", "/./", "can't be covered"},
    {"crisp.run/tmpfs", "//proc/./sys", "can't be covered"},
    {"crisp.run/tmpfs", "/dev/", "can't be covered"},
    {"crisp.run/tmpfs", "/dev/shm", NULL},
    {"crisp.run/tmpfs", "/sys/fs", "can't be covered"},
    {"crisp.run/tmpfs", "/a;/b;/a/b", NULL},
    {"crisp.run/tmpfs", "/a;/b;//a/:size=1m", "\"/a\" is there twice"},
    {"crisp.run/tmpfs", "/run:size=", "is not an option"},
    {"crisp.run/tmpfs", "/run:size=101%", "is not an option"},
    {"crisp.run/tmpfs", "/run:size=0", "is not an option"},
    {"crisp.run/tmpfs", "/run:mode=999", "is not an option"},
    {"crisp.run/tmpfs", "/run:mpol=bind", "is not an option"},
    {"crisp.run/tmpfs", "/run:uid=4294967295", "is not an option"},
    {"crisp.run/tmpfs", "/run:context=\"a\"", "is not an option"},
};

static void what_is_wrong_is_told_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct configs c;
        init(&c);
        on_container(&c, cases[i].key, cases[i].value);
        int r = annotations_check_container(&c.policy, &c.pod, &c.container, &c.err);
        if (!cases[i].message && r == 0)
            continue;
        if (!cases[i].message || r == 0 || c.err.status != STATUS_INVALID_ARGUMENT ||
            !strstr(c.err.message, cases[i].message) || !strstr(c.err.message, cases[i].key))
            fail_msg("%s: %s: %d, %s", cases[i].key, cases[i].value, r, c.err.message);
    }
}

// The operator may have changed his mind since the pod was made.
static void the_pods_are_asked_about_again(void)
{
    char *tmpfs[] = {(char *)"tmpfs", NULL};
    struct configs c;
    init(&c);
    on_pod(&c, "crisp.run/shm-size", "1m"); // which the pod has already
    on_pod(&c, "crisp.run/tmpfs", "/run");
    on_pod(&c, "crisp.run/ulimit.other", "core=0");
    c.policy.annotations_allowed = tmpfs;
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), 0);
    on_pod(&c, "crisp.run/ulimit.main", "core=0");
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EPERM);
    assert_int_equal(c.err.status, STATUS_PERMISSION_DENIED);
    assert_non_null(strstr(c.err.message, "crisp.run/ulimit"));
    c.policy.annotations_allowed = NULL;
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EPERM);
    assert_non_null(strstr(c.err.message, "crisp.run/tmpfs"));
}

static void only_what_is_allowed(void **state)
{
    (void)state;
    char *some[] = {(char *)"tmp*", (char *)"ulimit", NULL};
    struct configs c;
    init(&c);
    c.policy.annotations_allowed = some;
    on_container(&c, "crisp.run/tmpfs", "/run");
    on_container(&c, "crisp.run/ulimit", "core=0");
    on_container(&c, "crisp.run/pids-limit", "7");
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EPERM);
    assert_int_equal(c.err.status, STATUS_PERMISSION_DENIED);
    assert_non_null(strstr(c.err.message, "crisp.run/pids-limit"));
    assert_non_null(strstr(c.err.message, "annotations.allowed"));
    c.container.n_annotations = 2;
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), 0);
    c.policy.annotations_allowed = NULL; // the default
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EPERM);
    on_pod(&c, "crisp.run/shm-size", "1m");
    assert_int_equal(annotations_check_pod(&c.policy, &c.pod, &c.err), -EPERM);
    the_pods_are_asked_about_again();

    char *good[] = {(char *)"*", (char *)"device-*", (char *)"tmpfs", NULL};
    char *bad[] = {(char *)"tmpfs", (char *)"temp*", NULL}; // a mistake, as it matches nothing
    assert_int_equal(annotations_check_allowed(NULL, &c.err), 0);
    assert_int_equal(annotations_check_allowed(good, &c.err), 0);
    assert_int_equal(annotations_check_allowed(bad, &c.err), -EINVAL);
    assert_non_null(strstr(c.err.message, "\"temp*\""));
}

static void a_limit_out_of_reach_is_refused(void **state)
{
    (void)state;
    struct rlimit own;
    struct configs c;
    init(&c);
    c.policy.caps_held = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &own), 0);
    on_container(&c, "crisp.run/ulimit", "nofile=5:unlimited");
    if (own.rlim_max != RLIM_INFINITY) {
        assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EPERM);
        assert_int_equal(c.err.status, STATUS_FAILED_PRECONDITION);
        assert_non_null(strstr(c.err.message, "nofile can't be raised"));
    }
    c.entry[0].value = (char *)"nofile=5:10";
    struct annotations *a = read_all(&c);
    assert_int_equal(a->ulimits.n, 1);
    assert_int_equal(a->ulimits.items[0].soft, 5);
    assert_int_equal(a->ulimits.items[0].hard, 10);
    done(&c);
}

// ---- Whose they are ----

static void the_nearest_one_wins(void **state)
{
    (void)state;
    struct configs c;
    init(&c);
    on_pod(&c, "crisp.run/memory-reservation", "1m");
    on_pod(&c, "crisp.run/memory-reservation.other", "2m");
    assert_int_equal(annotations_check_pod(&c.policy, &c.pod, &c.err), 0);
    assert_int_equal(read_all(&c)->cgroup.reservation_bytes, 1 << 20);
    on_pod(&c, "crisp.run/memory-reservation.main", "3m");
    assert_int_equal(read_all(&c)->cgroup.reservation_bytes, 3 << 20);
    on_container(&c, "crisp.run/memory-reservation", "4k");
    assert_int_equal(read_all(&c)->cgroup.reservation_bytes, 4096);
    c.resources.memory_limit_in_bytes = 4095;
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EINVAL);
    assert_non_null(strstr(c.err.message, "more than the memory limit"));
    done(&c);
}

static void the_pods_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *message;
    } pods[] = {
        {"crisp.run/shm-size", "100m", NULL},
        {"crisp.run/shm-size", "1", "at least 4096"},
        {"crisp.run/shm-size.main", "1m", "is the pod's"},
        {"crisp.run/tmpfs.", "/x", "names no container"},
        {"crisp.run/tmpfs.main", "x", "not an absolute path"},
        {"crisp.run/tempfs.main", "/x", "is not known"},
        {"crisp.run/tmpfs", "/x", NULL},
        {"other/shm-size", "no", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(pods); i++) {
        struct configs c;
        init(&c);
        on_pod(&c, pods[i].key, pods[i].value);
        int r = annotations_check_pod(&c.policy, &c.pod, &c.err);
        if ((r == 0) != (pods[i].message == NULL) ||
            (pods[i].message && !strstr(c.err.message, pods[i].message)))
            fail_msg("%s: %d, %s", pods[i].key, r, c.err.message);
    }
    struct configs c;
    init(&c);
    assert_int_equal(annotations_shm_bytes(&c.pod, 7), 7);
    on_pod(&c, "crisp.run/shm-size", "2m");
    assert_int_equal(annotations_shm_bytes(&c.pod, 7), 2 << 20);
    assert_int_equal(annotations_read(&c.pod, &c.container, NULL, &(struct annotations *){NULL}, &c.err),
                     -ENOMEM);
}

static void the_hosts_shm_has_its_size(void **state)
{
    (void)state;
    struct configs c;
    init(&c);
    Cri__NamespaceOption namespaces = CRI__NAMESPACE_OPTION__INIT;
    Cri__LinuxSandboxSecurityContext security = CRI__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
    Cri__LinuxPodSandboxConfig linux = CRI__LINUX_POD_SANDBOX_CONFIG__INIT;
    security.namespace_options = &namespaces;
    linux.security_context = &security;
    c.pod.linux = &linux;
    on_pod(&c, "crisp.run/shm-size", "1m");
    assert_int_equal(annotations_check_pod(&c.policy, &c.pod, &c.err), 0);
    namespaces.ipc = CRI__NAMESPACE_MODE__NODE;
    assert_int_equal(annotations_check_pod(&c.policy, &c.pod, &c.err), -EINVAL);
    assert_int_equal(c.err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(c.err.message, "ipc NODE"));
}

// ---- What comes of them ----

static void tmpfs_options_become_the_kernels(void **state)
{
    (void)state;
    struct configs c;
    init(&c);
    on_container(&c, "crisp.run/tmpfs",
                 "//run/./lock/;/tmp:exec,ro,noatime,size=64k,mode=0700,nr_inodes=2k,"
                 "size=50%,gid=5");
    struct annotations *a = read_all(&c);
    assert_int_equal(a->n_tmpfs, 2);
    assert_string_equal(a->tmpfs[0].destination, "/run/lock");
    assert_int_equal(a->tmpfs[0].flags, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    assert_string_equal(a->tmpfs[0].data, "");
    assert_int_equal(a->tmpfs[1].flags,
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME);
    assert_string_equal(a->tmpfs[1].data, "size=65536,mode=0700,nr_inodes=2048,size=50%,gid=5");
    done(&c);
}

static void ids_of_a_tmpfs_are_the_pods(void **state)
{
    (void)state;
    struct configs c;
    init(&c);
    Cri__IDMapping map = CRI__IDMAPPING__INIT, *maps = &map;
    Cri__UserNamespace ns = CRI__USER_NAMESPACE__INIT;
    Cri__NamespaceOption namespaces = CRI__NAMESPACE_OPTION__INIT;
    Cri__LinuxSandboxSecurityContext security = CRI__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
    Cri__LinuxPodSandboxConfig linux = CRI__LINUX_POD_SANDBOX_CONFIG__INIT;
    map.host_id = 100000;
    map.length = 1000;
    ns.mode = CRI__NAMESPACE_MODE__POD;
    ns.uids = ns.gids = &maps;
    ns.n_uids = ns.n_gids = 1;
    namespaces.userns_options = &ns;
    security.namespace_options = &namespaces;
    linux.security_context = &security;
    c.pod.linux = &linux;
    on_container(&c, "crisp.run/tmpfs", "/run:uid=7,gid=0");
    assert_string_equal(read_all(&c)->tmpfs[0].data, "uid=100007,gid=100000");
    c.entry[0].value = (char *)"/run:uid=1000";
    assert_int_equal(annotations_check_container(&c.policy, &c.pod, &c.container, &c.err), -EINVAL);
    done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_told_by_name),
        cmocka_unit_test(only_what_is_allowed),
        cmocka_unit_test(a_limit_out_of_reach_is_refused),
        cmocka_unit_test(the_nearest_one_wins),
        cmocka_unit_test(the_pods_are_checked),
        cmocka_unit_test(the_hosts_shm_has_its_size),
        cmocka_unit_test(tmpfs_options_become_the_kernels),
        cmocka_unit_test(ids_of_a_tmpfs_are_the_pods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
