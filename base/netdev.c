#include "base/netdev.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

int netdev_bring_up_lo(struct error *err)
{
    struct ifreq req = {.ifr_name = "lo"};
    _cleanup_fd_ int sock =
        socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); // there on kernels without IPv4 too

    if (sock < 0 || ioctl(sock, SIOCGIFFLAGS, &req) < 0)
        return error_errno(err, errno, "look at the network interface lo");
    req.ifr_flags |= IFF_UP;
    return ioctl(sock, SIOCSIFFLAGS, &req) < 0 ? error_errno(err, errno, "bring up the network interface lo")
                                               : 0;
}
