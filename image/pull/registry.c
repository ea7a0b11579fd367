#include "image/pull/registry.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "image/pull/digest.h"
#include "image/pull/manifest.h"
#include "image/pull/retry.h"
#include "image/reference.h"

static const Pull__Endpoint *endpoint(const struct registry *r, size_t e)
{
    return r->request->endpoints[e];
}

int registry_init(struct registry *r, struct http *http, const Pull__PullRequest *request, struct error *err)
{
    size_t n = request->n_endpoints;

    *r = (struct registry){.http = http, .request = request};
    r->endpoints = calloc(n + 1, sizeof(*r->endpoints));
    if (!r->endpoints)
        return error_errno(err, ENOMEM, "prepare the pull");
    for (size_t e = 0; e < n; e++) {
        const Pull__Endpoint *ep = endpoint(r, e);

        r->endpoints[e].url = str_printf("%s/v2/%s%s%s", ep->url, ep->path_prefix,
                                         *ep->path_prefix ? "/" : "", request->repository);
        if (!r->endpoints[e].url)
            return error_errno(err, ENOMEM, "prepare the pull");
    }
    return 0;
}

void registry_done(struct registry *r)
{
    for (size_t e = 0; r->endpoints && e < r->request->n_endpoints; e++) {
        auth_forget(&r->endpoints[e].authorization);
        challenge_done(&r->endpoints[e].challenge);
        free(r->endpoints[e].url);
    }
    free(r->endpoints);
    *r = (struct registry){0};
}

size_t registry_next(const struct registry *r, size_t from, bool by_digest)
{
    size_t n = r->request->n_endpoints;
    bool any = false;

    for (size_t e = 0; e < n; e++) {
        bool may = by_digest ? !endpoint(r, e)->no_pull : !endpoint(r, e)->no_resolve;

        if (may && !r->endpoints[e].out && e >= from)
            return e;
        any = any || (may && !r->endpoints[e].out);
    }
    for (size_t e = from; !any && e < n; e++)
        if (by_digest ? !endpoint(r, e)->no_pull : !endpoint(r, e)->no_resolve)
            return e;
    return n;
}

// A new value for an endpoint's Authorization, from its last challenge.
static int renew(struct registry *r, size_t e, struct error *err)
{
    const Pull__Endpoint *ep = endpoint(r, e);
    struct registry_endpoint *mine = &r->endpoints[e];
    struct authorization fresh;
    _cleanup_free_ char *scope = str_printf("repository:%s%s%s:pull", ep->path_prefix,
                                            *ep->path_prefix ? "/" : "", r->request->repository);
    int rc;

    if (!scope)
        return error_errno(err, ENOMEM, "authenticate");
    rc = auth_answer(r->http, ep, ep->send_credentials ? r->request->credentials : NULL, &mine->challenge,
                     scope, &fresh, &mine->denial, err);
    auth_forget(&mine->authorization);
    mine->authorization_no++;
    if (rc < 0)
        return rc;
    mine->authorization = fresh;
    return 0;
}

// What has expired would only be refused.
static void prepare(struct registry *r, size_t e, struct http_request *request)
{
    struct registry_endpoint *mine = &r->endpoints[e];

    if (mine->authorization.expires_mono_ns > 0 && mine->authorization.expires_mono_ns <= clock_mono_ns())
        (void)renew(r, e, NULL); // else the registry will say what it wants
    request->tls = auth_tls(endpoint(r, e));
    request->authorization = mine->authorization.value;
    request->authorization_no = mine->authorization_no;
}

int registry_authenticate(struct registry *r, size_t e, const struct http_request *denied, struct error *err)
{
    struct registry_endpoint *mine = &r->endpoints[e];
    struct challenge c;
    int rc;

    if (mine->authorization.value && denied->authorization_no != mine->authorization_no)
        return 0;
    mine->denial = (struct http_outcome){0};
    rc = auth_read_challenges(denied, &c, err);
    if (rc == 0) {
        challenge_done(&mine->challenge);
        mine->challenge = c;
        rc = renew(r, e, err);
    }
    return rc < 0 ? error_wrap(err, "%s", endpoint(r, e)->url) : 0;
}

