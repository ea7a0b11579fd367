// Image references, normalised as the ecosystem does it: "busybox" is "docker.io/library/busybox:latest".
//
//   reference  = [ domain "/" ] path [ ":" tag ] [ "@" digest ]
//   domain     = host [ ":" port ]      the first component, if it has a "." or ":" or capital letters, or
//                                       is "localhost"; otherwise the domain is docker.io
// docker.io's other names (index.docker.io, registry-1.docker.io) and spellings become docker.io. A port or
// an address that is not written in the usual way (":0443", "10.1") is refused: policies go by hosts' names.
// With a tag and a digest the digest decides, and the tag is dropped: what it points to may have changed.
// The grammar is that of the OCI distribution specification and of Docker's reference library.
#ifndef IMAGE_REFERENCE_H
#define IMAGE_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define REFERENCE_NAME_MAX 255 // bytes of the domain, and of the path
#define REFERENCE_TAG_MAX  128
#define DIGEST_LEN         71 // "sha256:" and 64 hex digits

struct reference {
    char *domain; // "docker.io", "127.0.0.1:5000"
    char *path;   // "library/busybox"
    char *tag;    // "latest"; NULL when there is a digest
    char *digest; // "sha256:…"; NULL when there is none. A tag beside a digest says nothing and is dropped
};

// INVALID_ARGUMENT with the reason when text is no reference. *out is the caller's to reference_done().
int reference_parse(const char *text, struct reference *out, struct error *err);
void reference_done(struct reference *ref);
// "domain/path", and with ":tag" or "@digest". NULL on ENOMEM; the caller frees.
char *reference_name(const struct reference *ref);
char *reference_format(const struct reference *ref);

bool digest_is_valid(const char *digest);           // "sha256:" and 64 lowercase hex digits
bool reference_domain_is_valid(const char *domain); // "host[:port]" as references have it
bool reference_port_is_valid(const char *s);        // 1 to 65535, in the one way to write it
// Are these, "host[:port]" each, the same registry? Policies, mirrors, TLS settings and credentials go by it:
// no other spelling of a name may pass them by. Without regard to case, to a port that is https's own, to how
// an IPv6 address is written, and to which of docker.io's names it is.
bool reference_hosts_are_same(const char *a, size_t a_len, const char *b, size_t b_len);
// Is it docker.io, by whichever name?
bool reference_domain_is_docker(const char *domain);
// Is this registry the machine itself: localhost, 127.0.0.0/8, ::1, with or without a port?
bool reference_domain_is_loopback(const char *domain);

#endif
