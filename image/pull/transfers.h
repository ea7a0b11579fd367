// What the configuration says of HTTP transfers, applied.
#ifndef IMAGE_PULL_TRANSFERS_H
#define IMAGE_PULL_TRANSFERS_H

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "image/pull/http.h"

// transfers may be NULL: defaults, no proxy.
struct http_limits transfers_limits(const Pull__Transfers *transfers);
// Sets the proxies for libcurl, in this process's memory only: /proc/PID/environ shows what a process was
// started with. Before any request.
int transfers_set_proxies(const Pull__Transfers *transfers, struct error *err);

#endif