static int status_failure(const struct registry *r, size_t e, const struct http_request *request,
                          const char *what, struct error *err)
{
    const char *url = endpoint(r, e)->url;
    long wait = http_retry_after(request);

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
                         "RegistryUnavailable: %s: %s of %s: too many requests (HTTP status 429); try again "
                         "in %ld seconds or later",
                         url, what, r->request->reference, wait > 0 ? wait : 1);
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

// Did https fail as it does where nobody speaks it? A server with a certificate that isn't trusted, or one
// that refuses ours by an alert, does. On a node without certificates libcurl doesn't even ask.
static bool is_without_tls(const struct http_request *request)
{
    return request->result == CURLE_COULDNT_CONNECT || request->result == CURLE_SSL_CACERT_BADFILE ||
           (request->result == CURLE_SSL_CONNECT_ERROR && !strstr(request->detail, "alert"));
}

bool registry_may_fall_back(const struct registry *r, size_t e, const struct http_request *request)
{
    // A mirror may lack what the registry has. The registry's own answer is final, but a failure to reach it
    // by one scheme is not: unless what is the matter is its TLS, for http would be no safer.
    if (!endpoint(r, e)->origin)
        return true;
    if (str_has_prefix(endpoint(r, e)->url, "http://")) // asked first, where it was the right one before
        return request->result != CURLE_OK || request->status == 400; // as a server that wants TLS answers
    return request->result != CURLE_OK && is_without_tls(request);
}

static bool is_ok(const struct http_request *request)
{
    return request->result == CURLE_OK && request->status == 200;
}

// One GET at one endpoint, authenticating if asked to. request stays to be http_done(). *outcome is set after
// a failure.
static int get(struct registry *r, size_t e, const char *url, struct http_request *request, const char *what,
               struct http_outcome *outcome, struct error *err)
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
        if (rc < 0) {
            *outcome = r->endpoints[e].denial;
            return rc;
        }
        http_done(r->http, request);
    }
    *outcome = http_outcome(request);
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

struct question {
    const char *kind;      // "manifests" or "blobs"
    const char *reference; // tag or digest
    const char *digest;    // what the answer must have; NULL: it isn't known
    bool head;             // there is no body to have it
};

static int ask_endpoint(struct registry *r, size_t e, const struct question *q, struct http_request *request,
                        struct http_outcome *outcome, struct error *err)
{
    _cleanup_free_ char *url = str_printf("%s/%s/%s", r->endpoints[e].url, q->kind, q->reference);
    int rc;

    if (!url)
        return error_errno(err, ENOMEM, "ask the registry");
    *outcome = (struct http_outcome){0};
    rc = get(r, e, url, request, str_eq(q->kind, "blobs") ? "blob" : "manifest", outcome, err);
    if (rc == 0 && !q->head)
        rc = check_digest(request, q->digest, err);
    request->url = NULL;
    return rc;
}

// Asks the endpoints in order until one has it; *outcome is the last one's.
static int ask_all(struct registry *r, const struct question *q, struct http_request *request,
                   struct http_outcome *outcome, struct error *err)
{
    _cleanup_(buf_done) struct buf notes;
    size_t n = r->request->n_endpoints, previous = n;
    int rc = error_set(err, STATUS_FAILED_PRECONDITION, EDESTADDRREQ,
                       "no registry or mirror that may be asked is configured for %s", r->request->reference);

