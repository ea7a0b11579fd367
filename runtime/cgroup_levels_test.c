#include "runtime/cgroup_fixture.h"

#include <sys/stat.h>

static bool is_anywhere(const struct fixture *f, const char *path)
{
    for (size_t i = 0; i < f->host->n; i++) {
        if (cgroup_file_exists(&f->host->fds[i], path, ""))
            return true;
    }
    return false;
}

// Whoever made a level above may be the first to go, and crispd may be restarted meanwhile.
static void shared_levels_go_with_the_last(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"top/mid/a", "top/mid/b", "top/c"};
    char top[CGROUP_PATH_MAX], mid[CGROUP_PATH_MAX], pods[3][CGROUP_PATH_MAX];
    uint32_t made[3];
    (void)snprintf(top, sizeof(top), "%s-top", f->parent);
    (void)snprintf(mid, sizeof(mid), "%s-top/mid", f->parent);
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(pods[i], sizeof(pods[i]), "%s-%s", f->parent, names[i]);
        assert_int_equal(cgroup_pod_create(f->host, pods[i], &made[i], NULL), 0);
        assert_int_equal(made[i], i == 0 ? 3 : 1);
    }
    assert_int_equal(cgroup_pod_remove(f->host, pods[0], made[0], NULL), 0);
    assert_false(is_anywhere(f, pods[0]));
    assert_true(is_anywhere(f, mid));
    cgroup_host_close(f->host);
    assert_int_equal(open_host(f, NULL), 0);
    assert_int_equal(cgroup_pod_remove(f->host, pods[1], made[1], NULL), 0);
    assert_false(is_anywhere(f, mid));
    assert_true(is_anywhere(f, pods[2]));
    assert_int_equal(cgroup_pod_remove(f->host, pods[2], made[2], NULL), 0);
    assert_int_equal(cgroup_pod_remove(f->host, pods[2], made[2], NULL), 0); // again is fine
    assert_false(is_anywhere(f, top));
    // One that is not ours stays.
    assert_int_equal(mkdirat(f->host->fds[0].fd, top + 1, 0755), 0);
    assert_int_equal(cgroup_pod_create(f->host, pods[2], &made[2], NULL), 0);
    assert_int_equal(cgroup_pod_remove(f->host, pods[2], made[2], NULL), 0);
    assert_true(is_anywhere(f, top));
    assert_int_equal(cgroup_remove(f->host, top, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shared_levels_go_with_the_last, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
