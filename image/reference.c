#include "image/reference.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define DEFAULT_DOMAIN "docker.io"
#define LEGACY_DOMAIN  "index.docker.io"
#define DEFAULT_PREFIX "library/"
#define DEFAULT_TAG    "latest"

static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

// Letters and digits, joined by ".", "_", "__" or any number of "-".
static bool path_component_is_valid(const char *s, size_t len)
{
    size_t i = 0;

    if (len == 0)
        return false;
    while (i < len) {
        size_t start = i;
        while (i < len && is_lower_alnum(s[i]))
            i++;
        if (i == start)
            return false;
        if (i == len)
            return true;
        if (s[i] == '-') {
            while (i < len && s[i] == '-')
                i++;
        } else if (s[i] == '.') {
            i++;
        } else if (s[i] == '_') {
            i += i + 1 < len && s[i + 1] == '_' ? 2 : 1;
        } else {
            return false;
        }
    }
    return false; // ended by a separator
}

static bool path_is_valid(const char *path)
{
    for (const char *s = path;; s++) {
        const char *end = strchrnul(s, '/');
        if (!path_component_is_valid(s, (size_t)(end - s)))
            return false;
        if (*end == '\0')
            return true;
        s = end;
    }
}

static bool host_label_is_valid(const char *s, size_t len)
{
    if (len == 0 || s[0] == '-' || s[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(s[i]) && s[i] != '-')
            return false;
    return true;
}

static bool port_is_valid(const char *s)
{
    uint64_t port;

    return str_parse_u64(s, 1, 65535, &port) == 0;
}

static bool domain_is_valid(const char *domain)
{
    const char *port;

    if (domain[0] == '[') {
        const char *end = strchr(domain, ']');
        if (!end || end == domain + 1)
            return false;
        for (const char *s = domain + 1; s < end; s++)
            if (!isxdigit((unsigned char)*s) && *s != ':')
                return false;
        return end[1] == '\0' || (end[1] == ':' && port_is_valid(end + 2));
    }
    port = strchrnul(domain, ':');
    for (const char *s = domain; s <= port; s++) {
        const char *end = memchr(s, '.', (size_t)(port - s));
        if (!end)
            end = port;
        if (!host_label_is_valid(s, (size_t)(end - s)))
            return false;
        s = end;
    }
    return *port == '\0' || port_is_valid(port + 1);
}

static bool tag_is_valid(const char *tag)
{
    size_t len = strlen(tag);

    if (len == 0 || len > REFERENCE_TAG_MAX || (!is_alnum(tag[0]) && tag[0] != '_'))
        return false;
    for (size_t i = 1; i < len; i++)
        if (!is_alnum(tag[i]) && tag[i] != '_' && tag[i] != '.' && tag[i] != '-')
            return false;
    return true;
}

bool digest_is_valid(const char *digest)
{
    return digest && strlen(digest) == DIGEST_LEN && str_has_prefix(digest, "sha256:") &&
           str_is_hex(digest + 7, 64);
}

static bool component_is_domain(const char *s, size_t len)
{
    if (len == 9 && memcmp(s, "localhost", 9) == 0)
        return true;
    for (size_t i = 0; i < len; i++)
        if (s[i] == '.' || s[i] == ':' || (s[i] >= 'A' && s[i] <= 'Z'))
            return true;
    return false;
}

// name: the text without tag and digest.
static int split_name(const char *text, const char *name, struct reference *out, struct error *err)
{
    const char *slash = strchr(name, '/');

    if (slash && component_is_domain(name, (size_t)(slash - name))) {
        out->domain = strndup(name, (size_t)(slash - name));
        name = slash + 1;
    } else {
        out->domain = strdup(DEFAULT_DOMAIN);
    }
    if (out->domain && str_eq(out->domain, LEGACY_DOMAIN)) {
        free(out->domain);
        out->domain = strdup(DEFAULT_DOMAIN);
    }
    if (!out->domain)
        return error_errno(err, ENOMEM, "image reference \"%s\"", text);
    if (str_eq(out->domain, DEFAULT_DOMAIN) && !strchr(name, '/')) {
        out->path = str_printf(DEFAULT_PREFIX "%s", name);
    } else {
        out->path = strdup(name);
    }
    if (!out->path)
        return error_errno(err, ENOMEM, "image reference \"%s\"", text);
    if (!domain_is_valid(out->domain))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "image reference \"%s\": \"%s\" is not a registry's host[:port]", text, out->domain);
    if (!path_is_valid(out->path))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "image reference \"%s\": the repository must be lowercase letters and digits, "
                         "separated by \"/\", \".\", \"_\", \"__\" or \"-\"",
                         text);
    if (strlen(out->path) > REFERENCE_NAME_MAX || strlen(out->domain) > REFERENCE_NAME_MAX)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "image reference \"%.64s…\": the registry or the repository is longer than %d bytes",
                         text, REFERENCE_NAME_MAX);
    return 0;
}

