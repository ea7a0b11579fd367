// Localhost profiles: JSON as the OCI runtime spec and Docker have it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/seccomp_json_internal.h"

#define ERRNO_MAX       4095 // the kernel cuts greater ones
#define ERRNO_NAMED_MAX 256  // names end far below

int json_reader_bad(struct json_reader *r, const char *path, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return error_set(r->err, STATUS_INVALID_ARGUMENT, EINVAL, "%.200s:%d: %s%s%s", r->file,
                     seccomp_text_line(r->text, r->len, path), path, *path ? ": " : "", what);
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    default:
        return "an integer";
    }
}

int json_reader_check(struct json_reader *r, const char *path, const json_t *object,
                      const struct json_member *members, size_t n)
{
    char at[JSON_PATH_MAX];
    const char *key, *dot = *path ? "." : "";
    json_t *value;
    if (!json_is_object(object))
        return json_reader_bad(r, path, "must be an object");
    json_object_foreach((json_t *)object, key, value)
    {
        size_t i = 0;
        while (i < n && !str_eq(key, members[i].key))
            i++;
        (void)snprintf(at, sizeof(at), "%s%s%.40s", path, dot, key);
        if (i == n && !strchr("$_/#", key[0]))
            return json_reader_bad(r, at, "is not part of a seccomp profile");
        if (i < n && !json_is_null(value) && members[i].type != JSON_TRUE &&
            json_typeof(value) != members[i].type)
            return json_reader_bad(r, at, "must be %s", type_name(members[i].type));
    }
    return 0;
}

int json_reader_check_strings(struct json_reader *r, const char *path, const json_t *list)
{
    char at[JSON_PATH_MAX];
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        (void)snprintf(at, sizeof(at), "%s[%zu]", path, i);
        if (!json_is_string(value))
            return json_reader_bad(r, at, "must be a string");
    }
    return 0;
}

// "ENOSYS": podman's profiles have it beside the number, and then it is what counts. -1: no such name.
static int errno_by_name(const char *name)
{
    for (int i = 1; i < ERRNO_NAMED_MAX; i++) {
        if (str_eq(strerrorname_np(i), name))
            return i;
    }
    return -1;
}

// The number that goes with ERRNO or TRACE: by name, by number, or EPERM.
static int read_errno(struct json_reader *r, const char *path, const json_t *object, const char *key, int max,
                      uint32_t *out)
{
    char at[JSON_PATH_MAX], name_key[32];
    (void)snprintf(name_key, sizeof(name_key), "%.*s", (int)(strlen(key) - strlen("Ret")), key);
    const char *name = json_string_value(json_object_get(object, name_key));
    const json_t *number = json_object_get(object, key);
    json_int_t value = json_is_integer(number) ? json_integer_value(number) : EPERM;
    bool named = !str_empty(name);
    (void)snprintf(at, sizeof(at), "%s%s%s", path, *path ? "." : "", named ? name_key : key);
    if (named && (value = errno_by_name(name)) < 0)
        return json_reader_bad(r, at, "unknown errno \"%.60s\"", name);
    if (value < 0 || value > max)
        return json_reader_bad(r, at, "must be between 0 and %d", max);
    *out = (uint32_t)value;
    return 0;
}

int json_reader_action(struct json_reader *r, const char *path, const json_t *object, const char *key,
                       const char *errno_key, uint32_t *out)
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
    char at[JSON_PATH_MAX];
    const char *name = json_string_value(json_object_get(object, key)), *dot = *path ? "." : "";
    size_t i = 0;
    (void)snprintf(at, sizeof(at), "%s%s%s", path, dot, key);
    if (!name)
        return json_reader_bad(r, at, "is missing");
    if (str_eq(name, "SCMP_ACT_NOTIFY"))
        return json_reader_bad(r, at, "SCMP_ACT_NOTIFY is not supported: there is no listener to ask");
    while (i < ARRAY_SIZE(actions) && !str_eq(name, actions[i].name))
        i++;
    if (i == ARRAY_SIZE(actions))
        return json_reader_bad(r, at, "unknown action \"%.60s\"", name);
    *out = actions[i].action;
    if (*out != SECCOMP_RET_ERRNO && *out != SECCOMP_RET_TRACE)
        return 0; // a number beside another action means nothing, as with peers
    uint32_t value = 0;
    int rc = read_errno(r, path, object, errno_key, *out == SECCOMP_RET_ERRNO ? ERRNO_MAX : SECCOMP_RET_DATA,
                        &value);
    *out |= value;
    return rc;
}

int json_reader_arch(const char *name, bool *known)
{
    static const struct {
        const char *names[3]; // OCI's, Docker's (Go's), the kernel's
        int arch;
    } ours[] = {{{"SCMP_ARCH_X86_64", "amd64", "x86_64"}, SECCOMP_X86_64},
                {{"SCMP_ARCH_X86", "x86", "386"}, SECCOMP_X86},
                {{"SCMP_ARCH_X32", "x32", NULL}, SECCOMP_X32},
                {{"SCMP_ARCH_AARCH64", "arm64", "aarch64"}, SECCOMP_AARCH64}};
    static const char *const others[] = {
        "SCMP_ARCH_ARM",    "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",  "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
        "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",   "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB"};
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        for (size_t k = 0; k < 3; k++) {
            *known = name && ours[i].names[k] && str_eq(name, ours[i].names[k]);
            if (*known)
                return ours[i].arch;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(others) && !*known; i++)
        *known = str_eq(name, others[i]);
    return -1;
}

