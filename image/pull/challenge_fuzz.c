// Fuzz target: a registry's WWW-Authenticate header.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "image/pull/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *text = strndup((const char *)data, size);
    struct challenge challenge;

    if (!text || challenge_parse(text, &challenge, NULL) < 0)
        return 0;
    if (challenge.scheme == CHALLENGE_BEARER && !challenge.realm)
        abort();
    challenge_done(&challenge);
    return 0;
}
