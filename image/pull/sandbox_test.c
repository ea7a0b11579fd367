#include "image/pull/sandbox.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "base/testing.h"

#define FILE_BYTES_MAX 8192

static char dir[] = "/tmp/crisp-sandbox-XXXXXX";

// What a child found wrong, or 0. It has no other way to tell.
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return __LINE__;                                                                                 \
    } while (0)

static int run_inside(int (*check)(int root, pid_t outside))
{
    int pipe_fds[2], line = -1, status;
    pid_t outside = getpid(), pid;

    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int root = sandbox_enter(dir, FILE_BYTES_MAX, NULL);
        line = root < 0 ? root : check(root, outside);
        _exit(write(pipe_fds[1], &line, sizeof(line)) != sizeof(line));
    }
    (void)close(pipe_fds[1]);
    (void)!read(pipe_fds[0], &line, sizeof(line));
    (void)close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return line;
}

static int check_files(int root, pid_t outside)
{
    struct stat st;

    (void)outside;
    CHECK(openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT);
    CHECK(openat(AT_FDCWD, "../../etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT);
    // A device can be made, and that is all.
    CHECK(mknodat(root, "null", S_IFCHR | 0666, makedev(1, 3)) == 0);
    CHECK(fstatat(root, "null", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_rdev == makedev(1, 3));
    CHECK(openat(root, "null", O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
    CHECK(mknodat(root, "whiteout", S_IFCHR, 0) == 0);
    int fd = openat(root, "file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFL) >= 0 && fcntl(fd, F_DUPFD_CLOEXEC, 3) >= 0);
    CHECK(fchown(fd, 1000, 1000) == 0 && fchmod(fd, 04755) == 0);
    CHECK(pwrite(fd, "x", 1, FILE_BYTES_MAX - 1) == 1);
    CHECK(pwrite(fd, "x", 1, FILE_BYTES_MAX) < 0 && errno == EFBIG);
    return 0;
}

static int check_calls(int root, pid_t outside)
{
    char *argv[] = {NULL};

    CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == ENOSYS);
    CHECK(fork() < 0 && errno == ENOSYS);
    CHECK(execve("/x", argv, argv) < 0 && errno == ENOSYS);
    CHECK(chroot(".") < 0 && errno == ENOSYS);
    CHECK(mount("/", "/", NULL, MS_BIND, NULL) < 0 && errno == ENOSYS);
    CHECK(syscall(SYS_kill, outside, 0) < 0 && errno == ENOSYS);
    CHECK(syscall(SYS_tgkill, outside, outside, 0) < 0 && errno == ENOSYS);
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), 0) == 0);
    CHECK(fcntl(root, F_SETOWN, outside) < 0 && errno == ENOSYS);
    return 0;
}

static int check_memory(int root, pid_t outside)
{
    (void)root;
    (void)outside;
    CHECK(mmap(NULL, (size_t)512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
          MAP_FAILED);
    CHECK(mmap(NULL, (size_t)1 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
          MAP_FAILED);
    return 0;
}

static void test_files(void **state)
{
    (void)state;
    assert_int_equal(run_inside(check_files), 0);
}

static void test_calls(void **state)
{
    (void)state;
    assert_int_equal(run_inside(check_calls), 0);
}

static void test_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    TESTING_SKIP("a sanitizer's shadow memory is beyond the limit of memory");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    TESTING_SKIP("a sanitizer's shadow memory is beyond the limit of memory");
#endif
#endif
    assert_int_equal(run_inside(check_memory), 0);
}

// As the kernel tells it, of a child that waits inside.
static void test_credentials(void **state)
{
    static const char *const wanted[] = {"CapEff:\t000000008800001b\n",
                                         "CapPrm:\t000000008800001b\n",
                                         "CapInh:\t0000000000000000\n",
                                         "CapBnd:\t0000000000000000\n",
                                         "NoNewPrivs:\t1\n",
                                         "Seccomp:\t2\n"};
    _cleanup_free_ char *status = NULL;
    char path[64], byte = 0;
    int pair[2];
    pid_t pid;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(pair[0]);
        if (sandbox_enter(dir, FILE_BYTES_MAX, NULL) < 0 || write(pair[1], "", 1) != 1)
            _exit(1);
        (void)!read(pair[1], &byte, 1); // until the test has looked
        _exit(0);
    }
    (void)close(pair[1]);
    assert_int_equal(read(pair[0], &byte, 1), 1);
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    assert_int_equal(file_read(path, 65536, &status, NULL, NULL), 0);
    (void)close(pair[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (!strstr(status, wanted[i]))
            fail_msg("no \"%s\" in:\n%s", wanted[i], status);
}

static int setup(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_credentials, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
