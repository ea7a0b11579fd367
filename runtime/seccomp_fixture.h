// What the tests of seccomp share: a machine that runs filters, and a cache to get them from.
#ifndef RUNTIME_SECCOMP_FIXTURE_H
#define RUNTIME_SECCOMP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/seccomp_internal.h"

#define ALLOW SECCOMP_RET_ALLOW
#define DENY  (SECCOMP_RET_ERRNO | EPERM)
#define NOSYS (SECCOMP_RET_ERRNO | ENOSYS)
#define X32   0x40000000

// A classic BPF machine as far as seccomp uses one.
static inline uint32_t run(const struct seccomp_filter *f, const struct seccomp_data *data)
{
    const struct sock_filter *code = (const void *)f->bpf;
    size_t n = f->len / sizeof(*code);
    uint32_t a = 0;
    for (size_t pc = 0; pc < n; pc++) {
        const struct sock_filter *i = &code[pc];
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k % 4 == 0 && i->k < sizeof(*data));
            memcpy(&a, (const char *)data + i->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            break;
        case BPF_JMP | BPF_JA:
            pc += i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            pc += a > i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            pc += a & i->k ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            fail_msg("instruction %#x", i->code);
        }
    }
    fail_msg("ran off the end");
    return 0;
}

static inline uint32_t call(const struct seccomp_filter *f, uint32_t arch, int nr, uint64_t arg0)
{
    struct seccomp_data data = {.nr = nr, .arch = arch, .args = {arg0}};
    return run(f, &data);
}

struct fixture {
    struct seccomp_cache *cache;
    struct arena *arena;
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->cache = seccomp_cache_new();
    f->arena = arena_new(64u << 20);
    *state = f;
    return f->cache && f->arena ? 0 : -1;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    seccomp_cache_free(f->cache);
    arena_free(f->arena);
    free(f);
    return 0;
}

static inline int get_json(struct fixture *f, const char *text, uint64_t caps, struct seccomp_filter *out,
                           struct error *err)
{
    char path[] = "/tmp/crisp-seccomp-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    profile.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
    profile.localhost_ref = path;
    int r = seccomp_cache_get(f->cache, &profile, caps, f->arena, out, err);
    assert_int_equal(unlink(path), 0);
    return r;
}

#endif
