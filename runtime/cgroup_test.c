#include "runtime/cgroup_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/testing.h"

static bool parent_exists(const struct fixture *f)
{
    for (size_t i = 0; i < f->host->n; i++) {
        if (cgroup_file_exists(&f->host->fds[i], f->parent, ""))
            return true;
    }
    return false;
}

static void write_file(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, NULL), 0);
}

// Mount tables as other hosts have them. The mount points are ones that exist on every Linux machine.
static void hierarchies_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *table;
        bool v2;
        size_t n;
        const char *data; // of the first
        const char *has, *has_not;
    } cases[] = {
        // systemd's hybrid layout: controllers mounted together, and an empty v2 tree.
        {"30 23 0:26 / /sys ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
         "31 30 0:27 / /proc rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
         "34 30 0:31 / /dev rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
         "35 30 0:32 / /tmp rw,nosuid shared:16 master:3 - cgroup cgroup rw,xattr,name=systemd\n"
         "36 30 0:31 / /run rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n",
         false, 2, "cpu,cpuacct", "cpuacct", "memory"},
        // Controllers in v2, with systemd's named v1 hierarchy.
        {"35 30 0:32 / /tmp rw - cgroup cgroup rw,xattr,name=systemd\n"
         "31 30 0:27 / /proc rw - cgroup2 cgroup2 rw,nsdelegate\n",
         true, 1, "", NULL, "freezer"},
        {"31 30 0:27 / /dev rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n", true, 1, "", NULL,
         "devices"},
        // A mount point with a space in it.
        {"34 30 0:31 / /dev/\\057 rw shared:15 - cgroup cgroup rw,memory\nbroken\n\n", false, 1, "memory",
         "memory", "cpu"},
    };
    char path[64];
    (void)snprintf(path, sizeof(path), "/tmp/crisp-cgroup-test-%d", getpid());
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f = {0};
        const struct cgroup_hierarchy *h;
        write_file(path, cases[i].table);
        assert_int_equal(open_host(&f, path), 0);
        assert_int_equal(cgroup_host_is_v2(f.host), cases[i].v2);
        assert_int_equal(cgroup_host_hierarchies(f.host, &h), cases[i].n);
        assert_string_equal(h[0].data, cases[i].data);
        assert_true(!cases[i].has || cgroup_host_has(f.host, cases[i].has));
        assert_false(cgroup_host_has(f.host, cases[i].has_not));
        cgroup_host_close(f.host);
    }
    struct cgroup_options o = {.parent = "/x", .mountinfo = path};
    struct cgroup_host *host;
    struct error err = ERROR_INIT;
    write_file(path, "30 23 0:26 / /sys ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n");
    assert_true(cgroup_host_open(&o, &host, &err) < 0);
    assert_non_null(strstr(err.message, "no cgroup file system is mounted"));
    assert_int_equal(unlink(path), 0);
}

static void places_are_checked(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *parent, *want;
    } good[] = {{"/kubepods/burstable/podX", "/kubepods/burstable/podX"},
                {"kubepods", "/kubepods"},
                {"/kubepods/", "/kubepods"}};
    static const char *const bad[] = {"/..", "/a/../b", "/a//b", "/a/./b", "/", "kubepods.slice"};
    char out[CGROUP_PATH_MAX], want[128];
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(cgroup_pod_path(f->host, good[i].parent, "id", out, NULL), 0);
        assert_string_equal(out, good[i].want);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;
        assert_true(cgroup_pod_path(f->host, bad[i], "id", out, &err) < 0);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        assert_int_equal(strncmp(err.message, "linux.cgroup_parent", 19), 0);
    }
    assert_int_equal(cgroup_pod_path(f->host, "", "id", out, NULL), 0);
    (void)snprintf(want, sizeof(want), "%s/id", f->parent);
    assert_string_equal(out, want);
    assert_int_equal(cgroup_leaf_path("/a", "b", out, NULL), 0);
    assert_string_equal(out, "/a/b");
    assert_true(cgroup_leaf_path("/a", "..", out, NULL) < 0);
    assert_true(cgroup_leaf_path("/a", "b/c", out, NULL) < 0);
    assert_true(cgroup_leaf_path("/a", "", out, NULL) < 0);
}

