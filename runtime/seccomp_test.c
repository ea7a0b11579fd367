#include "runtime/seccomp_fixture.h"

#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/str.h"
#include "runtime/caps.h"

static struct seccomp_filter get_default(struct fixture *f, uint64_t caps)
{
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    struct seccomp_filter out;
    struct error err = ERROR_INIT;
    assert_int_equal(seccomp_cache_get(f->cache, &profile, caps, f->arena, &out, &err), 0);
    assert_true(out.len > 0 && out.len / sizeof(struct sock_filter) <= BPF_MAXINSNS);
    return out;
}

static void no_profile_is_no_filter(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    assert_int_equal(seccomp_cache_get(f->cache, NULL, 0, f->arena, &out, NULL), 0);
    assert_int_equal(out.len, 0);
    profile.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    assert_int_equal(seccomp_cache_get(f->cache, &profile, 0, f->arena, &out, NULL), 0);
    assert_int_equal(out.len, 0);
}

static void default_decides(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        uint64_t caps;
        uint64_t arg0;
        uint32_t want;
    } cases[] = {
        {"read", 0, 0, ALLOW},
        {"execve", 0, 0, ALLOW},
        {"ptrace", 0, 0, ALLOW},
        {"cachestat", 0, 0, ALLOW},
        {"mseal", 0, 0, ALLOW},
        {"file_setattr", 0, 0, ALLOW},
        {"uretprobe", 0, 0, ALLOW},
        {"lsm_get_self_attr", 0, 0, DENY},
        {"pidfd_getfd", 0, 0, DENY},
        {"pidfd_getfd", CAPS_BIT(CAP_SYS_PTRACE), 0, ALLOW},
        {"mbind", 0, 0, DENY},
        {"mbind", CAPS_BIT(CAP_SYS_NICE), 0, ALLOW},
        {"init_module", CAPS_BIT(CAP_SYS_MODULE), 0, ALLOW},
        {"iopl", CAPS_BIT(CAP_SYS_RAWIO), 0, ALLOW},
        {"vhangup", CAPS_BIT(CAP_SYS_TTY_CONFIG), 0, ALLOW},
        {"acct", CAPS_BIT(CAP_SYS_PACCT), 0, ALLOW},
        {"reboot", CAPS_BIT(CAP_SYS_BOOT), 0, ALLOW},
        {"mount", 0, 0, DENY},
        {"mount", CAPS_BIT(CAP_SYS_ADMIN), 0, ALLOW},
        {"open_tree_attr", 0, 0, DENY},
        {"unshare", 0, 0, DENY},
        {"setns", 0, 0, DENY},
        {"keyctl", CAPS_BIT(CAP_SYS_ADMIN), 0, DENY},
        {"add_key", ~UINT64_C(0), 0, DENY},
        {"kexec_load", ~UINT64_C(0), 0, DENY},
        {"userfaultfd", 0, 0, DENY},
        {"io_uring_setup", ~UINT64_C(0), 0, DENY},
        {"bpf", 0, 0, DENY},
        {"bpf", CAPS_BIT(CAP_BPF), 0, ALLOW},
        {"perf_event_open", CAPS_BIT(CAP_PERFMON), 0, ALLOW},
        {"syslog", CAPS_BIT(CAP_SYSLOG), 0, ALLOW},
        {"open_by_handle_at", 0, 0, DENY},
        {"open_by_handle_at", CAPS_BIT(CAP_DAC_READ_SEARCH), 0, ALLOW},
        {"chroot", 0, 0, DENY},
        {"chroot", CAPS_BIT(CAP_SYS_CHROOT), 0, ALLOW},
        {"reboot", 0, 0, DENY},
        {"settimeofday", CAPS_BIT(CAP_SYS_TIME), 0, ALLOW},
        {"clone", 0, SIGCHLD, ALLOW},
        {"clone", 0, CLONE_VM | CLONE_FS | CLONE_THREAD, ALLOW},
        {"clone", 0, CLONE_NEWUSER | SIGCHLD, DENY},
        {"clone", 0, CLONE_NEWCGROUP, DENY},
        {"clone", 0, UINT64_C(0xffffffff00000000) | CLONE_NEWNET, DENY},
        {"clone", CAPS_BIT(CAP_SYS_ADMIN), CLONE_NEWUSER, ALLOW},
        {"clone3", 0, 0, NOSYS},
        {"clone3", CAPS_BIT(CAP_SYS_ADMIN), 0, ALLOW},
        {"socket", 0, AF_INET, ALLOW},
        {"socket", 0, AF_UNIX, ALLOW},
        {"socket", 0, AF_VSOCK, DENY},
        {"socket", ~UINT64_C(0), AF_VSOCK, DENY},
        {"socket", 0, AF_ALG, DENY},
        {"socket", 0, AF_CAIF, DENY},
        {"socket", 0, AF_NFC, ALLOW},
        {"socket", 0, AF_MCTP, ALLOW},
        {"socket", 0, AF_MCTP + 1, DENY},
        {"socket", 0, 0xffffffff, DENY},
        // The kernel takes an int: what else is in the register must not be a way round.
        {"socket", 0, UINT64_C(0x100000000) | AF_VSOCK, DENY},
        {"personality", 0, 0, ALLOW},
        {"personality", 0, 0x20008, ALLOW},
        {"personality", 0, 0xffffffff, ALLOW},
        {"personality", 0, 0x0040000, DENY},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct seccomp_filter filter = get_default(f, cases[i].caps);
        static const struct {
            enum seccomp_arch arch;
            uint32_t audit;
            int bit;
        } arches[] = {{SECCOMP_X86_64, AUDIT_ARCH_X86_64, 0},
                      {SECCOMP_X86, AUDIT_ARCH_I386, 0},
                      {SECCOMP_X32, AUDIT_ARCH_X86_64, X32}};
        for (size_t k = 0; k < ARRAY_SIZE(arches); k++) {
            int nr = seccomp_number(arches[k].arch, cases[i].name);
            if (nr < 0 || (arches[k].arch == SECCOMP_X32 && cases[i].arg0 != 0))
                continue;
            uint32_t got = call(&filter, arches[k].audit, nr | arches[k].bit, cases[i].arg0);
            if (got != cases[i].want)
                fail_msg("%s(%#llx) on architecture %zu: %#x instead of %#x", cases[i].name,
                         (unsigned long long)cases[i].arg0, k, got, cases[i].want);
        }
    }
}

