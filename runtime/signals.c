#include "runtime/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define STATUS_MAX_BYTES (64u << 10)

static bool mask_has(const char *status, const char *field, int signal)
{
    const char *line = strstr(status, field);

    return line && (strtoull(line + strlen(field), NULL, 16) >> (signal - 1) & 1);
}

bool signal_would_be_lost(int pid, int signal)
{
    char path[64];
    _cleanup_free_ char *status = NULL;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (pid <= 0 || file_read(path, STATUS_MAX_BYTES, &status, NULL, NULL) < 0)
        return false;
    // A blocked one stays pending, and one that is ignored on purpose was meant to be.
    return !mask_has(status, "\nSigCgt:\t", signal) && !mask_has(status, "\nSigBlk:\t", signal) &&
           !mask_has(status, "\nSigIgn:\t", signal);
}
