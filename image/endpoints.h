// Which hosts a pull asks, in order: the registry's mirrors, then the registry itself.
#ifndef IMAGE_ENDPOINTS_H
#define IMAGE_ENDPOINTS_H

#include "api/pull/pull.pb-c.h"
#include "base/arena.h"
#include "base/error.h"
#include "image/reference.h"
#include "image/registry_config.h"

// Sets request->endpoints (in arena). server_address: where the request's credentials belong ("": the
// registry of the reference); they are shown to no other host. config may be NULL.
int endpoints_build(const struct registry_config *config, const struct reference *ref,
                    const char *server_address, struct arena *arena, Pull__PullRequest *request,
                    struct error *err);
// Of a registry that may be asked by https and by http: puts http first. Others are left as they are.
void endpoints_prefer_plain(Pull__PullRequest *request);

#endif
