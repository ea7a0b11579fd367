// Strings: the few helpers that libc lacks. All results that are allocated are the caller's to free.
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool str_eq(const char *a, const char *b); // NULL equals NULL only
bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);
bool str_empty(const char *s);                                                   // NULL or ""
char *str_printf(const char *format, ...) __attribute__((format(printf, 1, 2))); // NULL on ENOMEM
// A whole decimal number within [min, max]: 0, -EINVAL or -ERANGE. No sign for the unsigned one, no spaces.
int str_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out);
int str_parse_i64(const char *s, int64_t min, int64_t max, int64_t *out);
bool str_is_utf8(const char *s);
size_t str_utf8_sequence(const char *s); // bytes of the valid UTF-8 sequence at s; 0: none
// s itself copied if it is valid UTF-8, else a copy with each bad byte as U+FFFD. NULL on ENOMEM.
char *str_sanitize_utf8(const char *s);
bool str_is_hex(const char *s, size_t len); // lowercase hex digits, exactly len of them
// len random lowercase hex digits and a NUL into out (len + 1 bytes), from getrandom(2). 0 or -errno.
int str_random_hex(char *out, size_t len);
void str_hex(const uint8_t *data, size_t len, char *out); // 2 * len digits and a NUL

// A NULL-terminated vector of owned strings.
char **strv_new(size_t n, ...);
void strv_free(char **v);
size_t strv_len(char *const *v);
int strv_append(char ***v, const char *s); // copies s; 0 or -ENOMEM
void strv_freep(char ***v);
#define _cleanup_strv_ __attribute__((cleanup(strv_freep)))

#endif
