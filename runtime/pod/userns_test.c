// Pods with a user namespace: who is who inside and outside, and what only the host's root can undo. Needs
// root, and a kernel with idmapped overlay layers.
#include "runtime/pod/testkit.h"

#include <linux/capability.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define ROOT_CAPS 0xa80425fbU

static bool make_pod(struct kit *k, bool shared_pid)
{
    if (!k->pid)
        return false;
    k->user_ns = true;
    const Pod__Reply *reply = kit_make_pod(k, shared_pid);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    return true;
}

static void expect(const char *got, const char *wanted)
{
    if (!str_eq(got, wanted))
        fail_msg("got:\n%s\nwanted:\n%s", got, wanted);
}

static char *host_path(struct kit *k, const char *name)
{
    return arena_printf(k->arena, "%s/%s", k->scratch, name);
}

static void test_identity(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    expect(kit_run_plan(k, "c1",
                        kit_plan_sh(k, "id -u; echo $(cat /proc/self/uid_map) $(cat /proc/self/gid_map); "
                                       "cat /proc/self/setgroups; hostname; echo $$")),
           "0\n0 300000 65536 0 300000 65536\nallow\nkit-host\n1\n");
    Pod__LaunchPlan *plan = kit_plan_sh(k, "id -u; id -G; hostname x 2>&1; echo $?");
    plan->process->user->user = (char *)(uintptr_t) "www";
    plan->process->user->merge_image_groups = true;
    expect(kit_run_plan(k, "c2", plan), "33\n33 50 51\nhostname: sethostname: Operation not permitted\n1\n");
    plan = kit_plan_sh(k, "true");
    plan->process->user->has_uid = true;
    plan->process->user->uid = 65536;
    const Pod__Reply *reply = kit_start(k, "c3", plan);
    assert_non_null(reply->error);
    assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(reply->error->message, "user 65536 does not exist in the pod's user namespace"));
    plan = kit_plan_sh(k, "true");
    plan->user_ns = false;
    assert_non_null(kit_start(k, "c4", plan)->error);
}

// What is made for a container belongs to its root; what the image has, to whom it says.
static void test_ownership(void **state)
{
    struct kit *k = *state;
    struct stat st;

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(chown(arena_printf(k->arena, "%s/base/etc/group", k->layers), 33, 7), 0);
    Pod__LaunchPlan *plan = kit_plan_sh(
        k,
        "stat -c '%n %u:%g' / /bin/sh /etc/group /dev /dev/null /dev/fd /dev/pts /dev/pts/ptmx /dev/mqueue "
        "/mnt /mnt/deep /sys/class/net/lo/mtu /proc/self/environ /proc/1; echo hi > /tmp/new; touch "
        "/etc/group; "
        "busybox chown 5:6 /tmp/new");
    kit_add_mount(k, plan, "tmpfs", "", "/mnt/deep", "", 0);
    expect(kit_run_plan(k, "c1", plan),
           "/ 0:0\n/bin/sh 0:0\n/etc/group 33:7\n/dev 0:0\n/dev/null 0:0\n/dev/fd 0:0\n/dev/pts 0:0\n"
           "/dev/pts/ptmx 0:0\n/dev/mqueue 0:0\n/mnt 0:0\n/mnt/deep 0:0\n/sys/class/net/lo/mtu 0:0\n"
           "/proc/self/environ 0:0\n/proc/1 0:0\n");
    assert_int_equal(stat(arena_printf(k->arena, "%s/tmp/new", plan->root->upper), &st), 0);
    assert_int_equal(st.st_uid, KIT_HOST_ID + 5);
    assert_int_equal(st.st_gid, KIT_HOST_ID + 6);
    assert_int_equal(stat(arena_printf(k->arena, "%s/etc/group", plan->root->upper), &st), 0);
    assert_int_equal(st.st_uid, KIT_HOST_ID + 33); // copied up, through the mapping
    assert_int_equal(stat(arena_printf(k->arena, "%s/base/etc/group", k->layers), &st), 0);
    assert_int_equal(st.st_uid, 33);
}

