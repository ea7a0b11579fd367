// `image.policies`: which images are taken, and signed by whom.
//
//   image:
//     policies:
//       "*": {action: reject}
//       registry.example.com/team:
//         action: require
//         keys: [/etc/crisp/keys/team.pem]
#include "cri/config_reader.h"

#include <string.h>

#include "base/arena.h"
#include "base/str.h"
#include "image/policy_config.h"
#include "image/reference.h"

#define POLICIES_MAX 256
#define KEYS_MAX     32 // as crisp-pull has it

// HOST[:PORT][/path…], the host told from a repository of docker.io as in image names.
bool config_is_image_prefix(const char *s)
{
    size_t len = strcspn(s, "/");
    char host[256];

    if (len >= sizeof(host) || strlen(s) > 511)
        return false;
    memcpy(host, s, len);
    host[len] = '\0';
    if (!reference_domain_is_valid(host) || (!strpbrk(host, ".:") && strcmp(host, "localhost") != 0) ||
        // docker.io's other names: references never have them
        (reference_domain_is_docker(host) && strcmp(host, "docker.io") != 0))
        return false;
    for (const char *at = s + len; *at; at += len) {
        at++;
        len = strcspn(at, "/");
        if (len == 0 || strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789._-") < len || strchr("._-", at[0]))
            return false;
    }
    return true;
}

static bool prefixes_are_same(const char *a, const char *b)
{
    size_t a_len = strcspn(a, "/"), b_len = strcspn(b, "/");

    return reference_hosts_are_same(a, a_len, b, b_len) && strcmp(a + a_len, b + b_len) == 0;
}

static bool is_signed_as(const char *s)
{
    return strcmp(s, "*") == 0 || config_is_image_prefix(s);
}

static bool is_action(const char *s)
{
    return str_eq(s, "accept") || str_eq(s, "require") || str_eq(s, "reject");
}

static void read_keys(struct config_reader *r, const yaml_node_t *list, struct policy_entry *entry)
{
    size_t n = list->type == YAML_SEQUENCE_NODE
                   ? (size_t)(list->data.sequence.items.top - list->data.sequence.items.start)
                   : 0;
    const char **keys = arena_alloc(r->l->config->arena, (n + 1) * sizeof(char *));

    if (n == 0 || n > KEYS_MAX || !keys) {
        config_reader_problem(r, list, "keys", "expected a list of 1 to 32 files, each with a public key");
        return;
    }
    for (size_t i = 0; i < n; i++)
        keys[i] =
            config_reader_text(r, yaml_document_get_node(r->l->document, list->data.sequence.items.start[i]),
                               "keys", config_is_normal_path, "expected absolute paths");
    entry->keys = keys;
    entry->n_keys = n;
}

static void entry_pair(struct config_reader *r, const yaml_node_t *key, yaml_node_t *value, void *data)
{
    struct policy_entry *entry = data;
    const char *name = config_scalar(key), *text;

    if (str_eq(name, "action")) {
        text = config_reader_text(r, value, "action", is_action, "expected accept, require or reject");
        entry->action = str_eq(text, "reject")    ? POLICY_REJECT
                        : str_eq(text, "require") ? POLICY_REQUIRE
                                                  : POLICY_ACCEPT;
    } else if (str_eq(name, "keys")) {
        read_keys(r, value, entry);
    } else if (str_eq(name, "all_keys")) {
        entry->all_keys = config_reader_bool(r, value, "all_keys");
    } else if (str_eq(name, "signed_as")) {
        entry->signed_as =
            config_reader_text(r, value, "signed_as", is_signed_as,
                               "expected a registry host and path as in image names, or \"*\" for any");
    } else {
        config_reader_problem(r, key, name ? name : "(key)",
                              "unknown key; allowed here: action, keys, all_keys, signed_as");
    }
}

static void check_entry(struct config_reader *r, const yaml_node_t *node, const struct policy_entry *entry)
{
    bool has_action = false;

    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++)
        has_action =
            has_action || str_eq(config_scalar(yaml_document_get_node(r->l->document, p->key)), "action");
    if (!has_action)
        config_reader_problem(r, node, "action", "is missing; expected accept, require or reject");
    else if (entry->action == POLICY_REQUIRE && entry->n_keys == 0)
        config_reader_problem(r, node, "keys", "is missing; action: require needs the keys of who signs");
    else if (entry->action != POLICY_REQUIRE && (entry->n_keys > 0 || entry->all_keys || entry->signed_as))
        config_reader_problem(r, node, "action", "keys, all_keys and signed_as go with action: require only");
}

