// System calls that glibc 2.36 has no wrapper for, and the flags that its headers lack.
#ifndef RUNTIME_POD_SYS_H
#define RUNTIME_POD_SYS_H

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

// fork() with clone3(2)'s options: the child gets a copy of the memory, never shares it (CLONE_VM and vfork
// would let a container's process reach crisp-pod's memory).
static inline pid_t sys_clone3(struct clone_args *args)
{
    return (pid_t)syscall(SYS_clone3, args, sizeof(*args));
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - __builtin_offsetof(type, member)))

#endif
