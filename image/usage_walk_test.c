#include "image/usage_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/testing.h"

#define LEVELS    450u
#define PER_LEVEL 3u // "d", and a directory with a file
#define WHOLE     (1.0 + LEVELS * PER_LEVEL)

static void make_level(int *fd, unsigned which)
{
    for (unsigned i = 0; i < PER_LEVEL / 2; i++) {
        char name[16], file[32];
        (void)snprintf(name, sizeof(name), "s%u-%u", which, i);
        (void)snprintf(file, sizeof(file), "%s/f", name);
        assert_int_equal(mkdirat(*fd, name, 0755), 0);
        int f = openat(*fd, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(f >= 0);
        assert_int_equal(write(f, name, 2), 2);
        (void)close(f);
    }
    assert_int_equal(mkdirat(*fd, "d", 0755), 0);
    int child = openat(*fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(child >= 0);
    (void)close(*fd);
    *fd = child;
}

static char scratch[256];

// The folder of containers, with one, "c", whose upper directory is a tree deeper than what stays open.
static int make_tree(void **state)
{
    static int top;

    testing_scratch_make(scratch);
    top = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(top >= 0);
    assert_int_equal(mkdirat(top, "c", 0755), 0);
    assert_int_equal(mkdirat(top, "c/upper", 0755), 0);
    int fd = openat(top, "c/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < LEVELS; i++)
        make_level(&fd, i);
    (void)close(fd);
    *state = &top;
    return 0;
}

static int remove_tree(void **state)
{
    (void)close(*(int *)*state);
    testing_scratch_remove(scratch);
    return 0;
}

static unsigned open_fds(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 2048; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_deep_tree_is_counted_whole(void **state)
{
    struct usage_walk w = {0};
    int top = *(int *)*state;
    unsigned before, most = 0;

    before = open_fds();
    for (unsigned batch = 1; batch <= 10000; batch *= 100) {
        assert_true(usage_walk_begin(&w, "c"));
        while (!usage_walk_step(&w, top, batch))
            most = batch == 100 && w.deep && open_fds() > most ? open_fds() : most;
        assert_int_equal(w.incomplete, 0);
        assert_true(w.inodes == WHOLE);
        assert_true(w.bytes >= 512.0 * LEVELS);
        usage_walk_end(&w);
        assert_int_equal(open_fds(), before);
    }
    assert_true(most > before && most <= before + USAGE_OPEN_MAX + 2);
}

static void test_what_is_too_deep_is_told(void **state)
{
    struct usage_walk w = {0};
    int top = *(int *)*state;

    assert_true(usage_walk_begin(&w, "c"));
    w.deep_max = 100;
    while (!usage_walk_step(&w, top, 64))
        continue;
    assert_int_equal(w.incomplete, -E2BIG);
    assert_true(w.inodes > (USAGE_OPEN_MAX + 64) * PER_LEVEL && w.inodes < WHOLE);
    usage_walk_end(&w);
}

// Nothing outside is counted when a directory that the walk is in goes elsewhere.
static void test_what_is_moved_meanwhile_is_told(void **state)
{
    char path[16 + 2 * 300];
    struct usage_walk w = {0};
    int top = *(int *)*state;

    assert_true(usage_walk_begin(&w, "c"));
    while (w.n_deep < 150)
        assert_false(usage_walk_step(&w, top, 1));
    int len = snprintf(path, sizeof(path), "c/upper");
    for (unsigned i = 0; i < 300; i++)
        len += snprintf(path + len, sizeof(path) - (size_t)len, "/d");
    assert_int_equal(mkdirat(top, "other", 0755), 0);
    assert_int_equal(renameat(top, path, top, "other/d"), 0);
    while (!usage_walk_step(&w, top, 64))
        continue;
    assert_int_equal(w.incomplete, -ESTALE);
    assert_true(w.inodes <= WHOLE && w.inodes > USAGE_OPEN_MAX * PER_LEVEL);
    usage_walk_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deep_tree_is_counted_whole),
        cmocka_unit_test(test_what_is_too_deep_is_told),
        cmocka_unit_test(test_what_is_moved_meanwhile_is_told),
    };

    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
