// A plan as config.json: what is in it is so.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "runtime/caps.h"
#include "runtime/oci_config.h"

struct plan { // one with something in each part
    Pod__LaunchPlan plan;
    Pod__Process process;
    Pod__User user;
    Pod__Capabilities caps;
    Pod__Rlimit rlimit, *rlimits[1];
    Pod__OomScoreAdj oom;
    Pod__Root root;
    Pod__Mount mount[2], *mounts[2];
    Pod__Device device, *devices[1];
    Pod__Sysctl sysctl, *sysctls[1];
    Pod__Hooks hooks;
    Pod__Hook hook, *hook_list[1];
};

static char *args[] = {"cmd", "\xff bad"}, *env[] = {"A=b"}, *masked[] = {"/proc/x"};

static void fill(struct plan *p)
{
    static uint32_t groups[] = {5};
    pod__launch_plan__init(&p->plan);
    pod__process__init(&p->process);
    pod__user__init(&p->user);
    pod__capabilities__init(&p->caps);
    pod__rlimit__init(&p->rlimit);
    pod__oom_score_adj__init(&p->oom);
    pod__root__init(&p->root);
    pod__mount__init(&p->mount[0]);
    pod__mount__init(&p->mount[1]);
    pod__device__init(&p->device);
    pod__sysctl__init(&p->sysctl);
    pod__hooks__init(&p->hooks);
    pod__hook__init(&p->hook);
    p->plan.process = &p->process;
    p->plan.root = &p->root;
    p->process.args = args;
    p->process.n_args = 1;
    p->process.env = env;
    p->process.n_env = 1;
    p->process.user = &p->user;
    p->process.no_new_privileges = true;
    p->process.capabilities = &p->caps;
    p->caps.bounding = CAPS_BIT(0) | CAPS_BIT(21);
    p->process.oom_score_adj = &p->oom;
    p->oom.value = -7;
    p->rlimits[0] = &p->rlimit;
    p->rlimit = (Pod__Rlimit){.base = p->rlimit.base, .resource = RLIMIT_NOFILE, .soft = 10, .hard = 20};
    p->process.rlimits = p->rlimits;
    p->process.n_rlimits = 1;
    p->user.has_uid = true;
    p->user.uid = 1000;
    p->user.supplemental_groups = groups;
    p->user.n_supplemental_groups = 1;
    p->root.readonly = true;
    p->root.propagation = "rslave";
    p->mounts[0] = &p->mount[0];
    p->mounts[1] = &p->mount[1];
    p->plan.mounts = p->mounts;
    p->plan.n_mounts = 2;
    p->mount[0].destination = "/data";
    p->mount[0].type = "bind";
    p->mount[0].source = "/host";
    p->mount[0].recursive = true;
    p->mount[0].flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID;
    p->mount[0].propagation = POD__PROPAGATION__PROPAGATION_SLAVE;
    p->mount[1].destination = "/t";
    p->mount[1].type = "tmpfs";
    p->mount[1].data = "size=1k";
    p->devices[0] = &p->device;
    p->plan.devices = p->devices;
    p->plan.n_devices = 1;
    p->device.path = "/dev/x";
    p->device.type = S_IFBLK;
    p->device.major = 8;
    p->device.mode = 0640;
    p->plan.masked_paths = masked;
    p->plan.n_masked_paths = 1;
    p->sysctls[0] = &p->sysctl;
    p->sysctl.name = "a.b";
    p->sysctl.value = "1";
    p->plan.sysctls = p->sysctls;
    p->plan.n_sysctls = 1;
    p->plan.own_cgroup_ns = true;
    p->plan.host_ipc = true;
    p->plan.hooks = &p->hooks;
    p->hook_list[0] = &p->hook;
    p->hook.path = "/hook";
    p->hook.timeout_ms = 5000;
    p->hooks.poststart = p->hook_list;
    p->hooks.n_poststart = 1;
}

