// System calls by name and number, from a table of our own: libseccomp's (Debian 12: 2.5.4) ends with Linux
// 5.17, and a name that it lacks could be neither allowed nor told from one that nobody knows.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/seccomp_internal.h"

#define X32_OWN_FIRST 512 // x32's own numbers: of old calls, unlike what follows 424
#define X32_OWN_LAST  547

struct call {
    const char *name;
    int16_t number[SECCOMP_ARCHES];
};

static const struct call calls[] = {
#define NR(name, x86_64, x86, x32, aarch64)                                                                  \
    {#name,                                                                                                  \
     {[SECCOMP_X86_64] = (x86_64),                                                                           \
      [SECCOMP_X86] = (x86),                                                                                 \
      [SECCOMP_X32] = (x32),                                                                                 \
      [SECCOMP_AARCH64] = (aarch64)}},
#include "runtime/seccomp_numbers.def"
#undef NR
};

static int compare_name(const void *key, const void *call)
{
    return strcmp(key, ((const struct call *)call)->name);
}

static const struct call *find(const char *name)
{
    return bsearch(name, calls, sizeof(calls) / sizeof(calls[0]), sizeof(calls[0]), compare_name);
}

int seccomp_number(enum seccomp_arch arch, const char *name)
{
    const struct call *call = find(name);
    return call ? call->number[arch] : -1;
}

bool seccomp_name_exists(const char *name)
{
    return find(name) != NULL;
}

const char *seccomp_name_at(size_t i)
{
    return i < sizeof(calls) / sizeof(calls[0]) ? calls[i].name : NULL;
}

static bool known[SECCOMP_ARCHES][SECCOMP_NR_MAX];
static pthread_once_t known_once = PTHREAD_ONCE_INIT;

static void learn(void)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (int arch = 0; arch < SECCOMP_ARCHES; arch++) {
            int nr = calls[i].number[arch];
            if (nr >= 0 && nr < SECCOMP_NR_MAX)
                known[arch][nr] = true;
        }
    }
}

bool seccomp_number_known(enum seccomp_arch arch, int nr)
{
    (void)pthread_once(&known_once, learn);
    return nr >= 0 && nr < SECCOMP_NR_MAX && known[arch][nr];
}

int seccomp_age(enum seccomp_arch arch, int nr)
{
    // Numbers were given in order, but for these: two of x86_64 that filled a gap, after mseal (462,
    // Linux 6.10) and after file_setattr (469, Linux 6.17), and x32's own.
    if (arch == SECCOMP_X86_64 || arch == SECCOMP_X32) {
        if (nr == 335) // uretprobe
            return 2 * 462 + 1;
        if (nr == 336) // uprobe
            return 2 * 469 + 1;
        if (nr >= X32_OWN_FIRST && nr <= X32_OWN_LAST)
            return 0;
    }
    return 2 * nr;
}
