#include "runtime/pod/procstatus.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

bool procstatus_read(pid_t pid, char out[PROCSTATUS_MAX])
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, PROCSTATUS_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

uint64_t procstatus_mask(const char *status, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = status; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            return strtoull(line + len + 1, NULL, 16);
    }
    return 0;
}

bool procstatus_is_well(pid_t pid)
{
    char status[PROCSTATUS_MAX];

    if (!procstatus_read(pid, status))
        return false;
    uint64_t pending = procstatus_mask(status, "SigPnd") | procstatus_mask(status, "ShdPnd");
    return !(pending >> (SIGKILL - 1) & 1) && strstr(status, "\nVmSize:");
}