static void join(struct fixture *f, const char *leaf)
{
    for (size_t i = 0; i < f->host->n; i++) {
        if (cgroup_file_write(&f->host->fds[i], leaf, "cgroup.procs", "0") < 0)
            _exit(99);
    }
}

// A process in the leaf that sleeps until it is killed.
static pid_t start_in(struct fixture *f, const char *leaf)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        join(f, leaf);
        (void)!write(ready[1], "x", 1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(close(ready[0]) | close(ready[1]), 0);
    return pid;
}

static void kills_and_removes(struct fixture *f)
{
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], nested[CGROUP_PATH_MAX];
    uint32_t made;
    struct error err = ERROR_INIT;
    make_pod(f, pod, leaf, &made);
    assert_int_equal(made, 2);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, &err), 0);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, &err), 0); // taken over
    assert_false(cgroup_populated(f->host, leaf));
    assert_int_equal(cgroup_leaf_path(leaf, "exec-1", nested, NULL), 0);
    pid_t first = start_in(f, leaf);
    assert_int_equal(mkdirat(f->host->fds[0].fd, nested + 1, 0755), 0);
    assert_true(cgroup_populated(f->host, leaf));
    assert_int_equal(cgroup_remove(f->host, leaf, &err), -EBUSY);
    assert_int_equal(cgroup_pod_remove(f->host, pod, made, &err), -EBUSY);
    // One of somebody else's beside it, which no sweep may see.
    char **children = NULL, other[CGROUP_PATH_MAX];
    assert_int_equal(cgroup_leaf_path(pod, "other", other, NULL), 0);
    assert_int_equal(mkdirat(f->host->fds[0].fd, other + 1, 0755), 0);
    assert_int_equal(cgroup_children(f->host, pod, &children, &err), 0);
    assert_int_equal(strv_len(children), 1);
    assert_string_equal(children[0], "leaf");
    strv_free(children);
    assert_int_equal(unlinkat(f->host->fds[0].fd, other + 1, AT_REMOVEDIR), 0);
    assert_int_equal(cgroup_kill(f->host, leaf, &err), 0);
    int status = 0;
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int i = 0; i < TRIES && cgroup_populated(f->host, leaf); i++)
        pause_ms();
    assert_false(cgroup_populated(f->host, leaf));
    remove_pod(f, pod, leaf, made);
    assert_int_equal(cgroup_kill(f->host, leaf, &err), 0); // absent is fine
    // Neither there nor anything else is what a path that isn't one means.
    assert_int_equal(cgroup_kill(f->host, "/no-such-cgroup/../no-such-cgroup", &err), -EINVAL);
    assert_int_equal(cgroup_remove(f->host, "no-such-cgroup", &err), -EINVAL);
    assert_true(parent_exists(f)); // kept for the next pod
}

static void v1_kills_and_removes(void **state)
{
    kills_and_removes(*state);
}

