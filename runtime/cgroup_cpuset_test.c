// A v1 pod's CPUs, and those of what is below it.
#include "runtime/cgroup_fixture.h"

#include "base/testing.h"

static void expect_cpus(struct fixture *f, const char *path, const char *want)
{
    char text[CGROUP_TEXT_MAX];
    assert_int_equal(
        cgroup_file_read(cgroup_root_of(f->host, CGROUP_CPUSET), path, "cpuset.cpus", text, sizeof(text)), 0);
    assert_string_equal(text, want);
}

static void v1_what_is_below_follows(void **state)
{
    struct fixture *f = *state;
    static const char *const controllers[] = {"cpuset", NULL};
    char pod[CGROUP_PATH_MAX], free_leaf[CGROUP_PATH_MAX], bound[CGROUP_PATH_MAX], all[CGROUP_TEXT_MAX];
    uint32_t made;
    struct error err = ERROR_INIT;
    if (!needs(f, controllers) ||
        cgroup_file_read(cgroup_root_of(f->host, CGROUP_CPUSET), "", "cpuset.cpus", all, sizeof(all)) < 0 ||
        !cgroup_list_within("0-1", all))
        TESTING_SKIP("there is no v1 cpuset with two CPUs");
    make_pod(f, pod, free_leaf, &made);
    assert_int_equal(cgroup_leaf_path(pod, "bound", bound, NULL), 0);
    Cri__LinuxContainerResources r = CRI__LINUX_CONTAINER_RESOURCES__INIT;
    assert_int_equal(cgroup_create(f->host, free_leaf, NULL, NULL, &err), 0);
    r.cpuset_cpus = (char *)"1";
    assert_int_equal(cgroup_create(f->host, bound, &(struct cgroup_limits){.resources = &r}, NULL, &err), 0);
    const struct cgroup_leaf leaves[] = {{free_leaf, "", NULL}, {bound, "1", NULL}};
    const struct cgroup_update_more more = {.leaves = leaves, .n_leaves = 2};
    static const struct {
        const char *pod, *bound;
    } steps[] = {{"0-1", "1"}, {"0", "0"}, {"1", "1"}, {"0", "0"}, {"0-1", "1"}, {"1", "1"}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct cgroup_undo *undo = NULL;
        r.cpuset_cpus = (char *)steps[i].pod;
        if (cgroup_update_with(f->host, pod, &r, &more, &undo, &err) < 0)
            fail_msg("%s: %s", steps[i].pod, err.message);
        expect_cpus(f, pod, steps[i].pod);
        expect_cpus(f, free_leaf, steps[i].pod);
        expect_cpus(f, bound, steps[i].bound);
        if (i > 0) { // there and back again
            assert_int_equal(cgroup_undo_update(f->host, undo, &err), 0);
            expect_cpus(f, pod, steps[i - 1].pod);
            expect_cpus(f, free_leaf, steps[i - 1].pod);
            expect_cpus(f, bound, steps[i - 1].bound);
            assert_int_equal(cgroup_update_with(f->host, pod, &r, &more, NULL, &err), 0);
        }
        cgroup_undo_free(undo);
    }
    // What the level above hasn't got changes nothing.
    r.cpuset_cpus = (char *)"0,4095";
    assert_true(cgroup_update_with(f->host, pod, &r, &more, NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "linux.resources.cpuset_cpus: write \"0,4095\" to cpuset.cpus of"));
    r.cpuset_cpus = (char *)"no list";
    assert_true(cgroup_update_with(f->host, pod, &r, &more, NULL, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    expect_cpus(f, pod, "1");
    expect_cpus(f, free_leaf, "1");
    assert_int_equal(cgroup_remove(f->host, bound, NULL), 0);
    remove_pod(f, pod, free_leaf, made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v1_what_is_below_follows, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
