#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

static int64_t read_clock(clockid_t id)
{
    struct timespec ts = {0};

    (void)clock_gettime(id, &ts); // cannot fail for these two clocks
    return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_wall_unique_ns(void)
{
    static _Atomic int64_t last;
    int64_t now = clock_wall_ns(), seen = atomic_load(&last);

    for (;;) {
        int64_t next = now > seen ? now : seen + 1;
        if (atomic_compare_exchange_weak(&last, &seen, next))
            return next;
    }
}

int64_t clock_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

// Gregorian date of a day number counted from 1970-01-01. gmtime_r() would do, but drags the whole time zone
// machinery into the static crisp-pod.
static void civil_of_days(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468; // from 0000-03-01, so that a leap day ends its year
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;

    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2);
}

size_t clock_format_rfc3339(int64_t wall_ns, char *out)
{
    int64_t seconds = wall_ns / NS_PER_SEC, nanos = wall_ns % NS_PER_SEC;
    if (nanos < 0) {
        nanos += NS_PER_SEC;
        seconds--;
    }
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }

    int64_t year;
    int month, day;
    civil_of_days(days, &year, &month, &day);
    int n = snprintf(out, CLOCK_RFC3339_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", (int)year, month, day,
                     (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60), (int)nanos);
    return n < 0 ? 0 : (size_t)n;
}

static long read_small_file(const char *path, char *out, size_t size)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;

    ssize_t n;
    do
        n = read(fd, out, size - 1);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    out[n] = '\0';
    return n;
}

int clock_boot_id(char out[37])
{
    char text[64];
    long n = read_small_file("/proc/sys/kernel/random/boot_id", text, sizeof(text));

    if (n < 0)
        return (int)n;
    if (n < 36)
        return -EIO;
    memcpy(out, text, 36);
    out[36] = '\0';
    return 0;
}

int clock_process_start(int pid, uint64_t *ticks)
{
    char path[64], text[1024];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    long n = read_small_file(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;

    // Field 2 is the command in parentheses and may itself hold spaces and parentheses: count from the last.
    const char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p, ' ');
        if (p)
            p++;
    }
    if (!p || *p < '0' || *p > '9')
        return -EIO;
    *ticks = strtoull(p, NULL, 10);
    return 0;
}
