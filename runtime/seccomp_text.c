// Beside the JSON library: where a value stands in the text, and integers that it has no room for.
#include <stdlib.h>
#include <string.h>

#include "runtime/seccomp_internal.h"

#define INT64_DIGITS "9223372036854775807"

// The text is known to be valid JSON, so that little is checked but its end.
struct cursor {
    const char *p, *end;
    int line;
};

static void skip_space(struct cursor *c)
{
    for (; c->p < c->end && strchr(" \t\r\n", *c->p) && *c->p; c->p++)
        c->line += *c->p == '\n';
}

static void skip_string(struct cursor *c)
{
    for (c->p++; c->p < c->end && *c->p != '"'; c->p++)
        c->p += *c->p == '\\' && c->p + 1 < c->end;
    if (c->p < c->end)
        c->p++;
}

// Whatever it is, with all that is in it.
static void skip_value(struct cursor *c)
{
    size_t depth = 0;
    do {
        skip_space(c);
        if (c->p == c->end)
            return;
        if (*c->p == '"') {
            skip_string(c);
            continue;
        }
        if (*c->p == '{' || *c->p == '[')
            depth++;
        else if (*c->p == '}' || *c->p == ']')
            depth--;
        else if (depth == 0) { // a number or a word, up to what ends it
            c->p += strcspn(c->p, " \t\r\n,:]}");
            return;
        }
        c->p++;
    } while (depth > 0);
}

// Moves into the member or element that step is ("key", or "[3]" as index); false: there is none.
static bool enter(struct cursor *c, const char *key, size_t key_len, size_t index)
{
    skip_space(c);
    if (c->p == c->end || *c->p != (key ? '{' : '['))
        return false;
    c->p++;
    for (size_t i = 0;; i++) {
        skip_space(c);
        if (c->p == c->end || *c->p == '}' || *c->p == ']')
            return false;
        bool found = !key && i == index;
        if (key) {
            const char *name = c->p + 1;
            skip_string(c);
            found = (size_t)(c->p - name) == key_len + 1 && memcmp(name, key, key_len) == 0;
            skip_space(c);
            c->p += c->p < c->end; // the colon
        }
        skip_space(c);
        if (found)
            return true;
        const char *before = c->p;
        skip_value(c);
        if (c->p == before)
            return false; // no JSON
        skip_space(c);
        c->p += c->p < c->end && *c->p == ',';
    }
}

int seccomp_text_line(const char *text, size_t len, const char *path)
{
    struct cursor c = {.p = text, .end = text + len, .line = 1};
    skip_space(&c);
    while (*path) {
        struct cursor next = c;
        bool found;
        if (*path == '[') {
            char *end;
            size_t index = strtoul(path + 1, &end, 10);
            found = enter(&next, NULL, 0, index);
            path = end + (*end == ']');
        } else {
            path += *path == '.';
            size_t key_len = strcspn(path, ".[");
            found = enter(&next, path, key_len, 0);
            path += key_len;
        }
        if (!found)
            break;
        c = next;
    }
    return c.line;
}

// Does a run of digits mean more than INT64_MAX?
static bool too_big(const char *digits, size_t n)
{
    size_t max = strlen(INT64_DIGITS);
    return n > max || (n == max && memcmp(digits, INT64_DIGITS, n) > 0);
}

char *seccomp_text_quote_integers(const char *text, size_t len, size_t *out_len)
{
    // Two more bytes for each number of 19 digits or more.
    char *out = malloc(len + len / 8 + 1), *to = out;
    if (!out)
        return NULL;
    for (size_t i = 0; i < len;) {
        struct cursor c = {.p = text + i, .end = text + len};
        size_t n = 1;
        bool quote = false;
        if (text[i] == '"') {
            skip_string(&c);
            n = (size_t)(c.p - (text + i));
        } else if (strchr("0123456789+-.eE", text[i]) && text[i]) {
            n = strspn(text + i, "0123456789+-.eE"); // the text ends with a NUL
            n = n < len - i ? n : len - i;
            quote = strspn(text + i, "0123456789") >= n && too_big(text + i, n);
        }
        if (quote)
            *to++ = '"';
        memcpy(to, text + i, n);
        to += n;
        if (quote)
            *to++ = '"';
        i += n;
    }
    *to = '\0';
    *out_len = (size_t)(to - out);
    return out;
}