// A container that nests cgroups as deep and wide as it can is killed, and nothing of them stays.
static void deep_nest_is_no_shelter(void **state)
{
    struct fixture *f = *state;
    const struct cgroup_hierarchy_fd *root = cgroup_root_of(f->host, CGROUP_FREEZER);
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], name[32], text[16];
    uint32_t made;
    int status = 0;
    root = root ? root : &f->host->fds[0];
    make_pod(f, pod, leaf, &made);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    pid_t pid = start_in(f, leaf);
    int fd = cgroup_file_open(root, leaf, "", O_RDONLY | O_DIRECTORY), next;
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "wide-%d", i);
        assert_true(i >= 100 || mkdirat(fd, name, 0755) == 0);
        assert_int_equal(mkdirat(fd, "deep", 0755), 0);
        assert_true((next = openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
        assert_int_equal(close(fd), 0);
        fd = next;
    }
    // Down there it is.
    (void)snprintf(text, sizeof(text), "%d", pid);
    next = openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    assert_true(write(next, text, strlen(text)) > 0);
    assert_int_equal(close(next) | close(fd), 0);
    assert_int_equal(cgroup_remove(f->host, leaf, NULL), -EBUSY);
    assert_int_equal(cgroup_kill(f->host, leaf, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    remove_pod(f, pod, leaf, made);
}

// Frozen by somebody else, at the place and below it; and above it, which is told and not touched.
static void frozen_ones_are_killed(void **state)
{
    struct fixture *f = *state;
    const struct cgroup_hierarchy_fd *freezer = cgroup_root_of(f->host, CGROUP_FREEZER);
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX], nested[CGROUP_PATH_MAX], frozen[CGROUP_PATH_MAX];
    uint32_t made;
    if (!freezer)
        TESTING_SKIP("no freezer of cgroup v1");
    make_pod(f, pod, leaf, &made);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    pid_t pid = start_in(f, leaf);
    assert_int_equal(cgroup_leaf_path(leaf, "exec-1", nested, NULL), 0);
    assert_int_equal(mkdirat(freezer->fd, nested + 1, 0755), 0);
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", pid);
    assert_int_equal(cgroup_file_write(freezer, nested, "cgroup.procs", text), 0);
    assert_int_equal(cgroup_file_write(freezer, nested, "freezer.state", "FROZEN"), 0);
    assert_int_equal(cgroup_file_write(freezer, pod, "freezer.state", "FROZEN"), 0);
    assert_int_equal(cgroup_kill(f->host, leaf, NULL), 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    assert_true(cgroup_frozen_above(f->host, leaf, frozen));
    assert_string_equal(frozen, pod);
    assert_int_equal(cgroup_file_write(freezer, pod, "freezer.state", "THAWED"), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid); // it was the pod's place alone
    assert_false(cgroup_frozen_above(f->host, leaf, frozen));
    remove_pod(f, pod, leaf, made);
}

// v2: a threaded cgroup has no cgroup.kill that works.
static void threaded_ones_are_killed(struct fixture *f)
{
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    struct error err = ERROR_INIT;
    make_pod(f, pod, leaf, &made);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    char on[512], off[64], *rest = on;
    assert_int_equal(cgroup_file_read(&f->host->fds[0], pod, "cgroup.subtree_control", on, sizeof(on)), 0);
    for (char *name; (name = strsep(&rest, " ")) != NULL;) {
        (void)snprintf(off, sizeof(off), "-%s", name);
        assert_true(!*name || cgroup_file_write(&f->host->fds[0], pod, "cgroup.subtree_control", off) == 0);
    }
    if (cgroup_file_write(&f->host->fds[0], leaf, "cgroup.type", "threaded") == 0) {
        char text[16];
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                (void)pause();
        }
        (void)snprintf(text, sizeof(text), "%d", pid);
        // By way of the pod's place, which has become the domain of its threads.
        assert_int_equal(cgroup_file_write(&f->host->fds[0], pod, "cgroup.procs", text), 0);
        assert_int_equal(cgroup_file_write(&f->host->fds[0], leaf, "cgroup.threads", text), 0);
        if (cgroup_kill(f->host, leaf, &err) < 0)
            fail_msg("%s", err.message);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    remove_pod(f, pod, leaf, made);
}

static void fork_bomb_dies(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    make_pod(f, pod, leaf, &made);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        join(f, leaf);
        for (int i = 0; i < 100000; i++) { // each generation dies, its child goes on; bounded all the same
            if (fork() > 0)
                _exit(0);
        }
        _exit(1);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    // One call stops it; the killed processes then take a moment to leave.
    assert_int_equal(cgroup_kill(f->host, leaf, NULL), 0);
    for (int i = 0; i < TRIES && cgroup_populated(f->host, leaf); i++)
        pause_ms();
    assert_false(cgroup_populated(f->host, leaf));
    remove_pod(f, pod, leaf, made);
}

static void place_is_described(void **state)
{
    struct fixture *f = *state;
    Pod__CgroupPlace *place;
    assert_int_equal(cgroup_place(f->host, "/a/b", f->arena, &place, NULL), 0);
    assert_int_equal(place->n_dirs, f->host->n);
    assert_int_equal(place->v2, cgroup_host_is_v2(f->host));
    for (size_t i = 0; i < place->n_dirs; i++) {
        assert_true(str_has_suffix(place->dirs[i], "/a/b"));
        assert_int_equal(place->dirs[i][0], '/');
    }
    if (!place->v2) {
        assert_int_equal(place->freezer_dir[0] != '\0', cgroup_host_has(f->host, "freezer"));
        assert_int_equal(place->memory_dir[0] != '\0', cgroup_host_has(f->host, "memory"));
    }
}

// Two hierarchies, of which the second takes no directories.
static void failed_level_leaves_nothing(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-cgroup-test-XXXXXX";
    uint32_t made = 7;
    struct error err = ERROR_INIT;
    assert_non_null(mkdtemp(dir));
    struct cgroup_host h = {.n = 2, .manager = &cgroup_manager_cgroupfs, .driver = &cgroup_driver_v1};
    h.hierarchies[1].mount_point = "/dev/null";
    h.fds[0].fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    h.fds[1].fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(h.fds[0].fd >= 0 && h.fds[1].fd >= 0);
    assert_int_equal(cgroup_pod_create(&h, "/pod", &made, &err), -ENOTDIR);
    assert_int_equal(made, 0);
    assert_non_null(strstr(err.message, "make the cgroup /dev/null/pod"));
    assert_int_equal(close(h.fds[0].fd), 0);
    assert_int_equal(close(h.fds[1].fd), 0);
    assert_int_equal(rmdir(dir), 0); // as it was
}

static void existing_parent_is_left(void **state)
{
    struct fixture *f = *state;
    char kube[CGROUP_PATH_MAX], pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    assert_int_equal(cgroup_leaf_path(f->parent, "kube", kube, NULL), 0);
    assert_int_equal(cgroup_pod_create(f->host, kube, &made, NULL), 0);
    assert_int_equal(cgroup_pod_path(f->host, kube, "pod", pod, NULL), 0);
    assert_int_equal(cgroup_pod_create(f->host, pod, &made, NULL), 0);
    assert_int_equal(made, 0);
    assert_int_equal(cgroup_leaf_path(pod, "leaf", leaf, NULL), 0);
    assert_int_equal(cgroup_create(f->host, leaf, NULL, NULL, NULL), 0);
    assert_int_equal(cgroup_remove(f->host, leaf, NULL), 0);
    assert_int_equal(cgroup_pod_remove(f->host, pod, made, NULL), 0);
    assert_true(cgroup_file_exists(&f->host->fds[0], kube, ""));
    assert_int_equal(cgroup_remove(f->host, kube, NULL), 0);
}

// Opens device nodes in a leaf: the exit code has a bit for each that could be opened.
static int try_devices(struct fixture *f, const char *leaf)
{
    char dir[] = "/tmp/crisp-devices-test-XXXXXX", null[64], loop[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(null, sizeof(null), "%s/null", dir);
    (void)snprintf(loop, sizeof(loop), "%s/loop", dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        join(f, leaf);
        int got = 0, fd;
        if (mknod(null, S_IFCHR | 0600, makedev(1, 3)) == 0 && (fd = open(null, O_RDWR)) >= 0)
            got |= 1;
        // /dev/kmsg: a character device that no container has.
        if (mknod(loop, S_IFCHR | 0600, makedev(1, 11)) == 0 && (fd = open(loop, O_RDONLY | O_NONBLOCK)) >= 0)
            got |= 2;
        if ((fd = open(loop, O_WRONLY | O_NONBLOCK)) >= 0)
            got |= 4;
        _exit(got);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)unlink(null);
    (void)unlink(loop);
    assert_int_equal(rmdir(dir), 0);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void devices_are_filtered(struct fixture *f)
{
    static const struct cgroup_device_rule kmsg_read = {'c', 1, 11, "r"}, kmsg_all = {'c', 1, 11, "rwm"};
    const struct {
        struct cgroup_devices policy;
        int want;
    } cases[] = {
        {{0}, 1},
        {{.rules = &kmsg_read, .n_rules = 1}, 1 | 2},
        {{.rules = &kmsg_all, .n_rules = 1}, 1 | 2 | 4},
        {{.allow_all = true}, 1 | 2 | 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
        uint32_t made;
        struct error err = ERROR_INIT;
        make_pod(f, pod, leaf, &made);
        if (cgroup_create(f->host, leaf, NULL, &cases[i].policy, &err) < 0)
            fail_msg("%s", err.message);
        assert_int_equal(try_devices(f, leaf), cases[i].want);
        remove_pod(f, pod, leaf, made);
    }
}

static void v1_devices_are_filtered(void **state)
{
    static const char *const controllers[] = {"devices", NULL};
    if (!needs(*state, controllers))
        TESTING_SKIP("these v1 controllers aren't mounted");
    devices_are_filtered(*state);
}

// The v2 driver on whatever v2 tree this host has mounted, be it without controllers.
static void v2_works(void **state)
{
    (void)state;
    struct fixture f = {0};
    char path[64], line[512] = "";
    _cleanup_free_ char *table = NULL;
    assert_int_equal(file_read("/proc/self/mountinfo", 1 << 24, &table, NULL, NULL), 0);
    char *rest = table;
    for (char *l; (l = strsep(&rest, "\n")) != NULL;) {
        if (strstr(l, " - cgroup2 "))
            (void)snprintf(line, sizeof(line), "%s\n", l);
    }
    if (!line[0])
        TESTING_SKIP("no cgroup v2 hierarchy");
    (void)snprintf(path, sizeof(path), "/tmp/crisp-cgroup-v2-test-%d", getpid());
    write_file(path, line);
    assert_int_equal(open_host(&f, path), 0);
    assert_int_equal(unlink(path), 0);
    assert_true(cgroup_host_is_v2(f.host));
    kills_and_removes(&f);
    threaded_ones_are_killed(&f);
    devices_are_filtered(&f);
    cgroup_host_close(f.host);
}

static void making_is_fast(void **state)
{
    struct fixture *f = *state;
    char pod[CGROUP_PATH_MAX], leaf[CGROUP_PATH_MAX];
    uint32_t made;
    struct cgroup_devices devices = {0};
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    r.cpu_shares = 2;
    int64_t spent = 0;
    make_pod(f, pod, leaf, &made);
    for (int i = 0; i < 20; i++) {
        int64_t start = clock_mono_ns();
        assert_int_equal(
            cgroup_create(f->host, leaf, &(struct cgroup_limits){.resources = &r}, &devices, NULL), 0);
        spent += clock_mono_ns() - start;
        assert_int_equal(cgroup_remove(f->host, leaf, NULL), 0);
    }
    remove_pod(f, pod, leaf, made);
    print_message("a container's cgroups: %lld us\n", (long long)(spent / 20 / 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hierarchies_are_found),
        cmocka_unit_test_setup_teardown(places_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_kills_and_removes, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_nest_is_no_shelter, setup, teardown),
        cmocka_unit_test_setup_teardown(frozen_ones_are_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(fork_bomb_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(place_is_described, setup, teardown),
        cmocka_unit_test(failed_level_leaves_nothing),
        cmocka_unit_test_setup_teardown(existing_parent_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_devices_are_filtered, setup, teardown),
        cmocka_unit_test(v2_works),
        cmocka_unit_test_setup_teardown(making_is_fast, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
