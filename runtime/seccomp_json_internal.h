// What the two halves of the profiles' reader share; nobody else includes it.
#ifndef RUNTIME_SECCOMP_JSON_INTERNAL_H
#define RUNTIME_SECCOMP_JSON_INTERNAL_H

#include <jansson.h>

#include "runtime/seccomp_internal.h"

#define JSON_PATH_MAX 128 // "syscalls[16383].includes.caps[16383]" and the like

struct json_reader {
    const char *file, *text; // text: as the library got it
    size_t len;
    const struct seccomp_target *target;
    struct seccomp_profile *out;
    struct error *err;
};

// What an object may have in it. type is of values that aren't null; JSON_TRUE stands for any.
struct json_member {
    const char *key;
    json_type type;
};

// INVALID_ARGUMENT "FILE:LINE: PATH: ...".
int json_reader_bad(struct json_reader *r, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Every member is known and of its type. A list that isn't one would count as empty, and a misspelt "args" as
// none, which could open what was meant to be closed. Keys that start with $, _, / or # are remarks.
int json_reader_check(struct json_reader *r, const char *path, const json_t *object,
                      const struct json_member *members, size_t n);
// A list of strings; NULL or null is empty.
int json_reader_check_strings(struct json_reader *r, const char *path, const json_t *list);
// "SCMP_ACT_ERRNO" with the errno in object's errno_key ("errnoRet") or its name ("errno"), if it has one.
int json_reader_action(struct json_reader *r, const char *path, const json_t *object, const char *key,
                       const char *errno_key, uint32_t *out);
// An architecture as OCI's JSON spells it ("SCMP_ARCH_X86_64") or as Docker's filters do ("amd64"). *known:
// it is one that exists; the result is -1 unless it is in our table too.
int json_reader_arch(const char *name, bool *known);

// seccomp_json_rules.c: one element of "syscalls".
int json_reader_entry(struct json_reader *r, const json_t *entry, size_t index);

#endif