// Adds the architectures of a list. Those that this machine can't run are for other machines.
static int add_arches(struct json_reader *r, const char *path, const json_t *list)
{
    char at[JSON_PATH_MAX];
    size_t i;
    const json_t *value;
    int rc = json_reader_check_strings(r, path, list);
    json_array_foreach(list, i, value)
    {
        bool known;
        if (rc < 0)
            break;
        int arch = json_reader_arch(json_string_value(value), &known);
        (void)snprintf(at, sizeof(at), "%s[%zu]", path, i);
        if (!known)
            rc = json_reader_bad(r, at, "unknown architecture \"%.60s\"", json_string_value(value));
        else if (arch >= 0 && (arch == SECCOMP_AARCH64) == (r->target->native == SECCOMP_AARCH64))
            r->out->arches[arch] = true;
    }
    return rc;
}

// "architectures": a list; "archMap": the native one's entry. The native one itself is always in.
static int read_arches(struct json_reader *r, const json_t *root)
{
    static const struct json_member members[] = {{"architecture", JSON_STRING},
                                                 {"subArchitectures", JSON_ARRAY}};
    char at[JSON_PATH_MAX];
    size_t i;
    const json_t *value;
    r->out->arches[r->target->native] = true;
    int rc = add_arches(r, "architectures", json_object_get(root, "architectures"));
    json_array_foreach(json_object_get(root, "archMap"), i, value)
    {
        bool known;
        (void)snprintf(at, sizeof(at), "archMap[%zu]", i);
        if (rc == 0)
            rc = json_reader_check(r, at, value, members, ARRAY_SIZE(members));
        if (rc < 0)
            break;
        const char *name = json_string_value(json_object_get(value, "architecture"));
        int arch = json_reader_arch(name, &known);
        if (!known)
            return json_reader_bad(r, at, "unknown architecture \"%.60s\"", name ? name : "");
        (void)snprintf(at, sizeof(at), "archMap[%zu].subArchitectures", i);
        if (arch == (int)r->target->native)
            rc = add_arches(r, at, json_object_get(value, "subArchitectures"));
    }
    return rc;
}

// Without "flags" SPEC_ALLOW is on, as with peers; an empty list turns it off.
static int read_flags(struct json_reader *r, const json_t *list)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } flags[] = {{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
                 {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
                 // There is one thread when the filter is installed.
                 {"SECCOMP_FILTER_FLAG_TSYNC", 0},
                 // How a listener's answers are waited for; there is no listener.
                 {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0}};
    char at[JSON_PATH_MAX];
    size_t i;
    const json_t *value;
    if (!json_is_array(list))
        r->out->flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    int rc = json_reader_check_strings(r, "flags", list);
    json_array_foreach(list, i, value)
    {
        const char *name = json_string_value(value);
        size_t k = 0;
        if (rc < 0)
            return rc;
        while (k < ARRAY_SIZE(flags) && !str_eq(name, flags[k].name))
            k++;
        (void)snprintf(at, sizeof(at), "flags[%zu]", i);
        if (k == ARRAY_SIZE(flags))
            return json_reader_bad(r, at, "unknown flag \"%.60s\"", name);
        r->out->flags |= flags[k].flag;
    }
    return rc;
}

static int read_root(struct json_reader *r, const json_t *root)
{
    static const struct json_member members[] = {
        {"defaultAction", JSON_STRING}, {"defaultErrnoRet", JSON_INTEGER}, {"defaultErrno", JSON_STRING},
        {"architectures", JSON_ARRAY},  {"archMap", JSON_ARRAY},           {"flags", JSON_ARRAY},
        {"syscalls", JSON_ARRAY},       {"listenerPath", JSON_STRING},     {"listenerMetadata", JSON_STRING},
        {"comment", JSON_TRUE}};
    static const char *const listener[] = {"listenerPath", "listenerMetadata"};
    size_t i;
    const json_t *entry;
    int rc = json_reader_check(r, "", root, members, ARRAY_SIZE(members));
    for (i = 0; rc == 0 && i < ARRAY_SIZE(listener); i++) {
        if (!str_empty(json_string_value(json_object_get(root, listener[i]))))
            rc = json_reader_bad(r, listener[i], "notification listeners are not supported");
    }
    if (rc == 0)
        rc = json_reader_action(r, "", root, "defaultAction", "defaultErrnoRet", &r->out->default_action);
    if (rc == 0)
        rc = read_arches(r, root);
    if (rc == 0)
        rc = read_flags(r, json_object_get(root, "flags"));
    json_array_foreach(json_object_get(root, "syscalls"), i, entry)
    {
        if (rc < 0)
            break;
        rc = json_reader_entry(r, entry, i);
    }
    return rc;
}

int seccomp_parse_json(const char *file, const char *text, size_t len, const struct seccomp_target *t,
                       struct seccomp_profile *out, void **keep, struct error *err)
{
    json_error_t where;
    size_t quoted_len;
    _cleanup_free_ char *quoted = seccomp_text_quote_integers(text, len, &quoted_len);
    if (!quoted)
        return error_errno(err, ENOMEM, "read the seccomp profile %s", file);
    if (memchr(text, '\0', len)) // the library lets one through where a number ends
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%.200s: has a NUL byte in it: no JSON", file);
    json_t *root = json_loadb(quoted, quoted_len, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%.200s:%d: %s", file, where.line, where.text);
    *keep = root;
    struct json_reader r = {
        .file = file, .text = quoted, .len = quoted_len, .target = t, .out = out, .err = err};
    return read_root(&r, root);
}

void seccomp_json_keep_free(void *keep)
{
    json_decref(keep); // NULL is fine
}
