#include "cni/json.h"

int cni_json_parse(const char *text, size_t len, const char *what, json_t **out, struct error *err)
{
    json_error_t bad;
    *out = json_loadb(text, len, JSON_DECODE_ANY, &bad);
    if (*out)
        return 0;
    if (json_error_code(&bad) == json_error_out_of_memory)
        return error_errno(err, ENOMEM, "%s", what);
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s:%d: not valid JSON: %s", what,
                     bad.line > 0 ? bad.line : 1, bad.text);
}
