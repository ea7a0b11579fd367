// Answers to a registry's 401: Basic, or a Bearer token from the server that the challenge names.
#ifndef IMAGE_PULL_AUTH_H
#define IMAGE_PULL_AUTH_H

#include <stdint.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "image/pull/challenge.h"
#include "image/pull/http.h"

// What a request is sent with.
struct authorization {
    char *value;             // of the header, a secret; NULL: none
    int64_t expires_mono_ns; // 0: it does not
};

// Wipes and frees the value.
void auth_forget(struct authorization *a);
// How an endpoint, and the token server it names, are spoken to. Strings stay the endpoint's.
struct http_tls auth_tls(const Pull__Endpoint *endpoint);
// The challenge to answer among those of a 401: Bearer before Basic. The caller's to challenge_done().
int auth_read_challenges(const struct http_request *denied, struct challenge *out, struct error *err);
// Answers a challenge; may ask a token server. credentials: NULL where this endpoint may not see any (a token
// may still be had anonymously). scope: used when the challenge names none. *out is the caller's to forget.
//
// A token server is trusted as far as the registry that names it: with https the name and password go to it,
// wherever it is, for that is the token protocol; with a plain http realm only where the registry itself is
// spoken to in the clear. A refresh token is posted and never follows a redirect.
//
// After a failure *outcome says whether the token server's may pass (all zero where none was asked).
int auth_answer(struct http *http, const Pull__Endpoint *endpoint, const Pull__Credentials *credentials,
                const struct challenge *c, const char *scope, struct authorization *out,
                struct http_outcome *outcome, struct error *err);
// "Basic <base64 of user:password>" for what the credentials hold; NULL if they hold no name, or on ENOMEM.
char *auth_basic(const Pull__Credentials *credentials);

#endif
