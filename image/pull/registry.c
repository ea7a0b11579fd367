#include "image/pull/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/auth.h"
#include "image/pull/digest.h"
#include "image/pull/manifest.h"
#include "image/reference.h"

static const Pull__Endpoint *endpoint(const struct registry *r, size_t e)
{
    return r->request->endpoints[e];
}

int registry_init(struct registry *r, struct http *http, const Pull__PullRequest *request, struct error *err)
{
    size_t n = request->n_endpoints;

    *r = (struct registry){.http = http, .request = request};
    r->authorization = calloc(n + 1, sizeof(*r->authorization));
    r->url = calloc(n + 1, sizeof(*r->url));
    if (!r->authorization || !r->url)
        return error_errno(err, ENOMEM, "prepare the pull");
    for (size_t e = 0; e < n; e++) {
        const Pull__Endpoint *ep = endpoint(r, e);

        r->url[e] = str_printf("%s/v2/%s%s%s", ep->url, ep->path_prefix, *ep->path_prefix ? "/" : "",
                               request->repository);
        if (!r->url[e])
            return error_errno(err, ENOMEM, "prepare the pull");
    }
    return 0;
}

void registry_done(struct registry *r)
{
    for (size_t e = 0; r->request && e < r->request->n_endpoints; e++) {
        if (r->authorization && r->authorization[e])
            explicit_bzero(r->authorization[e], strlen(r->authorization[e]));
        free(r->authorization ? r->authorization[e] : NULL);
        free(r->url ? r->url[e] : NULL);
    }
    free(r->authorization);
    free(r->url);
    *r = (struct registry){0};
}

static void prepare(const struct registry *r, size_t e, struct http_request *request)
{
    const Pull__Endpoint *ep = endpoint(r, e);

    request->ca_file = ep->ca_file;
    request->skip_verify = ep->skip_verify;
    request->authorization = r->authorization[e];
}

int registry_authenticate(struct registry *r, size_t e, const struct http_request *denied, struct error *err)
{
    const Pull__Endpoint *ep = endpoint(r, e);
    _cleanup_free_ char *scope = NULL, *value = NULL;
    int rc;

    // Another request may have got a token meanwhile; one that was refused has perhaps expired.
    if (r->authorization[e] && denied->authorization != r->authorization[e])
        return 0;
    scope = str_printf("repository:%s%s%s:pull", ep->path_prefix, *ep->path_prefix ? "/" : "",
                       r->request->repository);
    if (!scope)
        return error_errno(err, ENOMEM, "authenticate");
    rc = auth_answer(r->http, ep, ep->send_credentials ? r->request->credentials : NULL, denied, scope,
                     &value, err);
    if (rc < 0)
        return error_wrap(err, "%s", ep->url);
    if (r->authorization[e])
        explicit_bzero(r->authorization[e], strlen(r->authorization[e]));
    free(r->authorization[e]);
    r->authorization[e] = steal_ptr(&value);
    return 0;
}

static int status_failure(const struct registry *r, size_t e, const struct http_request *request,
                          const char *what, struct error *err)
{
    const char *url = endpoint(r, e)->url;

    switch (request->status) {
    case 401:
        return error_set(err, STATUS_UNAUTHENTICATED, EACCES, "%s: %s of %s: %s (HTTP status 401)", url, what,
                         r->request->reference,
                         request->authorization ? "the registry does not accept the credentials"
                                                : "authentication is required");
    case 403:
        return error_set(err, STATUS_PERMISSION_DENIED, EACCES,
                         "%s: %s of %s: the registry denies access (HTTP status 403)", url, what,
                         r->request->reference);
    case 404:
        return error_set(err, STATUS_NOT_FOUND, ENOENT, "%s: %s of %s not found", url, what,
                         r->request->reference);
    case 429:
        return error_set(err, STATUS_UNAVAILABLE, EAGAIN,
                         "RegistryUnavailable: %s: %s of %s: too many requests; try again later", url, what,
                         r->request->reference);
    default:
        return error_set(err, STATUS_UNAVAILABLE, EIO, "RegistryUnavailable: %s: %s of %s: HTTP status %ld",
                         url, what, r->request->reference, request->status);
    }
}

int registry_failure(const struct registry *r, size_t e, const struct http_request *request, const char *what,
                     struct error *err)
{
    const char *detail = request->detail[0] ? request->detail : curl_easy_strerror(request->result);

    if (request->body_full)
        return error_set(err, STATUS_DATA_LOSS, EFBIG, "%s: %s of %s is larger than %zu bytes",
                         endpoint(r, e)->url, what, r->request->reference, request->body.max);
    if (request->result != CURLE_OK)
        return error_set(err, STATUS_UNAVAILABLE, EHOSTUNREACH, "RegistryUnavailable: %s: %s of %s: %s",
                         endpoint(r, e)->url, what, r->request->reference, detail);
    return status_failure(r, e, request, what, err);
}

