#include "base/file.h"
#include "base/testing.h"
#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch[256];

static int setup(void **state)
{
    (void)state;
    testing_scratch_make(scratch);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testing_scratch_remove(scratch);
    return 0;
}

static const char *at(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, 512, "%s/%s", scratch, name);
    return path;
}

static void test_write_and_read(void **state)
{
    struct error err = ERROR_INIT;
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    struct stat st;

    (void)state;
    assert_int_equal(file_write_atomic(at("f"), "one\0two", 7, 0640, true, &err), 0);
    assert_int_equal(file_write_atomic(at("f"), "1234", 4, 0644, false, &err), 0);
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(file_read(at("f"), 4, &text, &len, &err), 0);
    assert_int_equal(len, 4);
    assert_string_equal(text, "1234");
    char *none = NULL;
    assert_int_equal(file_read(at("f"), 3, &none, NULL, &err), -EFBIG);
    assert_non_null(strstr(err.message, "3 bytes"));
    assert_int_equal(file_read(at("absent"), 3, &none, NULL, &err), -ENOENT);
    assert_int_equal(err.status, STATUS_NOT_FOUND);
    assert_int_equal(file_read(scratch, 3, &none, NULL, &err), -EISDIR);
    assert_int_equal(file_write_atomic(at("no/f"), "x", 1, 0600, false, &err), -ENOENT);
    assert_int_equal(mkdir(at("dir"), 0700), 0);
    assert_int_equal(file_write_atomic(at("dir"), "x", 1, 0600, false, &err), -EISDIR); // and no tmp is left:
    assert_int_equal(unlink(at("f")), 0);
    assert_int_equal(rmdir(at("dir")), 0);
    assert_int_equal(rmdir(scratch), 0);
    assert_int_equal(mkdir(scratch, 0700), 0);
}

static void test_write_existing(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_write_existing(at("x"), "1", &err), -ENOENT);
    assert_int_equal(file_write_atomic(at("x"), "", 0, 0600, false, &err), 0);
    assert_int_equal(file_write_existing(at("x"), "42", &err), 0);
    _cleanup_free_ char *text = NULL;
    assert_int_equal(file_read(at("x"), 10, &text, NULL, &err), 0);
    assert_string_equal(text, "42");
    assert_int_equal(file_write_existing("/dev/full", "1", &err), -ENOSPC);
}

static void test_mkdir_p(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_mkdir_p(at("a/b//c/"), 0755, &err), 0);
    assert_int_equal(file_mkdir_p(at("a/b/c"), 0755, &err), 0);
    assert_int_equal(file_write_atomic(at("a/file"), "", 0, 0600, false, &err), 0);
    assert_int_equal(file_mkdir_p(at("a/file"), 0755, &err), -ENOTDIR);
    assert_true(file_mkdir_p(at("a/file/d"), 0755, &err) < 0);
    assert_int_equal(file_mkdir_p("/proc/nothing/here", 0755, &err), -ENOENT);
    assert_int_equal(file_sync_dir(at("a"), &err), 0);
    assert_int_equal(file_sync_dir(at("a/file"), &err), -ENOTDIR);
}

static void test_remove_tree(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_mkdir_p(at("keep"), 0755, &err), 0);
    assert_int_equal(file_write_atomic(at("keep/me"), "", 0, 0600, false, &err), 0);
    assert_int_equal(file_mkdir_p(at("tree/x/y"), 0755, &err), 0);
    assert_int_equal(symlink(at("keep"), at("tree/x/link")), 0);
    assert_int_equal(symlink("/", at("tree/root")), 0);
    assert_int_equal(mkfifo(at("tree/fifo"), 0600), 0);
    for (int i = 0; i < 300; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "tree/x/y/file-%d", i);
        assert_int_equal(file_write_atomic(at(name), "", 0, 0000, false, &err), 0);
    }
    assert_int_equal(file_remove_tree(at("tree/"), &err), 0);
    assert_int_equal(access(at("tree"), F_OK), -1);
    assert_int_equal(access(at("keep/me"), F_OK), 0);
    assert_int_equal(file_remove_tree(at("tree"), &err), 0);         // absent
    assert_int_equal(file_remove_tree(at("no/such/tree"), &err), 0); // its folder, too
    assert_int_equal(symlink(at("keep"), at("link")), 0);
    assert_int_equal(file_remove_tree(at("link"), &err), 0); // the link, not what it names
    assert_int_equal(access(at("keep/me"), F_OK), 0);
    assert_int_equal(file_remove_tree("/", &err), -EINVAL);
    assert_int_equal(file_remove_tree("..", &err), -EINVAL);
}

