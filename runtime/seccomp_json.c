// Localhost profiles: JSON as Docker and the OCI runtime spec have it.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/seccomp_internal.h"

struct parser {
    const char *file;
    uint64_t caps;
    struct seccomp_profile *out;
    struct error *err;
};

static int bad(struct parser *p, const char *where, size_t index, const char *what, const char *value)
{
    return error_set(p->err, STATUS_INVALID_ARGUMENT, EINVAL, "%.200s: %s[%zu]: %s \"%.100s\"", p->file,
                     where, index, what, value ? value : "");
}

static int bad_top(struct parser *p, const char *key, const char *what)
{
    return error_set(p->err, STATUS_INVALID_ARGUMENT, EINVAL, "%.200s: %s: %s", p->file, key, what);
}

// Is the member, where it is there and not null, of that type? A list that isn't one would count as empty,
// and so open what it was meant to close.
struct member {
    const char *key;
    json_type type;
};

static const char *wrong_member(const json_t *object, const struct member *members, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(object, members[i].key);
        if (value && !json_is_null(value) && json_typeof(value) != members[i].type)
            return members[i].key;
    }
    return NULL;
}

// "SCMP_ACT_ERRNO" with its errno number. false: unknown, or not supported.
static bool parse_action(const char *name, const json_t *errno_ret, uint32_t *out)
{
    static const struct {
        const char *name;
        uint32_t action;
    } actions[] = {{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
                   {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
                   {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
                   {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
                   {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
                   {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
                   {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
                   {"SCMP_ACT_LOG", SECCOMP_RET_LOG}};
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (!str_eq(name, actions[i].name))
            continue;
        *out = actions[i].action;
        if (*out == SECCOMP_RET_ERRNO || *out == SECCOMP_RET_TRACE) {
            json_int_t value = json_is_integer(errno_ret) ? json_integer_value(errno_ret) : EPERM;
            if (value < 0 || value > 4095)
                return false;
            *out |= (uint32_t)value;
        }
        return true;
    }
    return false;
}

static int parse_arch_name(const char *name)
{
    static const struct {
        const char *names[4];
        enum seccomp_arch arch;
    } arches[] = {{{"SCMP_ARCH_X86_64", "amd64", "x86_64", NULL}, SECCOMP_X86_64},
                  {{"SCMP_ARCH_X86", "x86", "386", NULL}, SECCOMP_X86},
                  {{"SCMP_ARCH_X32", "x32", NULL}, SECCOMP_X32}};
    for (size_t i = 0; i < ARRAY_SIZE(arches); i++) {
        for (size_t k = 0; arches[i].names[k]; k++) {
            if (str_eq(name, arches[i].names[k]))
                return (int)arches[i].arch;
        }
    }
    return -1;
}

// "architectures": a list; "archMap": the native one's entry. Others' are for other machines.
static void parse_arches(struct parser *p, const json_t *root)
{
    size_t i, k;
    const json_t *value, *sub;
    p->out->arches[SECCOMP_X86_64] = true;
    json_array_foreach(json_object_get(root, "architectures"), i, value)
    {
        int arch = parse_arch_name(json_string_value(value));
        if (arch >= 0)
            p->out->arches[arch] = true;
    }
    json_array_foreach(json_object_get(root, "archMap"), i, value)
    {
        if (parse_arch_name(json_string_value(json_object_get(value, "architecture"))) != SECCOMP_X86_64)
            continue;
        json_array_foreach(json_object_get(value, "subArchitectures"), k, sub)
        {
            int arch = parse_arch_name(json_string_value(sub));
            if (arch >= 0)
                p->out->arches[arch] = true;
        }
    }
}

static int parse_flags(struct parser *p, const json_t *list)
{
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        const char *name = json_string_value(value);
        if (str_eq(name, "SECCOMP_FILTER_FLAG_LOG"))
            p->out->flags |= SECCOMP_FILTER_FLAG_LOG;
        else if (str_eq(name, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"))
            p->out->flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        else if (!str_eq(name, "SECCOMP_FILTER_FLAG_TSYNC")) // moot: there is one thread before exec
            return bad(p, "flags", i, "unknown or unsupported flag", name);
    }
    return 0;
}

static bool get_u64(const json_t *object, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(object, key);
    *out = 0;
    if (v && (!json_is_integer(v) || json_integer_value(v) < 0))
        return false;
    *out = (uint64_t)json_integer_value(v); // 0 when it isn't there
    return true;
}

static int parse_arg(struct parser *p, size_t index, const json_t *object, struct seccomp_arg *out)
{
    static const struct {
        const char *name;
        enum seccomp_op op;
    } ops[] = {{"SCMP_CMP_EQ", SECCOMP_EQ}, {"SCMP_CMP_NE", SECCOMP_NE}, {"SCMP_CMP_LT", SECCOMP_LT},
               {"SCMP_CMP_LE", SECCOMP_LE}, {"SCMP_CMP_GE", SECCOMP_GE}, {"SCMP_CMP_GT", SECCOMP_GT}};
    const char *op = json_string_value(json_object_get(object, "op"));
    uint64_t position, value, second;
    if (!get_u64(object, "index", &position) || position >= SECCOMP_ARGS_MAX)
        return bad(p, "syscalls", index, "bad index of an argument", NULL);
    if (!get_u64(object, "value", &value) || !get_u64(object, "valueTwo", &second))
        return bad(p, "syscalls", index, "bad value of an argument", NULL);
    *out = (struct seccomp_arg){.index = (uint32_t)position, .mask = UINT64_MAX, .value = value};
    if (str_eq(op, "SCMP_CMP_MASKED_EQ")) {
        out->mask = value;
        out->value = second;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        if (str_eq(op, ops[i].name)) {
            out->op = ops[i].op;
            return 0;
        }
    }
    return bad(p, "syscalls", index, "unknown op of an argument", op);
}

// Is the running kernel at least "4.8"?
static bool kernel_at_least(const char *version)
{
    struct utsname u;
    unsigned want_major = 0, want_minor = 0, major = 0, minor = 0;
    if (uname(&u) < 0 || sscanf(version, "%u.%u", &want_major, &want_minor) < 1 ||
        sscanf(u.release, "%u.%u", &major, &minor) < 2)
        return false;
    return major > want_major || (major == want_major && minor >= want_minor);
}

// How many of the listed capabilities the container has.
static size_t count_caps(const struct parser *p, const json_t *list)
{
    size_t i, n = 0;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        int cap = caps_parse(json_string_value(value));
        n += cap >= 0 && (p->caps & CAPS_BIT(cap));
    }
    return n;
}

static bool has_arch(const json_t *list)
{
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        if (parse_arch_name(json_string_value(value)) >= 0)
            return true;
    }
    return false;
}

// Docker's words: every capability of "includes" has to be there, none of "excludes" may be.
static bool applies(const struct parser *p, const json_t *entry)
{
    const json_t *in = json_object_get(entry, "includes"), *ex = json_object_get(entry, "excludes");
    const char *in_kernel = json_string_value(json_object_get(in, "minKernel"));
    const char *ex_kernel = json_string_value(json_object_get(ex, "minKernel"));
    const json_t *arches = json_object_get(in, "arches"), *caps = json_object_get(in, "caps");
    if (json_array_size(arches) > 0 && !has_arch(arches))
        return false;
    if (count_caps(p, caps) < json_array_size(caps))
        return false;
    if (in_kernel && !kernel_at_least(in_kernel))
        return false;
    if (has_arch(json_object_get(ex, "arches")) || count_caps(p, json_object_get(ex, "caps")) > 0)
        return false;
    return !(ex_kernel && kernel_at_least(ex_kernel));
}

static int add_entry(struct parser *p, struct seccomp_rule *rule, const char *name, const json_t *args,
                     size_t index)
{
    rule->name = name;
    // Of calls that nobody here knows by name there is no number; on this kernel nobody can make them by it
    // either, or they get ENOSYS.
    if (!name || !seccomp_name_exists(name))
        return 0;
    // Docker's format has several comparisons of one argument stand for alternatives: one rule each.
    bool seen[SECCOMP_ARGS_MAX] = {false}, alternatives = false;
    struct seccomp_rule all = *rule;
    size_t i;
    const json_t *value;
    json_array_foreach(args, i, value)
    {
        struct seccomp_arg arg = {0};
        int r = parse_arg(p, index, value, &arg);
        if (r < 0)
            return r;
        alternatives = alternatives || seen[arg.index] || all.n_args == SECCOMP_ARGS_MAX;
        seen[arg.index] = true;
        if (!alternatives)
            all.args[all.n_args++] = arg;
    }
    int r = alternatives ? 0 : seccomp_profile_add(p->out, &all);
    json_array_foreach(args, i, value)
    {
        struct seccomp_rule one = *rule;
        if (!alternatives || r < 0)
            break;
        r = parse_arg(p, index, value, &one.args[0]);
        one.n_args = 1;
        if (r == 0)
            r = seccomp_profile_add(p->out, &one);
    }
    return r == -E2BIG ? bad_top(p, "syscalls", "too many rules") : r;
}

static int parse_entry(struct parser *p, const json_t *entry, size_t index)
{
    static const struct member members[] = {
        {"names", JSON_ARRAY}, {"args", JSON_ARRAY}, {"includes", JSON_OBJECT}, {"excludes", JSON_OBJECT}};
    static const struct member filters[] = {
        {"arches", JSON_ARRAY}, {"caps", JSON_ARRAY}, {"minKernel", JSON_STRING}};
    struct seccomp_rule rule = {0};
    const char *wrong = wrong_member(entry, members, ARRAY_SIZE(members));
    if (!wrong)
        wrong = wrong_member(json_object_get(entry, "includes"), filters, ARRAY_SIZE(filters));
    if (!wrong)
        wrong = wrong_member(json_object_get(entry, "excludes"), filters, ARRAY_SIZE(filters));
    if (wrong)
        return bad(p, "syscalls", index, "wrong type of", wrong);
    const json_t *names = json_object_get(entry, "names"), *args = json_object_get(entry, "args"), *value;
    const char *action = json_string_value(json_object_get(entry, "action"));
    const char *single = json_string_value(json_object_get(entry, "name"));
    if (!json_is_object(entry) || (!json_is_array(names) && !single))
        return bad(p, "syscalls", index, "has no names", NULL);
    if (!parse_action(action, json_object_get(entry, "errnoRet"), &rule.action))
        return bad(p, "syscalls", index, "unknown or unsupported action", action);
    if (!applies(p, entry))
        return 0;
    size_t i;
    json_array_foreach(names, i, value)
    {
        int r = add_entry(p, &rule, json_string_value(value), args, index);
        if (r < 0)
            return r;
    }
    return single ? add_entry(p, &rule, single, args, index) : 0;
}

int seccomp_parse_json(const char *file, const char *text, size_t len, uint64_t caps,
                       struct seccomp_profile *out, void **keep, struct error *err)
{
    json_error_t where;
    struct parser p = {.file = file, .caps = caps, .out = out, .err = err};
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%.200s:%d: %s", file, where.line, where.text);
    *keep = root;
    static const struct member members[] = {{"syscalls", JSON_ARRAY},
                                            {"flags", JSON_ARRAY},
                                            {"architectures", JSON_ARRAY},
                                            {"archMap", JSON_ARRAY}};
    const char *wrong = wrong_member(root, members, ARRAY_SIZE(members));
    if (wrong)
        return bad_top(&p, wrong, "must be a list");
    if (json_object_get(root, "listenerPath"))
        return bad_top(&p, "listenerPath", "notification listeners are not supported");
    const char *action = json_string_value(json_object_get(root, "defaultAction"));
    if (!parse_action(action, json_object_get(root, "defaultErrnoRet"), &out->default_action))
        return bad_top(&p, "defaultAction", action ? "unknown or unsupported action" : "is missing");
    parse_arches(&p, root);
    int r = parse_flags(&p, json_object_get(root, "flags"));
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(root, "syscalls"), i, entry)
    {
        if (r < 0)
            break;
        r = parse_entry(&p, entry, i);
    }
    return r;
}

void seccomp_json_keep_free(void *keep)
{
    json_decref(keep); // NULL is fine
}
