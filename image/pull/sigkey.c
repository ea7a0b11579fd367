#include "image/pull/sigkey.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 16384 // more takes seconds to verify
#define DIGESTS_MAX  3

struct sigkey {
    EVP_PKEY *pkey;
    enum { ECDSA, RSA_ANY, ED25519 } kind;
    const char *digests[DIGESTS_MAX]; // that signatures may be over
};

void sigkey_free(struct sigkey *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

void sigkey_freep(struct sigkey **key)
{
    sigkey_free(*key);
    *key = NULL;
}

static int bad_key(struct error *err, const char *what, const char *why)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, EKEYREJECTED, "key %s: %s", what, why);
}

static int classify_curve(struct sigkey *key, const char *what, struct error *err)
{
    static const struct {
        const char *name, *digests[DIGESTS_MAX];
    } curves[] = {
        // cosign signs over SHA-256 whatever the curve, newer versions over the curve's own digest.
        {"prime256v1", {"SHA256"}},
        {"secp384r1", {"SHA256", "SHA384"}},
        {"secp521r1", {"SHA256", "SHA512"}},
    };
    char name[64] = "";

    (void)EVP_PKEY_get_group_name(key->pkey, name, sizeof(name), NULL);
    for (size_t i = 0; i < ARRAY_SIZE(curves); i++) {
        if (!str_eq(name, curves[i].name))
            continue;
        key->kind = ECDSA;
        memcpy(key->digests, curves[i].digests, sizeof(key->digests));
        return 0;
    }
    return bad_key(err, what, "its curve is not supported; use P-256, P-384 or P-521");
}

static int classify(struct sigkey *key, const char *what, struct error *err)
{
    int bits;

    switch (EVP_PKEY_get_base_id(key->pkey)) {
    case EVP_PKEY_EC:
        return classify_curve(key, what, err);
    case EVP_PKEY_RSA:
        bits = EVP_PKEY_get_bits(key->pkey);
        if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
            return bad_key(err, what, "an RSA key must have 2048 to 16384 bits");
        key->kind = RSA_ANY;
        key->digests[0] = "SHA256";
        return 0;
    case EVP_PKEY_ED25519:
        key->kind = ED25519;
        return 0;
    default:
        return bad_key(err, what, "its type is not supported; use ECDSA, RSA or Ed25519");
    }
}

static int check_pem(const char *pem, const char *what, struct error *err)
{
    const char *begin = strstr(pem, "-----BEGIN ");

    if (!begin)
        return bad_key(err, what, "it is not a PEM file (-----BEGIN PUBLIC KEY-----)");
    if (strstr(begin, "PRIVATE KEY-----"))
        return bad_key(err, what, "it holds a private key, which does not belong here; give the public one");
    if (!str_has_prefix(begin, "-----BEGIN PUBLIC KEY-----"))
        return bad_key(err, what, "it holds no public key (-----BEGIN PUBLIC KEY-----)");
    if (strstr(begin + 1, "-----BEGIN "))
        return bad_key(err, what, "it holds more than one key; keep one a file");
    return 0;
}

int sigkey_parse(const char *pem, size_t len, const char *what, struct sigkey **out, struct error *err)
{
    _cleanup_(sigkey_freep) struct sigkey *key = NULL;
    BIO *bio;
    int r;

    *out = NULL;
    if (strlen(pem) != len)
        return bad_key(err, what, "it is not a PEM file");
    r = check_pem(pem, what, err);
    if (r < 0)
        return r;
    key = calloc(1, sizeof(*key));
    bio = BIO_new_mem_buf(pem, (int)len);
    if (key && bio)
        key->pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    ERR_clear_error();
    if (!key)
        return error_errno(err, ENOMEM, "key %s", what);
    if (!key->pkey)
        return bad_key(err, what, "the public key in it can't be read");
    r = classify(key, what, err);
    if (r == 0)
        *out = steal_ptr(&key);
    return r;
}

int sigkey_load(const char *path, struct sigkey **out, struct error *err)
{
    _cleanup_free_ char *pem = NULL;
    size_t len = 0;
    int r = file_read_regular(path, SIGKEY_FILE_MAX, &pem, &len, err);

    *out = NULL;
    if (r < 0) {
        error_restatus(err, STATUS_FAILED_PRECONDITION);
        return error_wrap(err, "key %s", path);
    }
    return sigkey_parse(pem, len, path, out, err);
}

static bool verify_one(const struct sigkey *key, const char *digest, int padding, const void *data,
                       size_t len, const void *signature, size_t signature_len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    bool ok = ctx && EVP_DigestVerifyInit_ex(ctx, &pctx, digest, NULL, NULL, key->pkey, NULL) == 1;

    if (ok && padding != 0)
        ok = EVP_PKEY_CTX_set_rsa_padding(pctx, padding) == 1;
    if (ok && padding == RSA_PKCS1_PSS_PADDING)
        ok = EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1;
    ok = ok && EVP_DigestVerify(ctx, signature, signature_len, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

bool sigkey_verify(const struct sigkey *key, const void *data, size_t len, const void *signature,
                   size_t signature_len)
{
    if (signature_len == 0 || signature_len > SIGKEY_SIGNATURE_MAX)
        return false;
    if (key->kind == ED25519)
        return verify_one(key, NULL, 0, data, len, signature, signature_len);
    if (key->kind == RSA_ANY)
        return verify_one(key, key->digests[0], RSA_PKCS1_PADDING, data, len, signature, signature_len) ||
               verify_one(key, key->digests[0], RSA_PKCS1_PSS_PADDING, data, len, signature, signature_len);
    for (size_t i = 0; i < DIGESTS_MAX && key->digests[i]; i++)
        if (verify_one(key, key->digests[i], 0, data, len, signature, signature_len))
            return true;
    return false;
}
