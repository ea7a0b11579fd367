// A registry's WWW-Authenticate header (RFC 9110, section 11.6.1; the parameters are those of Docker's token
// protocol).
#ifndef IMAGE_PULL_CHALLENGE_H
#define IMAGE_PULL_CHALLENGE_H

#include "base/error.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

#define CHALLENGE_VALUE_MAX 2048 // bytes of one parameter

struct challenge {
    enum challenge_scheme scheme;
    char *realm;   // Bearer: the token server's URL
    char *service; // may be NULL
    char *scope;   // may be NULL
};

// Picks Bearer, else Basic, out of one header's value, which may hold several challenges. Unknown schemes and
// parameters are skipped. -EPROTO for what can't be read. Results are the caller's to challenge_done().
int challenge_parse(const char *header, struct challenge *out, struct error *err);
void challenge_done(struct challenge *c);

#endif