// The numbers agree with the system's headers, which may be older or newer than the table.
static void numbers_are_the_kernels(void **state)
{
    (void)state;
    static const struct {
        enum seccomp_arch arch;
        const char *path;
    } headers[] = {{SECCOMP_X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"},
                   {SECCOMP_X86, "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"},
                   {SECCOMP_X32, "/usr/include/x86_64-linux-gnu/asm/unistd_x32.h"}};
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        _cleanup_(file_closep) FILE *file = fopen(headers[i].path, "re");
        char line[256], name[64];
        int nr, seen = 0;
        assert_non_null(file);
        while (fgets(line, sizeof(line), file)) {
            if (sscanf(line, "#define __NR_%63s (__X32_SYSCALL_BIT + %d)", name, &nr) != 2 &&
                sscanf(line, "#define __NR_%63s %d", name, &nr) != 2)
                continue;
            seen++;
            if (nr <= 469 && seccomp_number(headers[i].arch, name) != nr)
                fail_msg("%s: %s is %d, not %d", headers[i].path, name, nr,
                         seccomp_number(headers[i].arch, name));
        }
        assert_true(seen > 350);
    }
    // Found by halving: they have to be in order.
    for (size_t i = 1; seccomp_name_at(i); i++)
        assert_true(strcmp(seccomp_name_at(i - 1), seccomp_name_at(i)) < 0);
    // Of aarch64 there is no header here: some that differ from everybody else's.
    assert_int_equal(seccomp_number(SECCOMP_AARCH64, "read"), 63);
    assert_int_equal(seccomp_number(SECCOMP_AARCH64, "clone"), 220);
    assert_int_equal(seccomp_number(SECCOMP_AARCH64, "mkdirat"), 34);
    assert_int_equal(seccomp_number(SECCOMP_AARCH64, "mkdir"), -1);
    assert_int_equal(seccomp_number(SECCOMP_AARCH64, "newfstatat"), 79);
    assert_int_equal(seccomp_number(SECCOMP_AARCH64, "cachestat"), 451);
    assert_false(seccomp_name_exists("nosuchcall"));
}

