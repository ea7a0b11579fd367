// The `registries` part: mirrors per registry host.
//
//   registries:
//     registry.k8s.io:
//       strict: true
//       mirrors:
//         - url: http://127.0.0.1:5000
//           path_prefix: registry.k8s.io
#include "cri/config_reader.h"

#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/registry_config.h"

#define HOSTS_MAX   256
#define MIRRORS_MAX 16

// HOST, HOST:PORT or [IPv6]:PORT.
static bool is_registry_host(const char *s)
{
    size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    if (s[0] == '[') {
        len = 1 + strspn(s + 1, "0123456789abcdefABCDEF:.");
        if (s[len] != ']' || len == 1)
            return false;
        len++;
    }
    return len > 0 && len < 256 &&
           (s[len] == '\0' || (s[len] == ':' && reference_port_is_valid(s + len + 1)));
}

static bool hosts_are_same(const char *a, const char *b)
{
    return reference_hosts_are_same(a, strlen(a), b, strlen(b));
}

static bool is_url(const char *s)
{
    const char *host = str_has_prefix(s, "http://")    ? s + strlen("http://")
                       : str_has_prefix(s, "https://") ? s + strlen("https://")
                                                       : NULL;
    return host && is_registry_host(host);
}

static bool is_prefix(const char *s)
{
    size_t len = strlen(s);
    if (len == 0 || len > 255 || s[0] == '/' || s[len - 1] == '/' || strstr(s, "//") || strstr(s, ".."))
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789./_-:{}") == len;
}

#define TLS_KEYS "ca_file, client_cert_file, client_key_file, skip_verify"

// One of the keys that mirrors and registries share: true.
static bool read_tls_pair(struct config_reader *r, const char *name, const yaml_node_t *value,
                          struct registry_tls *tls)
{
    const struct {
        const char *name;
        const char **out;
    } files[] = {{"ca_file", &tls->ca_file},
                 {"client_cert_file", &tls->cert_file},
                 {"client_key_file", &tls->key_file}};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        if (!str_eq(name, files[i].name))
            continue;
        *files[i].out =
            config_reader_text(r, value, name, config_is_normal_path, "expected an absolute path");
        return true;
    }
    if (!str_eq(name, "skip_verify"))
        return false;
    tls->skip_verify = config_reader_bool(r, value, name);
    return true;
}

static void check_tls(struct config_reader *r, const yaml_node_t *node, const struct registry_tls *tls)
{
    if (!tls->cert_file != !tls->key_file)
        config_reader_problem(r, node, tls->cert_file ? "client_key_file" : "client_cert_file",
                              "is missing; client_cert_file and client_key_file go together");
}

static void read_capabilities(struct config_reader *r, const yaml_node_t *list, struct registry_mirror *m)
{
    bool pull = false, resolve = false, other = list->type != YAML_SEQUENCE_NODE;

    for (yaml_node_item_t *i = other ? NULL : list->data.sequence.items.start;
         i && i < list->data.sequence.items.top; i++) {
        const char *text = config_scalar(yaml_document_get_node(r->l->document, *i));

        pull = pull || str_eq(text, "pull");
        resolve = resolve || str_eq(text, "resolve");
        other = other || (!str_eq(text, "pull") && !str_eq(text, "resolve"));
    }
    if (other || (!pull && !resolve))
        config_reader_problem(r, list, "capabilities", "expected a list of pull, resolve or both");
    m->no_pull = !pull;
    m->no_resolve = !resolve;
}

