#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char HEX_DIGITS[] = "0123456789abcdef";

bool str_eq(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0;
}

bool str_has_prefix(const char *s, const char *prefix)
{
    return s && prefix && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *s, const char *suffix)
{
    if (!s || !suffix)
        return false;
    size_t len = strlen(s), n = strlen(suffix);
    return n <= len && memcmp(s + len - n, suffix, n) == 0;
}

bool str_empty(const char *s)
{
    return !s || !*s;
}

char *str_printf(const char *format, ...)
{
    char *out = NULL;
    va_list args;

    va_start(args, format);
    int n = vasprintf(&out, format, args);
    va_end(args);
    return n < 0 ? NULL : out;
}

int str_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (str_empty(s))
        return -EINVAL;
    for (const char *p = s; *p; p++)
        if (*p < '0' || *p > '9')
            return -EINVAL;
    for (; *s; s++) {
        uint64_t digit = (uint64_t)(*s - '0');
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value))
            return -ERANGE;
    }
    if (value < min || value > max)
        return -ERANGE;
    *out = value;
    return 0;
}

int str_parse_i64(const char *s, int64_t min, int64_t max, int64_t *out)
{
    if (str_empty(s))
        return -EINVAL;

    bool negative = *s == '-';
    uint64_t magnitude = 0;
    int rc = str_parse_u64(negative ? s + 1 : s, 0, (uint64_t)INT64_MAX + (negative ? 1 : 0), &magnitude);
    if (rc < 0)
        return rc;
    int64_t value = (int64_t)(negative ? 0 - magnitude : magnitude);
    if (value < min || value > max)
        return -ERANGE;
    *out = value;
    return 0;
}

// Length of the valid UTF-8 sequence at p (Unicode table 3-7: no overlong forms, no surrogates, nothing past
// U+10FFFF), or 0. The terminating NUL is never a valid continuation, so this can't run past the end.
size_t str_utf8_sequence(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned char low = 0x80, high = 0xbf;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        len = 3;
        low = p[0] == 0xe0 ? 0xa0 : 0x80;
        high = p[0] == 0xed ? 0x9f : 0xbf;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4;
        low = p[0] == 0xf0 ? 0x90 : 0x80;
        high = p[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

bool str_is_utf8(const char *s)
{
    while (*s) {
        size_t n = str_utf8_sequence(s);
        if (n == 0)
            return false;
        s += n;
    }
    return true;
}

char *str_sanitize_utf8(const char *s)
{
    size_t bad = 0, len = 0;

    for (const char *p = s; *p;) {
        size_t n = str_utf8_sequence(p);
        bad += n == 0;
        len += n ? n : 1;
        p += n ? n : 1;
    }
    char *out = malloc(len + 2 * bad + 1); // U+FFFD takes three bytes for one
    if (!out)
        return NULL;

    char *q = out;
    for (const char *p = s; *p;) {
        size_t n = str_utf8_sequence(p);
        if (n) {
            memcpy(q, p, n);
            q += n;
            p += n;
        } else {
            memcpy(q, "\xef\xbf\xbd", 3);
            q += 3;
            p++;
        }
    }
    *q = '\0';
    return out;
}

bool str_is_hex(const char *s, size_t len)
{
    if (!s)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    return s[len] == '\0';
}

int str_random_hex(char *out, size_t len)
{
    uint8_t random[32];

    for (size_t done = 0; done < len;) {
        size_t digits = len - done < 2 * sizeof(random) ? len - done : 2 * sizeof(random);
        // Up to 256 bytes getrandom() is never short and never interrupted once the pool is ready.
        ssize_t n = getrandom(random, (digits + 1) / 2, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        digits = digits < 2 * (size_t)n ? digits : 2 * (size_t)n;
        for (size_t i = 0; i < digits; i++)
            out[done + i] = HEX_DIGITS[i % 2 ? random[i / 2] & 15 : random[i / 2] >> 4];
        done += digits;
    }
    out[len] = '\0';
    return 0;
}

void str_hex(const uint8_t *data, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = HEX_DIGITS[data[i] >> 4];
        out[2 * i + 1] = HEX_DIGITS[data[i] & 15];
    }
    out[2 * len] = '\0';
}

char **strv_new(size_t n, ...)
{
    char **v = calloc(n + 1, sizeof(*v));
    va_list args;

    if (!v)
        return NULL;
    va_start(args, n);
    for (size_t i = 0; i < n; i++) {
        v[i] = strdup(va_arg(args, const char *));
        if (!v[i]) {
            strv_free(v);
            v = NULL;
            break;
        }
    }
    va_end(args);
    return v;
}

void strv_free(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

void strv_freep(char ***v)
{
    strv_free(*v);
    *v = NULL;
}

size_t strv_len(char *const *v)
{
    size_t n = 0;

    while (v && v[n])
        n++;
    return n;
}

int strv_append(char ***v, const char *s)
{
    size_t n = strv_len(*v);
    char *copy = strdup(s);
    char **grown = copy ? reallocarray(*v, n + 2, sizeof(*grown)) : NULL;

    if (!grown) {
        free(copy);
        return -ENOMEM;
    }
    grown[n] = copy;
    grown[n + 1] = NULL;
    *v = grown;
    return 0;
}
