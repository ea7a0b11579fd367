// Public keys that sign images: ECDSA on P-256, P-384 and P-521, RSA of 2048 bits and more, Ed25519.
#ifndef IMAGE_PULL_SIGKEY_H
#define IMAGE_PULL_SIGKEY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SIGKEY_FILE_MAX      (64u << 10)
#define SIGKEY_SIGNATURE_MAX (4u << 10) // bytes of a signature

struct sigkey;

// The one public key ("-----BEGIN PUBLIC KEY-----") of a PEM file. FAILED_PRECONDITION with the file's name
// and the reason for anything else. *out is the caller's to sigkey_free().
int sigkey_load(const char *path, struct sigkey **out, struct error *err);
// The same of text; what: its name in messages.
int sigkey_parse(const char *pem, size_t len, const char *what, struct sigkey **out, struct error *err);
void sigkey_free(struct sigkey *key); // NULL is fine
void sigkey_freep(struct sigkey **key);

// Is it this key's signature of the data? As cosign makes them: ECDSA (ASN.1 form) and RSA (PKCS #1 v1.5 or
// PSS) over SHA-256, with larger curves also over SHA-384 and SHA-512; Ed25519 over the data itself.
bool sigkey_verify(const struct sigkey *key, const void *data, size_t len, const void *signature,
                   size_t signature_len);

#endif
