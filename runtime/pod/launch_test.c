// Launches: mounts, masks, users, privileges; and everything that can be wrong with one. Needs root.
#include "runtime/pod/testkit.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

static bool make_pod(struct kit *k)
{
    if (!k->pid)
        return false;
    const Pod__Reply *reply = kit_make_pod(k, false);
    if (reply->error)
        fail_msg("%s", reply->error->message);
    return true;
}

static void expect_failure(struct kit *k, const Pod__LaunchPlan *plan, enum status status, const char *says)
{
    static int n;
    const Pod__Reply *reply = kit_start(k, arena_printf(k->arena, "bad%d", n++), plan);

    if (!reply->error)
        fail_msg("started, but should have failed with \"%s\"", says);
    if (!strstr(reply->error->message, says))
        fail_msg("\"%s\" does not say \"%s\"", reply->error->message, says);
    assert_int_equal(reply->error->status, status);
}

static char *host_path(struct kit *k, const char *name)
{
    return arena_printf(k->arena, "%s/%s", k->scratch, name);
}

static void write_file(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, false, NULL), 0);
}

static char *in_layer(struct kit *k, const char *path)
{
    return arena_printf(k->arena, "%s/base%s", k->layers, path);
}

static void test_failures(void **state)
{
    struct kit *k = *state;
    static const char *const nosuch[] = {"nosuch", NULL}, *const denied[] = {"/etc/passwd", NULL},
                             *const absent[] = {"/no/such", NULL}, *const script[] = {"/script", NULL},
                             *const text[] = {"/text", NULL};

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    write_file(in_layer(k, "/script"), "#!/no/interpreter\n");
    write_file(in_layer(k, "/text"), "neither\n");
    assert_int_equal(chmod(in_layer(k, "/script"), 0755), 0);
    assert_int_equal(chmod(in_layer(k, "/text"), 0755), 0);
    expect_failure(k, kit_plan(k, nosuch), STATUS_INVALID_ARGUMENT,
                   "exec \"nosuch\": no such file or directory (not found in PATH)");
    expect_failure(k, kit_plan(k, denied), STATUS_INVALID_ARGUMENT,
                   "exec \"/etc/passwd\": Permission denied");
    expect_failure(k, kit_plan(k, absent), STATUS_INVALID_ARGUMENT, "exec \"/no/such\": No such file");
    expect_failure(k, kit_plan(k, script), STATUS_INVALID_ARGUMENT, "interpreter or loader is missing");
    expect_failure(k, kit_plan(k, text), STATUS_INVALID_ARGUMENT, "exec format error");

    Pod__LaunchPlan *plan = kit_plan_sh(k, "true");
    plan->process->cwd = (char *)(uintptr_t) "/not/there";
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "working directory \"/not/there\": No such file");
    plan->process->cwd = (char *)(uintptr_t) "/etc/passwd";
    plan->process->cwd_from_image = true;
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "working directory \"/etc/passwd\": Not a directory");
    plan = kit_plan_sh(k, "true");
    plan->process->user->user = (char *)(uintptr_t) "ghost";
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "user \"ghost\" is not in the image's /etc/passwd");
    plan->process->user->user = (char *)(uintptr_t) "www:ghosts";
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "group \"ghosts\" is not in the image's /etc/group");
    plan = kit_plan_sh(k, "true");
    kit_add_mount(k, plan, "bind", host_path(k, "gone"), "/mnt", "", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "mount source");
    plan = kit_plan_sh(k, "true");
    kit_add_mount(k, plan, "tmpfs", "", "/mnt", "size=nonsense", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "mount /mnt: file system tmpfs");
    plan = kit_plan_sh(k, "true");
    kit_add_mount(k, plan, "nfs", "", "/mnt", "", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "mount type \"nfs\" is not known");
    plan = kit_plan_sh(k, "true");
    plan->root->lowers[0] = (char *)(uintptr_t) "nolayer";
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "mount overlay");
    plan = kit_plan_sh(k, "true");
    char *features[] = {(char *)(uintptr_t) "launch-1", (char *)(uintptr_t) "teleport"};
    plan->required_features = features;
    plan->n_required_features = 2;
    expect_failure(k, plan, STATUS_UNIMPLEMENTED, "lacks \"teleport\"");
}

