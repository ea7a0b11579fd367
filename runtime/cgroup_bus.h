// The one connection to systemd: scopes are started and units are stopped through it.
//
// A thread of its own owns the connection. Whatever several callers want at the same time goes out in one go,
// and nobody's answer waits for another's. When systemd or the bus is restarted the connection is made anew
// and calls without an answer are sent again, until their deadlines. An idle connection is closed.
#ifndef RUNTIME_CGROUP_BUS_H
#define RUNTIME_CGROUP_BUS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct cgroup_bus;

// address: D-Bus's syntax ("unix:path=…"), for tests; NULL: systemd's own socket, else the system bus.
// FAILED_PRECONDITION where systemd doesn't run or can't be talked to within some seconds.
int cgroup_bus_open(const char *address, struct cgroup_bus **out, struct error *err);
// No call may be under way; stops that nobody waits for are sent, if that takes less than a second. NULL is
// fine.
void cgroup_bus_close(struct cgroup_bus *b);

struct cgroup_bus_scope {
    const char *name;  // "crisp-ID.scope"
    const char *slice; // "a-b.slice"; systemd makes what is missing of it
    const char *description;
    pid_t pid; // its first process
};
// Returns when the scope is there and the process in it. -EEXIST: systemd has a unit of this name already,
// perhaps made by this very call (sent twice); UNAVAILABLE and DEADLINE_EXCEEDED: whether it was made is not
// known.
int cgroup_bus_start_scope(struct cgroup_bus *b, const struct cgroup_bus_scope *s, int64_t timeout_ns,
                           struct error *err);
// SIGTERM, later SIGKILL, to what is in the unit, and in all units in it if it is a slice. Returns when it
// has stopped; an unknown unit is fine. timeout_ns 0: returns at once.
int cgroup_bus_stop_unit(struct cgroup_bus *b, const char *unit, int64_t timeout_ns, struct error *err);
// A unit that has failed is forgotten, so that its name can be used again. An unknown one is fine.
int cgroup_bus_reset_failed(struct cgroup_bus *b, const char *unit, int64_t timeout_ns, struct error *err);

#endif
