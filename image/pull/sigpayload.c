#include "image/pull/sigpayload.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/str.h"
#include "image/pull/json.h"
#include "image/pull/sigkey.h"
#include "image/reference.h"

#define PAYLOAD_TYPE  "cosign container image signature"
#define LAYER_TYPE    "application/vnd.dev.cosign.simplesigning.v1+json"
#define SIGNATURE_KEY "dev.cosignproject.cosign/signature"

// An object with exactly these members, which must be there: what a signer means to be critical and we don't
// understand must not be passed over.
static int exact_object(const json_t *parent, const char *key, const char *const *members, const json_t **out,
                        struct error *err)
{
    json_t *object = json_object_get(parent, key), *value;
    const char *name;
    size_t n = 0;

    if (!json_is_object(object))
        return error_set(err, STATUS_PERMISSION_DENIED, EBADMSG, "the signed payload has no object \"%s\"",
                         key);
    for (; members[n]; n++)
        if (!json_object_get(object, members[n]))
            return error_set(err, STATUS_PERMISSION_DENIED, EBADMSG,
                             "the signed payload's \"%s\" has no \"%s\"", key, members[n]);
    json_object_foreach(object, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < n; i++)
            known = known || str_eq(name, members[i]);
        if (!known)
            return error_set(err, STATUS_PERMISSION_DENIED, EBADMSG,
                             "the signed payload's \"%s\" has \"%.64s\", which is not understood", key, name);
    }
    *out = object;
    return 0;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static int check_identity(const char *signed_for, const struct sigpayload_wanted *wanted, struct error *err)
{
    struct reference ref;
    char *name;
    int r = 0;

    if (*wanted->repository == '\0')
        return 0;
    if (reference_parse(signed_for, &ref, NULL) < 0)
        return error_set(err, STATUS_PERMISSION_DENIED, EBADMSG,
                         "the signature is for \"%.200s\", which is no image", signed_for);
    name = reference_name(&ref);
    // reference_parse() completes a tag that isn't there: only one that was written counts.
    const char *slash = strrchr(signed_for, '/'), *colon = strrchr(slash ? slash : signed_for, ':');
    bool has_tag = ref.tag && colon;
    if (!name)
        r = error_errno(err, ENOMEM, "verify a signature");
    else if (!str_eq(name, wanted->repository))
        r = error_set(err, STATUS_PERMISSION_DENIED, EBADMSG,
                      "the signature is for repository %s, not for %s", name, wanted->repository);
    else if (has_tag && *wanted->tag && !str_eq(ref.tag, wanted->tag))
        r = error_set(err, STATUS_PERMISSION_DENIED, EBADMSG,
                      "the signature is for tag \"%s\", not for \"%s\"", ref.tag, wanted->tag);
    free(name);
    reference_done(&ref);
    return r;
}

static int check_payload(const json_t *json, const struct sigpayload_wanted *wanted, struct error *err)
{
    static const char *const critical_members[] = {"identity", "image", "type", NULL};
    static const char *const identity_members[] = {"docker-reference", NULL};
    static const char *const image_members[] = {"docker-manifest-digest", NULL};
    const json_t *critical, *identity, *image;
    const char *digest;
    int r = exact_object(json, "critical", critical_members, &critical, err);

    if (r == 0)
        r = exact_object(critical, "identity", identity_members, &identity, err);
    if (r == 0)
        r = exact_object(critical, "image", image_members, &image, err);
    if (r < 0)
        return r;
    if (!str_eq(text_of(critical, "type"), PAYLOAD_TYPE))
        return error_set(err, STATUS_PERMISSION_DENIED, EBADMSG,
                         "what is signed is a \"%.100s\", not a \"%s\"", text_of(critical, "type"),
                         PAYLOAD_TYPE);
    digest = text_of(image, "docker-manifest-digest");
    if (!str_eq(digest, wanted->digest))
        return error_set(err, STATUS_PERMISSION_DENIED, EBADMSG, "the signature is for %.100s, not for %s",
                         digest, wanted->digest);
    return check_identity(text_of(identity, "docker-reference"), wanted, err);
}

int sigpayload_check(const char *data, size_t len, const struct sigpayload_wanted *wanted, struct error *err)
{
    json_error_t why;
    json_t *json = len <= SIGPAYLOAD_MAX ? json_loadb(data, len, JSON_REJECT_DUPLICATES, &why) : NULL;
    int r;

    if (!json_is_object(json))
        r = error_set(err, STATUS_PERMISSION_DENIED, EBADMSG, "the signed payload is not a JSON object");
    else
        r = check_payload(json, wanted, err);
    json_decref(json);
    return r;
}

// Strict base64: whole groups, "=" only at the end. False: it is none, or too long.
static bool decode(const char *text, struct arena *arena, struct sigpayload_entry *out)
{
    size_t len = strlen(text),
           digits = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    size_t padding = len - digits;
    unsigned char *raw;

    if (len == 0 || len % 4 != 0 || padding > 2 || len / 4 * 3 > SIGKEY_SIGNATURE_MAX ||
        strspn(text + digits, "=") != padding)
        return false;
    raw = arena_alloc(arena, len / 4 * 3 + 1);
    if (!raw || EVP_DecodeBlock(raw, (const unsigned char *)text, (int)len) < 0)
        return false;
    out->signature = raw;
    out->signature_len = len / 4 * 3 - padding;
    return true;
}

int sigpayload_parse_manifest(const char *data, size_t len, struct arena *arena,
                              struct sigpayload_entry **out, size_t *n, struct error *err)
{
    _cleanup_json_ json_t *json = json_load_object(data, len, "signatures' manifest", err);
    json_t *layers;
    int r = json ? json_get_array(json, "layers", &layers, err) : -EPROTO;

    *n = 0;
    if (r < 0)
        return r;
    *out = arena_alloc(arena, SIGPAYLOAD_N_MAX * sizeof(**out));
    if (!*out)
        return error_errno(err, ENOMEM, "signatures");
    for (size_t i = 0; i < json_array_size(layers) && *n < SIGPAYLOAD_N_MAX; i++) {
        const json_t *layer = json_array_get(layers, i);
        struct sigpayload_entry *entry = &(*out)[*n];

        if (!str_eq(text_of(layer, "mediaType"), LAYER_TYPE) || !digest_is_valid(text_of(layer, "digest")) ||
            !decode(text_of(json_object_get(layer, "annotations"), SIGNATURE_KEY), arena, entry))
            continue;
        entry->digest = arena_strdup(arena, text_of(layer, "digest"));
        if (!entry->digest)
            return error_errno(err, ENOMEM, "signatures");
        (*n)++;
    }
    return 0;
}

int sigpayload_parse_referrers(const char *data, size_t len, struct arena *arena, const char **out,
                               size_t max, size_t *n, struct error *err)
{
    _cleanup_json_ json_t *json = json_load_object(data, len, "index of referrers", err);
    json_t *entries;
    int r = json ? json_get_array(json, "manifests", &entries, err) : -EPROTO;

    *n = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(entries) && *n < max; i++) {
        const json_t *entry = json_array_get(entries, i);

        // A registry need not filter by the type that was asked for.
        if (!str_eq(text_of(entry, "artifactType"), SIGPAYLOAD_ARTIFACT) ||
            !digest_is_valid(text_of(entry, "digest")))
            continue;
        out[*n] = arena_strdup(arena, text_of(entry, "digest"));
        if (!out[*n])
            return error_errno(err, ENOMEM, "signatures");
        (*n)++;
    }
    return r;
}
