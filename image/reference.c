#include "image/reference.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"

#define DEFAULT_DOMAIN "docker.io"
#define HTTPS_PORT     ":443"
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

bool reference_port_is_valid(const char *s)
{
    uint64_t port;

    return s[0] != '0' && str_parse_u64(s, 1, 65535, &port) == 0;
}

// The address of "[…]", and where it ends. False: it is none.
static bool parse_ipv6(const char *s, size_t len, struct in6_addr *out, size_t *end)
{
    const char *bracket = len > 0 && s[0] == '[' ? memchr(s, ']', len) : NULL;
    char text[INET6_ADDRSTRLEN] = "";

    if (!bracket || (size_t)(bracket - s) > sizeof(text))
        return false;
    memcpy(text, s + 1, (size_t)(bracket - s) - 1);
    *end = (size_t)(bracket - s) + 1;
    return inet_pton(AF_INET6, text, out) == 1;
}

static bool ipv6_domain_is_valid(const char *domain)
{
    struct in6_addr address;
    size_t end;

    if (!parse_ipv6(domain, strlen(domain), &address, &end) || memchr(domain, '.', end))
        return false;
    // The same host as the IPv4 address within: only one way to write it, lest a policy for it is passed by.
    if (IN6_IS_ADDR_V4MAPPED(&address))
        return false;
    return domain[end] == '\0' || (domain[end] == ':' && reference_port_is_valid(domain + end + 1));
}

// Resolvers take "10.1", "012.0.0.1" and "0xa.0.0.1" for addresses, too: names of a host that has another
// one.
static bool is_odd_ipv4(const char *host, size_t len)
{
    const char *dot = memrchr(host, '.', len), *last = dot ? dot + 1 : host;
    size_t n = len - (size_t)(last - host);
    bool number =
        strspn(last, "0123456789") >= n || (n >= 2 && last[0] == '0' && (last[1] == 'x' || last[1] == 'X') &&
                                            strspn(last + 2, "0123456789abcdefABCDEF") >= n - 2);
    char text[INET_ADDRSTRLEN] = "";
    struct in_addr address;

    if (!number)
        return false;
    if (len >= sizeof(text))
        return true;
    memcpy(text, host, len);
    return inet_pton(AF_INET, text, &address) != 1;
}

bool reference_domain_is_valid(const char *domain)
{
    const char *port;

    if (domain[0] == '[')
        return ipv6_domain_is_valid(domain);
    port = strchrnul(domain, ':');
    if (is_odd_ipv4(domain, (size_t)(port - domain)))
        return false;
    for (const char *s = domain; s <= port; s++) {
        const char *end = memchr(s, '.', (size_t)(port - s));
        if (!end)
            end = port;
        if (!host_label_is_valid(s, (size_t)(end - s)))
            return false;
        s = end;
    }
    return *port == '\0' || reference_port_is_valid(port + 1);
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

// "host[:port]" without a port that is https's own.
static size_t strip_port(const char *host, size_t len)
{
    size_t port = strlen(HTTPS_PORT);

    return len > port && memcmp(host + len - port, HTTPS_PORT, port) == 0 ? len - port : len;
}

static bool is_docker(const char *host, size_t len)
{
    static const char *const names[] = {DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (len == strlen(names[i]) && strncasecmp(host, names[i], len) == 0)
            return true;
    return false;
}

bool reference_hosts_are_same(const char *a, size_t a_len, const char *b, size_t b_len)
{
    struct in6_addr a_address, b_address;
    size_t a_end, b_end;

    a_len = strip_port(a, a_len);
    b_len = strip_port(b, b_len);
    if (is_docker(a, a_len))
        return is_docker(b, b_len);
    if (parse_ipv6(a, a_len, &a_address, &a_end) && parse_ipv6(b, b_len, &b_address, &b_end))
        return memcmp(&a_address, &b_address, sizeof(a_address)) == 0 && a_len - a_end == b_len - b_end &&
               memcmp(a + a_end, b + b_end, a_len - a_end) == 0;
    return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

bool reference_domain_is_docker(const char *domain)
{
    return is_docker(domain, strip_port(domain, strlen(domain)));
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
    if (out->domain && reference_domain_is_docker(out->domain)) {
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
    if (!reference_domain_is_valid(out->domain))
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
