#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/caps.h"
#include "runtime/seccomp_internal.h"

#define ALLOW SECCOMP_RET_ALLOW
#define DENY  (SECCOMP_RET_ERRNO | EPERM)
#define NOSYS (SECCOMP_RET_ERRNO | ENOSYS)
#define X32   0x40000000

// A classic BPF machine as far as seccomp uses one.
static uint32_t run(const struct seccomp_filter *f, const struct seccomp_data *data)
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

static uint32_t call(const struct seccomp_filter *f, uint32_t arch, int nr, uint64_t arg0)
{
    struct seccomp_data data = {.nr = nr, .arch = arch, .args = {arg0}};
    return run(f, &data);
}

struct fixture {
    struct seccomp_cache *cache;
    struct arena *arena;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->cache = seccomp_cache_new();
    f->arena = arena_new(64u << 20);
    *state = f;
    return f->cache && f->arena ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    seccomp_cache_free(f->cache);
    arena_free(f->arena);
    free(f);
    return 0;
}

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

// Every name of the table is a system call somewhere: a misspelt one would silently be denied.
static void default_names_exist(void **state)
{
    (void)state;
    struct seccomp_profile p;
    assert_int_equal(seccomp_default_profile(~UINT64_C(0), &p), 0);
    for (size_t i = 0; i < p.n_rules; i++) {
        if (!seccomp_name_exists(p.rules[i].name))
            fail_msg("\"%s\" is no system call", p.rules[i].name);
    }
    seccomp_profile_done(&p);
}

// What nobody knows is ENOSYS, on every architecture; other architectures are killed.
static void unknown_is_enosys(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter filter = get_default(f, 0);
    static const int numbers[] = {480, 700, 1023, 1024, 5000, 0x3fffffff, -1};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        assert_int_equal(call(&filter, AUDIT_ARCH_X86_64, numbers[i], 0), NOSYS);
        assert_int_equal(call(&filter, AUDIT_ARCH_I386, numbers[i], 0), NOSYS);
        assert_int_equal(call(&filter, AUDIT_ARCH_X86_64, numbers[i] | X32, 0), NOSYS);
    }
    assert_int_equal(call(&filter, AUDIT_ARCH_AARCH64, 0, 0), SECCOMP_RET_KILL_PROCESS);
}

// The compiled program says the same as the list of rules, number by number.
static void program_is_the_table(void **state)
{
    struct fixture *f = *state;
    struct seccomp_profile p;
    uint64_t caps = caps_default();
    struct seccomp_filter filter = get_default(f, caps);
    assert_int_equal(seccomp_default_profile(caps, &p), 0);
    for (int nr = 0; nr < SECCOMP_NR_MAX; nr++) {
        uint32_t want = seccomp_number_known(SECCOMP_X86, nr) ? DENY : NOSYS;
        bool conditional = false;
        for (size_t i = 0; i < p.n_rules; i++) {
            if (seccomp_number(SECCOMP_X86, p.rules[i].name) != nr)
                continue;
            want = p.rules[i].action;
            conditional = conditional || p.rules[i].n_args > 0;
        }
        if (!conditional)
            assert_int_equal(call(&filter, AUDIT_ARCH_I386, nr, 0), want);
    }
    seccomp_profile_done(&p);
}

