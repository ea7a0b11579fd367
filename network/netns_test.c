#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "cni/testing.h"
#include "network/netns.h"

static void *unshare_net(void *arg)
{
    int *fd = arg;
    if (unshare(CLONE_NEWNET) == 0)
        *fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return NULL;
}

static int fresh_netns(void)
{
    int fd = -1;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, unshare_net, &fd), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(fd >= 0);
    return fd;
}

static void test_pins(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct cni_testbed bed;
    cni_testbed_init(&bed);
    _cleanup_fd_ int fd = fresh_netns();
    char path[128];
    struct stat pinned, real;
    (void)snprintf(path, sizeof(path), "%s/a", bed.netns_dir);
    assert_false(netns_is_pinned(path));
    assert_int_equal(netns_pin(fd, path, &err), 0);
    assert_true(netns_is_pinned(path));
    assert_int_equal(stat(path, &pinned), 0);
    assert_int_equal(fstat(fd, &real), 0);
    assert_true(pinned.st_ino == real.st_ino && pinned.st_dev == real.st_dev);
    assert_int_equal(netns_pin(fd, path, &err), -EEXIST);
    assert_int_equal(err.status, STATUS_ALREADY_EXISTS);
    assert_int_equal(netns_unpin(path, &err), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(netns_unpin(path, &err), 0);
    cni_testbed_write(&bed, "netns/a", ""); // as a reboot leaves it
    assert_false(netns_is_pinned(path));
    assert_int_equal(netns_unpin(path, &err), 0);
    assert_int_equal(access(path, F_OK), -1);
    _cleanup_fd_ int other = open("/", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    assert_true(netns_pin(other, path, &err) < 0); // a directory over a file
    assert_int_equal(access(path, F_OK), -1);
    cni_testbed_done(&bed);
}

int main(void)
{
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: needs root for network namespaces\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pins)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
