// Reaching every process of a container's cgroups. The trees are plain directories with files of the same
// names: the code can't tell, and no cgroup has to be nested as deep as a hostile container does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirwalk.h"
#include "runtime/pod/cgroups.h"

static pid_t sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void put_pid(int dir, pid_t pid)
{
    _cleanup_fd_ int fd = openat(dir, "cgroup.procs", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && dprintf(fd, "%d\n", pid) > 0);
}

static void assert_killed(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static long remove_it(int parent_fd, const char *name, int fd, void *arg)
{
    (void)arg;
    (void)unlinkat(fd, "cgroup.procs", 0);
    return unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 ? 1 : -errno;
}

// More levels than the first walk has memory for, and a process in the last one.
static void test_a_deep_tree_is_killed_to_its_end(void **state)
{
    (void)state;
    char top[] = "/tmp/crisp-cgroups-XXXXXX";
    pid_t last = sleeper();
    assert_non_null(mkdtemp(top));
    int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 4500; i++) {
        assert_int_equal(mkdirat(fd, "n", 0700), 0);
        int next = openat(fd, "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0 && close(fd) == 0);
        fd = next;
    }
    put_pid(fd, last);
    assert_int_equal(close(fd), 0);
    assert_int_equal(cgroups_kill(top, false), 1);
    assert_killed(last);
    assert_true(dirwalk(AT_FDCWD, top, 8u << 20, remove_it, NULL) > 0);
}

// Names of more than the memory.
static void test_a_wide_tree_is_killed(void **state)
{
    (void)state;
    char top[] = "/tmp/crisp-cgroups-XXXXXX", name[240];
    pid_t pids[3];
    assert_non_null(mkdtemp(top));
    _cleanup_fd_ int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 6000; i++) {
        (void)snprintf(name, sizeof(name), "%0200d", i);
        assert_int_equal(mkdirat(fd, name, 0700), 0);
        if (i % 2500 != 0)
            continue;
        _cleanup_fd_ int dir = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        put_pid(dir, pids[i / 2500] = sleeper());
    }
    assert_int_equal(cgroups_kill(top, false), 3);
    for (size_t i = 0; i < 3; i++)
        assert_killed(pids[i]);
    assert_true(dirwalk(AT_FDCWD, top, 8u << 20, remove_it, NULL) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_deep_tree_is_killed_to_its_end),
        cmocka_unit_test(test_a_wide_tree_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
