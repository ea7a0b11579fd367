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

// statmount(2): what Linux 6.8's headers have and Debian 12's lack.
#define SYS_STATX_MNT_ID_UNIQUE 0x4000U
#define SYS_STATMOUNT_MNT_BASIC UINT64_C(2)

struct sys_statmount {
    uint32_t size, mnt_opts;
    uint64_t mask;
    uint32_t sb_dev_major, sb_dev_minor;
    uint64_t sb_magic;
    uint32_t sb_flags, fs_type;
    uint64_t mnt_id, mnt_parent_id;
    uint32_t mnt_id_old, mnt_parent_id_old;
    uint64_t mnt_attr, mnt_propagation, mnt_peer_group, mnt_master, propagate_from;
    uint64_t later[64]; // what a newer kernel adds
};

// mnt_id: a unique one. Numbered alike on all architectures.
static inline int sys_statmount(uint64_t mnt_id, uint64_t mask, struct sys_statmount *out)
{
    const struct {
        uint32_t size, spare;
        uint64_t mnt_id, param;
    } request = {.size = 24, .mnt_id = mnt_id, .param = mask};
    return (int)syscall(457, &request, out, sizeof(*out), 0);
}

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - __builtin_offsetof(type, member)))

#endif