static int parse(const char *text, struct reference *out, struct error *err)
{
    _cleanup_free_ char *work = strdup(text);
    char *at, *colon, *slash;

    if (!work)
        return error_errno(err, ENOMEM, "image reference");
    at = strchr(work, '@');
    if (at) {
        *at = '\0';
        if (!digest_is_valid(at + 1))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "image reference \"%s\": the digest must be sha256: and 64 lowercase hex digits "
                             "(other algorithms are not supported)",
                             text);
        out->digest = strdup(at + 1);
        if (!out->digest)
            return error_errno(err, ENOMEM, "image reference \"%s\"", text);
    }
    slash = strrchr(work, '/');
    colon = strrchr(slash ? slash : work, ':');
    if (colon) {
        *colon = '\0';
        if (!tag_is_valid(colon + 1))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "image reference \"%s\": a tag is up to %d letters, digits, \"_\", \".\", \"-\"",
                             text, REFERENCE_TAG_MAX);
    }
    if (!out->digest) {
        out->tag = strdup(colon ? colon + 1 : DEFAULT_TAG);
        if (!out->tag)
            return error_errno(err, ENOMEM, "image reference \"%s\"", text);
    }
    return split_name(text, work, out, err);
}

int reference_parse(const char *text, struct reference *out, struct error *err)
{
    size_t len = text ? strlen(text) : 0;
    int r;

    *out = (struct reference){0};
    if (len == 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the image reference is empty");
    if (len > 2 * REFERENCE_NAME_MAX + 1 + REFERENCE_TAG_MAX + 1 + DIGEST_LEN)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "image reference \"%.64s…\" is too long",
                         text);
    if (!str_is_utf8(text))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "the image reference is not valid UTF-8");
    // As a whole only: a repository or a tag may well look like this.
    if (str_is_hex(text, 64))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "image reference \"%s\": 64 hex digits are an image id, not a name", text);
    r = parse(text, out, err);
    if (r < 0)
        reference_done(out);
    return r;
}

void reference_done(struct reference *ref)
{
    free(ref->domain);
    free(ref->path);
    free(ref->tag);
    free(ref->digest);
    *ref = (struct reference){0};
}

char *reference_name(const struct reference *ref)
{
    return str_printf("%s/%s", ref->domain, ref->path);
}

char *reference_format(const struct reference *ref)
{
    if (ref->digest)
        return str_printf("%s/%s@%s", ref->domain, ref->path, ref->digest);
    return str_printf("%s/%s:%s", ref->domain, ref->path, ref->tag);
}

bool reference_domain_is_loopback(const char *domain)
{
    size_t host_len = strcspn(domain, ":");
    unsigned part;
    int digits = 0, dots = 0;

    if (str_has_prefix(domain, "[::1]"))
        return domain[5] == '\0' || domain[5] == ':';
    if (host_len == 9 && memcmp(domain, "localhost", 9) == 0)
        return true;
    if (!str_has_prefix(domain, "127."))
        return false;
    part = 0;
    for (size_t i = 0; i < host_len; i++) {
        if (domain[i] == '.') {
            if (digits == 0)
                return false;
            dots++;
            digits = 0;
            part = 0;
        } else if (domain[i] >= '0' && domain[i] <= '9' && digits < 3) {
            part = part * 10 + (unsigned)(domain[i] - '0');
            digits++;
            if (part > 255)
                return false;
        } else {
            return false;
        }
    }
    return dots == 3 && digits > 0;
}
