#include "runtime/seccomp_fixture.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "runtime/caps.h"

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
    assert_int_equal(call(&out, arch, 463, 0), NOSYS); // setxattrat came after mseal
    assert_int_equal(call(&out, arch, 461, 0), refuse);
    assert_int_equal(call(&out, arch, -1, 0), NOSYS);
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

// A call with another number on x32 (ioctl: 16, there 514) has the same conditions there.
static void json_conditions_on_x32(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    assert_int_equal(
        get_json(f,
                 "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_X32\"],"
                 " \"syscalls\": [{\"names\": [\"ioctl\"], \"action\": \"SCMP_ACT_ERRNO\","
                 " \"args\": [{\"index\": 0, \"value\": 7, \"op\": \"SCMP_CMP_EQ\"}]},"
                 " {\"names\": [\"ioctl\"], \"action\": \"SCMP_ACT_TRAP\","
                 " \"args\": [{\"index\": 0, \"value\": 9, \"op\": \"SCMP_CMP_EQ\"}]}]}",
                 0, &out, NULL),
        0);
    static const int numbers[] = {SYS_ioctl, 514 | X32};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, numbers[i], 7), DENY);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, numbers[i], 8), ALLOW);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, numbers[i], 9), SECCOMP_RET_TRAP);
    }
    assert_int_equal(call(&out, AUDIT_ARCH_I386, 54, 7), SECCOMP_RET_KILL_PROCESS); // not listed
}

// Calls that came after the newest one that a profile names are ENOSYS where it forbids by default, whatever
// we know of them: its author didn't.
static void json_newer_calls_are_enosys(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    // clone3 (435) is the newest, though its rule doesn't apply. clone (56) is old.
    static const char text[] = "{\"defaultAction\": \"%s\", \"architectures\": [\"SCMP_ARCH_X86\"],"
                               " \"syscalls\": [{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"},"
                               " {\"name\": \"clone3\", \"action\": \"SCMP_ACT_ALLOW\","
                               " \"includes\": {\"caps\": [\"CAP_SYS_ADMIN\"]}}]}";
    static const struct {
        const char *action;
        uint32_t known, newer;
    } cases[] = {{"SCMP_ACT_ERRNO", DENY, NOSYS},
                 {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS, NOSYS},
                 {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP, NOSYS},
                 {"SCMP_ACT_LOG", SECCOMP_RET_LOG, SECCOMP_RET_LOG},
                 {"SCMP_ACT_ALLOW", ALLOW, ALLOW}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char profile[512];
        (void)snprintf(profile, sizeof(profile), text, cases[i].action);
        assert_int_equal(get_json(f, profile, 0, &out, NULL), 0);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_read, 0), ALLOW);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_clone, 0), cases[i].known);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 434, 0), cases[i].known);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 435, 0), cases[i].known);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 436, 0), cases[i].newer);
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 452, 0), cases[i].newer); // fchmodat2
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 335, 0), cases[i].newer); // uretprobe filled a gap
        assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 400, 0), cases[i].newer); // nothing
        assert_int_equal(call(&out, AUDIT_ARCH_I386, 4, 0), cases[i].known);
        assert_int_equal(call(&out, AUDIT_ARCH_I386, 436, 0), cases[i].newer);
    }
    // One that names nothing: all that we know of is what it speaks of.
    assert_int_equal(get_json(f, "{\"defaultAction\": \"SCMP_ACT_ERRNO\"}", 0, &out, NULL), 0);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 452, 0), DENY);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, 500, 0), NOSYS);
}

