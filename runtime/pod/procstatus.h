// What /proc/PID/status tells of a child's signals.
#ifndef RUNTIME_POD_PROCSTATUS_H
#define RUNTIME_POD_PROCSTATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCSTATUS_MAX 4096

bool procstatus_read(pid_t pid, char out[PROCSTATUS_MAX]); // false: there is no such process
uint64_t procstatus_mask(const char *status,
                         const char *name); // of a line such as "SigCgt"; 0: there is none

// Does it live, and has nobody killed it? One that was killed has SIGKILL pending until it has let go of its
// memory, which is the first that it does (Linux, do_exit()), and of a large one takes long.
bool procstatus_is_well(pid_t pid);

#endif
