// Fuzz target: what carries signatures. The first byte says what the rest is: a payload, a manifest, an index
// of referrers, a key.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "image/pull/sigkey.h"
#include "image/pull/sigpayload.h"
#include "image/reference.h"

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_payload(const char *text, size_t len)
{
    const struct sigpayload_wanted wanted = {DIGEST, "r.io/app", "v1"};

    // It can't be good without the digest in it.
    if (sigpayload_check(text, len, &wanted, NULL) == 0 && !memmem(text, len, "aaaaaaaa", 8) &&
        !memmem(text, len, "\\u", 2))
        abort();
}

static void parse_lists(const char *text, size_t len, bool manifest, struct arena *arena)
{
    struct sigpayload_entry *entries;
    const char *digests[16];
    size_t n = 0;

    if (manifest && sigpayload_parse_manifest(text, len, arena, &entries, &n, NULL) == 0) {
        for (size_t i = 0; i < n; i++)
            if (!digest_is_valid(entries[i].digest) || entries[i].signature_len > SIGKEY_SIGNATURE_MAX)
                abort();
    } else if (!manifest && sigpayload_parse_referrers(text, len, arena, digests, 16, &n, NULL) == 0) {
        for (size_t i = 0; i < n; i++)
            if (!digest_is_valid(digests[i]))
                abort();
    }
}

static void parse_key(const char *text, size_t len)
{
    _cleanup_free_ char *pem = strndup(text, len);
    _cleanup_(sigkey_freep) struct sigkey *key = NULL;

    if (pem && sigkey_parse(pem, len, "key", &key, NULL) == 0 && sigkey_verify(key, "x", 1, "signature", 9))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = size > 0 ? arena_new(4u << 20) : NULL;
    const char *text = (const char *)data + 1;

    if (!arena)
        return 0;
    switch (data[0] % 4) {
    case 0:
        parse_payload(text, size - 1);
        break;
    case 1:
    case 2:
        parse_lists(text, size - 1, data[0] % 4 == 1, arena);
        break;
    default:
        parse_key(text, size - 1);
    }
    arena_free(arena);
    return 0;
}
