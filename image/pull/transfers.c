#include "image/pull/transfers.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"

#define STALL_SECONDS 60

struct http_limits transfers_limits(const Pull__Transfers *transfers)
{
    struct http_limits limits = {.stall_seconds = STALL_SECONDS, .min_rate = 1};

    if (transfers && transfers->stall_ms > 0)
        limits.stall_seconds = (long)(transfers->stall_ms + 999) / 1000;
    if (transfers && transfers->min_rate > 0)
        limits.min_rate = (long)transfers->min_rate;
    return limits;
}

int transfers_set_proxies(const Pull__Transfers *transfers, struct error *err)
{
    if (!transfers)
        return 0;
    const char *const pairs[][2] = {{"http_proxy", transfers->http_proxy},
                                    {"https_proxy", transfers->https_proxy},
                                    {"all_proxy", transfers->all_proxy},
                                    {"no_proxy", transfers->no_proxy}};

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        if (!str_empty(pairs[i][1]) && setenv(pairs[i][0], pairs[i][1], 1) < 0)
            return error_errno(err, ENOMEM, "set the proxies");
    return 0;
}