static void json_flags(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *flags;
        uint32_t want;
    } cases[] = {
        {"", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
        {", \"flags\": null", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
        {", \"flags\": []", 0},
        {", \"flags\": [\"SECCOMP_FILTER_FLAG_TSYNC\", \"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]", 0},
        {", \"flags\": [\"SECCOMP_FILTER_FLAG_LOG\", \"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"]",
         SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[256];
        struct seccomp_filter out;
        (void)snprintf(text, sizeof(text), "{\"defaultAction\": \"SCMP_ACT_ALLOW\"%s}", cases[i].flags);
        assert_int_equal(get_json(f, text, 0, &out, NULL), 0);
        assert_int_equal(out.flags, cases[i].want);
    }
}

// Remarks, nulls and empty things that real profiles have.
static void json_oddities_are_fine(void **state)
{
    struct fixture *f = *state;
    struct seccomp_filter out;
    struct error err = ERROR_INIT;
    static const char text[] =
        "{\"$schema\": \"x\", \"comment\": \"c\", \"defaultAction\": \"SCMP_ACT_ERRNO\", "
        "\"defaultErrnoRet\": null,"
        " \"listenerPath\": \"\", \"architectures\": null,"
        " \"archMap\": [{\"architecture\": \"SCMP_ARCH_S390X\", \"subArchitectures\": [\"SCMP_ARCH_S390\"]},"
        "  {\"architecture\": \"SCMP_ARCH_X86_64\", \"subArchitectures\": null}],"
        " \"syscalls\": [{\"names\": [\"lseek\", \"s390_pci_mmio_read\", \"from_the_future\"],"
        "  \"action\": \"SCMP_ACT_ALLOW\", \"errnoRet\": 1, \"args\": [{\"index\": 1, \"value\":"
        "  18446744073709551615, \"valueTwo\": 0, \"op\": \"SCMP_CMP_EQ\"}],"
        "  \"comment\": \"18446744073709551615\", \"includes\": {}, \"excludes\": {\"arches\": [\"x86\", "
        "\"s390x\"]}},"
        " {\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": null, \"includes\":"
        "  {\"minKernel\": \"4.8\", \"arches\": [\"amd64\"], \"caps\": null}, \"excludes\": null},"
        " {\"names\": [\"pause\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"arches\": [\"x86\"]}},"
        " {\"names\": [\"dup\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"minKernel\": \"4.8\"}},"
        " {\"names\": [\"close\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"minKernel\": \"99.0\"}},"
        " {\"names\": [\"sync\"], \"action\": \"SCMP_ACT_ERRNO\", \"errno\": \"ENOSPC\", \"errnoRet\": 1},"
        " {\"names\": [\"kill\"], \"action\": \"SCMP_ACT_TRACE\", \"errnoRet\": 65535}]}";
    if (get_json(f, text, 0, &out, &err) < 0)
        fail_msg("%s", err.message);
    struct seccomp_data data = {.nr = SYS_lseek, .arch = AUDIT_ARCH_X86_64, .args = {0, UINT64_MAX}};
    assert_int_equal(run(&out, &data), ALLOW);
    data.args[1]--;
    assert_int_equal(run(&out, &data), DENY);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_read, 0), ALLOW);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_pause, 0), DENY);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_dup, 0), DENY);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_close, 0), ALLOW);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_sync, 0), SECCOMP_RET_ERRNO | ENOSPC);
    assert_int_equal(call(&out, AUDIT_ARCH_X86_64, SYS_kill, 0), SECCOMP_RET_TRACE | 65535);
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
#define HEAD "{\n\"defaultAction\": \"SCMP_ACT_ERRNO\",\n"
#define CALL                                                                                                 \
    HEAD "\"syscalls\": [{\"names\": [\"a\\\"]\"],\n\"action\": \"SCMP_ACT_LOG\"},\n{\"names\": "            \
         "[\"read\"],\n"
#define ALLOWS "\"action\": \"SCMP_ACT_ALLOW\",\n"
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\n\"defaultAction\": \"SCMP_ACT_ALLOW\",\n}", ":3: "},
        {"[]", ":1: must be an object"},
        {"\n{}", ":2: defaultAction: is missing"},
        {"{\"defaultAction\": null}", ":1: defaultAction: is missing"},
        {"{\"defaultAction\": 1}", ":1: defaultAction: must be a string"},
        {"{\n\n\"defaultAction\": \"SCMP_ACT_NOTIFY\"}",
         ":3: defaultAction: SCMP_ACT_NOTIFY is not supported"},
        {"{\"defaultAction\": \"SCMP_ACT_FOO\"}", ":1: defaultAction: unknown action \"SCMP_ACT_FOO\""},
        {HEAD "\"defaultErrnoRet\": 4096}", ":3: defaultErrnoRet: must be between 0 and 4095"},
        {HEAD "\"defaultErrno\": \"EWRONG\"}", ":3: defaultErrno: unknown errno \"EWRONG\""},
        {HEAD "\"default\": 1}", ":3: default: is not part of a seccomp profile"},
        {HEAD "\n\"flags\": [\n\"X\"]}", ":5: flags[0]: unknown flag \"X\""},
        {HEAD "\"flags\": [1]}", ":3: flags[0]: must be a string"},
        {HEAD "\"listenerPath\": \"/x\"}", ":3: listenerPath: notification listeners are not supported"},
        {HEAD "\"architectures\": [\"SCMP_ARCH_X86\",\n\"SCMP_ARCH_FOO\"]}",
         ":4: architectures[1]: unknown architecture \"SCMP_ARCH_FOO\""},
        {HEAD "\"archMap\": [{\"architecture\": \"FOO\"}]}", ":3: archMap[0]: unknown architecture \"FOO\""},
        {HEAD "\"archMap\": [{\"architecture\": \"SCMP_ARCH_X86_64\",\n\"subArchitectures\": [\"X\"]}]}",
         ":4: archMap[0].subArchitectures[0]: unknown architecture"},
        {HEAD "\"syscalls\": {}}", ":3: syscalls: must be a list"},
        {HEAD "\"syscalls\": [\n1]}", ":4: syscalls[0]: must be an object"},
        {HEAD "\"syscalls\": [\n{\"action\": \"SCMP_ACT_LOG\"}]}", ":4: syscalls[0]: has no names"},
        {CALL "\"action\": \"X\"}]}", ":6: syscalls[1].action: unknown action \"X\""},
        {CALL "\"action\": \"SCMP_ACT_ERRNO\",\n\"errnoRet\": -1}]}",
         ":7: syscalls[1].errnoRet: must be between"},
        {CALL ALLOWS "\"arg\": []}]}", ":7: syscalls[1].arg: is not part of a seccomp profile"},
        {CALL ALLOWS "\"args\": {\"index\": 0}}]}", ":7: syscalls[1].args: must be a list"},
        {CALL ALLOWS "\"args\": [\n{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]}]}",
         ":8: syscalls[1].args[0].index: must be between 0 and 5"},
        {CALL ALLOWS "\"args\": [{\"index\": 0,\n\"value\": -1, \"op\": \"SCMP_CMP_EQ\"}]}]}",
         ":8: syscalls[1].args[0].value: must be an integer from 0"},
        {CALL ALLOWS
         "\"args\": [{\"index\": 0, \"value\": 18446744073709551616, \"op\": \"SCMP_CMP_EQ\"}]}]}",
         ":7: syscalls[1].args[0].value: must be an integer from 0"},
        {CALL ALLOWS "\"args\": [{\"index\": 0, \"value\": 1.5, \"op\": \"SCMP_CMP_EQ\"}]}]}",
         ":7: syscalls[1].args[0].value: must be an integer from 0"},
        {CALL ALLOWS "\"args\": [{\"index\": 0, \"value\": 1,\n\n\"op\": \"EQ\"}]}]}",
         ":9: syscalls[1].args[0].op: unknown comparison \"EQ\""},
        {CALL ALLOWS "\"includes\": {\"caps\": \"CAP_SYS_ADMIN\"}}]}",
         ":7: syscalls[1].includes.caps: must be a list"},
        {CALL ALLOWS "\"includes\": {\"caps\": [\n1]}}]}",
         ":8: syscalls[1].includes.caps[0]: must be a string"},
        {CALL ALLOWS "\"excludes\": {\n\"minKernel\": \"new\"}}]}",
         ":8: syscalls[1].excludes.minKernel: \"new\" is not a kernel version"},
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
    // The JSON library takes a NUL byte that follows a number.
    static const char nul[] = "{\"defaultErrnoRet\": 1\0, \"defaultAction\": \"SCMP_ACT_ERRNO\"}";
    const struct seccomp_target target = {.native = SECCOMP_X86_64};
    struct seccomp_profile parsed = {0};
    void *keep = NULL;
    assert_int_equal(seccomp_parse_json("f", nul, sizeof(nul) - 1, &target, &parsed, &keep, &err), -EINVAL);
    assert_string_equal(err.message, "f: has a NUL byte in it: no JSON");
}

