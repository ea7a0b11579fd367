#include "image/policy.h"

#include <string.h>

#include "base/str.h"

bool policy_prefix_matches(const char *prefix, const struct reference *ref)
{
    size_t len = strcspn(prefix, "/");
    const char *path = prefix + len;

    if (!reference_hosts_are_same(prefix, len, ref->domain, strlen(ref->domain)))
        return false;
    if (*path == '\0')
        return true;
    path++;
    len = strlen(path);
    return strncmp(ref->path, path, len) == 0 && (ref->path[len] == '\0' || ref->path[len] == '/');
}

const struct policy_entry *policy_find(const struct policy_config *config, const struct reference *ref)
{
    const struct policy_entry *found = NULL;
    size_t longest = 0;

    for (size_t i = 0; config && i < config->n_entries; i++) {
        const struct policy_entry *e = &config->entries[i];
        // All that match have the same host: the path tells which is longest.
        size_t len = str_eq(e->prefix, "*") ? 0 : 1 + strlen(strchrnul(e->prefix, '/'));

        if (len > 0 && !policy_prefix_matches(e->prefix, ref))
            continue;
        if (!found || len > longest) {
            found = e;
            longest = len;
        }
    }
    return found;
}

static int check_allowed(char *const *allowed, const struct reference *ref, struct error *err)
{
    if (!allowed || !allowed[0])
        return 0;
    for (; *allowed; allowed++)
        if (policy_prefix_matches(*allowed, ref))
            return 0;
    return error_set(err, STATUS_PERMISSION_DENIED, EPERM,
                     "%s/%s is not among the registries and repositories that this node takes images from "
                     "(image.allowed)",
                     ref->domain, ref->path);
}

static int rejected(const struct policy_entry *entry, struct error *err)
{
    return error_set(err, STATUS_PERMISSION_DENIED, EPERM,
                     "SignatureValidationFailed: policy \"%s\" rejects this image (image.policies)",
                     entry->prefix);
}

int policy_check_pull(const struct policy_config *config, char *const *allowed, const struct reference *ref,
                      const struct policy_entry **require, struct error *err)
{
    const struct policy_entry *entry = policy_find(config, ref);
    int r = check_allowed(allowed, ref, err);

    *require = NULL;
    if (r < 0)
        return r;
    if (entry && entry->action == POLICY_REJECT)
        return rejected(entry, err);
    if (entry && entry->action == POLICY_REQUIRE)
        *require = entry;
    return 0;
}

int policy_check_import(const struct policy_config *config, char *const *allowed, const struct reference *ref,
                        struct error *err)
{
    // One without a name is nobody's but "*"'s.
    const struct reference nameless = {.domain = (char *)"", .path = (char *)""};
    const struct policy_entry *require;
    int r = policy_check_pull(config, ref ? allowed : NULL, ref ? ref : &nameless, &require, err);

    if (r == 0 && !ref && allowed && allowed[0])
        r = error_set(err, STATUS_PERMISSION_DENIED, EPERM,
                      "an image without a name can't be imported where image.allowed is set; give it a name");
    if (r == 0 && require)
        r = error_set(
            err, STATUS_PERMISSION_DENIED, EPERM,
            "SignatureValidationFailed: policy \"%s\" requires a signature, which an archive can't be "
            "verified to have; pull it from a registry, or import it under a name of another policy",
            require->prefix);
    return r;
}

// The repository that a signature has to name; "" for any.
static char *signed_repository(const struct policy_entry *entry, const struct reference *ref,
                               struct arena *arena)
{
    const char *path = strchr(entry->prefix, '/'), *rest = ref->path;

    if (!entry->signed_as)
        return arena_printf(arena, "%s/%s", ref->domain, ref->path);
    if (str_eq(entry->signed_as, "*"))
        return arena_strdup(arena, "");
    if (str_eq(entry->prefix, "*")) // every registry's images, as those of one
        return arena_printf(arena, "%s/%s", entry->signed_as, ref->path);
    if (path)
        rest += strlen(path + 1);
    rest += *rest == '/';
    return arena_printf(arena, "%s%s%s", entry->signed_as, *rest ? "/" : "", rest);
}

Pull__SignaturePolicy *policy_signature(const struct policy_entry *entry, const struct reference *ref,
                                        struct arena *arena)
{
    Pull__SignaturePolicy *out = arena_alloc(arena, sizeof(*out));

    if (!out)
        return NULL;
    pull__signature_policy__init(out);
    out->name = (char *)entry->prefix;
    out->key_files = (char **)(void *)entry->keys; // only packed
    out->n_key_files = entry->n_keys;
    out->all_keys = entry->all_keys;
    out->repository = signed_repository(entry, ref, arena);
    out->tag = ref->tag ? ref->tag : (char *)"";
    return out->repository ? out : NULL;
}
