// Results of ADD, in the shapes of CNI 0.3.0 to 1.1.0.
#ifndef CNI_RESULT_H
#define CNI_RESULT_H

#include <stddef.h>
#include <jansson.h>

#include "base/error.h"

#define CNI_RESULT_MAX_BYTES ((size_t)1 << 20) // what a plugin may print
#define CNI_RESULT_MAX_ITEMS 1024              // interfaces, addresses or routes of one result

// Parses and checks what plugin `type` printed, and brings it to `version` (ips[].version exists before 1.0.0
// only). Fields that we don't know are kept. INTERNAL naming the plugin and what is wrong.
int cni_result_parse(const char *text, size_t len, const char *type, const char *version, json_t **out,
                     struct error *err);
// The container's addresses in order, without prefix length: those of interface `ifname` in the sandbox, and
// those that name no interface. A fresh NULL-terminated vector (maybe empty); NULL on ENOMEM.
char **cni_result_addresses(const json_t *result, const char *ifname);

#endif