// A plan with a field that this build doesn't know, as a newer crispd might send.
static void test_unknown_fields(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT;
    static const uint8_t extra[] = {0xf8, 0x3f, 0x01}; // field 1023, varint 1

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "true"));
    uint8_t *longer = arena_alloc(k->arena, r.start->plan.len + sizeof(extra));
    memcpy(longer, r.start->plan.data, r.start->plan.len);
    memcpy(longer + r.start->plan.len, extra, sizeof(extra));
    r.start->plan.data = longer;
    r.start->plan.len += sizeof(extra);
    const Pod__Reply *reply = kit_call(k, &r, NULL, 0);
    assert_int_equal(reply->error->status, STATUS_UNIMPLEMENTED);
    r.start->plan.data = (uint8_t *)(uintptr_t) "garbage";
    r.start->plan.len = 7;
    assert_int_equal(kit_call(k, &r, NULL, 0)->error->status, STATUS_INVALID_ARGUMENT);
}

static void test_users(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan =
        kit_plan_sh(k, "id -u; id -g; id -G; echo $HOME; grep CapPrm /proc/self/status; touch /etc/x");
    plan->process->user->user = (char *)(uintptr_t) "www";
    plan->process->user->merge_image_groups = true;
    const Pod__Reply *reply = kit_start(k, "c1", plan);
    assert_null(reply->error);
    assert_int_equal(reply->start->user->uid, 33);
    assert_int_equal(reply->start->user->n_groups, 3);
    assert_int_equal(reply->start->user->groups[0], 33);
    assert_string_equal(reply->start->user->home, "/var/www");
    (void)kit_wait_exit(k, "c1");
    assert_true(
        str_has_prefix(kit_log_text(k, "c1"), "33\n33\n33 50 51\n/var/www\nCapPrm:\t0000000000000000\n"));
    assert_non_null(strstr(kit_log_text(k, "c1"), "Permission denied"));

    uint32_t groups[] = {1234, 5678};
    plan = kit_plan_sh(k, "id -u; id -G");
    plan->process->user->has_uid = plan->process->user->has_gid = true;
    plan->process->user->uid = 1002;
    plan->process->user->gid = 77;
    plan->process->user->supplemental_groups = groups;
    plan->process->user->n_supplemental_groups = 2;
    assert_string_equal(kit_run_plan(k, "c2", plan), "1002\n77 1234 5678\n");
}

static void test_mounts(void **state)
{
    struct kit *k = *state;
    struct error err;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(file_mkdir_p(host_path(k, "vol/sub"), 0755, &err), 0);
    write_file(host_path(k, "vol/file"), "content\n");
    write_file(host_path(k, "one"), "single\n");
    Pod__LaunchPlan *plan = kit_plan_sh(k, "exec 2>&1; cat /data/file /deep/new/one; echo x > /data/written; "
                                           "echo x > /ro/file; echo x > /root-file;"
                                           "grep ' /ro ' /proc/self/mountinfo | grep -o 'ro,nosuid'; pwd");
    kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/data", "", 0);
    kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/ro", "", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
    kit_add_mount(k, plan, "bind", host_path(k, "one"), "/deep/new/one", "", 0);
    plan->process->cwd = (char *)(uintptr_t) "/srv/dir";
    plan->process->cwd_from_image = true;
    const char *log = kit_run_plan(k, "c1", plan);
    assert_true(str_has_prefix(log, "content\nsingle\n"));
    assert_non_null(strstr(log, "Read-only file system\n"));
    assert_non_null(strstr(log, "ro,nosuid\n/srv/dir\n"));
    assert_int_equal(access(host_path(k, "vol/written"), F_OK), 0);

    plan = kit_plan_sh(k, "exec 2>&1; echo x > /file; touch /dev/ok && echo dev");
    plan->root->readonly = true;
    assert_string_equal(kit_run_plan(k, "c2", plan), "sh: can't create /file: Read-only file system\ndev\n");

    plan = kit_plan_sh(k, "cat /etc/resolv.conf; readlink /etc/resolv.conf");
    (void)unlink(in_layer(k, "/etc/resolv.conf"));
    assert_int_equal(symlink("../run/dangling/resolv.conf", in_layer(k, "/etc/resolv.conf")), 0);
    kit_add_mount(k, plan, "bind", host_path(k, "one"), "/etc/resolv.conf", "", 0);
    assert_string_equal(kit_run_plan(k, "c3", plan), "single\n../run/dangling/resolv.conf\n");
}

static void add_bind(struct kit *k, Pod__LaunchPlan *plan, const char *source, const char *destination,
                     Pod__Propagation propagation)
{
    kit_add_mount(k, plan, "bind", source, destination, "", 0);
    plan->mounts[plan->n_mounts - 1]->propagation = propagation;
    plan->mounts[plan->n_mounts - 1]->recursive = true;
}

