#include "runtime/cgroup_sdbus.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"

#define LIBRARY "libsystemd.so.0"

static struct cgroup_sdbus functions;
static const char *missing; // what could not be loaded
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    const struct {
        const char *name;
        void *at;
    } wanted[] = {
        {"sd_bus_new", &functions.new},
        {"sd_bus_set_address", &functions.set_address},
        {"sd_bus_start", &functions.start},
        {"sd_bus_open_system", &functions.open_system},
        {"sd_bus_close_unref", &functions.close_unref},
        {"sd_bus_get_fd", &functions.get_fd},
        {"sd_bus_get_events", &functions.get_events},
        {"sd_bus_get_timeout", &functions.get_timeout},
        {"sd_bus_process", &functions.process},
        {"sd_bus_match_signal_async", &functions.match_signal_async},
        {"sd_bus_call_async", &functions.call_async},
        {"sd_bus_slot_unref", &functions.slot_unref},
        {"sd_bus_message_new_method_call", &functions.message_new_method_call},
        {"sd_bus_message_append", &functions.message_append},
        {"sd_bus_message_open_container", &functions.message_open_container},
        {"sd_bus_message_close_container", &functions.message_close_container},
        {"sd_bus_message_read", &functions.message_read},
        {"sd_bus_message_get_error", &functions.message_get_error},
        {"sd_bus_message_unref", &functions.message_unref},
    };
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL); // never closed: its threads' keys stay
    missing = library ? NULL : LIBRARY;
    for (size_t i = 0; library && !missing && i < ARRAY_SIZE(wanted); i++) {
        void *symbol = dlsym(library, wanted[i].name);
        memcpy(wanted[i].at, &symbol, sizeof(symbol)); // ISO C has no cast from an object to a function
        missing = symbol ? NULL : wanted[i].name;
    }
}

int cgroup_sdbus_load(const struct cgroup_sdbus **out, struct error *err)
{
    (void)pthread_once(&once, load);
    if (missing)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         "cgroup.driver systemd needs " LIBRARY " of systemd 241 or newer (Debian: "
                         "libsystemd0); %s is missing. Install it, or set cgroup.driver to cgroupfs",
                         missing);
    *out = &functions;
    return 0;
}