static bool in_words(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = words; (p = strstr(p, word)) != NULL; p += len) {
        if ((p == words || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
            return true;
    }
    return false;
}

static bool in_conditions(const char *name)
{
    for (size_t i = 0; i < seccomp_n_conditions; i++) {
        if (str_eq(seccomp_conditions[i].rule.name, name))
            return true;
    }
    return false;
}

// Each call that has a number is decided on: none is denied because it was forgotten, or in both kinds of
// row.
static void table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; seccomp_name_at(i); i++) {
        size_t n[2] = {0};
        for (size_t k = 0; k < seccomp_n_rows; k++)
            n[seccomp_rows[k].verdict] += in_words(seccomp_rows[k].names, seccomp_name_at(i));
        if (n[SECCOMP_ALLOWED] + n[SECCOMP_DENIED] + in_conditions(seccomp_name_at(i)) == 0)
            fail_msg("%s is in no row", seccomp_name_at(i));
        if (n[SECCOMP_ALLOWED] && n[SECCOMP_DENIED])
            fail_msg("%s is allowed and denied", seccomp_name_at(i));
    }
}

// A misspelt name would silently be denied.
static void table_names_exist(void **state)
{
    (void)state;
    const struct seccomp_target all = {.native = SECCOMP_X86_64, .caps = ~UINT64_C(0), .kernel = ~0u};
    struct seccomp_profile p;
    assert_int_equal(seccomp_default_profile(&all, &p), 0);
    for (size_t i = 0; i < p.n_rules; i++) {
        if (!seccomp_name_exists(p.rules[i].name))
            fail_msg("\"%s\" is no system call", p.rules[i].name);
    }
    seccomp_profile_done(&p);
}

// Before Linux 4.8 a tracer could evade a filter.
static void kernel_makes_a_difference(void **state)
{
    (void)state;
    const struct {
        unsigned kernel;
        uint64_t caps;
        bool want;
    } cases[] = {{SECCOMP_KERNEL(4, 7), 0, false},
                 {SECCOMP_KERNEL(4, 7), CAPS_BIT(CAP_SYS_PTRACE), true},
                 {SECCOMP_KERNEL(4, 8), 0, true},
                 {SECCOMP_KERNEL(6, 1), 0, true}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct seccomp_target t = {
            .native = SECCOMP_X86_64, .caps = cases[i].caps, .kernel = cases[i].kernel};
        struct seccomp_profile p;
        bool found = false;
        assert_int_equal(seccomp_default_profile(&t, &p), 0);
        for (size_t k = 0; k < p.n_rules; k++)
            found = found || str_eq(p.rules[k].name, "ptrace");
        assert_int_equal(found, cases[i].want);
        seccomp_profile_done(&p);
    }
}

// What nobody knows is ENOSYS, on every architecture; other architectures are killed.
static void unknown_is_enosys(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter filter = get_default(f, 0);
    static const int numbers[] = {470, 480, 700, 1023, 1024, 5000, 0x3fffffff, -1};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        assert_int_equal(call(&filter, AUDIT_ARCH_X86_64, numbers[i], 0), NOSYS);
        assert_int_equal(call(&filter, AUDIT_ARCH_I386, numbers[i], 0), NOSYS);
        assert_int_equal(call(&filter, AUDIT_ARCH_X86_64, numbers[i] | X32, 0), NOSYS);
    }
    assert_int_equal(call(&filter, AUDIT_ARCH_AARCH64, 0, 0), SECCOMP_RET_KILL_PROCESS);
}

// What the list of rules says of a number; false: it depends on arguments.
static bool rules_say(const struct seccomp_profile *p, enum seccomp_arch arch, int nr, uint32_t *out)
{
    *out = seccomp_number_known(arch, nr) ? DENY : NOSYS;
    for (size_t i = 0; i < p->n_rules; i++) {
        if (seccomp_number(arch, p->rules[i].name) != nr)
            continue;
        if (p->rules[i].n_args > 0)
            return false;
        *out = p->rules[i].action;
    }
    return true;
}

static void compare_program(struct fixture *f, const struct seccomp_target *t, enum seccomp_arch arch,
                            uint32_t audit, int bit)
{
    struct seccomp_profile p;
    struct buf program;
    uint32_t want;
    assert_int_equal(seccomp_default_profile(t, &p), 0);
    buf_init(&program, BPF_MAXINSNS * sizeof(struct sock_filter));
    assert_int_equal(seccomp_compile(&p, &program, NULL), 0);
    struct seccomp_filter filter = {.bpf = arena_memdup(f->arena, program.data, program.len),
                                    .len = program.len};
    for (int nr = 0; nr < SECCOMP_NR_MAX; nr++) {
        if (!rules_say(&p, arch, nr, &want))
            continue;
        // x32's own numbers are the only ones that the two don't share.
        if (arch == SECCOMP_X32 && !seccomp_number_known(arch, nr))
            continue;
        if (arch == SECCOMP_X86_64 && seccomp_number_known(SECCOMP_X32, nr) && nr >= 512)
            continue;
        uint32_t got = call(&filter, audit, nr | bit, 0);
        if (got != want)
            fail_msg("architecture %d, number %d: %#x instead of %#x", arch, nr, got, want);
    }
    buf_done(&program);
    seccomp_profile_done(&p);
}