static void test_propagation(void **state)
{
    struct kit *k = *state;
    char *info = NULL;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    char *vol = host_path(k, "shared"), *from_host = host_path(k, "shared/host");
    assert_int_equal(mkdir(vol, 0755), 0);
    Pod__LaunchPlan *plan = kit_plan_sh(k, "true");
    assert_int_equal(mount("none", vol, "tmpfs", 0, NULL), 0);
    assert_int_equal(mount("", vol, NULL, MS_PRIVATE, NULL), 0);
    add_bind(k, plan, vol, "/data", POD__PROPAGATION__PROPAGATION_SHARED);
    expect_failure(k, plan, STATUS_FAILED_PRECONDITION, "is not on a shared mount");
    assert_int_equal(mount("", vol, NULL, MS_SHARED, NULL), 0);
    assert_int_equal(mkdir(from_host, 0755), 0);
    assert_int_equal(mkdir(host_path(k, "shared/box"), 0755), 0);

    plan = kit_plan_sh(
        k, "mount -t tmpfs none /shared/box && touch /shared/box/made; mount -t tmpfs none /slave/box;"
           "until test -e /slave/host/there; do sleep 0.02; done;"
           "ls /shared/host /slave/host; ls /private/host | wc -l; ls /private/box | wc -l");
    plan->process->capabilities->bounding |= 1 << 21; // CAP_SYS_ADMIN
    plan->process->capabilities->effective = plan->process->capabilities->permitted =
        plan->process->capabilities->bounding;
    add_bind(k, plan, vol, "/shared", POD__PROPAGATION__PROPAGATION_SHARED);
    add_bind(k, plan, vol, "/slave", POD__PROPAGATION__PROPAGATION_SLAVE);
    add_bind(k, plan, vol, "/private", POD__PROPAGATION__PROPAGATION_PRIVATE);
    assert_null(kit_start(k, "c1", plan)->error);
    assert_int_equal(mount("none", from_host, "tmpfs", 0, NULL), 0);
    write_file(host_path(k, "shared/host/there"), "");
    assert_int_equal(kit_wait_exit(k, "c1")->exit_code, 0);
    assert_string_equal(kit_log_text(k, "c1"), "/shared/host:\nthere\n\n/slave/host:\nthere\n0\n0\n");
    assert_int_equal(access(host_path(k, "shared/box/made"), F_OK), 0); // from the container to the host …
    assert_int_equal(file_read("/proc/self/mountinfo", 1 << 24, &info, NULL, NULL), 0);
    int boxes = 0;
    for (const char *at = info; (at = strstr(at, "/shared/box ")) != NULL; at++)
        boxes++;
    assert_int_equal(boxes, 1); // … from the shared one only, not from the slave
    free(info);
    assert_int_equal(umount2(vol, MNT_DETACH), 0);
}

static void test_masks(void **state)
{
    struct kit *k = *state;
    static const char *const masked[] = {"/proc/kcore", "/proc/acpi", "/secret", "/absent", "/etc"};
    static const char *const readonly[] = {"/proc/sys", "/tmp", "/absent"};

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    write_file(in_layer(k, "/secret"), "secret\n");
    Pod__LaunchPlan *plan = kit_plan_sh(k, "cat /secret; echo x > /secret; ls /etc | wc -l; touch /etc/x; "
                                           "touch /tmp/x; echo x > /proc/sys/kernel/hostname");
    plan->masked_paths = (char **)(uintptr_t)masked;
    plan->n_masked_paths = ARRAY_SIZE(masked);
    plan->readonly_paths = (char **)(uintptr_t)readonly;
    plan->n_readonly_paths = ARRAY_SIZE(readonly);
    const char *log = kit_run_plan(k, "c1", plan);
    assert_true(str_has_prefix(log, "0\n"));
    assert_null(strstr(log, "secret\n"));
    assert_non_null(strstr(log, "touch: /etc/x: Read-only file system"));
    assert_non_null(strstr(log, "touch: /tmp/x: Read-only file system"));
    assert_non_null(strstr(log, "hostname: Read-only file system"));
}