static void read_mirror_pair(struct config_reader *r, const yaml_node_t *key, const yaml_node_t *value,
                             struct registry_mirror *m)
{
    const char *name = config_scalar(key);
    if (str_eq(name, "url"))
        m->url = config_reader_text(
            r, value, "url", is_url,
            "expected http://HOST[:PORT] or https://HOST[:PORT] without a path; a path goes "
            "into path_prefix");
    else if (str_eq(name, "path_prefix"))
        m->path_prefix =
            config_reader_text(r, value, "path_prefix", is_prefix,
                               "expected a relative repository path of lowercase letters, digits and "
                               "./_- (\"{host}\" stands for the registry's host)");
    else if (str_eq(name, "capabilities"))
        read_capabilities(r, value, m);
    else if (!read_tls_pair(r, name, value, &m->tls))
        config_reader_problem(r, key, name ? name : "(key)",
                              "unknown key; allowed here: url, path_prefix, capabilities, " TLS_KEYS);
}

static void mirror_pair(struct config_reader *r, const yaml_node_t *key, yaml_node_t *value, void *data)
{
    read_mirror_pair(r, key, value, data);
}

static void read_mirrors(struct config_reader *r, const yaml_node_t *list, struct registry_host *host)
{
    if (list->type != YAML_SEQUENCE_NODE) {
        config_reader_problem(r, list, "mirrors", "expected a list of maps, each with a url");
        return;
    }
    size_t n = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    if (n > MIRRORS_MAX) {
        config_reader_problem(r, list, "mirrors", "at most 16 mirrors are allowed");
        return;
    }
    struct registry_mirror *mirrors = arena_alloc(r->l->config->arena, (n + 1) * sizeof(*mirrors));
    for (size_t i = 0; mirrors && i < n; i++) {
        const yaml_node_t *item = yaml_document_get_node(r->l->document, list->data.sequence.items.start[i]);
        struct config_reader below = {.l = r->l};
        size_t before = r->l->problems->n;
        (void)snprintf(below.path, sizeof(below.path), "%.280s.mirrors[%zu]", r->path, i);
        config_reader_map(&below, item, mirror_pair, &mirrors[i]);
        if (!mirrors[i].url && r->l->problems->n == before)
            config_reader_problem(&below, item, "url",
                                  "is missing; expected http://HOST[:PORT] or https://HOST[:PORT]");
        check_tls(&below, item, &mirrors[i].tls);
    }
    host->mirrors = mirrors;
    host->n_mirrors = mirrors ? n : 0;
}

static void host_pair(struct config_reader *r, const yaml_node_t *key, yaml_node_t *value, void *data)
{
    struct registry_host *host = data;
    const char *name = config_scalar(key);
    if (str_eq(name, "mirrors"))
        read_mirrors(r, value, host);
    else if (str_eq(name, "strict"))
        host->strict = config_reader_bool(r, value, "strict");
    else if (!read_tls_pair(r, name, value, &host->tls))
        config_reader_problem(r, key, name ? name : "(key)",
                              "unknown key; allowed here: mirrors, strict, " TLS_KEYS);
}

// Puts a host into the configuration in place of an earlier file's entry of the same registry, or as a new
// one.
static void put_host(struct config_loader *l, const yaml_node_t *key, const struct registry_host *host)
{
    struct arena *arena = l->config->arena;
    struct registry_config *old = l->config->registries;
    size_t n = old ? old->n_hosts : 0;
    struct registry_config *new = arena_alloc(arena, sizeof(*new));
    struct registry_host *hosts = arena_alloc(arena, (n + 1) * sizeof(*hosts));
    size_t at = n;
    for (size_t i = 0; hosts && i < n; i++) {
        hosts[i] = old->hosts[i];
        if (hosts_are_same(hosts[i].host, host->host))
            at = i;
    }
    if (!new || !hosts || at >= HOSTS_MAX) {
        config_problem_at(l, key, "registries", "too many hosts; at most 256 are allowed");
        return;
    }
    hosts[at] = *host;
    *new = (struct registry_config){.hosts = hosts, .n_hosts = at == n ? n + 1 : n};
    l->config->registries = new;
}

