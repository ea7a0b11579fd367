#include "base/nofile.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

static struct rlimit original;
static bool raised;

void nofile_raise(void)
{
    struct rlimit limit;
    if (raised || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    original = limit;
    limit.rlim_cur = limit.rlim_max;
    raised = setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

void nofile_restore(pid_t child)
{
    // It may have run already, but not far enough to have started anything that inherits.
    if (raised)
        (void)prlimit(child, RLIMIT_NOFILE, &original, NULL);
}
