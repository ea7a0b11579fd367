// A container's cgroups, from its first process's side. On v1 there are some ten hierarchies, and crispd
// takes half a millisecond to make a cgroup in each: meanwhile a prepared child builds as much of the root as
// does not depend on them.
#include <sched.h>
#include <unistd.h>

#include "runtime/pod/cgroups.h"
#include "runtime/pod/child.h"
#include "runtime/pod/launch.h"

static void receive_order(struct child *c)
{
    struct launch_go_order order;
    int fds[3];
    size_t n_fds = 3, used = 0;

    long n = launch_recv(c->sock, &order, sizeof(order), fds, &n_fds, 0);
    if (n != (long)sizeof(order)) // crisp-pod has ended, or let go of it
        _exit(1);
    c->placed = true; // a start comes when all is there
    if (order.placed)
        return;
    for (int i = 0; i < 3; i++)
        c->stdio[i] = (order.stdio_mask & 1u << i) && used < n_fds ? fds[used++] : -1;
    c->go_tty = order.tty;
    c->gone = true;
}

void child_receive_go(struct child *c)
{
    while (!c->gone)
        receive_order(c);
}

int place_begin(struct child *c, const struct child_start *start, struct error *err)
{
    c->placed = !start->place_later;
    c->place = start->in_cgroup ? NULL : start->place;
    if (!c->place && !start->spare)
        cgroups_close_parents();
    return c->placed ? place_join(c, err) : 0;
}

int place_receive(struct child *c, ProtobufCAllocator *allocator, const uint8_t *data, size_t len,
                  struct error *err)
{
    c->place = pod__cgroup_place__unpack(allocator, len, data);
    return c->place
               ? 0
               : error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the cgroups' places can't be unpacked");
}

int place_join_at_last(struct child *c, struct error *err)
{
    // Later there are only the descriptors of the cgroups' parents: the host's files are out of sight. One
    // that is split has children next, who are to be born where it is.
    bool now = c->split || c->hooks || (c->place && !cgroups_within_reach(c->place));

    return now ? place_join(c, err) : 0;
}

int place_join(struct child *c, struct error *err)
{
    const Pod__CgroupPlace *place = c->place;

    if (!place)
        return 0;
    child_step(c, "join cgroups");
    c->place = NULL;
    while (!c->placed)
        receive_order(c);
    int rc = cgroups_join_place(place, NULL, err);
    cgroups_close_parents();
    if (rc == 0 && c->cgroup_ns && unshare(CLONE_NEWCGROUP) < 0)
        rc = error_errno(err, errno, "make a cgroup namespace");
    return rc;
}