// Images that try to lead mounts, masks and lookups out of their root, or to hang the launch.
static void test_hostile_root(void **state)
{
    struct kit *k = *state;
    struct error err;
    struct stat st;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(file_mkdir_p(host_path(k, "outside"), 0755, &err), 0);
    write_file(host_path(k, "vol"), "volume\n");
    char *up = arena_printf(k->arena, "../../../../../../../..%s/outside", k->scratch);
    assert_int_equal(symlink(up, in_layer(k, "/link")), 0);
    assert_int_equal(symlink(host_path(k, "outside"), in_layer(k, "/abs")), 0);
    assert_int_equal(symlink("/proc/1/root/etc", in_layer(k, "/magic")), 0);
    Pod__LaunchPlan *plan =
        kit_plan_sh(k, arena_printf(k->arena, "cat /link/f /abs/g %s/outside/f", k->scratch));
    kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/link/f", "", 0);
    kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/abs/g", "", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, // dangling directories aren't followed
                   "mount /link/f: /link in the container is a link to what isn't there");
    char *inside = in_layer(k, arena_printf(k->arena, "%s/outside", k->scratch));
    assert_int_equal(file_mkdir_p(inside, 0755, &err), 0);
    assert_string_equal(kit_run_plan(k, "c1", plan), "volume\nvolume\nvolume\n"); // inside the root
    assert_int_equal(stat(host_path(k, "outside/f"), &st), -1);
    assert_int_equal(stat(host_path(k, "outside/g"), &st), -1);

    plan = kit_plan_sh(k, "true");
    kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/magic/f", "", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT,
                   "mount /magic/f: /magic in the container is a link that");
    plan = kit_plan_sh(k, "true");
    kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/../../..", "", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "mount /../../..");

    (void)unlink(in_layer(k, "/etc/passwd"));
    assert_int_equal(mkfifo(in_layer(k, "/etc/passwd"), 0644), 0);
    int64_t begin = clock_mono_ns();
    expect_failure(k, kit_plan_sh(k, "true"), STATUS_INVALID_ARGUMENT,
                   "/etc/passwd in the container is no regular file");
    assert_true(clock_mono_ns() - begin < testing_limit(2 * NS_PER_SEC));
    (void)unlink(in_layer(k, "/etc/passwd"));
    assert_int_equal(truncate(in_layer(k, "/etc/group"), 1 << 24), 0);
    expect_failure(k, kit_plan_sh(k, "true"), STATUS_INTERNAL, "/etc/group in the container");
}

// An image whose /etc is no directory.
static void test_no_directory_on_the_way(void **state)
{
    static const struct {
        const char *link, *says; // NULL: a file
    } cases[] = {
        {NULL, "no directory"},
        {"/proc/self/root/tmp", "a link that can't be followed"},
        {"/etc", "a link that can't be followed"},
        {"/usr/etc2", "a link to what isn't there"},
        {"/bin/busybox", "a link through what is no directory"},
    };
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    write_file(host_path(k, "vol"), "volume\n");
    assert_int_equal(rename(in_layer(k, "/etc"), in_layer(k, "/etc-was")), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (cases[i].link)
            assert_int_equal(symlink(cases[i].link, in_layer(k, "/etc")), 0);
        else
            write_file(in_layer(k, "/etc"), "");
        Pod__LaunchPlan *plan = kit_plan_sh(k, "true");
        kit_add_mount(k, plan, "bind", host_path(k, "vol"), "/etc/hosts", "", 0);
        expect_failure(
            k, plan, STATUS_INVALID_ARGUMENT,
            arena_printf(k->arena, "mount /etc/hosts: /etc in the container is %s", cases[i].says));
        assert_int_equal(unlink(in_layer(k, "/etc")), 0);
    }
}

// An image whose /proc is a link: the masks could land elsewhere.
static void test_linked_system_dirs(void **state)
{
    static const char *const dirs[] = {"/proc", "/sys", "/dev"};
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        assert_int_equal(rmdir(in_layer(k, dirs[i])), 0);
        assert_int_equal(symlink("/tmp", in_layer(k, dirs[i])), 0);
        expect_failure(k, kit_plan_sh(k, "true"), STATUS_INVALID_ARGUMENT,
                       arena_printf(k->arena, "mount %s: %s is a link", dirs[i], dirs[i]));
        assert_int_equal(unlink(in_layer(k, dirs[i])), 0);
        assert_int_equal(mkdir(in_layer(k, dirs[i]), 0755), 0);
    }
}