// Where a value stands, in texts that a reader of JSON takes and in others.
static void text_lines(void **state)
{
    (void)state;
    static const char text[] =
        "\n{\"a\\\"b\": {},\n\"c\": [1,\n[2, \"]\"], {\"d\":\n-3.5e1,\n\"e\": null}]\n}";
    static const struct {
        const char *path;
        int line;
    } cases[] = {{"", 2},       {"c", 3},         {"c[0]", 3},     {"c[1]", 4},    {"c[1][1]", 4},
                 {"c[2].d", 5}, {"c[2].e", 6},    {"c[3]", 3},     {"x", 2},       {"c.x", 3},
                 {"c[2].x", 4}, {"c[1][5].z", 4}, {"a\\\"b.z", 2}, {"c[2].e.f", 6}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int line = seccomp_text_line(text, strlen(text), cases[i].path);
        if (line != cases[i].line)
            fail_msg("%s: line %d, not %d", cases[i].path, line, cases[i].line);
    }
    static const char *const odd[] = {"",     "{",      "[",       "[:", "[}",  "{\"",
                                      "{\"a", "{\"a\"", "{\"a\":", "]",  "[[[", "[1 2 3"};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        assert_int_equal(seccomp_text_line(odd[i], strlen(odd[i]), "[3].a[1]"), 1);
        assert_int_equal(seccomp_text_line(odd[i], strlen(odd[i]), "b.a"), 1);
    }
}

// What isn't a file never holds a thread up.
static void json_from_odd_files(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/crisp-seccomp-test-XXXXXX", fifo[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const char *paths[] = {fifo, dir, "/dev/zero"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        Cri__SecurityProfile profile = CRI__SECURITY_PROFILE__INIT;
        struct seccomp_filter out;
        struct error err = ERROR_INIT;
        profile.profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
        profile.localhost_ref = (char *)paths[i];
        assert_true(seccomp_cache_get(f->cache, &profile, 0, f->arena, &out, &err) < 0);
        assert_int_equal(err.status, STATUS_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "is not a regular file"));
    }
    assert_int_equal(unlink(fifo), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_compiled),
        cmocka_unit_test(json_caps_all_or_none),
        cmocka_unit_test(json_conditions_on_x32),
        cmocka_unit_test(json_newer_calls_are_enosys),
        cmocka_unit_test(json_flags),
        cmocka_unit_test(json_oddities_are_fine),
        cmocka_unit_test(json_comparisons),
        cmocka_unit_test(json_errors_say_where),
        cmocka_unit_test(text_lines),
        cmocka_unit_test(json_from_odd_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
