// The registry's side of a pull: endpoints in order, authentication, manifests and blobs (OCI distribution
// specification 1.1).
#ifndef IMAGE_PULL_REGISTRY_H
#define IMAGE_PULL_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "image/pull/auth.h"
#include "image/pull/digest.h"
#include "image/pull/http.h"

// One of request->endpoints.
struct registry_endpoint {
    char *url; // <url>/v2/[prefix/]<repository>
    struct authorization authorization;
    unsigned authorization_no;  // counts up with each one
    struct challenge challenge; // the last one, for asking again when a token has expired
    struct http_outcome denial; // of answering that one, where it failed: the token server's
    bool failed;                // when it was asked last, and not because it lacks something
    bool out;                   // failed where a later one did not: no longer asked
};

struct registry {
    struct http *http;
    const Pull__PullRequest *request;
    struct registry_endpoint *endpoints;
    bool plain; // the registry itself answered last by http
};

int registry_init(struct registry *r, struct http *http, const Pull__PullRequest *request, struct error *err);
void registry_done(struct registry *r);

// The next endpoint at or after `from` that may be asked for content by its digest, or else for tags;
// n_endpoints: none. Those that are out are left out, unless there are no others at all.
size_t registry_next(const struct registry *r, size_t from, bool by_digest);
// The manifest of a tag or digest, from the first endpoint that has it; *content_type in fresh memory too.
int registry_get_manifest(struct registry *r, const char *reference, struct buf *out, char **content_type,
                          struct error *err);
// The index of what refers to a manifest, as far as it is of this type (a registry may tell more).
int registry_get_referrers(struct registry *r, const char *digest, const char *artifact_type, struct buf *out,
                           struct error *err);
// Asks for no more than the digest of a tag or manifest, once. "" where it can't be had this way: asking for
// the manifest will tell why. The registry's word alone: good for comparing with what was verified before.
void registry_head_manifest(struct registry *r, const char *reference, char digest[DIGEST_TEXT_MAX]);
// A small blob, its digest verified.
int registry_get_blob(struct registry *r, const char *digest, size_t max, struct buf *out, struct error *err);

// For a blob that is streamed: fills in URL, TLS and authorization for endpoint e. *url is fresh memory that
// must outlive the request.
int registry_prepare_blob(struct registry *r, size_t e, const char *digest, struct http_request *request,
                          char **url, struct error *err);
// After a 401: answers the challenge, unless another request's answer already did since `denied` was sent:
// one new token serves all. 0: ask again; else the error to report.
int registry_authenticate(struct registry *r, size_t e, const struct http_request *denied, struct error *err);
// What a finished request that is no 200 or 206 means.
int registry_failure(const struct registry *r, size_t e, const struct http_request *request, const char *what,
                     struct error *err);
// May another endpoint be asked after this failure of endpoint e?
bool registry_may_fall_back(const struct registry *r, size_t e, const struct http_request *request);

#endif
