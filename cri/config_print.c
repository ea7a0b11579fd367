// The configuration as text: effective YAML with comments, the table for the documents, JSON.
#include "cri/config_internal.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define PRINT_WIDTH 100

int config_print_quoted(struct buf *out, const char *text)
{
    int rc = buf_append(out, "\"", 1);
    for (const char *at = text ? text : ""; *at && rc == 0; at++) {
        unsigned char c = (unsigned char)*at;
        if (c == '"' || c == '\\')
            rc = buf_printf(out, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            rc = buf_printf(out, "\\u%04x", c);
        else
            rc = buf_append(out, at, 1);
    }
    return rc ? rc : buf_append(out, "\"", 1);
}

static int print_list(char *const *list, struct buf *out)
{
    int rc = buf_append_str(out, "[");
    for (size_t i = 0; list && list[i] && rc == 0; i++) {
        rc = buf_append_str(out, i ? ", " : "");
        rc = rc ? rc : config_print_quoted(out, list[i]);
    }
    return rc ? rc : buf_append_str(out, "]");
}

// The value as it may stand behind "key: ", in YAML and (but for durations and names) JSON alike.
static int print_value(const struct config *c, const struct config_key *key, bool json, struct buf *out)
{
    const void *field = config_field(c, key);
    _cleanup_free_ char *duration = NULL;
    const char *quote = json ? "\"" : "";
    switch (key->type) {
    case CONFIG_BOOL:
        return buf_append_str(out, *(const bool *)field ? "true" : "false");
    case CONFIG_INT:
        return buf_printf(out, "%lld", (long long)*(const int64_t *)field);
    case CONFIG_ENUM:
        return buf_printf(out, "%s%s%s", quote, key->names[*(const int64_t *)field], quote);
    case CONFIG_DURATION:
        duration = config_format_duration(*(const int64_t *)field);
        return duration ? buf_printf(out, "%s%s%s", quote, duration, quote) : -ENOMEM;
    case CONFIG_STRINGS:
    case CONFIG_PATHS:
        return print_list(*(char **const *)field, out);
    default:
        return config_print_quoted(out, *(char *const *)field);
    }
}

// A comment, broken into lines at spaces.
static int print_comment(const char *text, const char *indent, struct buf *out)
{
    int rc = 0;
    while (*text && rc == 0) {
        size_t len = strlen(text);
        if (len > PRINT_WIDTH) {
            len = PRINT_WIDTH;
            while (len > 0 && text[len] != ' ')
                len--;
            len = len ? len : PRINT_WIDTH;
        }
        rc = buf_printf(out, "%s# %.*s\n", indent, (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
    return rc;
}

static int print_key(const struct config *c, const struct config_key *key, struct buf *out)
{
    const char *dot = strchr(key->path, '.');
    const char *indent = dot ? "  " : "";
    _cleanup_free_ char *allowed = config_allowed(key);
    int rc = print_comment(key->doc, indent, out);
    if (rc != 0 || key->type == CONFIG_REGISTRIES)
        return rc ? rc : config_print_registries(c->registries, out);
    if (key->type == CONFIG_POLICIES)
        return config_print_policies(c->image_policies, out);
    _cleanup_free_ char *allowed_line = str_printf("Allowed: %s.", allowed ? allowed : "");
    rc = print_comment(allowed_line ? allowed_line : "", indent, out);
    rc = rc ? rc : buf_printf(out, "%s%s: ", indent, dot ? dot + 1 : key->path);
    rc = rc ? rc : print_value(c, key, false, out);
    return rc ? rc : buf_append_str(out, "\n");
}

static size_t group_len(const struct config_key *key)
{
    const char *dot = strchr(key->path, '.');
    return dot ? (size_t)(dot - key->path) : 0;
}

static bool same_group(size_t i, size_t j)
{
    size_t len = group_len(&config_keys[i]);
    return len == group_len(&config_keys[j]) && strncmp(config_keys[i].path, config_keys[j].path, len) == 0;
}

int config_print(const struct config *c, struct buf *out)
{
    int rc = buf_append_str(out, "# crispd's configuration as it is in force, with every key.\n");
    for (size_t i = 0; i < config_keys_len && rc == 0; i++) {
        const struct config_key *key = &config_keys[i];
        bool opens = group_len(key) && (i == 0 || !same_group(i, i - 1));
        if (opens || !group_len(key))
            rc = buf_append_str(out, "\n");
        if (opens)
            rc = rc ? rc : buf_printf(out, "%.*s:\n", (int)group_len(key), key->path);
        rc = rc ? rc : print_key(c, key, out);
    }
    return rc;
}

static const char *default_text(const struct config_key *key)
{
    if (key->default_value)
        return key->default_value;
    if (key->type == CONFIG_STRINGS || key->type == CONFIG_PATHS)
        return "[]";
    return config_is_map(key) ? "{}" : "found at start";
}

int config_print_keys(struct buf *out)
{
    int rc = buf_append_str(out, "| key | default | allowed | what it is |\n|---|---|---|---|\n");
    for (size_t i = 0; i < config_keys_len && rc == 0; i++) {
        const struct config_key *key = &config_keys[i];
        _cleanup_free_ char *allowed = config_allowed(key);
        rc = buf_printf(out, "| `%s` | `%s` | %s | %s |\n", key->path, default_text(key),
                        allowed ? allowed : "", key->doc);
    }
    return rc;
}

char *config_json(const struct config *c)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    int rc = buf_append_str(&b, "{");
    bool first = true;
    for (size_t i = 0; i < config_keys_len && rc == 0; i++) {
        const struct config_key *key = &config_keys[i];
        if (config_is_map(key))
            continue; // they may name hosts that are nobody's business outside of the node
        rc = buf_printf(&b, "%s\"%s\":", first ? "" : ",", key->path);
        rc = rc ? rc : print_value(c, key, true, &b);
        first = false;
    }
    rc = rc ? rc : buf_append_str(&b, "}");
    if (rc == 0)
        return buf_steal(&b);
    buf_done(&b);
    return NULL;
}
