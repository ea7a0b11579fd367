#include "image/pull/challenge.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static const char *skip_space(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

static const char *skip_separators(const char *s)
{
    while (*s == ' ' || *s == '\t' || *s == ',')
        s++;
    return s;
}

static const char *skip_token(const char *s)
{
    while (is_token_char(*s))
        s++;
    return s;
}

// A quoted string or a token at *pos, into fresh memory. NULL when it is neither, too long, or on ENOMEM.
static char *take_value(const char **pos)
{
    const char *s = *pos;
    char *value;
    size_t len = 0;

    if (*s != '"') {
        const char *end = s;
        while (is_token_char(*end) || *end == '/' || *end == ':' || *end == '=')
            end++;
        *pos = end;
        return end > s && end - s <= CHALLENGE_VALUE_MAX ? strndup(s, (size_t)(end - s)) : NULL;
    }
    value = malloc(CHALLENGE_VALUE_MAX + 1);
    if (!value)
        return NULL;
    for (s++; *s != '"'; s++) {
        if (*s == '\\')
            s++;
        if (*s == '\0' || len == CHALLENGE_VALUE_MAX) {
            free(value);
            return NULL;
        }
        value[len++] = *s;
    }
    value[len] = '\0';
    *pos = s + 1;
    return value;
}

static void set_parameter(struct challenge *c, const char *name, size_t name_len, char **value)
{
    const struct {
        const char *name;
        char **slot;
    } known[] = {{"realm", &c->realm}, {"service", &c->service}, {"scope", &c->scope}};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strlen(known[i].name) == name_len && strncasecmp(known[i].name, name, name_len) == 0) {
            free(*known[i].slot);
            *known[i].slot = steal_ptr(value);
        }
    }
}

// One scheme and its parameters at *pos. What follows a parameter's "," may be the next scheme: a name that
// no
// "=" follows.
static int parse_one(const char **pos, struct challenge *out)
{
    const char *scheme = *pos, *s = skip_token(scheme);
    size_t scheme_len = (size_t)(s - scheme);

    if (scheme_len == 0)
        return -EPROTO;
    if (scheme_len == 6 && strncasecmp(scheme, "bearer", 6) == 0)
        out->scheme = CHALLENGE_BEARER;
    else if (scheme_len == 5 && strncasecmp(scheme, "basic", 5) == 0)
        out->scheme = CHALLENGE_BASIC;
    for (;;) {
        const char *name = skip_separators(s), *name_end = skip_token(name), *eq = skip_space(name_end);
        _cleanup_free_ char *value = NULL;

        if (*name == '\0' || (name_end > name && *eq != '=')) {
            *pos = name;
            return 0;
        }
        if (name_end == name)
            return -EPROTO;
        s = skip_space(eq + 1);
        value = take_value(&s);
        if (!value)
            return -EPROTO;
        set_parameter(out, name, (size_t)(name_end - name), &value);
    }
}

int challenge_parse(const char *header, struct challenge *out, struct error *err)
{
    const char *pos = skip_separators(header);

    *out = (struct challenge){0};
    while (*pos != '\0') {
        struct challenge one = {0};
        int r = parse_one(&pos, &one);

        if (r == 0 && one.scheme > out->scheme && (one.scheme != CHALLENGE_BEARER || one.realm)) {
            challenge_done(out);
            *out = one;
        } else {
            challenge_done(&one);
        }
        if (r < 0) {
            challenge_done(out);
            return error_set(err, STATUS_UNAVAILABLE, EPROTO,
                             "the registry's WWW-Authenticate header can't be read");
        }
        pos = skip_separators(pos);
    }
    return 0;
}

void challenge_done(struct challenge *c)
{
    free(c->realm);
    free(c->service);
    free(c->scope);
    *c = (struct challenge){0};
}
