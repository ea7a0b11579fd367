#include "image/platform.h"

#include <stdlib.h>
#include <sys/utsname.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/str.h"

#define PLATFORMS_MAX 8

struct list {
    struct arena *arena;
    Pull__Platform **platforms;
    size_t n;
    bool failed;
};

static void add(struct list *l, const char *architecture, int variant)
{
    Pull__Platform *p = l->n < PLATFORMS_MAX ? arena_alloc(l->arena, sizeof(*p)) : NULL;

    if (!p) {
        l->failed = true;
        return;
    }
    pull__platform__init(p);
    p->os = (char *)"linux";
    p->architecture = arena_strdup(l->arena, architecture);
    p->variant = variant > 0 ? arena_printf(l->arena, "v%d", variant) : (char *)"";
    l->failed = l->failed || !p->architecture || !p->variant;
    l->platforms[l->n++] = p;
}

static void add_down(struct list *l, const char *architecture, int from, int to)
{
    for (int variant = from; variant >= to; variant--)
        add(l, architecture, variant);
}

static void add_all(struct list *l, const char *machine, int amd64_level)
{
    static const struct {
        const char *machine, *go;
    } names[] = {{"i686", "386"}, {"i586", "386"}, {"armv5l", "arm"}, {"loongarch64", "loong64"}};

    if (str_eq(machine, "x86_64")) {
        add_down(l, "amd64", amd64_level, 2);
        add(l, "amd64", 0); // its first level has no name
        add(l, "386", 0);
    } else if (str_eq(machine, "aarch64")) {
        add(l, "arm64", 0);
        add_down(l, "arm", 8, 5);
    } else if (str_eq(machine, "armv8l")) { // a 32-bit kernel, or personality
        add_down(l, "arm", 8, 5);
    } else if (str_eq(machine, "armv7l")) {
        add_down(l, "arm", 7, 5);
    } else if (str_eq(machine, "armv6l")) {
        add_down(l, "arm", 6, 5);
    } else {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            if (str_eq(machine, names[i].machine))
                machine = names[i].go;
        add(l, machine, str_eq(machine, "arm") ? 5 : 0); // riscv64, ppc64le, s390x: the same words
    }
}

int platform_list(const char *machine, int amd64_level, struct arena *arena, Pull__Platform ***out, size_t *n,
                  struct error *err)
{
    struct list l = {.arena = arena};

    l.platforms = arena_alloc(arena, PLATFORMS_MAX * sizeof(*l.platforms));
    if (l.platforms)
        add_all(&l, machine, amd64_level);
    if (!l.platforms || l.failed)
        return error_errno(err, ENOMEM, "the host's platform");
    *out = l.platforms;
    *n = l.n;
    return 0;
}

// The levels of the x86-64 psABI: what a program built for one may use without asking.
static int amd64_level(void)
{
#if defined(__x86_64__)
    unsigned a, b, c1 = 0, d, c81 = 0;

    if (!__get_cpuid(1, &a, &b, &c1, &d) || !__get_cpuid(0x80000001, &a, &b, &c81, &d))
        return 1;
    // CX16, LAHF; the compilers' function also asks whether the kernel saves the wide registers.
    if (!(c1 & bit_CMPXCHG16B) || !(c81 & bit_LAHF_LM) || !__builtin_cpu_supports("popcnt") ||
        !__builtin_cpu_supports("ssse3") || !__builtin_cpu_supports("sse4.2"))
        return 1;
    if (!(c1 & bit_MOVBE) || !(c1 & bit_F16C) || !(c1 & bit_OSXSAVE) || !(c81 & bit_ABM) ||
        !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma"))
        return 2;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return 3;
    return 4;
#else
    return 1;
#endif
}

int platform_list_host(struct arena *arena, Pull__Platform ***out, size_t *n, struct error *err)
{
    struct utsname host;

    (void)uname(&host);
    return platform_list(host.machine, amd64_level(), arena, out, n, err);
}
