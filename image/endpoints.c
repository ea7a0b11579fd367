#include "image/endpoints.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define DOCKER_HOST "registry-1.docker.io"

static bool is_any(const struct registry_host *host)
{
    return str_eq(host->host, "*");
}

static const struct registry_host *find_host(const struct registry_config *config, const char *domain)
{
    const struct registry_host *any = NULL;

    for (size_t i = 0; config && i < config->n_hosts; i++) {
        const struct registry_host *host = &config->hosts[i];

        if (is_any(host))
            any = host;
        else if (reference_hosts_are_same(host->host, strlen(host->host), domain, strlen(domain)))
            return host;
    }
    return any;
}

// Is `address` ("https://index.docker.io/v1/", "ghcr.io") this registry?
static bool address_is_registry(const char *address, const char *domain)
{
    const char *scheme = strstr(address, "://");

    if (scheme)
        address = scheme + 3;
    return reference_hosts_are_same(address, strcspn(address, "/"), domain, strcspn(domain, "/"));
}

static const char *url_host(const char *url)
{
    const char *scheme = strstr(url, "://");

    return scheme ? scheme + 3 : url;
}

// The prefix with each "{host}" replaced; no "/" at its ends.
static char *expand_prefix(const char *prefix, const char *domain, struct arena *arena)
{
    char *out = arena_strdup(arena, "");

    while (prefix && *prefix == '/')
        prefix++;
    while (out && prefix && *prefix) {
        const char *mark = strstr(prefix, "{host}");
        if (!mark) {
            out = arena_printf(arena, "%s%s", out, prefix);
            break;
        }
        out = arena_printf(arena, "%s%.*s%s", out, (int)(mark - prefix), prefix, domain);
        prefix = mark + strlen("{host}");
    }
    for (size_t len = out ? strlen(out) : 0; len > 0 && out[len - 1] == '/'; len--)
        out[len - 1] = '\0';
    return out;
}

static Pull__Endpoint *add(Pull__PullRequest *request, char *url, struct arena *arena)
{
    Pull__Endpoint *e = arena_alloc(arena, sizeof(*e));

    if (!e || !url)
        return NULL;
    pull__endpoint__init(e);
    e->url = url;
    for (size_t len = strlen(url); len > 0 && url[len - 1] == '/'; len--)
        url[len - 1] = '\0';
    request->endpoints[request->n_endpoints++] = e;
    return e;
}

static int set_tls(Pull__Endpoint *e, const struct registry_tls *tls, struct arena *arena)
{
    e->ca_file = arena_strdup(arena, tls->ca_file ? tls->ca_file : "");
    e->cert_file = arena_strdup(arena, tls->cert_file ? tls->cert_file : "");
    e->key_file = arena_strdup(arena, tls->key_file ? tls->key_file : "");
    e->skip_verify = tls->skip_verify;
    return e->ca_file && e->cert_file && e->key_file ? 0 : -ENOMEM;
}

static int add_mirror(const struct registry_mirror *mirror, const struct reference *ref,
                      const char *server_address, struct arena *arena, Pull__PullRequest *request)
{
    Pull__Endpoint *e = add(request, arena_strdup(arena, mirror->url), arena);

    if (!e)
        return -ENOMEM;
    e->path_prefix = expand_prefix(mirror->path_prefix, ref->domain, arena);
    e->no_resolve = mirror->no_resolve;
    e->no_pull = mirror->no_pull;
    // A mirror of the registry's own host only says how to reach it.
    e->send_credentials =
        address_is_registry(mirror->url, str_empty(server_address) ? ref->domain : url_host(server_address));
    return e->path_prefix ? set_tls(e, &mirror->tls, arena) : -ENOMEM;
}

static int add_origin(const struct registry_host *config, const char *scheme, const struct reference *ref,
                      const char *server_address, struct arena *arena, Pull__PullRequest *request)
{
    const char *host = reference_domain_is_docker(ref->domain) ? DOCKER_HOST : ref->domain;
    Pull__Endpoint *e = add(request, arena_printf(arena, "%s://%s", scheme, host), arena);

    if (!e)
        return -ENOMEM;
    e->origin = true;
    e->send_credentials = str_empty(server_address) || address_is_registry(server_address, ref->domain);
    return config ? set_tls(e, &config->tls, arena) : 0;
}

static bool has_tls(const struct registry_tls *tls)
{
    return tls->ca_file || tls->cert_file || tls->skip_verify;
}

int endpoints_build(const struct registry_config *config, const struct reference *ref,
                    const char *server_address, struct arena *arena, Pull__PullRequest *request,
                    struct error *err)
{
    const struct registry_host *host = find_host(config, ref->domain);
    size_t n_mirrors = host ? host->n_mirrors : 0;
    int r = 0;

    request->n_endpoints = 0;
    request->endpoints = arena_alloc(arena, (n_mirrors + 2) * sizeof(*request->endpoints));
    if (!request->endpoints)
        return error_errno(err, ENOMEM, "registry endpoints");
    for (size_t i = 0; r == 0 && i < n_mirrors; i++)
        r = add_mirror(&host->mirrors[i], ref, server_address, arena, request);
    if (r == 0 && !(host && host->strict))
        r = add_origin(host, "https", ref, server_address, arena, request);
    // A registry on the machine itself needs no TLS; nobody is between. One that is configured to have it
    // does.
    if (r == 0 && !(host && host->strict) && !(host && !is_any(host) && has_tls(&host->tls)) &&
        reference_domain_is_loopback(ref->domain))
        r = add_origin(host, "http", ref, server_address, arena, request);
    return r < 0 ? error_errno(err, ENOMEM, "registry endpoints") : 0;
}

void endpoints_prefer_plain(Pull__PullRequest *request)
{
    size_t n = request->n_endpoints;

    if (n < 2 || !request->endpoints[n - 1]->origin || !request->endpoints[n - 2]->origin)
        return;
    Pull__Endpoint *plain = request->endpoints[n - 1];
    request->endpoints[n - 1] = request->endpoints[n - 2];
    request->endpoints[n - 2] = plain;
}