// In place of an earlier file's entry of the same prefix, or as a new one.
static void put_entry(struct config_loader *l, const yaml_node_t *key, const struct policy_entry *entry)
{
    struct arena *arena = l->config->arena;
    struct policy_config *old = l->config->image_policies;
    size_t n = old ? old->n_entries : 0, at = n;
    struct policy_config *new = arena_alloc(arena, sizeof(*new));
    struct policy_entry *entries = arena_alloc(arena, (n + 1) * sizeof(*entries));

    for (size_t i = 0; entries && i < n; i++) {
        entries[i] = old->entries[i];
        if (prefixes_are_same(entries[i].prefix, entry->prefix))
            at = i;
    }
    if (!new || !entries || at >= POLICIES_MAX) {
        config_problem_at(l, key, "image.policies", "too many policies; at most 256 are allowed");
        return;
    }
    entries[at] = *entry;
    *new = (struct policy_config){.entries = entries, .n_entries = at == n ? n + 1 : n};
    l->config->image_policies = new;
}

static void policies_pair(struct config_reader *r, const yaml_node_t *key, yaml_node_t *value, void *data)
{
    const char *name = config_scalar(key);
    struct policy_entry entry = {0};
    struct config_reader below = {.l = r->l};
    size_t before = r->l->problems->n;

    (void)data;
    if (!name || (strcmp(name, "*") != 0 && !config_is_image_prefix(name))) {
        config_reader_problem(r, key, name ? name : "(key)",
                              "is no registry host with or without a path, as in whole image names "
                              "(docker.io/library/nginx), nor \"*\"");
        return;
    }
    entry.prefix = arena_strdup(r->l->config->arena, name);
    (void)snprintf(below.path, sizeof(below.path), "%.16s.%.290s", r->path, name);
    config_reader_map(&below, value, entry_pair, &entry);
    if (r->l->problems->n == before)
        check_entry(&below, value, &entry);
    put_entry(r->l, key, &entry);
}

void config_read_policies(struct config_loader *l, yaml_node_t *node)
{
    struct config_reader r = {.l = l, .path = "image.policies", .same_key = prefixes_are_same};

    config_reader_map(&r, node, policies_pair, NULL);
}

static int print_entry(const struct policy_entry *e, struct buf *out)
{
    static const char *const actions[] = {"accept", "require", "reject"};
    int rc = buf_append_str(out, "    ");

    rc = rc ? rc : config_print_quoted(out, e->prefix);
    rc = rc ? rc : buf_printf(out, ":\n      action: %s\n", actions[e->action]);
    for (size_t i = 0; i < e->n_keys && rc == 0; i++) {
        rc = buf_append_str(out, i ? ", " : "      keys: [");
        rc = rc ? rc : config_print_quoted(out, e->keys[i]);
    }
    if (e->n_keys > 0)
        rc = rc ? rc : buf_append_str(out, "]\n");
    if (e->all_keys)
        rc = rc ? rc : buf_append_str(out, "      all_keys: true\n");
    if (e->signed_as) {
        rc = rc ? rc : buf_append_str(out, "      signed_as: ");
        rc = rc ? rc : config_print_quoted(out, e->signed_as);
        rc = rc ? rc : buf_append_str(out, "\n");
    }
    return rc;
}

int config_print_policies(const struct policy_config *policies, struct buf *out)
{
    int rc = buf_append_str(out, policies && policies->n_entries > 0 ? "  policies:\n" : "  policies: {}\n");

    for (size_t i = 0; policies && i < policies->n_entries && rc == 0; i++)
        rc = print_entry(&policies->entries[i], out);
    return rc;
}
