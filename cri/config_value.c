// Values of the configuration: from text and back to what is allowed.
#include "cri/config_internal.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "base/rlimit.h"

#define CONFIG_LIST_MAX   64
#define CGROUP_PARENT_MAX 512

bool config_is_map(const struct config_key *key)
{
    return key->type == CONFIG_REGISTRIES || key->type == CONFIG_POLICIES;
}

void *config_field(const struct config *c, const struct config_key *key)
{
    return (char *)(uintptr_t)c + key->offset;
}

bool config_is_normal_path(const char *path)
{
    if (path[0] != '/' || strlen(path) >= 4096)
        return false;
    for (const char *at = path; *at;) {
        const char *name = at + 1;
        size_t len = strcspn(name, "/");
        bool last = name[len] == '\0';
        if (len == 0 && !(last && at == path)) // "//" or a slash at the end
            return false;
        if (len > NAME_MAX)
            return false;
        if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
            return false;
        at = name + len;
    }
    for (const char *at = path; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return false;
    }
    return true;
}

bool config_is_socket_path(const char *value)
{
    return strlen(value) < sizeof(((struct sockaddr_un *)0)->sun_path);
}

bool config_is_slice(const char *value)
{
    size_t len = strlen(value);
    if (!str_has_suffix(value, ".slice") || strchr("-.", value[0]) || len > 255 || strstr(value, "--") ||
        str_has_suffix(value, "-.slice"))
        return false;
    // What systemd takes in the names of units, but for '@', which a slice can't have.
    return strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\") == len;
}

bool config_is_cgroup_parent(const char *value)
{
    // The root isn't a place for pods, and the pod's and the container's ids have to fit behind it.
    return config_is_slice(value) ||
           (config_is_normal_path(value) && value[1] != '\0' && strlen(value) <= CGROUP_PARENT_MAX);
}

bool config_is_assignment(const char *value)
{
    const char *equals = strchr(value, '=');
    return equals && equals > value && strcspn(value, " \t\n") > (size_t)(equals - value);
}

bool config_is_handler_name(const char *value)
{
    size_t len = strlen(value);
    if (len == 0 || len > 63 || value[0] == '-' || value[len - 1] == '-')
        return false;
    return strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

bool config_is_name_pattern(const char *value)
{
    size_t len = strlen(value);
    return len > 0 && len <= 63 && strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-*?") == len;
}

bool config_is_rlimit(const char *value)
{
    struct rlimit_spec spec;
    return rlimit_parse(value, &spec);
}

bool config_is_address(const char *value)
{
    const char *colon = strrchr(value, ':');
    uint64_t port;
    char host[64];
    size_t len = colon ? (size_t)(colon - value) : 0;
    if (len == 0 || len >= sizeof(host) || str_parse_u64(colon + 1, 0, 65535, &port) != 0)
        return false;
    memcpy(host, value, len);
    host[len] = '\0';
    struct in6_addr address;
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        return inet_pton(AF_INET6, host + 1, &address) == 1;
    }
    return inet_pton(AF_INET, host, &address) == 1;
}

static const struct {
    const char *name;
    int64_t ns;
} duration_units[] = {{"h", 3600 * NS_PER_SEC}, {"m", 60 * NS_PER_SEC}, {"s", NS_PER_SEC}, {"ms", NS_PER_MS}};

int config_parse_duration(const char *text, int64_t *ns)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9)
        return -EINVAL;
    int64_t number = strtoll(text, NULL, 10);
    for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++) {
        if (strcmp(text + digits, duration_units[i].name) == 0)
            return __builtin_mul_overflow(number, duration_units[i].ns, ns) ? -EINVAL : 0;
    }
    return -EINVAL;
}

char *config_format_duration(int64_t ns)
{
    for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++) {
        if (ns % duration_units[i].ns == 0 && ns != 0)
            return str_printf("%lld%s", (long long)(ns / duration_units[i].ns), duration_units[i].name);
    }
    return str_printf("%lldms", (long long)(ns / NS_PER_MS));
}

