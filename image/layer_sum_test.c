#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/testing.h"
#include "image/layer_sum.h"

static char dir[256];

static void run(const char *command)
{
    char line[1024];
    (void)snprintf(line, sizeof(line), "cd %s && { %s; }", dir, command);
    assert_int_equal(system(line), 0);
}

static int setup(void **state)
{
    (void)state;
    testing_scratch_make(dir);
    run("mkdir -p a/b && printf hello >a/b/f && ln a/b/f a/g && ln -s b/f a/s && mknod a/p p && "
        "head -c 600000 /dev/zero >big && touch -d @1700000000 a/b/f big a a/b . && touch -hd @1700000000 "
        "a/s a/p");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char line[600];
    (void)snprintf(line, sizeof(line), "rm -rf %s %s.copy", dir, dir);
    return system(line);
}

static void sum_of(const char *path, uint8_t out[LAYER_SUM_LEN])
{
    struct error err = ERROR_INIT;
    assert_int_equal(layer_sum(path, NULL, NULL, out, &err), 0);
}

static void test_a_copy_has_the_same(void **state)
{
    uint8_t one[LAYER_SUM_LEN], two[LAYER_SUM_LEN];
    char copy[280];

    (void)state;
    sum_of(dir, one);
    run("cp -a . $PWD.copy");
    (void)snprintf(copy, sizeof(copy), "%s.copy", dir);
    // The root's own name is not part of it.
    sum_of(copy, two);
    assert_memory_equal(one, two, LAYER_SUM_LEN);
}

// Each of these changes is seen, and undoing it too.
static void test_changes(void **state)
{
    static const char *const changes[][2] = {
        {"printf hellO >a/g && touch -d @1700000000 a/g", "printf hello >a/g && touch -d @1700000000 a/g"},
        {"chmod 600 big", "chmod 644 big"},
        {"chown 5 a/s -h", "chown 0 a/s -h"},
        {"chgrp 7 a/p", "chgrp 0 a/p"},
        {"touch -d @1700000001 big", "touch -d @1700000000 big"},
        {"mv big bug && touch -d @1700000000 .", "mv bug big && touch -d @1700000000 ."},
        {"rm a/s && ln -s b/F a/s && touch -hd @1700000000 a/s a",
         "rm a/s && ln -s b/f a/s && touch -hd @1700000000 a/s a"},
        {"rm a/g && cp -p a/b/f a/g && touch -d @1700000000 a",
         "rm a/g && ln a/b/f a/g && touch -d @1700000000 a"},
        {"printf x | dd of=big bs=1 seek=599999 conv=notrunc status=none && touch -d @1700000000 big",
         "head -c 1 /dev/zero | dd of=big bs=1 seek=599999 conv=notrunc status=none && touch -d @1700000000 "
         "big"},
    };
    uint8_t before[LAYER_SUM_LEN], now[LAYER_SUM_LEN];

    (void)state;
    sum_of(dir, before);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        run(changes[i][0]);
        sum_of(dir, now);
        assert_memory_not_equal(before, now, LAYER_SUM_LEN);
        run(changes[i][1]);
        sum_of(dir, now);
        assert_memory_equal(before, now, LAYER_SUM_LEN);
    }
}

static void test_attributes(void **state)
{
    uint8_t before[LAYER_SUM_LEN], now[LAYER_SUM_LEN];
    char path[280];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/a", dir);
    sum_of(dir, before);
    assert_int_equal(setxattr(path, "trusted.overlay.opaque", "y", 1, 0), 0);
    sum_of(dir, now);
    assert_memory_not_equal(before, now, LAYER_SUM_LEN);
    assert_int_equal(removexattr(path, "trusted.overlay.opaque"), 0);
    sum_of(dir, now);
    assert_memory_equal(before, now, LAYER_SUM_LEN);
}

// Holes are neither read nor of any account: a copy may have others.
static void test_holes(void **state)
{
    uint8_t before[LAYER_SUM_LEN], now[LAYER_SUM_LEN];

    (void)state;
    run("printf x | dd of=sparse bs=1 seek=700001 status=none && truncate -s 3000000 sparse && "
        "touch -d @1700000000 sparse .");
    sum_of(dir, before);
    run("cp --sparse=never sparse full && test $(stat -c %b full) -gt $(stat -c %b sparse) && "
        "mv full sparse && touch -d @1700000000 sparse .");
    sum_of(dir, now);
    assert_memory_equal(before, now, LAYER_SUM_LEN);
    run("printf x | dd of=moved bs=1 seek=500001 status=none && truncate -s 3000000 moved && "
        "mv moved sparse && touch -d @1700000000 sparse .");
    sum_of(dir, now);
    assert_memory_not_equal(before, now, LAYER_SUM_LEN);
    run("truncate -s 8T sparse"); // would take an hour to be read
    alarm(60);
    sum_of(dir, now);
    alarm(0);
}

// Directories of these names, and within the one called y again.
static void make_deep(const char *top, const char *names, int levels)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, top);
    assert_int_equal(mkdir(path, 0755), 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < levels; i++) {
        for (const char *n = names; *n; n++)
            assert_int_equal(mkdirat(fd, (char[]){*n, '\0'}, 0755), 0);
        int next = openat(fd, "y", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        assert_int_equal(close(fd), 0);
        fd = next;
    }
    assert_int_equal(close(fd), 0);
}

static bool count_open(void *data)
{
    int next = dup(0);

    if (next > *(int *)data)
        *(int *)data = next;
    assert_int_equal(close(next), 0);
    return false;
}

// The deepest that layers have take few descriptors, and what is behind the deep is not forgotten.
static void test_depth(void **state)
{
    uint8_t before[LAYER_SUM_LEN], now[LAYER_SUM_LEN];
    struct error err = ERROR_INIT;
    int highest = 0;

    (void)state;
    make_deep("deep", "xyzw", 1000);
    assert_int_equal(layer_sum(dir, count_open, &highest, before, &err), 0);
    assert_in_range(highest, 4, 64);
    run("cd deep; for i in $(seq 500); do cd y; done; chmod 700 x");
    sum_of(dir, now);
    assert_memory_not_equal(before, now, LAYER_SUM_LEN);
    run("cd deep; for i in $(seq 500); do cd y; done; chmod 700 z");
    sum_of(dir, before);
    assert_memory_not_equal(before, now, LAYER_SUM_LEN);
}

static bool stop(void *data)
{
    return --*(int *)data < 0;
}

static void test_calling_off_and_absence(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t out[LAYER_SUM_LEN];
    int left = 1;

    (void)state;
    assert_int_equal(layer_sum(dir, stop, &left, out, &err), -ECANCELED);
    assert_int_equal(layer_sum("/nonexistent/x", NULL, NULL, out, &err), -ENOENT);
    make_deep("d", "y", 1030);
    assert_int_equal(layer_sum(dir, NULL, NULL, out, &err), -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_copy_has_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attributes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_holes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calling_off_and_absence, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