static void filters_are_cached(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter first = get_default(f, 5), second = get_default(f, 5);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.bpf, second.bpf, first.len);
    assert_int_equal(first.flags, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    for (uint64_t caps = 0; caps < 100; caps++) // past what is kept
        (void)get_default(f, caps << 1);
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
        if (!wrong && getppid() <= 0)
            wrong = 7;
        _exit(wrong);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int get_json(struct fixture *f, const char *text, uint64_t caps, struct seccomp_filter *out,
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

static void json_is_compiled(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    struct error err = ERROR_INIT;
    static const char text[] =
        "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 13,"
        " \"archMap\": [{\"architecture\": \"SCMP_ARCH_X86_64\", \"subArchitectures\": [\"SCMP_ARCH_X86\"]}],"
        " \"flags\": [\"SECCOMP_FILTER_FLAG_LOG\"],"
        " \"syscalls\": ["
        "  {\"names\": [\"read\", \"nosuchcall\", \"mseal\"], \"action\": \"SCMP_ACT_ALLOW\"},"
        "  {\"name\": \"kill\", \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 3},"
        "  {\"names\": [\"lseek\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": ["
        "     {\"index\": 0, \"value\": 4294967296, \"op\": \"SCMP_CMP_GT\"},"
        "     {\"index\": 1, \"value\": 255, \"valueTwo\": 16, \"op\": \"SCMP_CMP_MASKED_EQ\"}]},"
        "  {\"names\": [\"personality\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": ["
        "     {\"index\": 0, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"},"
        "     {\"index\": 0, \"value\": 2, \"op\": \"SCMP_CMP_EQ\"}]},"
        "  {\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"caps\": "
        "[\"CAP_SYS_ADMIN\"]}},"
        "  {\"names\": [\"pause\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"minKernel\": \"99.0\"}},"
        "  {\"names\": [\"dup\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"arches\": [\"amd64\"]}}"
        " ]}";
    assert_int_equal(get_json(f, text, 0, &out, &err), 0);
    const uint32_t refuse = SECCOMP_RET_ERRNO | 13, arch = AUDIT_ARCH_X86_64;
    assert_int_equal(out.flags, SECCOMP_FILTER_FLAG_LOG);
    assert_int_equal(call(&out, arch, SYS_read, 0), ALLOW);
    assert_int_equal(call(&out, arch, 462, 0), ALLOW); // mseal
    assert_int_equal(call(&out, arch, SYS_write, 0), refuse);
    assert_int_equal(call(&out, arch, SYS_kill, 0), SECCOMP_RET_ERRNO | 3);
    assert_int_equal(call(&out, arch, SYS_personality, 1), ALLOW);
    assert_int_equal(call(&out, arch, SYS_personality, 2), ALLOW);
    assert_int_equal(call(&out, arch, SYS_personality, 3), refuse);
    assert_int_equal(call(&out, arch, SYS_mount, 0), refuse);
    assert_int_equal(call(&out, arch, SYS_pause, 0), refuse);
    assert_int_equal(call(&out, arch, SYS_dup, 0), refuse);
    assert_int_equal(call(&out, arch, 600, 0), NOSYS);
    assert_int_equal(call(&out, arch, SYS_read | X32, 0), SECCOMP_RET_KILL_PROCESS);
    struct seccomp_data data = {.nr = SYS_lseek, .arch = arch, .args = {UINT64_C(0x100000001), 0x1210}};
    assert_int_equal(run(&out, &data), ALLOW);
    data.args[1] = 0x1211;
    assert_int_equal(run(&out, &data), refuse);
    data.args[1] = 0x10;
    data.args[0] = UINT64_C(0x100000000);
    assert_int_equal(run(&out, &data), refuse);
    assert_int_equal(get_json(f, text, CAPS_BIT(CAP_SYS_ADMIN), &out, &err), 0);
    assert_int_equal(call(&out, arch, SYS_mount, 0), ALLOW);
}

// "includes" asks for every capability, "excludes" for none.
static void json_caps_all_or_none(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    static const char text[] = "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": ["
                               " {\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ALLOW\","
                               "  \"includes\": {\"caps\": [\"CAP_SYS_ADMIN\", \"CAP_BPF\"]}},"
                               " {\"names\": [\"pause\"], \"action\": \"SCMP_ACT_ALLOW\","
                               "  \"excludes\": {\"caps\": [\"CAP_SYS_ADMIN\", \"CAP_BPF\"]}}]}";
    static const struct {
        uint64_t caps;
        uint32_t mount, pause;
    } cases[] = {{0, DENY, ALLOW},
                 {CAPS_BIT(CAP_SYS_ADMIN), DENY, DENY},
                 {CAPS_BIT(CAP_SYS_ADMIN) | CAPS_BIT(CAP_BPF), ALLOW, DENY}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(get_json(f, text, cases[i].caps, &out, NULL), 0);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_mount, 0), cases[i].mount);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_pause, 0), cases[i].pause);
    }
}