static void test_bound_dev(void **state)
{
    struct kit *k = *state;
    struct error err;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(file_mkdir_p(host_path(k, "dev"), 0755, &err), 0);
    Pod__LaunchPlan *plan = kit_plan_sh(k, "true");
    plan->n_devices = 0;
    plan->n_mounts = 1; // proc
    kit_add_mount(k, plan, "bind", host_path(k, "dev"), "/dev", "", 0);
    (void)kit_run_plan(k, "c1", plan);
    assert_int_equal(rmdir(host_path(k, "dev")), 0); // nothing was put into it
}

// /dev is a volume, also through a link of the image's: a device is not made there, nor its directory.
static void test_device_in_a_volume(void **state)
{
    struct kit *k = *state;
    struct error err;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    const char *dev = host_path(k, "dev"), *sub = host_path(k, "dev/sub");
    assert_int_equal(file_mkdir_p(dev, 0755, &err), 0);
    Pod__LaunchPlan *plan = kit_plan_sh(k, "ls -l /dev/sub/node");
    plan->n_devices = 1;
    plan->devices[0]->path = (char *)(uintptr_t) "/dev/sub/node";
    plan->n_mounts = 1; // proc
    kit_add_mount(k, plan, "bind", dev, "/dev", "", 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "device /dev/sub/node would be made in a volume");
    assert_int_equal(access(sub, F_OK), -1);
    assert_int_equal(mkdir(sub, 0755), 0);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "device /dev/sub/node would be made in a volume");
    const char *node = host_path(k, "dev/sub/node");
    assert_int_equal(symlink("/dev/sub", in_layer(k, "/link")), 0);
    plan->devices[0]->path = (char *)(uintptr_t) "/link/node";
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "device /link/node would be made in a volume");
    plan->devices[0]->path = (char *)(uintptr_t) "/dev/sub/node";
    assert_int_equal(access(node, F_OK), -1);
    assert_int_equal(mknod(node, S_IFCHR | 0600, makedev(4, 64)), 0); // another one
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "device /dev/sub/node would be made in a volume");
    assert_int_equal(unlink(node), 0);
    const Pod__Device *d = plan->devices[0];
    assert_int_equal(mknod(node, (d->type & S_IFMT) | 0600, makedev(d->major, d->minor)), 0);
    (void)kit_run_plan(k, "c1", plan);
    assert_int_equal(unlink(node), 0);
    assert_int_equal(rmdir(sub), 0);
    assert_int_equal(rmdir(dev), 0);
}

#define TEST_KEY "crisp-test-key"

// A key that only those can see who have this program's session keyring, which crisp-pod inherits.
static void make_key(void)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0)
        return;
    long key = syscall(SYS_add_key, "user", TEST_KEY, "x", 1, KEY_SPEC_SESSION_KEYRING);
    if (key >= 0)
        (void)syscall(SYS_keyctl, KEYCTL_SETPERM, key, 0x3f000000);
}

static void test_keyring(void **state)
{
    struct kit *k = *state;
    char *keys = NULL;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    bool visible = file_read("/proc/keys", 1 << 20, &keys, NULL, NULL) == 0 && strstr(keys, TEST_KEY);
    free(keys);
    if (!visible)
        TESTING_SKIP("no key of the session is visible");
    assert_string_equal(kit_run_plan(k, "c1", kit_plan_sh(k, "grep " TEST_KEY " /proc/keys; echo end")),
                        "end\n");
}

static void test_cwd_through_proc(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    for (int fd = 3; fd < 16; fd++) { // CVE-2024-21626: a descriptor that leads to the host
        Pod__LaunchPlan *plan = kit_plan_sh(k, "pwd; ls");
        plan->process->cwd = arena_printf(k->arena, "/proc/self/fd/%d", fd);
        const Pod__Reply *reply = kit_start(k, arena_printf(k->arena, "c%d", fd), plan);
        assert_non_null(reply->error);
        assert_int_equal(reply->error->status, STATUS_INVALID_ARGUMENT);
    }
}

// A filter that makes uname() fail, and allows the rest.
static void test_seccomp(void **state)
{
    struct kit *k = *state;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    for (int nnp = 0; nnp < 2; nnp++) {
        Pod__LaunchPlan *plan =
            kit_plan_sh(k, "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; hostname");
        plan->process->seccomp.data = (uint8_t *)filter;
        plan->process->seccomp.len = sizeof(filter);
        plan->process->no_new_privileges = nnp;
        plan->process->user->has_uid = true;
        plan->process->user->uid = 1000;
        const char *log = kit_run_plan(k, nnp ? "nnp" : "plain", plan);
        assert_true(str_has_prefix(log, nnp ? "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
                                            : "CapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"));
    }
    Pod__LaunchPlan *plan = kit_plan_sh(k, "true");
    plan->process->seccomp.data = (uint8_t *)filter;
    plan->process->seccomp.len = 7;
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "seccomp");

    // A profile without sendmsg(): what goes wrong behind the filter is told all the same.
    static const char *const nosuch[] = {"nosuch", NULL};
    filter[1].k = SYS_sendmsg;
    plan = kit_plan(k, nosuch);
    plan->process->seccomp.data = (uint8_t *)filter;
    plan->process->seccomp.len = sizeof(filter);
    expect_failure(k, plan, STATUS_INVALID_ARGUMENT, "exec \"nosuch\"");
}

