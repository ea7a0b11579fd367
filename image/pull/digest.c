#include "image/pull/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

struct digest {
    EVP_MD *md;
    EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
    struct digest *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->md = EVP_MD_fetch(NULL, "SHA256", NULL);
    d->ctx = EVP_MD_CTX_new();
    if (!d->md || !d->ctx || EVP_DigestInit_ex2(d->ctx, d->md, NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_free(struct digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->ctx);
    EVP_MD_free(d->md);
    free(d);
}

void digest_freep(struct digest **d)
{
    digest_free(*d);
    *d = NULL;
}

int digest_update(struct digest *d, const void *data, size_t len)
{
    return EVP_DigestUpdate(d->ctx, data, len) == 1 ? 0 : -EIO;
}

int digest_final(struct digest *d, char out[DIGEST_TEXT_MAX])
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_DigestFinal_ex(d->ctx, raw, &len) != 1 || len != 32)
        return -EIO;
    memcpy(out, "sha256:", 7);
    str_hex(raw, len, out + 7);
    return 0;
}

int digest_of(const void *data, size_t len, char out[DIGEST_TEXT_MAX])
{
    _cleanup_(digest_freep) struct digest *d = digest_new();

    if (!d || digest_update(d, data, len) < 0)
        return -EIO;
    return digest_final(d, out);
}