bool registry_may_fall_back(const struct registry *r, size_t e, const struct http_request *request)
{
    // A mirror may lack what the registry has. The registry's own answer is final, but a failure to reach it
    // by one scheme is not.
    return !endpoint(r, e)->origin || request->result != CURLE_OK;
}

static bool is_ok(const struct http_request *request)
{
    return request->result == CURLE_OK && request->status == 200;
}

// One GET at one endpoint, authenticating if asked to. request stays to be http_done().
static int get(struct registry *r, size_t e, const char *url, struct http_request *request, const char *what,
               struct error *err)
{
    int rc;

    request->url = url;
    for (int tries = 0; tries < 2; tries++) {
        prepare(r, e, request);
        rc = http_run(r->http, request, err);
        if (rc < 0)
            return rc;
        if (is_ok(request))
            return 0;
        if (request->result != CURLE_OK || request->status != 401)
            break;
        if (tries > 0)
            break;
        rc = registry_authenticate(r, e, request, err);
        if (rc < 0)
            return rc;
        http_done(r->http, request);
    }
    return registry_failure(r, e, request, what, err);
}

// The error of the registry itself counts; those of mirrors before it are added to the text.
static void note_failure(struct buf *notes, const struct error *err)
{
    (void)buf_printf(notes, "%s%s", notes->len ? "; " : "", err->message);
}

static int fail_after(const struct buf *notes, struct error *err)
{
    const struct error last = *err;

    if (notes->len == 0)
        return -err->errnum;
    return error_set(err, last.status, last.errnum, "%.500s (before that: %.400s)", last.message,
                     notes->data);
}

typedef int (*check_fn)(const struct http_request *request, const char *wanted, struct error *err);

static int check_digest(const struct http_request *request, const char *wanted, struct error *err)
{
    char actual[DIGEST_TEXT_MAX];

    if (!wanted)
        return 0;
    if (digest_of(request->body.data ? request->body.data : "", request->body.len, actual) < 0)
        return error_set(err, STATUS_INTERNAL, EIO, "hash an answer");
    if (!str_eq(actual, wanted))
        return error_set(err, STATUS_DATA_LOSS, EBADMSG, "%s: digest mismatch: asked for %s, got %s",
                         request->url, wanted, actual);
    return 0;
}

// Asks the endpoints, beginning with `first`, until one has it. kind: "manifests" or "blobs".
static int fetch(struct registry *r, const char *kind, const char *reference, const char *digest,
                 size_t first, struct http_request *request, struct error *err)
{
    _cleanup_(buf_done) struct buf notes;
    int rc = error_set(err, STATUS_FAILED_PRECONDITION, EDESTADDRREQ,
                       "no registry or mirror is configured for %s", r->request->reference);

    buf_init(&notes, 900);
    for (size_t e = first; e < r->request->n_endpoints; e++) {
        _cleanup_free_ char *url = str_printf("%s/%s/%s", r->url[e], kind, reference);

        // That a registry on the machine itself has no TLS is no news.
        if (e > first && !endpoint(r, e - 1)->origin)
            note_failure(&notes, err);
        if (!url)
            return error_errno(err, ENOMEM, "ask the registry");
        rc = get(r, e, url, request, str_eq(kind, "blobs") ? "blob" : "manifest", err);
        if (rc == 0)
            rc = check_digest(request, digest, err);
        request->url = NULL;
        if (rc == 0) {
            r->first = e;
            return 0;
        }
        bool more = registry_may_fall_back(r, e, request);
        http_done(r->http, request);
        if (!more)
            break;
    }
    return fail_after(&notes, err);
}

int registry_get_manifest(struct registry *r, const char *reference, struct buf *out, char **content_type,
                          struct error *err)
{
    struct http_request request = {.accept = MANIFEST_ACCEPT, .body_max = MANIFEST_BYTES_MAX};
    const char *digest = digest_is_valid(reference) ? reference : NULL;
    int rc = fetch(r, "manifests", reference, digest, r->first, &request, err);

    if (rc < 0)
        return rc;
    *content_type = strdup(request.content_type);
    *out = request.body;
    buf_init(&request.body, 0);
    http_done(r->http, &request);
    return *content_type ? 0 : error_errno(err, ENOMEM, "read the manifest");
}

int registry_get_blob(struct registry *r, const char *digest, size_t max, struct buf *out, struct error *err)
{
    struct http_request request = {.body_max = max};
    int rc = fetch(r, "blobs", digest, digest, r->first, &request, err);

    if (rc < 0)
        return rc;
    *out = request.body;
    buf_init(&request.body, 0);
    http_done(r->http, &request);
    return 0;
}

int registry_prepare_blob(struct registry *r, size_t e, const char *digest, struct http_request *request,
                          char **url, struct error *err)
{
    *url = str_printf("%s/blobs/%s", r->url[e], digest);
    if (!*url)
        return error_errno(err, ENOMEM, "ask the registry");
    request->url = *url;
    prepare(r, e, request);
    return 0;
}