static void test_capabilities(void **state)
{
    struct kit *k = *state;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    Pod__LaunchPlan *plan = kit_plan_sh(k, "grep Cap /proc/self/status");
    Pod__Capabilities *caps = plan->process->capabilities;
    caps->bounding = caps->effective = caps->permitted = caps->inheritable = caps->ambient =
        0x401; // chown, net_bind
    plan->process->user->has_uid = true;
    plan->process->user->uid = 1000;
    assert_string_equal(kit_run_plan(k, "c1", plan),
                        "CapInh:\t0000000000000401\nCapPrm:\t0000000000000401\nCapEff:\t0000000000000401\n"
                        "CapBnd:\t0000000000000401\nCapAmb:\t0000000000000401\n");
    caps->effective = caps->permitted = caps->bounding = UINT64_C(1) << 60;
    expect_failure(k, plan, STATUS_INTERNAL, "set capabilities");
}

static void test_limits(void **state)
{
    struct kit *k = *state;
    Pod__Rlimit nofile = POD__RLIMIT__INIT, *limits[] = {&nofile};
    Pod__OomScoreAdj oom = POD__OOM_SCORE_ADJ__INIT;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    nofile.resource = 7; // RLIMIT_NOFILE
    nofile.soft = 100;
    nofile.hard = 200;
    oom.value = 500;
    Pod__LaunchPlan *plan = kit_plan_sh(k, "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    plan->process->rlimits = limits;
    plan->process->n_rlimits = 1;
    plan->process->oom_score_adj = &oom;
    assert_string_equal(kit_run_plan(k, "c1", plan), "100\n200\n500\n");
}

// The deadline ends a launch that hangs, and the loop never does: a stopped child is as good as a hung NFS.
static void test_deadline(void **state)
{
    struct kit *k = *state;
    Pod__Request r = POD__REQUEST__INIT, s = POD__REQUEST__INIT;
    Pod__StateRequest state_request = POD__STATE_REQUEST__INIT;

    if (!make_pod(k))
        TESTING_SKIP("needs root and /bin/busybox");
    assert_int_equal(mkfifo(host_path(k, "fifo"), 0644), 0);
    r.op_case = POD__REQUEST__OP_START;
    r.start = kit_start_request(k, "c1", kit_plan_sh(k, "true"));
    if (!kit_freeze(k, r.start->cgroup, true))
        TESTING_SKIP("no freezer that can be used");
    r.start->deadline_ms = 300;
    kit_send(k, &r, NULL, 0);
    s.op_case = POD__REQUEST__OP_STATE;
    s.state = &state_request;
    int64_t begin = clock_mono_ns();
    assert_null(kit_call(k, &s, NULL, 0)->error); // answered while the launch hangs
    assert_true(clock_mono_ns() - begin < testing_limit(200 * NS_PER_MS));
    const Pod__Reply *reply = kit_receive(k, r.id);
    assert_int_equal(reply->error->status, STATUS_DEADLINE_EXCEEDED);
    assert_non_null(strstr(reply->error->message, "too long"));
    assert_true(kit_freeze(k, r.start->cgroup, false));
    (void)poll(NULL, 0, 100);
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_failures),
        POD_TEST(test_unknown_fields),
        POD_TEST(test_users),
        POD_TEST(test_mounts),
        POD_TEST(test_propagation),
        POD_TEST(test_masks),
        POD_TEST(test_hostile_root),
        POD_TEST(test_cwd_through_proc),
        POD_TEST(test_seccomp),
        POD_TEST(test_capabilities),
        POD_TEST(test_limits),
        POD_TEST(test_deadline),
        POD_TEST(test_no_directory_on_the_way),
        POD_TEST(test_linked_system_dirs),
        POD_TEST(test_bound_dev),
        POD_TEST(test_device_in_a_volume),
        POD_TEST(test_keyring),
    };

    make_key();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
