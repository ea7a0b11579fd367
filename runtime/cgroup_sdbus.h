// libsystemd's D-Bus functions, loaded when the systemd driver is chosen: linking the library would cost
// every crispd half a megabyte, and a node without systemd needs none.
#ifndef RUNTIME_CGROUP_SDBUS_H
#define RUNTIME_CGROUP_SDBUS_H

#include <systemd/sd-bus.h>

#include "base/error.h"

struct cgroup_sdbus {
    __typeof__(&sd_bus_new) new;
    __typeof__(&sd_bus_set_address) set_address;
    __typeof__(&sd_bus_start) start;
    __typeof__(&sd_bus_open_system) open_system;
    __typeof__(&sd_bus_close_unref) close_unref;
    __typeof__(&sd_bus_get_fd) get_fd;
    __typeof__(&sd_bus_get_events) get_events;
    __typeof__(&sd_bus_get_timeout) get_timeout;
    __typeof__(&sd_bus_process) process;
    __typeof__(&sd_bus_match_signal_async) match_signal_async;
    __typeof__(&sd_bus_call_async) call_async;
    __typeof__(&sd_bus_slot_unref) slot_unref;
    __typeof__(&sd_bus_message_new_method_call) message_new_method_call;
    __typeof__(&sd_bus_message_append) message_append;
    __typeof__(&sd_bus_message_open_container) message_open_container;
    __typeof__(&sd_bus_message_close_container) message_close_container;
    __typeof__(&sd_bus_message_read) message_read;
    __typeof__(&sd_bus_message_get_error) message_get_error;
    __typeof__(&sd_bus_message_unref) message_unref;
};

// Loads the library once in the process; it stays. FAILED_PRECONDITION names the package that is missing.
int cgroup_sdbus_load(const struct cgroup_sdbus **out, struct error *err);

#endif
