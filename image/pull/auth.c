#include "image/pull/auth.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "image/pull/json.h"

#define TOKEN_ANSWER_MAX (256 * 1024)
#define NAME_MAX_BYTES   4096

#define TOKEN_LIFETIME_DEFAULT 60 // seconds: the token specification's
#define TOKEN_LIFETIME_MAX     86400

static void secret_freep(char **secret)
{
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}
#define _cleanup_secret_ __attribute__((cleanup(secret_freep)))

char *auth_basic(const Pull__Credentials *credentials)
{
    _cleanup_secret_ char *pair = NULL, *encoded = NULL;

    if (!credentials)
        return NULL;
    if (!str_empty(credentials->auth))
        return strpbrk(credentials->auth, "\r\n") ? NULL : str_printf("Basic %s", credentials->auth);
    if (str_empty(credentials->username) || strlen(credentials->username) > NAME_MAX_BYTES ||
        strlen(credentials->password) > NAME_MAX_BYTES)
        return NULL;
    pair = str_printf("%s:%s", credentials->username, credentials->password);
    encoded = pair ? malloc(4 * (strlen(pair) / 3 + 1) + 1) : NULL;
    if (!encoded)
        return NULL;
    EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)pair, (int)strlen(pair));
    return str_printf("Basic %s", encoded);
}

static char *escape(const char *s)
{
    char *by_curl = curl_easy_escape(NULL, s, (int)strlen(s));
    char *copy = by_curl ? strdup(by_curl) : NULL;

    curl_free(by_curl);
    return copy;
}

// "service=…&scope=…", and with the refresh token for the OAuth2 form.
static char *token_query(const struct challenge *c, const char *scope, const char *refresh_token)
{
    _cleanup_free_ char *service = escape(c->service ? c->service : "");
    _cleanup_free_ char *wanted = escape(str_empty(c->scope) ? scope : c->scope);
    _cleanup_secret_ char *token = refresh_token ? escape(refresh_token) : NULL;

    if (!service || !wanted || (refresh_token && !token))
        return NULL;
    if (!refresh_token)
        return str_printf("service=%s&scope=%s", service, wanted);
    return str_printf("grant_type=refresh_token&client_id=crisp&service=%s&scope=%s&refresh_token=%s",
                      service, wanted, token);
}

// For how long a token that was just got is good: RFC 6749's expires_in counts from issued_at, where that is
// told and our clocks agree; 60 seconds if it isn't told. A little less, for the way there.
static int64_t token_lifetime_ns(json_t *json)
{
    const json_t *expires_in = json_object_get(json, "expires_in");
    const char *issued_at = json_string_value(json_object_get(json, "issued_at"));
    double seconds = json_is_number(expires_in) ? json_number_value(expires_in) : 0;
    struct tm tm = {0};

    if (!(seconds >= 1))
        seconds = TOKEN_LIFETIME_DEFAULT;
    if (seconds > TOKEN_LIFETIME_MAX)
        seconds = TOKEN_LIFETIME_MAX;
    if (issued_at && strptime(issued_at, "%Y-%m-%dT%H:%M:%S", &tm)) {
        double age = (double)(time(NULL) - timegm(&tm));
        if (age > 0 && age < seconds)
            seconds -= age;
    }
    seconds -= seconds > 20 ? 5 : seconds / 4;
    return (int64_t)(seconds * (double)NS_PER_SEC);
}

static int read_token(const struct http_request *answer, struct authorization *out, struct error *err)
{
    _cleanup_json_ json_t *json =
        json_load_object(answer->body.data ? answer->body.data : "", answer->body.len, "token", err);
    const char *token;

    if (!json)
        return -EPROTO;
    token = json_string_value(json_object_get(json, "token"));
    if (str_empty(token))
        token = json_string_value(json_object_get(json, "access_token"));
    // It goes into a header: no line breaks.
    if (str_empty(token) || strpbrk(token, "\r\n"))
        return error_set(err, STATUS_UNAVAILABLE, EPROTO, "the token server's answer has no token");
    out->value = str_printf("Bearer %s", token);
    out->expires_mono_ns = clock_mono_ns() + token_lifetime_ns(json);
    return out->value ? 0 : error_errno(err, ENOMEM, "authenticate");
}

static int check_token_answer(const struct challenge *c, const struct http_request *answer, bool anonymous,
                              struct error *err)
{
    const char *detail = answer->detail[0] ? answer->detail : curl_easy_strerror(answer->result);

    if (answer->result != CURLE_OK)
        return error_set(err, STATUS_UNAVAILABLE, EHOSTUNREACH,
                         "RegistryUnavailable: token server %.200s: %s", c->realm, detail);
    if (answer->status == 200)
        return 0;
    if (answer->status == 401 || answer->status == 403 || answer->status == 400)
        return error_set(
            err, STATUS_UNAUTHENTICATED, EACCES, "token server %.200s: %s (HTTP status %ld)", c->realm,
            anonymous ? "credentials are required" : "the credentials are not accepted", answer->status);
    return error_set(err, STATUS_UNAVAILABLE, EIO,
                     "RegistryUnavailable: token server %.200s: HTTP status %ld", c->realm, answer->status);
}

