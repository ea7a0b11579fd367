// Answers to a registry's 401: Basic, or a Bearer token from the server that the challenge names.
#ifndef IMAGE_PULL_AUTH_H
#define IMAGE_PULL_AUTH_H

#include "api/pull/pull.pb-c.h"
#include "base/error.h"
#include "image/pull/http.h"

// The value of an Authorization header for what `denied` was refused. credentials: NULL where this endpoint
// may not see any (a token may still be had anonymously). scope: used when the challenge names none. *value
// is a secret in fresh memory.
int auth_answer(struct http *http, const Pull__Endpoint *endpoint, const Pull__Credentials *credentials,
                const struct http_request *denied, const char *scope, char **value, struct error *err);
// "Basic <base64 of user:password>" for what the credentials hold; NULL if they hold no name, or on ENOMEM.
char *auth_basic(const Pull__Credentials *credentials);

#endif
