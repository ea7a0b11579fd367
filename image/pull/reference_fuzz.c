// Fuzz target: image references. What was normalised is a reference again, and the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *text = strndup((const char *)data, size), *normal = NULL, *again = NULL;
    struct reference ref;

    if (!text || reference_parse(text, &ref, NULL) < 0)
        return 0;
    normal = reference_format(&ref);
    (void)reference_domain_is_loopback(ref.domain);
    reference_done(&ref);
    if (!normal || reference_parse(normal, &ref, NULL) < 0)
        abort();
    again = reference_format(&ref);
    if (!again || strcmp(normal, again) != 0 || (ref.tag == NULL) == (ref.digest == NULL))
        abort();
    reference_done(&ref);
    return 0;
}
