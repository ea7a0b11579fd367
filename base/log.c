#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#define LINE_MAX_BYTES 8192
#define LINE_RESERVE   16 // for the ellipsis, quote, brace and newline that end a line that was cut

static _Atomic int log_level = LOG_LEVEL_INFO;
static _Atomic int log_format = LOG_FORMAT_TEXT;

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_ERROR] = "error",
};

static const char *const format_names[] = {[LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json"};

void log_setup(enum log_level level, enum log_format format)
{
    atomic_store(&log_level, (int)level);
    atomic_store(&log_format, (int)format);
}

static int parse_name(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(name, names[i]))
            return (int)i;
    return -EINVAL;
}

int log_level_parse(const char *name, enum log_level *out)
{
    int i = parse_name(name, level_names, ARRAY_SIZE(level_names));

    if (i < 0)
        return i;
    *out = (enum log_level)i;
    return 0;
}

int log_format_parse(const char *name, enum log_format *out)
{
    int i = parse_name(name, format_names, ARRAY_SIZE(format_names));

    if (i < 0)
        return i;
    *out = (enum log_format)i;
    return 0;
}

int log_enabled(enum log_level level)
{
    return (int)level >= atomic_load(&log_level);
}

// One line under construction. No allocation: the log must work when memory has run out.
struct line {
    char data[LINE_MAX_BYTES];
    size_t len;
    bool cut;
};

// Bytes left before the reserve, into which a closing quote may have reached already.
static size_t room(const struct line *l)
{
    size_t limit = sizeof(l->data) - LINE_RESERVE;

    return l->len < limit ? limit - l->len : 0;
}

static void put(struct line *l, const char *s, size_t n)
{
    if (l->cut)
        return;
    if (n > room(l)) {
        l->cut = true;
        return;
    }
    memcpy(l->data + l->len, s, n);
    l->len += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

// Past the reserve: only what closes a line.
static void put_end(struct line *l, const char *s)
{
    size_t n = strlen(s);

    memcpy(l->data + l->len, s, n);
    l->len += n;
}

static void put_escaped(struct line *l, const char *s)
{
    static const char named[] = "b\bf\fn\nr\rt\t\"\"\\\\";

    while (*s && !l->cut) {
        unsigned char c = (unsigned char)*s;
        size_t n = str_utf8_sequence(s);
        const char *name = NULL;
        for (const char *p = named; *p && !name; p += 2)
            if (p[1] == *s)
                name = p;
        if (n == 0) {
            put_str(l, "\xef\xbf\xbd");
            n = 1;
        } else if (name) {
            put(l, (const char[]){'\\', *name}, 2);
        } else if (c < 0x20 || c == 0x7f) {
            char escape[8];
            (void)snprintf(escape, sizeof(escape), "\\u%04x", c);
            put_str(l, escape);
        } else {
            put(l, s, n);
        }
        s += n;
    }
}

static bool needs_quotes(const char *s)
{
    if (!*s)
        return true;
    for (; *s; s++)
        if ((unsigned char)*s <= 0x20 || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
            return true;
    return false;
}

static void put_quoted(struct line *l, const char *s)
{
    size_t start = l->len;

    put_str(l, "\"");
    if (l->len == start)
        return; // no room at all
    put_escaped(l, s);
    put_end(l, l->cut ? "\xe2\x80\xa6\"" : "\"");
}

static void put_pair(struct line *l, enum log_format format, const char *key, const char *value)
{
    // The key and the shortest value go together: half a pair would spoil the JSON.
    if (strlen(key) + 8 > room(l))
        l->cut = true;
    if (l->cut)
        return;
    if (format == LOG_FORMAT_JSON) {
        put_str(l, l->len > 1 ? ",\"" : "\"");
        put_str(l, key);
        put_str(l, "\":");
        put_quoted(l, value);
        return;
    }
    if (l->len > 0)
        put_str(l, " ");
    put_str(l, key);
    put_str(l, "=");
    if (needs_quotes(value) || !str_is_utf8(value) || strlen(value) > LINE_MAX_BYTES / 2)
        put_quoted(l, value);
    else
        put_str(l, value);
}

void log_event(enum log_level level, const char *message, ...)
{
    if (!log_enabled(level))
        return;

    int saved_errno = errno;
    enum log_format format = (enum log_format)atomic_load(&log_format);
    struct line l;
    char now[CLOCK_RFC3339_MAX];
    l.len = 0;
    l.cut = false;
    (void)clock_format_rfc3339(clock_wall_ns(), now);
    if (format == LOG_FORMAT_JSON)
        put_str(&l, "{");
    put_pair(&l, format, "time", now);
    put_pair(&l, format, "level", level_names[level]);
    put_pair(&l, format, "msg", message);

    va_list args;
    va_start(args, message);
    for (const char *key; (key = va_arg(args, const char *));) {
        const char *value = va_arg(args, const char *);
        put_pair(&l, format, key, value ? value : "");
    }
    va_end(args);

    put_end(&l, format == LOG_FORMAT_JSON ? "}\n" : "\n");
    // One write: lines of several threads or processes don't mix (a pipe keeps up to 4 KiB whole for sure).
    ssize_t n;
    do
        n = write(STDERR_FILENO, l.data, l.len);
    while (n < 0 && errno == EINTR);
    errno = saved_errno;
}
