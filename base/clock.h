// Time. Wall times are nanoseconds since the epoch (suffix _ns), monotonic times say so in their name.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_SEC INT64_C(1000000000)
#define NS_PER_MS  INT64_C(1000000)

int64_t clock_wall_ns(void);
// Wall time that never repeats and never goes back within this process: list orders have no ties.
int64_t clock_wall_unique_ns(void);
int64_t clock_mono_ns(void);
// "2026-11-22T03:04:05.123456789Z" (RFC 3339, UTC, always nine digits); out holds 36 bytes.
#define CLOCK_RFC3339_MAX 36
size_t clock_format_rfc3339(int64_t wall_ns, char *out);
// "/proc/sys/kernel/random/boot_id" without the newline (36 characters and a NUL). 0 or -errno.
int clock_boot_id(char out[37]);
// A process's start time in clock ticks since boot (field 22 of /proc/PID/stat): with the boot id it tells
// a process from a later one of the same pid. 0 or -errno (-ESRCH: no such process).
int clock_process_start(int pid, uint64_t *ticks);

#endif
