// Fuzzes what others write: configuration files and plugins' results. The first byte says which.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/str.h"
#include "cni/conflist.h"
#include "cni/json.h"
#include "cni/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_result(const char *text, size_t len, const char *version)
{
    _cleanup_json_ json_t *result = NULL;
    struct error err;
    if (cni_result_parse(text, len, "plugin", version, &result, &err) < 0)
        return;
    _cleanup_strv_ char **ips = cni_result_addresses(result, "eth0");
    if (!ips)
        abort();
}

static void parse_list(const char *text, size_t len, bool is_list)
{
    _cleanup_(cni_conflist_unrefp) struct cni_conflist *list = NULL, *again = NULL;
    struct error err;
    if (cni_conflist_parse(text, len, "file", is_list, &list, &err) < 0)
        return;
    if (cni_conflist_from_json(list->json, list->version, &again, &err) < 0)
        abort(); // what was accepted once must come back from the cache
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    switch (data[0] % 4) {
    case 0:
        parse_list(text, size - 1, true);
        break;
    case 1:
        parse_list(text, size - 1, false);
        break;
    case 2:
        parse_result(text, size - 1, "0.4.0");
        break;
    default:
        parse_result(text, size - 1, "1.1.0");
    }
    return 0;
}
