#include "base/rlimit.h"

#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

static const char *const names[] = {
    [RLIMIT_CPU] = "cpu",           [RLIMIT_FSIZE] = "fsize",
    [RLIMIT_DATA] = "data",         [RLIMIT_STACK] = "stack",
    [RLIMIT_CORE] = "core",         [RLIMIT_RSS] = "rss",
    [RLIMIT_NPROC] = "nproc",       [RLIMIT_NOFILE] = "nofile",
    [RLIMIT_MEMLOCK] = "memlock",   [RLIMIT_AS] = "as",
    [RLIMIT_LOCKS] = "locks",       [RLIMIT_SIGPENDING] = "sigpending",
    [RLIMIT_MSGQUEUE] = "msgqueue", [RLIMIT_NICE] = "nice",
    [RLIMIT_RTPRIO] = "rtprio",     [RLIMIT_RTTIME] = "rttime",
};
_Static_assert(ARRAY_SIZE(names) == RLIMIT_NLIMITS && RLIMIT_LIST_MAX == RLIMIT_NLIMITS, "one name for each");

const char *rlimit_name(uint32_t resource)
{
    return resource < ARRAY_SIZE(names) ? names[resource] : NULL;
}

static bool parse_value(const char *text, size_t len, uint64_t *out)
{
    char copy[24];
    if (len == 0 || len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (str_eq(copy, "unlimited")) {
        *out = RLIM_INFINITY;
        return true;
    }
    return str_parse_u64(copy, 0, INT64_MAX, out) == 0;
}

bool rlimit_parse(const char *text, struct rlimit_spec *out)
{
    size_t len = strcspn(text, "=");
    if (text[len] != '=')
        return false;
    for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strlen(names[i]) != len || memcmp(names[i], text, len) != 0)
            continue;
        const char *value = text + len + 1;
        size_t soft = strcspn(value, ":");
        const char *hard = value[soft] ? value + soft + 1 : value;
        out->resource = i;
        return parse_value(value, soft, &out->soft) && parse_value(hard, strlen(hard), &out->hard) &&
               out->soft <= out->hard;
    }
    return false;
}

int rlimit_parse_list(const char *const *texts, struct rlimit_list *out, struct error *err)
{
    out->n = 0;
    for (; texts && *texts; texts++) {
        struct rlimit_spec one;
        if (!rlimit_parse(*texts, &one))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "\"%.100s\" is no resource limit such as nofile=1024:1048576", *texts);
        size_t at = 0;
        while (at < out->n && out->items[at].resource != one.resource)
            at++;
        out->items[at] = one;
        out->n += at == out->n;
    }
    return 0;
}

static uint64_t nofile_max(void)
{
    _cleanup_free_ char *text = NULL;
    uint64_t max;
    if (file_read("/proc/sys/fs/nr_open", 32, &text, NULL, NULL) < 0)
        return RLIM_INFINITY;
    text[strcspn(text, "\n")] = '\0';
    return str_parse_u64(text, 0, INT64_MAX, &max) == 0 ? max : RLIM_INFINITY;
}

bool rlimit_is_out_of_reach(const struct rlimit_spec *wanted, bool can_raise, uint64_t *got)
{
    struct rlimit64 own;
    if (getrlimit64((__rlimit_resource_t)wanted->resource, &own) < 0 || wanted->hard <= own.rlim_max)
        return false;
    // Neither is raised to the most there can be: it stays where it is.
    *got = own.rlim_max;
    return !can_raise || (wanted->resource == RLIMIT_NOFILE && wanted->hard > nofile_max());
}
