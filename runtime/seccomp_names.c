// System calls by name and number: libseccomp's tables, and what is newer than they are.
#include <pthread.h>
#include <seccomp.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/seccomp_internal.h"

#define X32_BIT 0x40000000

static const uint32_t tokens[SECCOMP_ARCHES] = {
    [SECCOMP_X86_64] = SCMP_ARCH_X86_64, [SECCOMP_X86] = SCMP_ARCH_X86, [SECCOMP_X32] = SCMP_ARCH_X32};

// Since Linux 5.1 new system calls have one number on all architectures. Debian 12's libseccomp (2.5.4) ends
// with Linux 5.17.
static const struct {
    const char *name;
    int nr;
    bool only_x86_64;
} newer[] = {
    {"uretprobe", 335, true},          {"uprobe", 336, true},
    {"cachestat", 451, false},         {"fchmodat2", 452, false},
    {"map_shadow_stack", 453, false},  {"futex_wake", 454, false},
    {"futex_wait", 455, false},        {"futex_requeue", 456, false},
    {"statmount", 457, false},         {"listmount", 458, false},
    {"lsm_get_self_attr", 459, false}, {"lsm_set_self_attr", 460, false},
    {"lsm_list_modules", 461, false},  {"mseal", 462, false},
    {"setxattrat", 463, false},        {"getxattrat", 464, false},
    {"listxattrat", 465, false},       {"removexattrat", 466, false},
    {"open_tree_attr", 467, false},    {"file_getattr", 468, false},
    {"file_setattr", 469, false},
};

int seccomp_number(enum seccomp_arch arch, const char *name)
{
    int nr = seccomp_syscall_resolve_name_arch(tokens[arch], name);
    // Below -1 are libseccomp's own numbers for calls that another architecture has.
    if (nr >= 0)
        return arch == SECCOMP_X32 ? nr & ~X32_BIT : nr;
    for (size_t i = 0; i < ARRAY_SIZE(newer); i++) {
        if (str_eq(newer[i].name, name))
            return newer[i].only_x86_64 && arch != SECCOMP_X86_64 ? -1 : newer[i].nr;
    }
    return -1;
}

bool seccomp_name_exists(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(newer); i++) {
        if (str_eq(newer[i].name, name))
            return true;
    }
    return seccomp_syscall_resolve_name(name) != __NR_SCMP_ERROR;
}

static bool known[SECCOMP_ARCHES][SECCOMP_NR_MAX];
static pthread_once_t known_once = PTHREAD_ONCE_INIT;

static void learn(void)
{
    for (int arch = 0; arch < SECCOMP_ARCHES; arch++) {
        for (int nr = 0; nr < SECCOMP_NR_MAX; nr++) {
            int full = arch == SECCOMP_X32 ? nr | X32_BIT : nr;
            char *name = seccomp_syscall_resolve_num_arch(tokens[arch], full);
            known[arch][nr] = name != NULL;
            free(name);
        }
        for (size_t i = 0; i < ARRAY_SIZE(newer); i++) {
            if (!newer[i].only_x86_64 || arch == SECCOMP_X86_64)
                known[arch][newer[i].nr] = true;
        }
    }
}

bool seccomp_number_known(enum seccomp_arch arch, int nr)
{
    (void)pthread_once(&known_once, learn);
    return nr >= 0 && nr < SECCOMP_NR_MAX && known[arch][nr];
}