// The compiled program says the same as the list of rules, number by number, for no capability, each one and
// all.
static void program_is_the_table(void **state)
{
    struct fixture *f = *state;
    for (int cap = -2; cap <= CAP_LAST_CAP; cap++) {
        struct seccomp_target t = {.native = SECCOMP_X86_64, .kernel = SECCOMP_KERNEL(6, 1)};
        t.caps = cap == -2 ? 0 : cap == -1 ? ~UINT64_C(0) : CAPS_BIT(cap);
        if (cap >= 0 && !(seccomp_default_caps() & CAPS_BIT(cap)))
            continue;
        compare_program(f, &t, SECCOMP_X86_64, AUDIT_ARCH_X86_64, 0);
        compare_program(f, &t, SECCOMP_X86, AUDIT_ARCH_I386, 0);
        compare_program(f, &t, SECCOMP_X32, AUDIT_ARCH_X86_64, X32);
        t.native = SECCOMP_AARCH64;
        compare_program(f, &t, SECCOMP_AARCH64, AUDIT_ARCH_AARCH64, 0);
    }
}

static void filters_are_cached(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter first = get_default(f, 5), second = get_default(f, 5);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.bpf, second.bpf, first.len);
    assert_int_equal(first.flags, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    // Capabilities that no rule asks for make no difference.
    assert_false(seccomp_default_caps() & CAPS_BIT(CAP_CHOWN));
    for (uint64_t bit = 0; bit < 40; bit++) {
        for (uint64_t other = 0; other < 4; other++) // past what is kept
            (void)get_default(f, CAPS_BIT(bit) | CAPS_BIT(other + 16));
    }
    second = get_default(f, 5);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.bpf, second.bpf, first.len);
}

static void *get_many(void *arg)
{
    struct seccomp_cache *cache = arg;
    struct arena *arena = arena_new(64u << 20);
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    uintptr_t failures = arena == NULL;
    for (uint64_t i = 0; arena && i < 300; i++) {
        struct seccomp_filter out;
        uint64_t caps = i << 14; // 100 and more filters
        failures += seccomp_cache_get(cache, &profile, caps, arena, &out, NULL) != 0 || out.len == 0;
    }
    arena_free(arena);
    return (void *)failures; // NOLINT(performance-no-int-to-ptr)
}

static void cache_serves_many_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_many, f->cache), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *failures;
        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_null(failures);
    }
}

// In the real kernel.
static void kernel_takes_it(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter filter = get_default(f, 0);
    struct sock_fprog program = {.len = (unsigned short)(filter.len / sizeof(struct sock_filter)),
                                 .filter = (struct sock_filter *)(void *)filter.bpf};
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int wrong = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? 1 : 0;
        if (!wrong && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter.flags, &program) < 0)
            wrong = 2;
        if (!wrong && (syscall(SYS_unshare, CLONE_NEWUSER) == 0 || errno != EPERM))
            wrong = 3;
        if (!wrong && (syscall(700) == 0 || errno != ENOSYS))
            wrong = 4;
        if (!wrong && (syscall(SYS_clone3, NULL, 0) == 0 || errno != ENOSYS))
            wrong = 5;
        if (!wrong && (socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 || errno != EPERM))
            wrong = 6;
        if (!wrong && (socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0 || errno != EPERM))
            wrong = 7;
        if (!wrong && getppid() <= 0)
            wrong = 8;
        _exit(wrong);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_profile_is_no_filter), cmocka_unit_test(default_decides),
        cmocka_unit_test(numbers_are_the_kernels), cmocka_unit_test(table_is_complete),
        cmocka_unit_test(table_names_exist),       cmocka_unit_test(kernel_makes_a_difference),
        cmocka_unit_test(unknown_is_enosys),       cmocka_unit_test(program_is_the_table),
        cmocka_unit_test(filters_are_cached),      cmocka_unit_test(cache_serves_many_threads),
        cmocka_unit_test(kernel_takes_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