static void test_volumes(void **state)
{
    struct kit *k = *state;
    char *volume = host_path(k, "volume"), *file = host_path(k, "volume/file");
    struct stat st;

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(mkdir(volume, 0777) | chmod(volume, 0777), 0);
    assert_int_equal(file_write_atomic(file, "x", 1, 0600, false, NULL), 0);
    Pod__LaunchPlan *plan =
        kit_plan_sh(k, "stat -c %u:%g /idmapped/file /plain/file; cat /idmapped/file && echo; "
                       "cat /plain/file 2>&1; touch /idmapped/a /plain/b");
    kit_add_mount(k, plan, "bind", volume, "/idmapped", "", 0);
    plan->mounts[plan->n_mounts - 1]->idmap = true;
    kit_add_mount(k, plan, "bind", volume, "/plain", "", 0);
    expect(kit_run_plan(k, "c1", plan),
           "0:0\n65534:65534\nx\ncat: can't open '/plain/file': Permission denied\n");
    assert_int_equal(stat(host_path(k, "volume/a"), &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(stat(host_path(k, "volume/b"), &st), 0);
    assert_int_equal(st.st_uid, KIT_HOST_ID);
    // The kernel can't idmap this one.
    plan = kit_plan_sh(k, "true");
    kit_add_mount(k, plan, "bind", "/proc/sys", "/mnt", "", 0);
    plan->mounts[plan->n_mounts - 1]->idmap = true;
    const Pod__Reply *reply = kit_start(k, "c2", plan);
    assert_non_null(reply->error);
    assert_int_equal(reply->error->status, STATUS_FAILED_PRECONDITION);
    assert_non_null(
        strstr(reply->error->message, "mount /mnt: /proc/sys: its file system can't be idmapped"));
}

// With every capability there is inside: the mounts that were made outside are the kernel's to keep.
static void test_locked(void **state)
{
    struct kit *k = *state;
    char *volume = host_path(k, "volume");

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(mkdir(volume, 0777) | chmod(volume, 0777), 0);
    char *secret = arena_printf(k->arena, "%s/base/secret", k->layers);
    assert_int_equal(file_write_atomic(secret, "told\n", 5, 0644, false, NULL), 0);
    Pod__LaunchPlan *plan = kit_plan_sh(
        k,
        "mount -t tmpfs mine /tmp && echo mounts; for m in /secret /vol /proc/sys; do "
        "umount $m 2>/dev/null && echo \"$m is open\"; done; "
        "mount -o remount,bind,rw /vol 2>/dev/null && echo writable; cat /secret; "
        "mkdir /mnt; mount -o bind /vol /mnt && mount -o remount,bind,rw /mnt 2>/dev/null && echo writable; "
        "mknod /tmp/mem c 1 1 2>/dev/null && echo node; "
        "echo 1 > /proc/sys/net/ipv4/ip_forward && echo sysctl; "
        "echo 1 2>/dev/null > /proc/sys/kernel/panic && echo panic; hostname mine && hostname");
    static char *masked[] = {(char *)(uintptr_t) "/secret"};
    plan->masked_paths = masked;
    plan->n_masked_paths = 1;
    kit_add_mount(k, plan, "bind", volume, "/vol", "", MOUNT_ATTR_RDONLY);
    Pod__Capabilities *caps = plan->process->capabilities;
    caps->bounding = caps->effective = caps->permitted = (UINT64_C(1) << 40) - 1;
    expect(kit_run_plan(k, "c1", plan), "mounts\nsysctl\nmine\n");
}

static void test_exec(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    int fds[2];
    char text[256];

    if (!make_pod(k, true))
        TESTING_SKIP("needs root and /bin/busybox");
    const Pod__Reply *reply = kit_start(k, "c1", kit_plan_sh(k, "sleep 100"));
    if (reply->error)
        fail_msg("%s", reply->error->message);
    struct stat st;
    char *proc = arena_printf(k->arena, "/proc/%d", reply->start->pid);
    assert_int_equal(stat(proc, &st), 0);
    assert_int_equal(st.st_uid, KIT_HOST_ID);
    assert_int_equal(pipe(fds), 0);
    r.op_case = POD__REQUEST__OP_EXEC;
    r.exec = kit_exec_request(
        k, "c1", "e1",
        "id -u; echo $(cat /proc/self/uid_map); touch /tmp/x && stat -c %u /tmp/x /proc/self/");
    r.exec->has_stdout = true;
    reply = kit_call(k, &r, &fds[1], 1);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    (void)close(fds[1]);
    (void)kit_wait_exec(k, "e1");
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    expect(text, "0\n0 300000 65536\n0\n0\n");
    (void)close(fds[0]);
    kit_kill(k, "c1", 9, true);
    (void)kit_wait_exit(k, "c1");
}

static void test_tty(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan = kit_plan_sh(k, "tty; stat -c '%n %u:%g' /dev/pts/0 /dev/console");
    plan->process->tty = true;
    expect(kit_run_plan(k, "c1", plan), "/dev/pts/0\r\n/dev/pts/0 0:5\r\n/dev/console 0:5\r\n");
}

static void test_limits(void **state)
{
    struct kit *k = *state;
    Pod__Rlimit limit = POD__RLIMIT__INIT, *limits[] = {&limit};
    Pod__OomScoreAdj oom = POD__OOM_SCORE_ADJ__INIT;

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan = kit_plan_sh(k, "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    limit.resource = 7;
    limit.soft = 100;
    limit.hard = 200;
    oom.value = 500;
    plan->process->rlimits = limits;
    plan->process->n_rlimits = 1;
    plan->process->oom_score_adj = &oom;
    expect(kit_run_plan(k, "c1", plan), "100\n200\n500\n");
}

// The kernel asks the pid namespace's owner for these.
static void test_pid_namespace(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan =
        kit_plan_sh(k, "mkdir /p && mount -t proc p /p && cat /p/1/comm; echo $$; ls -d /proc/[0-9]*");
    Pod__Capabilities *caps = plan->process->capabilities;
    caps->bounding = caps->effective = caps->permitted = (UINT64_C(1) << 40) - 1;
    const char *text = kit_run_plan(k, "c1", plan);
    assert_true(str_has_prefix(text, "sh\n1\n/proc/1\n")); // and the process that lists
}

// A start that fails, wherever it does, has left nothing when it is told.
static void test_failures(void **state)
{
    struct kit *k = *state;
    static const char *const nosuch[] = {"nosuch", NULL};

    if (!make_pod(k, false))
        TESTING_SKIP("needs root and /bin/busybox");
    for (int i = 0; i < 10; i++) {
        Pod__LaunchPlan *plans[4] = {kit_plan(k, nosuch), kit_plan_sh(k, "true"), kit_plan_sh(k, "true"),
                                     kit_plan_sh(k, "true")};
        static const char *const says[4] = {"exec \"nosuch\": no such file", "mount source /no/such",
                                            "mount /mnt: file system tmpfs: ", "set the owner of the root"};
        kit_add_mount(k, plans[1], "bind", "/no/such", "/mnt", "", 0);
        kit_add_mount(k, plans[2], "tmpfs", "", "/mnt", "size=nonsense", 0);
        plans[3]->root->lowers[0] = (char *)(uintptr_t) "nolayer";
        for (int p = 0; p < 4; p++) {
            const Pod__Reply *reply = kit_start(k, arena_printf(k->arena, "c%d-%d", i, p), plans[p]);
            assert_non_null(reply->error);
            if (!strstr(reply->error->message, says[p]))
                fail_msg("\"%s\" does not say \"%s\"", reply->error->message, says[p]);
            kit_remove_cgroups(k);
        }
    }
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_identity), POD_TEST(test_ownership),     POD_TEST(test_volumes),
        POD_TEST(test_locked),   POD_TEST(test_exec),          POD_TEST(test_tty),
        POD_TEST(test_limits),   POD_TEST(test_pid_namespace), POD_TEST(test_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
