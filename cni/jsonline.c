#include "cni/jsonline.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct cursor {
    const char *text;
    size_t len, pos, line;
};

static int peek(const struct cursor *c)
{
    return c->pos < c->len ? (unsigned char)c->text[c->pos] : -1;
}

static void advance(struct cursor *c)
{
    if (c->pos < c->len && c->text[c->pos++] == '\n')
        c->line++;
}

static void skip_space(struct cursor *c)
{
    while (peek(c) == ' ' || peek(c) == '\t' || peek(c) == '\r' || peek(c) == '\n')
        advance(c);
}

// Passes a string; is it, without escapes, the same as want?
static bool skip_string(struct cursor *c, const char *want)
{
    advance(c); // the opening quote
    size_t start = c->pos;
    while (peek(c) >= 0 && peek(c) != '"') {
        if (peek(c) == '\\')
            advance(c);
        advance(c);
    }
    size_t n = c->pos - start;
    bool same = want && strlen(want) == n && memcmp(c->text + start, want, n) == 0;
    advance(c); // the closing quote
    return same;
}

// Passes any value without recursion: brackets are only counted, as the text is known to be well-formed.
static void skip_value(struct cursor *c)
{
    size_t depth = 0;
    do {
        skip_space(c);
        int ch = peek(c);
        if (ch == '"') {
            (void)skip_string(c, NULL);
        } else {
            if (ch == '{' || ch == '[')
                depth++;
            else if ((ch == '}' || ch == ']') && depth)
                depth--;
            advance(c);
        }
        if (!depth) // the rest of a number or literal
            while (peek(c) >= 0 && !strchr(",]} \t\r\n", peek(c)))
                advance(c);
    } while (depth && peek(c) >= 0);
}

static bool enter_member(struct cursor *c, const char *key)
{
    if (peek(c) != '{')
        return false;
    advance(c);
    for (skip_space(c); peek(c) == '"'; skip_space(c)) {
        bool found = skip_string(c, key);
        skip_space(c);
        if (peek(c) == ':')
            advance(c);
        skip_space(c);
        if (found)
            return true;
        skip_value(c);
        skip_space(c);
        if (peek(c) == ',')
            advance(c);
    }
    return false;
}

static bool enter_element(struct cursor *c, unsigned long index)
{
    if (peek(c) != '[')
        return false;
    advance(c);
    for (skip_space(c); peek(c) >= 0 && peek(c) != ']'; skip_space(c)) {
        if (!index--)
            return true;
        skip_value(c);
        skip_space(c);
        if (peek(c) == ',')
            advance(c);
    }
    return false;
}

size_t cni_json_line(const char *text, size_t len, const char *const *path)
{
    struct cursor c = {.text = text, .len = len, .line = 1};
    skip_space(&c);
    for (; *path; path++) {
        size_t line = c.line;
        bool found =
            **path == '#' ? enter_element(&c, strtoul(*path + 1, NULL, 10)) : enter_member(&c, *path);
        if (!found)
            return line;
    }
    return c.line;
}
