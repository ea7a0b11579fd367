#include "image/pull/signature.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/sigkey.h"
#include "image/pull/sigpayload.h"

#define KEYS_MAX      32
#define FOUND_MAX     128 // signatures looked at, for one image
#define REFERRERS_MAX 16  // manifests with signatures that are looked at, for one image

struct verifier {
    const struct signature_source *source;
    const Pull__SignaturePolicy *policy;
    struct arena *arena;
    const char *digest; // the signatures of this manifest are being looked at
    struct sigkey *keys[KEYS_MAX];
    bool satisfied[KEYS_MAX];
    size_t n_keys;
    size_t n_found;      // signatures, of whomever
    struct error denied; // a configured key's signature that says something else
    struct error failed; // what could not be looked at
};

static int load_keys(struct verifier *v, struct error *err)
{
    if (v->policy->n_key_files == 0 || v->policy->n_key_files > KEYS_MAX)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOKEY, "there are no keys, or more than %d",
                         KEYS_MAX);
    for (; v->n_keys < v->policy->n_key_files; v->n_keys++) {
        int r = sigkey_load(v->policy->key_files[v->n_keys], &v->keys[v->n_keys], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_done(const struct verifier *v)
{
    size_t n = 0;

    for (size_t i = 0; i < v->n_keys; i++)
        n += v->satisfied[i];
    return n > 0 && (!v->policy->all_keys || n == v->n_keys);
}

// The payload is parsed only once a configured key has signed it.
static void check_signature(struct verifier *v, const struct sigpayload_entry *entry,
                            const struct buf *payload)
{
    const struct sigpayload_wanted wanted = {v->digest, v->policy->repository, v->policy->tag};
    const char *data = payload->data ? payload->data : "";

    for (size_t i = 0; i < v->n_keys; i++) {
        if (v->satisfied[i] ||
            !sigkey_verify(v->keys[i], data, payload->len, entry->signature, entry->signature_len))
            continue;
        v->satisfied[i] = sigpayload_check(data, payload->len, &wanted, &v->denied) == 0;
    }
}

static int check_manifest(struct verifier *v, const struct buf *manifest, struct error *err)
{
    struct sigpayload_entry *entries;
    size_t n;
    int r = sigpayload_parse_manifest(manifest->data ? manifest->data : "", manifest->len, v->arena, &entries,
                                      &n, err);

    for (size_t i = 0; r == 0 && i < n && v->n_found < FOUND_MAX && !is_done(v); i++) {
        _cleanup_(buf_done) struct buf payload = {0};

        v->n_found++;
        r = v->source->get_blob(v->source->data, entries[i].digest, SIGPAYLOAD_MAX, &payload, err);
        if (r == 0)
            check_signature(v, &entries[i], &payload);
        else if (err->status != STATUS_UNAVAILABLE)
            r = 0, v->failed = *err; // another one may be whole
    }
    return r;
}

// "sha256-<hex><suffix>".
static char *tag_of(const struct verifier *v, const char *suffix)
{
    char *tag = arena_printf(v->arena, "%s%s", v->digest, suffix);

    if (tag)
        tag[strlen("sha256")] = '-';
    return tag;
}

// What is not there, or can't be understood, is no signature; a registry that doesn't answer is an error.
static int forgive(struct verifier *v, int r, const struct error *why, struct error *err)
{
    if (r == 0 || r == -ENOENT)
        return 0;
    v->failed = *why;
    if (why->status != STATUS_UNAVAILABLE)
        return 0;
    *err = *why;
    return r;
}

static int look_at_manifest(struct verifier *v, const char *reference, struct error *err)
{
    _cleanup_(buf_done) struct buf body = {0};
    struct error why = ERROR_INIT;
    int r = v->source->get_manifest(v->source->data, reference, &body, &why);

    if (r == 0)
        r = check_manifest(v, &body, &why);
    return forgive(v, r, &why, err);
}

// The registry's list, or where it has none the tag with one.
static int get_referrers(struct verifier *v, struct buf *body, struct error *err)
{
    struct error why = ERROR_INIT;
    char *tag = tag_of(v, "");

    if (!tag)
        return error_errno(err, ENOMEM, "signatures");
    if (v->source->get_referrers(v->source->data, v->digest, body, &why) == 0)
        return 0;
    // Registries of before 2023 answer this in many ways, not all of them 404.
    return v->source->get_manifest(v->source->data, tag, body, err);
}

static int look_at_referrers(struct verifier *v, struct error *err)
{
    _cleanup_(buf_done) struct buf body = {0};
    const char *digests[REFERRERS_MAX];
    struct error why = ERROR_INIT;
    size_t n = 0;
    int r = get_referrers(v, &body, &why);

    if (r == 0)
        r = sigpayload_parse_referrers(body.data ? body.data : "", body.len, v->arena, digests, REFERRERS_MAX,
                                       &n, &why);
    r = forgive(v, r, &why, err);
    for (size_t i = 0; r == 0 && i < n && !is_done(v); i++)
        r = look_at_manifest(v, digests[i], err);
    return r;
}

static int look(struct verifier *v, const char *digest, struct error *err)
{
    char *tag;
    int r;

    v->digest = digest;
    tag = tag_of(v, ".sig");
    if (!tag)
        return error_errno(err, ENOMEM, "signatures");
    r = look_at_manifest(v, tag, err);
    if (r == 0 && !is_done(v))
        r = look_at_referrers(v, err);
    return r;
}

static const char *missing_keys(struct verifier *v)
{
    char *text = arena_strdup(v->arena, "");

    for (size_t i = 0; text && i < v->n_keys; i++)
        if (!v->satisfied[i])
            text = arena_printf(v->arena, "%s%s%s", text, *text ? v->policy->all_keys ? " and " : " or " : "",
                                v->policy->key_files[i]);
    return text ? text : "the configured keys";
}

static int deny(struct verifier *v, const Pull__PullResolved *resolved, struct error *err)
{
    const char *name = v->policy->name, *digest = resolved->manifest_digest;

    if (v->n_found == 0)
        return error_set(
            err, STATUS_PERMISSION_DENIED, EKEYREJECTED,
            "SignatureValidationFailed: policy \"%.200s\" requires a signature, and %s has none%s%.200s",
            name, digest, v->failed.errnum ? ": " : "", v->failed.message);
    if (v->denied.errnum)
        return error_set(err, STATUS_PERMISSION_DENIED, EKEYREJECTED,
                         "SignatureValidationFailed: policy \"%.200s\": %.500s", name, v->denied.message);
    return error_set(
        err, STATUS_PERMISSION_DENIED, EKEYREJECTED,
        "SignatureValidationFailed: policy \"%.200s\": of %zu signatures of %s none is by %.300s%s%.200s",
        name, v->n_found, digest, missing_keys(v), v->failed.errnum ? "; " : "", v->failed.message);
}

int signature_verify(const struct signature_source *source, const Pull__SignaturePolicy *policy,
                     const Pull__PullResolved *resolved, struct arena *arena, struct error *err)
{
    struct verifier v = {.source = source, .policy = policy, .arena = arena};
    struct error why = ERROR_INIT;
    int r = load_keys(&v, &why);

    if (r < 0)
        r = error_set(err, STATUS_FAILED_PRECONDITION, ENOKEY,
                      "SignatureValidationFailed: policy \"%.200s\" can't be applied: %.600s", policy->name,
                      why.message);
    if (r == 0)
        r = look(&v, resolved->manifest_digest, err);
    if (r == 0 && !is_done(&v) && !str_eq(resolved->platform_digest, resolved->manifest_digest))
        r = look(&v, resolved->platform_digest, err);
    if (r == 0 && !is_done(&v))
        r = deny(&v, resolved, err);
    for (size_t i = 0; i < v.n_keys; i++)
        sigkey_free(v.keys[i]);
    return r;
}
