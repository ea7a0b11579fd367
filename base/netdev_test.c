#include "base/netdev.h"

#include "base/testing.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

static bool lo_is_up(void)
{
    struct ifreq req = {.ifr_name = "lo"};
    _cleanup_fd_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(ioctl(sock, SIOCGIFFLAGS, &req), 0);
    return req.ifr_flags & IFF_UP;
}

static void test_lo(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNET) < 0)
        TESTING_SKIP("needs root"); // needs root
    assert_false(lo_is_up());
    assert_int_equal(netdev_bring_up_lo(NULL), 0);
    assert_true(lo_is_up());
    assert_int_equal(netdev_bring_up_lo(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lo)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
