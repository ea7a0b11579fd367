// Keys and signatures for the tests of signatures.
#ifndef IMAGE_PULL_SIGTEST_H
#define IMAGE_PULL_SIGTEST_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/testing.h"

static inline EVP_PKEY *sigtest_key(const char *kind)
{
    EVP_PKEY *key = strncmp(kind, "RSA", 3) == 0
                        ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)strtoul(kind + 3, NULL, 10))
                    : strcmp(kind, "ED25519") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                                                   : EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind);

    assert_non_null(key);
    return key;
}

// A PEM text that the caller frees.
static inline char *sigtest_pem(EVP_PKEY *key, bool private)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *text;
    long len;

    assert_int_equal(private ? PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)
                             : PEM_write_bio_PUBKEY(bio, key),
                     1);
    len = BIO_get_mem_data(bio, &data);
    text = strndup(data, (size_t)len);
    BIO_free(bio);
    assert_non_null(text);
    return text;
}

// digest: NULL for Ed25519. padding: 0, or one of RSA's. Bytes of the signature.
static inline size_t sigtest_sign(EVP_PKEY *key, const char *digest, int padding, const char *data,
                                  unsigned char out[1024])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx;
    size_t len = 1024;

    assert_int_equal(EVP_DigestSignInit_ex(ctx, &pctx, digest, NULL, NULL, key, NULL), 1);
    if (padding)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, padding), 1);
    assert_int_equal(EVP_DigestSign(ctx, out, &len, (const unsigned char *)data, strlen(data)), 1);
    EVP_MD_CTX_free(ctx);
    return len;
}

#endif
