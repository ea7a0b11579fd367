#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirwalk.h"

static long append_name(int parent_fd, const char *name, int fd, void *arg)
{
    struct stat a, b;
    char *text = arg;
    assert_int_equal(fstatat(parent_fd, name, &a, AT_SYMLINK_NOFOLLOW) | fstat(fd, &b), 0);
    assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    const char *base = strrchr(name, '/');
    size_t used = strlen(text);
    assert_true(used + strlen(name) < 1000);
    (void)snprintf(text + used, 1024 - used, "%s ", base ? base + 1 : name);
    return 1;
}

static long remove_it(int parent_fd, const char *name, int fd, void *arg)
{
    (void)fd;
    (void)arg;
    return unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 ? 1 : -errno;
}

static long fail_at_b(int parent_fd, const char *name, int fd, void *arg)
{
    return strcmp(name, "b") == 0 ? -EPERM : append_name(parent_fd, name, fd, arg);
}

static void make(const char *dir, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void deepest_comes_first(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-dirwalk-XXXXXX", text[1024] = "", path[256];
    assert_non_null(mkdtemp(dir));
    make(dir, "a");
    make(dir, "a/b");
    make(dir, "a/b/c");
    (void)snprintf(path, sizeof(path), "%s/link", dir);
    assert_int_equal(symlink("/", path), 0);
    assert_int_equal(dirwalk(AT_FDCWD, dir, 1 << 20, append_name, text), 4);
    (void)snprintf(path, sizeof(path), "c b a %s ", strrchr(dir, '/') + 1);
    assert_string_equal(text, path);
    text[0] = '\0';
    assert_int_equal(dirwalk(AT_FDCWD, dir, 1 << 20, fail_at_b, text), -EPERM); // and the others are visited
    assert_int_equal(strncmp(text, "c a ", 4), 0);
    assert_int_equal(dirwalk(AT_FDCWD, "/tmp/crisp-no-such-directory", 1 << 20, append_name, text), -ENOENT);
    (void)snprintf(path, sizeof(path), "%s/link", dir);
    assert_true(dirwalk(AT_FDCWD, path, 1 << 20, append_name, text) < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(dirwalk(AT_FDCWD, dir, 1 << 20, remove_it, NULL), 4);
    assert_int_equal(access(dir, F_OK), -1);
}

// Deeper than paths may be long and descriptors may be many; and wider than the memory that is allowed.
static void depth_and_width_are_bounded(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-dirwalk-XXXXXX", name[64];
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(mkdirat(fd, "n", 0700), 0);
        int next = openat(fd, "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        assert_int_equal(close(fd), 0);
        fd = next;
    }
    assert_int_equal(close(fd), 0);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3000; i++) {
        (void)snprintf(name, sizeof(name), "a-child-with-a-name-that-takes-some-room-%d", i);
        assert_int_equal(mkdirat(fd, name, 0700), 0);
    }
    assert_int_equal(close(fd), 0);
    int calls = 0;
    long r;
    // What doesn't fit is left, and every call gets nearer to the end.
    while ((r = dirwalk(AT_FDCWD, dir, 3 << 20, remove_it, NULL)) < 0 && calls++ < 100)
        assert_true(r == -E2BIG || r == -ENOTEMPTY);
    assert_true(calls < 100);
    assert_int_equal(access(dir, F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

static long count_it(int parent_fd, const char *name, int fd, void *arg)
{
    (void)parent_fd;
    (void)fd;
    (void)name;
    (void)arg;
    return 1;
}

// A directory of more names than are remembered at one time is read in parts, also while they are removed.
static void a_wide_one_is_walked_with_little_memory(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-dirwalk-XXXXXX", name[64];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "child-%d", i);
        make(dir, name);
        (void)snprintf(name, sizeof(name), "child-%d/grandchild", i);
        make(dir, name);
    }
    assert_int_equal(dirwalk(AT_FDCWD, dir, 2048, count_it, NULL), 601);
    int calls = 0;
    while (dirwalk(AT_FDCWD, dir, 2048, remove_it, NULL) < 0 && calls++ < 10)
        ;
    assert_int_equal(access(dir, F_OK), -1);
}

// What is too deep for the memory is visited without what is below it, and more memory gets there.
static void a_deep_one_is_visited_as_far_as_memory_goes(void **state)
{
    (void)state;
    char dir[] = "/tmp/crisp-dirwalk-XXXXXX", path[512];
    assert_non_null(mkdtemp(dir));
    int len = snprintf(path, sizeof(path), "%s", dir);
    for (int i = 0; i < 40; i++) {
        len += snprintf(path + len, sizeof(path) - (size_t)len, "/d%d", i);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    char text[1024] = "";
    assert_int_equal(dirwalk(AT_FDCWD, dir, 4096, append_name, text), -E2BIG);
    int levels = 0;
    for (const char *p = text; (p = strchr(p, ' ')) != NULL; p++)
        levels++;
    assert_true(levels > 4 && levels < 40);
    text[0] = '\0';
    assert_int_equal(dirwalk(AT_FDCWD, dir, 8 * 4096, append_name, text), 41);
    assert_int_equal(strncmp(text, "d39 d38 ", 8), 0);
    assert_int_equal(dirwalk(AT_FDCWD, dir, 1 << 20, remove_it, NULL), 41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepest_comes_first),
        cmocka_unit_test(depth_and_width_are_bounded),
        cmocka_unit_test(a_wide_one_is_walked_with_little_memory),
        cmocka_unit_test(a_deep_one_is_visited_as_far_as_memory_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
