// Localhost profiles: the elements of "syscalls".
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/seccomp_json_internal.h"

// A non-negative integer; those above INT64_MAX come as strings (seccomp_text_quote_integers()). Absent: 0.
static int read_u64(struct json_reader *r, const char *path, const json_t *object, const char *key,
                    uint64_t *out)
{
    char at[JSON_PATH_MAX];
    const json_t *v = json_object_get(object, key);
    *out = 0;
    if (!v || json_is_null(v))
        return 0;
    if (json_is_string(v) &&
        str_parse_u64(json_string_value(v), (uint64_t)INT64_MAX + 1, UINT64_MAX, out) == 0)
        return 0;
    (void)snprintf(at, sizeof(at), "%s.%s", path, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return json_reader_bad(r, at, "must be an integer from 0 to 18446744073709551615");
    *out = (uint64_t)json_integer_value(v);
    return 0;
}

static int read_arg(struct json_reader *r, const char *path, const json_t *object, struct seccomp_arg *out)
{
    static const struct json_member members[] = {
        {"index", JSON_INTEGER}, {"value", JSON_TRUE}, {"valueTwo", JSON_TRUE}, {"op", JSON_STRING}};
    static const struct {
        const char *name;
        enum seccomp_op op;
    } ops[] = {{"SCMP_CMP_EQ", SECCOMP_EQ}, {"SCMP_CMP_NE", SECCOMP_NE}, {"SCMP_CMP_LT", SECCOMP_LT},
               {"SCMP_CMP_LE", SECCOMP_LE}, {"SCMP_CMP_GE", SECCOMP_GE}, {"SCMP_CMP_GT", SECCOMP_GT}};
    char at[JSON_PATH_MAX];
    uint64_t position = 0, value = 0, second = 0;
    int rc = json_reader_check(r, path, object, members, ARRAY_SIZE(members));
    if (rc == 0)
        rc = read_u64(r, path, object, "index", &position);
    if (rc == 0)
        rc = read_u64(r, path, object, "value", &value);
    if (rc == 0)
        rc = read_u64(r, path, object, "valueTwo", &second);
    if (rc < 0)
        return rc;
    (void)snprintf(at, sizeof(at), "%s.index", path);
    if (position >= SECCOMP_ARGS_MAX)
        return json_reader_bad(r, at, "must be between 0 and %d", SECCOMP_ARGS_MAX - 1);
    *out = (struct seccomp_arg){.index = (uint32_t)position, .mask = UINT64_MAX, .value = value};
    const char *op = json_string_value(json_object_get(object, "op"));
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
    (void)snprintf(at, sizeof(at), "%s.op", path);
    return json_reader_bad(r, at, "unknown comparison \"%.60s\"", op ? op : "");
}

// "4.8": the running kernel has to be at least that.
static int kernel_holds(struct json_reader *r, const char *path, const json_t *filter, bool *out)
{
    char at[JSON_PATH_MAX];
    const char *version = json_string_value(json_object_get(filter, "minKernel"));
    unsigned major = 0, minor = 0;
    int end = 0;
    *out = true;
    if (str_empty(version))
        return 0;
    if (strspn(version, "0123456789.") != strlen(version) ||
        sscanf(version, "%4u.%4u%n", &major, &minor, &end) != 2 || version[end]) {
        (void)snprintf(at, sizeof(at), "%s.minKernel", path);
        return json_reader_bad(r, at, "\"%.60s\" is not a kernel version such as 4.8", version);
    }
    *out = r->target->kernel >= SECCOMP_KERNEL(major, minor);
    return 0;
}

// How many of the listed capabilities the container has. One that we don't know is one that nobody here has.
static size_t count_caps(const struct json_reader *r, const json_t *list)
{
    size_t i, n = 0;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        int cap = caps_parse(json_string_value(value));
        n += cap >= 0 && (r->target->caps & CAPS_BIT(cap));
    }
    return n;
}

// Docker's words: the machine's architecture is listed; a program's (x86 on x86_64) isn't looked at.
static bool has_native(const struct json_reader *r, const json_t *list)
{
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        bool known;
        if (json_reader_arch(json_string_value(value), &known) == (int)r->target->native)
            return true;
    }
    return false;
}

static int check_filter(struct json_reader *r, const char *path, const json_t *filter)
{
    static const struct json_member members[] = {
        {"arches", JSON_ARRAY}, {"caps", JSON_ARRAY}, {"minKernel", JSON_STRING}};
    char at[JSON_PATH_MAX];
    if (!filter || json_is_null(filter))
        return 0;
    int rc = json_reader_check(r, path, filter, members, ARRAY_SIZE(members));
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        (void)snprintf(at, sizeof(at), "%s.%s", path, members[i].key);
        rc = json_reader_check_strings(r, at, json_object_get(filter, members[i].key));
    }
    return rc;
}