// Deeper than any path can name and than descriptors there are.
static void test_remove_deep_tree(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(mkdir(at("deep"), 0700), 0);
    int dir = open(at("deep"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(mkdirat(dir, "directory", 0700), 0);
        int next = openat(dir, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(dir);
        dir = next;
    }
    close(dir);
    if (file_remove_tree(at("deep"), &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(access(at("deep"), F_OK), -1);
}

static int remove_with_mounts(void)
{
    struct error err = ERROR_INIT;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 77;
    if (file_mkdir_p(at("m/a/bind"), 0755, &err) < 0 || file_mkdir_p(at("precious"), 0755, &err) < 0 ||
        file_write_atomic(at("precious/data"), "", 0, 0600, false, &err) < 0)
        return 1;
    if (mount(at("precious"), at("m/a/bind"), NULL, MS_BIND, NULL) < 0)
        return 77;
    if (file_remove_tree(at("m"), &err) != -EXDEV || access(at("precious/data"), F_OK) != 0)
        return 2;
    if (!strstr(err.message, "mounted"))
        return 3;
    // The path itself being a mount point is no better.
    if (file_remove_tree(at("m/a/bind"), &err) != -EXDEV || access(at("precious/data"), F_OK) != 0)
        return 4;
    return 0;
}

static void test_remove_tree_spares_mounts(void **state)
{
    int status = 0;

    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(remove_with_mounts());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == 77)
        TESTING_SKIP("needs root: mounts");
    assert_int_equal(status, 0);
}

static void test_open_in_root(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_mkdir_p(at("root/etc"), 0755, &err), 0);
    assert_int_equal(file_write_atomic(at("root/etc/name"), "inside", 6, 0644, false, &err), 0);
    assert_int_equal(file_write_atomic(at("name"), "outside", 7, 0644, false, &err), 0);
    assert_int_equal(symlink("/etc/name", at("root/absolute")), 0);
    assert_int_equal(symlink("../../../../etc/name", at("root/dots")), 0);
    assert_int_equal(symlink("loop", at("root/loop")), 0);
    assert_int_equal(symlink("/proc/self/root/etc/passwd", at("root/magic")), 0);
    _cleanup_fd_ int root = open(at("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    static const char *const inside[] = {"/etc/name", "etc/name", "absolute", "dots", "../../etc/name"};
    for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
        char text[16] = "";
        _cleanup_fd_ int fd = file_open_in_root(root, inside[i], O_RDONLY, 0, &err);
        assert_true(fd >= 0);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(read(fd, text, sizeof(text) - 1), 6);
        assert_string_equal(text, "inside");
    }
    assert_int_equal(file_open_in_root(root, "loop", O_RDONLY, 0, &err), -ELOOP);
    assert_int_equal(file_open_in_root(root, "magic", O_RDONLY, 0, &err), -ENOENT);
    assert_int_equal(file_open_in_root(root, "nothing", O_RDONLY, 0644, &err),
                     -ENOENT); // mode without O_CREAT
    _cleanup_fd_ int created = file_open_in_root(root, "/../new", O_WRONLY | O_CREAT, 0600, &err);
    assert_true(created >= 0);
    assert_int_equal(access(at("root/new"), F_OK), 0);
    _cleanup_fd_ int self = file_open_in_root(root, "", O_PATH, 0, &err);
    assert_true(self >= 0);
}

static void test_mkdir_in_root(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_mkdir_p(at("r/real"), 0755, &err), 0);
    assert_int_equal(symlink("/real", at("r/link")), 0);
    assert_int_equal(symlink("/missing/target", at("r/dangling")), 0);
    assert_int_equal(symlink(scratch, at("r/escape")), 0);
    assert_int_equal(file_write_atomic(at("r/file"), "", 0, 0600, false, &err), 0);
    _cleanup_fd_ int root = open(at("r"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_fd_ int a = file_mkdir_p_in_root(root, "/link/x/../y/z", 0751, &err);
    assert_true(a >= 0);
    struct stat st;
    assert_int_equal(fstat(a, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0751);
    assert_int_equal(access(at("r/real/y/z"), F_OK), 0);
    _cleanup_fd_ int top = file_mkdir_p_in_root(root, "/", 0755, &err);
    assert_true(top >= 0);
    assert_int_equal(file_mkdir_p_in_root(root, "dangling/x", 0755, &err), -ENOENT);
    assert_int_equal(file_mkdir_p_in_root(root, "file/x", 0755, &err), -ENOTDIR);
    assert_int_equal(file_mkdir_p_in_root(root, "escape/x", 0755, &err), -ENOENT);
    _cleanup_fd_ int up = file_mkdir_p_in_root(root, "../../up", 0755, &err);
    assert_true(up >= 0);
    assert_int_equal(access(at("r/up"), F_OK), 0);
    assert_int_equal(access(at("up"), F_OK), -1);
}

static void test_exact_io(void **state)
{
    char text[8];
    int p[2];

    (void)state;
    assert_int_equal(pipe(p), 0);
    assert_int_equal(file_write_all(p[1], "abcdefgh", 8), 0);
    assert_int_equal(file_read_exact(p[0], text, 5), 0);
    assert_memory_equal(text, "abcde", 5);
    close(p[1]);
    assert_int_equal(file_read_exact(p[0], text, 5), -ENODATA);
    close(p[0]);
    assert_int_equal(file_read_exact(p[0], text, 1), -EBADF);
    assert_int_equal(file_write_all(p[1], "x", 1), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_existing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mkdir_p, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_deep_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_tree_spares_mounts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_in_root, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mkdir_in_root, setup, teardown),
        cmocka_unit_test(test_exact_io),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