static void everything_is_there(void **state)
{
    (void)state;
    static const char want[] =
        "{'ociVersion': '1.2.0', 'process': {'terminal': false, 'user': {'uid': 1000, 'additionalGids': [5]},"
        " 'args': ['cmd'], 'env': ['A=b'], 'cwd': '/', 'capabilities': {'bounding': ['CAP_CHOWN', "
        "'CAP_SYS_ADMIN'],"
        " 'effective': [], 'permitted': [], 'inheritable': [], 'ambient': []}, 'rlimits': [{'type': "
        "'RLIMIT_NOFILE',"
        " 'soft': 10, 'hard': 20}], 'noNewPrivileges': true, 'oomScoreAdj': -7}, 'root': {'path': "
        "'/b/mnt/root',"
        " 'readonly': true}, 'hostname': 'box', 'mounts': [{'destination': '/data', 'type': 'bind', "
        "'source': '/host',"
        " 'options': ['rbind', 'nosuid', 'ro', 'rslave']}, {'destination': '/t', 'type': 'tmpfs', 'source': "
        "'tmpfs',"
        " 'options': ['rw', 'size=1k']}], 'hooks': {'prestart': [], 'createRuntime': [], 'createContainer': "
        "[],"
        " 'startContainer': [], 'poststart': [{'path': '/hook', 'args': [], 'env': [], 'timeout': 5}], "
        "'poststop': []},"
        " 'annotations': {}, 'linux': {'namespaces': [{'type': 'mount'}, {'type': 'pid'}, {'type': 'network',"
        " 'path': '/netns'}, {'type': 'uts'}, {'type': 'cgroup'}], 'devices': [{'path': '/dev/x', 'type': "
        "'b',"
        " 'major': 8, 'minor': 0, 'fileMode': 416, 'uid': 0, 'gid': 0}], 'cgroupsPath': '/c', 'maskedPaths':"
        " ['/proc/x'], 'readonlyPaths': [], 'sysctl': {'a.b': '1'}, 'resources': {}, 'rootfsPropagation': "
        "'rslave'}}";
    struct plan p = {0};
    Cri__ContainerConfig config = CRI__CONTAINER_CONFIG__INIT;
    fill(&p);
    const struct oci_config_input in = {.plan = &p.plan,
                                        .config = &config,
                                        .pid_mode = POD__PID_MODE__PID_PRIVATE,
                                        .rootfs = "/b/mnt/root",
                                        .cgroup = "/c",
                                        .netns = "/netns",
                                        .hostname = "box"};
    _cleanup_free_ char *text = oci_config_json(&in), *quoted = strdup(want);
    for (char *c = quoted; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *got = json_loads(text, 0, NULL), *expected = json_loads(quoted, 0, NULL);
    assert_non_null(expected);
    if (!json_equal(got, expected))
        fail_msg("%s", text);
    json_decref(got);
    json_decref(expected);
}

static void limits_are_told(void **state)
{
    (void)state;
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    Cri__HugepageLimit huge = CRI__HUGEPAGE_LIMIT__INIT, *huges = &huge;
    struct cgroup_extra x = {.has_reservation = true,
                             .reservation_bytes = 5,
                             .has_rt_runtime = true,
                             .rt_runtime_us = 9,
                             .oom_kill_disable = true,
                             .blkio_weight = 10,
                             .n_throttles = {[CGROUP_WRITE_IOPS] = 1}};
    x.throttles[CGROUP_WRITE_IOPS][0] = (struct cgroup_device_limit){.major = 8, .minor = 1, .rate = 77};
    r.memory_limit_in_bytes = 4096;
    r.cpu_quota = -1;
    r.cpuset_cpus = "0-1";
    huge.page_size = "2MB";
    huge.limit = 3;
    r.hugepage_limits = &huges;
    r.n_hugepage_limits = 1;
    json_t *got = oci_resources_json(&r, &x, 100);
    json_t *want = json_pack("{s:{s:i, s:i, s:b}, s:{s:i, s:i, s:s}, s:{s:i}, s:{s:i, s:[{s:i, s:i, s:i}]},"
                             " s:[{s:s, s:i}]}",
                             "memory", "limit", 4096, "reservation", 5, "disableOOMKiller", 1, "cpu", "quota",
                             -1, "realtimeRuntime", 9, "cpus", "0-1", "pids", "limit", 100, "blockIO",
                             "weight", 10, "throttleWriteIOPSDevice", "major", 8, "minor", 1, "rate", 77,
                             "hugepageLimits", "pageSize", "2MB", "limit", 3);
    assert_non_null(want);
    assert_true(json_equal(got, want));
    json_decref(got);
    x = (struct cgroup_extra){.has_pids = true};
    got = oci_resources_json(NULL, &x, 100); // the container's own word: none
    assert_int_equal(json_integer_value(json_object_get(json_object_get(got, "pids"), "limit")), -1);
    assert_int_equal(json_object_size(got), 1);
    json_decref(got);
    json_decref(want);
}

// A text that is no UTF-8, which JSON has no way to say, takes nothing else along.
static void a_text_that_is_no_utf8(void **state)
{
    (void)state;
    struct plan p = {0};
    Cri__ContainerConfig config = CRI__CONTAINER_CONFIG__INIT;
    fill(&p);
    p.process.n_args = 2;
    const struct oci_config_input in = {.plan = &p.plan, .config = &config, .rootfs = "/r", .cgroup = "/c"};
    _cleanup_free_ char *text = oci_config_json(&in);
    json_t *got = json_loads(text, 0, NULL);
    assert_non_null(got);
    const json_t *list = json_object_get(json_object_get(got, "process"), "args");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_array_get(list, 1)), "\xef\xbf\xbd bad");
    json_decref(got);
}

static void a_state_is_json_within_braces(void **state)
{
    (void)state;
    Cri__ContainerConfig config = CRI__CONTAINER_CONFIG__INIT;
    Cri__ContainerConfig__AnnotationsEntry entry, *entries[] = {&entry};
    cri__container_config__annotations_entry__init(&entry);
    entry.key = "a\"b";
    entry.value = "c\nd";
    config.annotations = entries;
    config.n_annotations = 1;
    _cleanup_free_ char *text = oci_state_members("ID", "/b", &config);
    assert_string_equal(text, "\"ociVersion\":\"1.2.0\",\"id\":\"ID\",\"bundle\":\"/b\","
                              "\"annotations\":{\"a\\\"b\":\"c\\nd\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_there),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(a_text_that_is_no_utf8),
        cmocka_unit_test(a_state_is_json_within_braces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