// Docker's words: every capability of "includes" has to be there, none of "excludes" may be.
static int applies(struct json_reader *r, const char *path, const json_t *entry, bool *out)
{
    const json_t *in = json_object_get(entry, "includes"), *ex = json_object_get(entry, "excludes");
    char at_in[JSON_PATH_MAX], at_ex[JSON_PATH_MAX];
    bool in_kernel = true, ex_kernel = true;
    (void)snprintf(at_in, sizeof(at_in), "%s.includes", path);
    (void)snprintf(at_ex, sizeof(at_ex), "%s.excludes", path);
    int rc = check_filter(r, at_in, in);
    if (rc == 0)
        rc = check_filter(r, at_ex, ex);
    if (rc == 0)
        rc = kernel_holds(r, at_in, in, &in_kernel);
    if (rc == 0)
        rc = kernel_holds(r, at_ex, ex, &ex_kernel);
    const json_t *arches = json_object_get(in, "arches"), *caps = json_object_get(in, "caps");
    *out = in_kernel && (json_array_size(arches) == 0 || has_native(r, arches)) &&
           count_caps(r, caps) == json_array_size(caps) && !has_native(r, json_object_get(ex, "arches")) &&
           count_caps(r, json_object_get(ex, "caps")) == 0 &&
           (str_empty(json_string_value(json_object_get(ex, "minKernel"))) || !ex_kernel);
    return rc;
}

// The comparisons of one element, as rules to be.
struct conditions {
    struct seccomp_arg args[SECCOMP_ARGS_MAX];
    size_t n;
    bool alternatives; // several of one argument: one rule each
};

// Docker's format, and so everybody's, has several comparisons of one argument stand for alternatives, and
// then those of other arguments too (runc's reading, which profiles rely on).
static int read_args(struct json_reader *r, const char *path, const json_t *list, struct conditions *out)
{
    char at[JSON_PATH_MAX];
    bool seen[SECCOMP_ARGS_MAX] = {false};
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value)
    {
        struct seccomp_arg arg;
        (void)snprintf(at, sizeof(at), "%s.args[%zu]", path, i);
        int rc = read_arg(r, at, value, &arg);
        if (rc < 0)
            return rc;
        out->alternatives = out->alternatives || seen[arg.index];
        seen[arg.index] = true;
        if (!out->alternatives)
            out->args[out->n++] = arg;
    }
    return 0;
}

static int add_alternatives(struct json_reader *r, const char *path, struct seccomp_rule rule,
                            const json_t *list)
{
    size_t i;
    const json_t *value;
    int rc = 0;
    json_array_foreach(list, i, value)
    {
        if (rc == 0)
            rc = read_arg(r, path, value, &rule.args[0]);
        rule.n_args = 1;
        if (rc == 0)
            rc = seccomp_profile_add(r->out, &rule);
    }
    return rc;
}

// Calls that our table lacks have no number: they are for other architectures, or newer than this version.
static int add_name(struct json_reader *r, const char *path, struct seccomp_rule *rule,
                    const struct conditions *conditions, const json_t *args)
{
    int rc;
    if (!seccomp_name_exists(rule->name))
        return 0;
    if (conditions->alternatives) {
        rc = add_alternatives(r, path, *rule, args);
    } else {
        memcpy(rule->args, conditions->args, sizeof(rule->args));
        rule->n_args = conditions->n;
        rc = seccomp_profile_add(r->out, rule);
    }
    if (rc == -E2BIG)
        return json_reader_bad(r, path, "the profile has more than %d rules", SECCOMP_RULES_MAX);
    return rc == -ENOMEM ? error_errno(r->err, ENOMEM, "read the seccomp profile") : rc;
}

// Whoever named a call, in whatever condition, knew all the older ones.
static void note_age(struct json_reader *r, const char *name)
{
    for (int arch = 0; arch < SECCOMP_ARCHES; arch++) {
        int nr = seccomp_number((enum seccomp_arch)arch, name);
        int age = nr < 0 ? 0 : seccomp_age((enum seccomp_arch)arch, nr);
        if (age > r->out->newest[arch])
            r->out->newest[arch] = age;
    }
}

int json_reader_entry(struct json_reader *r, const json_t *entry, size_t index)
{
    static const struct json_member members[] = {
        {"names", JSON_ARRAY},      {"name", JSON_STRING},     {"action", JSON_STRING},
        {"errnoRet", JSON_INTEGER}, {"errno", JSON_STRING},    {"args", JSON_ARRAY},
        {"includes", JSON_OBJECT},  {"excludes", JSON_OBJECT}, {"comment", JSON_TRUE}};
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    struct seccomp_rule rule = {0};
    struct conditions conditions = {.n = 0};
    bool wanted = false;
    (void)snprintf(path, sizeof(path), "syscalls[%zu]", index);
    (void)snprintf(at, sizeof(at), "%s.names", path);
    int rc = json_reader_check(r, path, entry, members, ARRAY_SIZE(members));
    const json_t *names = json_object_get(entry, "names"), *args = json_object_get(entry, "args"), *value;
    const char *single = json_string_value(json_object_get(entry, "name"));
    if (rc == 0 && json_array_size(names) == 0 && str_empty(single))
        rc = json_reader_bad(r, path, "has no names");
    if (rc == 0)
        rc = json_reader_check_strings(r, at, names);
    if (rc == 0)
        rc = json_reader_action(r, path, entry, "action", "errnoRet", &rule.action);
    if (rc == 0)
        rc = read_args(r, path, args, &conditions);
    if (rc == 0)
        rc = applies(r, path, entry, &wanted);
    size_t i;
    json_array_foreach(names, i, value)
    {
        rule.name = json_string_value(value);
        if (rc == 0)
            note_age(r, rule.name);
        if (rc == 0 && wanted)
            rc = add_name(r, path, &rule, &conditions, args);
    }
    rule.name = single;
    if (rc == 0 && !str_empty(single))
        note_age(r, single);
    return rc == 0 && !str_empty(single) && wanted ? add_name(r, path, &rule, &conditions, args) : rc;
}
