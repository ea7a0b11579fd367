// The few things we need beyond jansson.
#ifndef CNI_JSON_H
#define CNI_JSON_H

#include <stddef.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/error.h"

static inline void cni_json_decrefp(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}
#define _cleanup_json_ _cleanup_(cni_json_decrefp)

// Parses one whole text. INVALID_ARGUMENT "<what>:<line>: <reason>" when it isn't JSON.
int cni_json_parse(const char *text, size_t len, const char *what, json_t **out, struct error *err);

#endif