static int parse_enum(const struct config_key *key, const char *text, int64_t *out)
{
    for (int64_t i = 0; key->names[i]; i++) {
        if (strcmp(key->names[i], text) == 0) {
            *out = i;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_bool(const char *text, bool *out)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return -EINVAL;
    *out = text[0] == 't';
    return 0;
}

static bool text_is_valid(const struct config_key *key, const char *text)
{
    bool path = key->type == CONFIG_PATH || key->type == CONFIG_PATHS;
    if (text[0] == '\0' || !str_is_utf8(text) || (path && !config_is_normal_path(text)))
        return false;
    return !key->valid || key->valid(text);
}

static int set_number(const struct config_key *key, const char *text, int64_t *field)
{
    int64_t value;
    int rc = key->type == CONFIG_ENUM       ? parse_enum(key, text, &value)
             : key->type == CONFIG_DURATION ? config_parse_duration(text, &value)
                                            : str_parse_i64(text, key->min, key->max, &value);
    if (rc != 0 || (key->type == CONFIG_DURATION && (value < key->min || value > key->max)))
        return -EINVAL;
    *field = value;
    return 0;
}

int config_set_text(struct config *c, const struct config_key *key, const char *text)
{
    void *field = config_field(c, key);
    switch (key->type) {
    case CONFIG_BOOL:
        return parse_bool(text, field);
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_ENUM:
        return set_number(key, text, field);
    case CONFIG_STRING:
    case CONFIG_PATH: {
        if (!text_is_valid(key, text))
            return -EINVAL;
        char *copy = strdup(text);
        if (!copy)
            return -ENOMEM;
        free(*(char **)field);
        *(char **)field = copy;
        return 0;
    }
    default:
        return -EINVAL;
    }
}

int config_append_text(struct config *c, const struct config_key *key, const char *text)
{
    char ***list = config_field(c, key);
    if (!text_is_valid(key, text) || strv_len(*list) >= CONFIG_LIST_MAX)
        return -EINVAL;
    return strv_append(list, text);
}

void config_clear(struct config *c, const struct config_key *key)
{
    void *field = config_field(c, key);
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
        free(steal_ptr((char **)field));
        break;
    case CONFIG_STRINGS:
    case CONFIG_PATHS:
        strv_free(steal_ptr((char ***)field));
        break;
    case CONFIG_REGISTRIES: // in the config's arena
    case CONFIG_POLICIES:
        *(void **)field = NULL;
        break;
    default:
        break;
    }
}

static char *allowed_enum(const struct config_key *key)
{
    struct buf b;
    buf_init(&b, 256);
    for (size_t i = 0; key->names[i]; i++)
        (void)buf_printf(&b, "%s%s", i == 0 ? "" : key->names[i + 1] ? ", " : " or ", key->names[i]);
    return buf_steal(&b);
}

char *config_allowed(const struct config_key *key)
{
    _cleanup_free_ char *low = NULL, *high = NULL;
    if (key->allowed)
        return strdup(key->allowed);
    switch (key->type) {
    case CONFIG_ENUM:
        return allowed_enum(key);
    case CONFIG_BOOL:
        return strdup("true or false");
    case CONFIG_INT:
        return str_printf("a whole number from %lld to %lld", (long long)key->min, (long long)key->max);
    case CONFIG_DURATION:
        low = config_format_duration(key->min);
        high = config_format_duration(key->max);
        return str_printf("a duration such as 500ms, 30s or 2m, from %s to %s", low, high);
    case CONFIG_PATH:
        return strdup("an absolute path without \".\", \"..\" or \"//\"");
    case CONFIG_PATHS:
        return strdup("a list of absolute paths without \".\", \"..\" or \"//\"");
    case CONFIG_STRINGS:
        return strdup("a list of texts");
    case CONFIG_REGISTRIES:
        return strdup("a map of registry hosts");
    case CONFIG_POLICIES:
        return strdup("a map of registry hosts with or without a path");
    default:
        return strdup("a text that is not empty");
    }
}
