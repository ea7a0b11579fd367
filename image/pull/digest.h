// SHA-256 by OpenSSL, as "sha256:<hex>" texts.
#ifndef IMAGE_PULL_DIGEST_H
#define IMAGE_PULL_DIGEST_H

#include <stddef.h>

#define DIGEST_TEXT_MAX 72 // "sha256:", 64 hex digits, NUL

struct digest; // a hash being computed

// NULL on failure (no memory, or no SHA-256 in this OpenSSL). Everything OpenSSL wants to load it loads here,
// so that the hash works on in a chroot and under a seccomp filter.
struct digest *digest_new(void);
void digest_free(struct digest *d);
void digest_freep(struct digest **d);
int digest_update(struct digest *d, const void *data, size_t len); // 0 or -EIO
int digest_final(struct digest *d, char out[DIGEST_TEXT_MAX]); // 0 or -EIO; d can only be freed afterwards
int digest_of(const void *data, size_t len, char out[DIGEST_TEXT_MAX]);

#endif
