// Lists of CPUs and memory nodes: "0-3,7".
#include <stdlib.h>

#include "runtime/cgroup_internal.h"

#define IDS_MAX 8192 // more than any kernel's NR_CPUS

// false: it is no such list, or has numbers that no host has.
static bool parse(const char *list, unsigned char bits[IDS_MAX / 8])
{
    const char *at = list;
    for (;;) {
        char *end;
        if (*at < '0' || *at > '9')
            return false;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-') {
            at = end + 1;
            if (*at < '0' || *at > '9')
                return false;
            last = strtoul(at, &end, 10);
        }
        if (last >= IDS_MAX || first > last)
            return false;
        for (unsigned long id = first; id <= last; id++)
            bits[id / 8] = (unsigned char)(bits[id / 8] | 1u << id % 8);
        if (*end == '\0')
            return true;
        if (*end != ',')
            return false;
        at = end + 1;
    }
}

bool cgroup_list_within(const char *list, const char *all)
{
    unsigned char a[IDS_MAX / 8] = {0}, b[IDS_MAX / 8] = {0};
    if (!parse(list, a) || !parse(all, b))
        return false;
    for (size_t i = 0; i < sizeof(a); i++) {
        if (a[i] & (unsigned char)~b[i])
            return false;
    }
    return true;
}
