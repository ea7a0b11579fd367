// Network interfaces, as little as processes without a netlink library need.
#ifndef BASE_NETDEV_H
#define BASE_NETDEV_H

#include "base/error.h"

// Brings lo up in the caller's network namespace. Needs CAP_NET_ADMIN there.
int netdev_bring_up_lo(struct error *err);

#endif