    buf_init(&notes, 900);
    for (size_t e = registry_next(r, 0, q->digest); e < n; e = registry_next(r, e + 1, q->digest)) {
        bool missing, more;

        // That a registry on the machine itself has no TLS is no news.
        if (previous < n &&
            !(endpoint(r, previous)->origin && str_has_prefix(endpoint(r, previous)->url, "https://")))
            note_failure(&notes, err);
        previous = e;
        rc = ask_endpoint(r, e, q, request, outcome, err);
        if (rc == 0) {
            r->endpoints[e].failed = false;
            r->plain = endpoint(r, e)->origin && str_has_prefix(endpoint(r, e)->url, "http://");
            for (size_t i = 0; i < e; i++)
                r->endpoints[i].out = r->endpoints[i].out || r->endpoints[i].failed;
            return 0;
        }
        missing = request->result == CURLE_OK && request->status == 404;
        more = registry_may_fall_back(r, e, request);
        r->endpoints[e].failed = !missing;
        http_done(r->http, request);
        if (!more)
            break;
    }
    return fail_after(&notes, err);
}

static int fetch(struct registry *r, const struct question *q, struct http_request *request,
                 struct error *err)
{
    struct http_outcome outcome = {0};
    struct retry retry = {0};

    for (;;) {
        int rc = ask_all(r, q, request, &outcome, err);
        int64_t ms = rc < 0 && outcome.transient ? retry_delay_ms(&retry, outcome.retry_after) : -1;

        if (ms < 0)
            return rc;
        (void)poll(NULL, 0, (int)ms); // crispd may end us meanwhile
    }
}

int registry_get_manifest(struct registry *r, const char *reference, struct buf *out, char **content_type,
                          struct error *err)
{
    struct http_request request = {.accept = MANIFEST_ACCEPT, .body_max = MANIFEST_BYTES_MAX};
    const char *digest = digest_is_valid(reference) ? reference : NULL;
    int rc = fetch(r, &(struct question){"manifests", reference, digest, false}, &request, err);

    if (rc < 0)
        return rc;
    *content_type = strdup(request.content_type);
    *out = request.body;
    buf_init(&request.body, 0);
    http_done(r->http, &request);
    return *content_type ? 0 : error_errno(err, ENOMEM, "read the manifest");
}

int registry_get_referrers(struct registry *r, const char *digest, const char *artifact_type, struct buf *out,
                           struct error *err)
{
    struct http_request request = {.accept = "application/vnd.oci.image.index.v1+json",
                                   .body_max = MANIFEST_BYTES_MAX};
    _cleanup_free_ char *type = curl_easy_escape(NULL, artifact_type, 0);
    _cleanup_free_ char *what = type ? str_printf("%s?artifactType=%s", digest, type) : NULL;
    int rc = what ? fetch(r, &(struct question){"referrers", what, NULL, false}, &request, err)
                  : error_errno(err, ENOMEM, "ask the registry");

    if (rc < 0)
        return rc;
    *out = request.body;
    buf_init(&request.body, 0);
    http_done(r->http, &request);
    return 0;
}

void registry_head_manifest(struct registry *r, const char *reference, char digest[DIGEST_TEXT_MAX])
{
    struct http_request request = {.accept = MANIFEST_ACCEPT, .head = true};
    const char *wanted = digest_is_valid(reference) ? reference : NULL;
    const struct question question = {"manifests", reference, wanted, true};
    struct http_outcome outcome;
    struct error unused = ERROR_INIT;

    digest[0] = '\0';
    if (ask_all(r, &question, &request, &outcome, &unused) < 0)
        return;
    if (digest_is_valid(request.content_digest))
        (void)snprintf(digest, DIGEST_TEXT_MAX, "%s", request.content_digest);
    http_done(r->http, &request);
}

int registry_get_blob(struct registry *r, const char *digest, size_t max, struct buf *out, struct error *err)
{
    struct http_request request = {.body_max = max};
    int rc = fetch(r, &(struct question){"blobs", digest, digest, false}, &request, err);

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
    *url = str_printf("%s/blobs/%s", r->endpoints[e].url, digest);
    if (!*url)
        return error_errno(err, ENOMEM, "ask the registry");
    request->url = *url;
    prepare(r, e, request);
    return 0;
}