static void check_strict(struct config_reader *r, const yaml_node_t *node, const struct registry_host *host)
{
    bool pull = false, resolve = false;

    for (size_t i = 0; i < host->n_mirrors; i++) {
        pull = pull || !host->mirrors[i].no_pull;
        resolve = resolve || !host->mirrors[i].no_resolve;
    }
    if (!host->strict || (pull && resolve))
        return;
    if (host->n_mirrors == 0)
        config_reader_problem(r, node, "strict", "nothing could be pulled: strict without mirrors");
    else if (!pull)
        config_reader_problem(r, node, "strict",
                              "nothing could be pulled: no mirror has the capability pull");
    else
        config_reader_problem(r, node, "strict",
                              "no tag could be pulled: no mirror has the capability resolve");
}

static void registries_pair(struct config_reader *r, const yaml_node_t *key, yaml_node_t *value, void *data)
{
    (void)data;
    const char *name = config_scalar(key);
    if (!name || (strcmp(name, "*") != 0 && !reference_domain_is_valid(name))) {
        config_reader_problem(r, key, name ? name : "(key)",
                              "is not a registry host; expected HOST, HOST:PORT or \"*\"");
        return;
    }
    struct registry_host host = {.host = arena_strdup(r->l->config->arena, name)};
    struct config_reader below = {.l = r->l};
    (void)snprintf(below.path, sizeof(below.path), "%.16s.%.264s", r->path, name);
    config_reader_map(&below, value, host_pair, &host);
    check_tls(&below, value, &host.tls);
    check_strict(&below, value, &host);
    put_host(r->l, key, &host);
}

void config_read_registries(struct config_loader *l, yaml_node_t *node)
{
    struct config_reader r = {.l = l, .path = "registries", .same_key = hosts_are_same};
    config_reader_map(&r, node, registries_pair, NULL);
}

static int print_text(const char *indent, const char *name, const char *value, struct buf *out)
{
    int rc = value ? buf_printf(out, "%s%s: ", indent, name) : 0;
    if (value)
        rc = rc ? rc : config_print_quoted(out, value);
    return rc || !value ? rc : buf_append_str(out, "\n");
}

static int print_tls(const char *indent, const struct registry_tls *tls, struct buf *out)
{
    int rc = print_text(indent, "ca_file", tls->ca_file, out);
    rc = rc ? rc : print_text(indent, "client_cert_file", tls->cert_file, out);
    rc = rc ? rc : print_text(indent, "client_key_file", tls->key_file, out);
    return rc || !tls->skip_verify ? rc : buf_printf(out, "%sskip_verify: true\n", indent);
}

static int print_mirror(const struct registry_mirror *m, struct buf *out)
{
    int rc = print_text("      - ", "url", m->url, out);
    rc = rc ? rc : print_text("        ", "path_prefix", m->path_prefix, out);
    if (m->no_pull || m->no_resolve)
        rc = rc ? rc : buf_printf(out, "        capabilities: [%s]\n", m->no_pull ? "resolve" : "pull");
    return rc ? rc : print_tls("        ", &m->tls, out);
}

int config_print_registries(const struct registry_config *registries, struct buf *out)
{
    if (!registries || registries->n_hosts == 0)
        return buf_append_str(out, "registries: {}\n");
    int rc = buf_append_str(out, "registries:\n");
    for (size_t i = 0; i < registries->n_hosts && rc == 0; i++) {
        const struct registry_host *host = &registries->hosts[i];
        rc = buf_append_str(out, "  ");
        rc = rc ? rc : config_print_quoted(out, host->host);
        rc = rc ? rc : buf_printf(out, ":\n    strict: %s\n", host->strict ? "true" : "false");
        rc = rc ? rc : print_tls("    ", &host->tls, out);
        rc = rc ? rc : buf_append_str(out, host->n_mirrors ? "    mirrors:\n" : "    mirrors: []\n");
        for (size_t j = 0; j < host->n_mirrors && rc == 0; j++)
            rc = print_mirror(&host->mirrors[j], out);
    }
    return rc;
}
