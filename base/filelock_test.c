#include "base/testing.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/filelock.h"

static int open_lock(const char *dir)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static pid_t dead_process(void)
{
    pid_t dead = fork();

    if (dead == 0)
        _exit(0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    return dead;
}

static void test_busy(void **state)
{
    char dir[256], pid[FILELOCK_PID_SIZE], mine[FILELOCK_PID_SIZE];

    (void)state;
    testing_scratch_make(dir);
    int one = open_lock(dir), two = open_lock(dir);
    filelock_holder(one, pid);
    assert_string_equal(pid, "");
    assert_int_equal(filelock_take(one), 0);
    assert_int_equal(filelock_take(two), -EBUSY);
    filelock_holder(two, pid);
    (void)snprintf(mine, sizeof(mine), "%d", (int)getpid());
    assert_string_equal(pid, mine);
    (void)close(one);
    assert_int_equal(filelock_take(two), 0);
    (void)close(two);
    assert_int_equal(filelock_take(-1), -EBADF);
    testing_scratch_remove(dir);
}

// A killed daemon's lock is held for a moment by a helper that it was just starting.
static void test_dead_ones_are_waited_for(void **state)
{
    char dir[256], pid[FILELOCK_PID_SIZE];
    int ready[2];

    (void)state;
    testing_scratch_make(dir);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    int len = snprintf(pid, sizeof(pid), "%d\n", (int)dead_process());
    pid_t helper = fork();
    if (helper == 0) {
        int fd = open_lock(dir);
        if (filelock_take(fd) < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) != len ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        (void)poll(NULL, 0, 300);
        _exit(0);
    }
    char word;
    assert_int_equal(read(ready[0], &word, 1), 1);
    int fd = open_lock(dir);
    assert_int_equal(filelock_take(fd), 0);
    int status = -1;
    assert_int_equal(waitpid(helper, &status, 0), helper);
    assert_int_equal(status, 0);
    (void)close(fd);
    (void)close(ready[0]);
    (void)close(ready[1]);
    testing_scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_dead_ones_are_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