// A call with another number on x32 (ioctl: 16, there 514) is not a way around a condition that forbids.
static void json_conditions_on_x32(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    assert_int_equal(
        get_json(f,
                 "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_X32\"],"
                 " \"syscalls\": [{\"names\": [\"ioctl\"], \"action\": \"SCMP_ACT_ERRNO\","
                 " \"args\": [{\"index\": 0, \"value\": 7, \"op\": \"SCMP_CMP_EQ\"}]}]}",
                 0, &out, NULL),
        0);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_ioctl, 7), DENY);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_ioctl, 8), ALLOW);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 514 | X32, 7), DENY);
}

// Each comparison, with values around the 32-bit halves' border.
static void json_comparisons(void **state)
{
    struct fixture *f = *state;
    static const uint64_t values[] = {0, 1, 0xffffffff, 0x100000000, 0x100000001, 0x1ffffffff, 0x200000000};
    static const char *const ops[] = {"EQ", "NE", "LT", "LE", "GE", "GT"};
    for (size_t o = 0; o < ARRAY_SIZE(ops); o++) {
        for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
            char text[512];
            struct seccomp_filter out;
            (void)snprintf(
                text, sizeof(text),
                "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"lseek\"],\"action\":"
                "\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":%llu,\"op\":\"SCMP_CMP_%s\"}]}]}",
                (unsigned long long)values[v], ops[o]);
            assert_int_equal(get_json(f, text, 0, &out, NULL), 0);
            for (size_t a = 0; a < ARRAY_SIZE(values); a++) {
                uint64_t x = values[a], y = values[v];
                const bool want[] = {x == y, x != y, x<y, x <= y, x >= y, x> y};
                assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_lseek, x), want[o] ? ALLOW : DENY);
            }
        }
    }
}

static void json_errors_say_where(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\n\"defaultAction\": \"SCMP_ACT_ALLOW\",\n}", ":3: "},
        {"{}", ": defaultAction: is missing"},
        {"{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}", ": defaultAction: unknown or unsupported action"},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"action\": \"SCMP_ACT_LOG\"}]}",
         ": syscalls[0]: has no names"},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
         "\"X\"}]}",
         ": syscalls[0]: unknown or unsupported action \"X\""},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
         "\"SCMP_ACT_LOG\", \"args\": [{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]}]}",
         ": syscalls[0]: bad index of an argument"},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
         "\"SCMP_ACT_LOG\", \"args\": [{\"index\": 0, \"value\": -1, \"op\": \"SCMP_CMP_EQ\"}]}]}",
         ": syscalls[0]: bad value of an argument"},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"X\"]}",
         ": flags[0]: unknown or unsupported flag \"X\""},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerPath\": \"/x\"}", ": listenerPath: "},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": {}}", ": syscalls: must be a list"},
        {"{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
         "\"SCMP_ACT_ALLOW\", \"args\": {\"index\": 0}}]}",
         ": syscalls[0]: wrong type of \"args\""},
        {"{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
         "\"SCMP_ACT_ALLOW\", \"includes\": {\"caps\": \"CAP_SYS_ADMIN\"}}]}",
         ": syscalls[0]: wrong type of \"caps\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct seccomp_filter out;
        struct error err = ERROR_INIT;
        assert_true(get_json(f, cases[i].text, 0, &out, &err) < 0);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        assert_non_null(
            strstr(err.message, "linux.security_context.seccomp.localhost_ref: /tmp/crisp-seccomp-"));
        if (!strstr(err.message, cases[i].part))
            fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].part);
    }
    Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
    struct seccomp_filter out;
    struct error err = ERROR_INIT;
    profile.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
    profile.localhost_ref = (char *)"/no/such/profile.json";
    assert_true(seccomp_cache_get(f->cache, &profile, 0, f->arena, &out, &err) < 0);
    assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "localhost_ref \"/no/such/profile.json\": "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_profile_is_no_filter), cmocka_unit_test(default_decides),
        cmocka_unit_test(default_names_exist),     cmocka_unit_test(unknown_is_enosys),
        cmocka_unit_test(program_is_the_table),    cmocka_unit_test(filters_are_cached),
        cmocka_unit_test(kernel_takes_it),         cmocka_unit_test(json_is_compiled),
        cmocka_unit_test(json_caps_all_or_none),   cmocka_unit_test(json_conditions_on_x32),
        cmocka_unit_test(json_comparisons),        cmocka_unit_test(json_errors_say_where),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