// Is the token server a place to which credentials may be sent in the clear? Only where the registry itself
// is spoken to in the clear.
static int check_realm(const struct challenge *c, const Pull__Endpoint *endpoint, struct error *err)
{
    if (str_has_prefix(c->realm, "https://"))
        return 0;
    if (str_has_prefix(c->realm, "http://") && str_has_prefix(endpoint->url, "http://"))
        return 0;
    return error_set(err, STATUS_UNAVAILABLE, EPROTO,
                     "the registry names %.200s as its token server, which is not safe", c->realm);
}

static int ask_token(struct http *http, struct http_request *request, const struct challenge *c,
                     bool anonymous, struct authorization *out, struct http_outcome *outcome,
                     struct error *err)
{
    int r = http_run(http, request, err);

    if (r == 0)
        *outcome = http_outcome(request);
    if (r == 0)
        r = check_token_answer(c, request, anonymous, err);
    if (r == 0)
        r = read_token(request, out, err);
    if (request->body.data)
        explicit_bzero(request->body.data, request->body.len);
    return r;
}

// The OAuth2 way: a form with the refresh token.
static int post_for_token(struct http *http, const struct http_tls *tls, const Pull__Credentials *credentials,
                          const struct challenge *c, const char *scope, struct authorization *out,
                          struct http_outcome *outcome, long *status, struct error *err)
{
    _cleanup_secret_ char *form = token_query(c, scope, credentials->identity_token);
    struct http_request request = {.url = c->realm, .form = form, .tls = *tls, .body_max = TOKEN_ANSWER_MAX};
    int r;

    if (!form)
        return error_errno(err, ENOMEM, "authenticate");
    r = ask_token(http, &request, c, false, out, outcome, err);
    *status = request.status;
    http_done(http, &request);
    return r;
}

static int get_token(struct http *http, const struct http_tls *tls, const Pull__Credentials *credentials,
                     const struct challenge *c, const char *scope, struct authorization *out,
                     struct http_outcome *outcome, struct error *err)
{
    _cleanup_secret_ char *basic = auth_basic(credentials);
    _cleanup_free_ char *query = token_query(c, scope, NULL);
    _cleanup_free_ char *url =
        query ? str_printf("%s%c%s", c->realm, strchr(c->realm, '?') ? '&' : '?', query) : NULL;
    struct http_request request = {
        .url = url, .authorization = basic, .tls = *tls, .body_max = TOKEN_ANSWER_MAX};
    int r;

    if (!url)
        return error_errno(err, ENOMEM, "authenticate");
    r = ask_token(http, &request, c, !basic, out, outcome, err);
    http_done(http, &request);
    return r;
}

static int fetch_token(struct http *http, const Pull__Endpoint *endpoint,
                       const Pull__Credentials *credentials, const struct challenge *c, const char *scope,
                       struct authorization *out, struct http_outcome *outcome, struct error *err)
{
    struct http_tls tls = auth_tls(endpoint);
    long status = 0;
    int r = check_realm(c, endpoint, err);

    if (r < 0)
        return r;
    tls.system_too = !http_is_same_server(c->realm, endpoint->url);
    if (!credentials || str_empty(credentials->identity_token))
        return get_token(http, &tls, credentials, c, scope, out, outcome, err);
    r = post_for_token(http, &tls, credentials, c, scope, out, outcome, &status, err);
    // Servers older than the OAuth2 way know a name and password only.
    if (r < 0 && (status == 404 || status == 405) && !str_empty(credentials->username) &&
        !str_empty(credentials->password))
        r = get_token(http, &tls, credentials, c, scope, out, outcome, err);
    return r;
}

struct http_tls auth_tls(const Pull__Endpoint *endpoint)
{
    return (struct http_tls){.ca_file = endpoint->ca_file,
                             .cert_file = endpoint->cert_file,
                             .key_file = endpoint->key_file,
                             .skip_verify = endpoint->skip_verify};
}

int auth_read_challenges(const struct http_request *denied, struct challenge *out, struct error *err)
{
    *out = (struct challenge){0};
    for (size_t i = 0; i < denied->n_challenges; i++) {
        struct challenge one;
        int r = challenge_parse(denied->challenges[i], &one, err);

        if (r < 0) {
            challenge_done(out);
            return r;
        }
        if (one.scheme > out->scheme) {
            challenge_done(out);
            *out = one;
        } else {
            challenge_done(&one);
        }
    }
    return 0;
}

int auth_answer(struct http *http, const Pull__Endpoint *endpoint, const Pull__Credentials *credentials,
                const struct challenge *c, const char *scope, struct authorization *out,
                struct http_outcome *outcome, struct error *err)
{
    *out = (struct authorization){0};
    *outcome = (struct http_outcome){0};
    if (credentials && !str_empty(credentials->registry_token)) {
        if (strpbrk(credentials->registry_token, "\r\n"))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "auth.registry_token has a line break");
        out->value = str_printf("Bearer %s", credentials->registry_token);
        return out->value ? 0 : error_errno(err, ENOMEM, "authenticate");
    }
    if (c->scheme == CHALLENGE_BEARER)
        return fetch_token(http, endpoint, credentials, c, scope, out, outcome, err);
    if (c->scheme == CHALLENGE_BASIC)
        out->value = auth_basic(credentials);
    if (out->value)
        return 0;
    return error_set(err, STATUS_UNAUTHENTICATED, EACCES,
                     "the registry requires credentials (HTTP status 401)");
}

void auth_forget(struct authorization *a)
{
    secret_freep(&a->value);
    a->expires_mono_ns = 0;
}
