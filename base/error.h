// Errors: what went wrong, on which object, and what to do about it.
//
// Every fallible function returns 0 or a negative errno and fills the caller's struct error (which may be
// NULL where nobody wants the text). The status code is chosen where the fault is known and mapped to gRPC
// once, in cri/; nobody ever branches on the message.
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <errno.h>
#include <stdarg.h>

// The numbers are gRPC's status codes, so that mapping them is the identity.
enum status {
    STATUS_OK = 0,
    STATUS_CANCELLED = 1,
    STATUS_UNKNOWN = 2,
    STATUS_INVALID_ARGUMENT = 3,
    STATUS_DEADLINE_EXCEEDED = 4,
    STATUS_NOT_FOUND = 5,
    STATUS_ALREADY_EXISTS = 6,
    STATUS_PERMISSION_DENIED = 7,
    STATUS_RESOURCE_EXHAUSTED = 8,
    STATUS_FAILED_PRECONDITION = 9,
    STATUS_ABORTED = 10,
    STATUS_OUT_OF_RANGE = 11,
    STATUS_UNIMPLEMENTED = 12,
    STATUS_INTERNAL = 13,
    STATUS_UNAVAILABLE = 14,
    STATUS_DATA_LOSS = 15,
    STATUS_UNAUTHENTICATED = 16,
};

#define ERROR_MESSAGE_MAX 1024

struct error {
    enum status status;
    int errnum; // positive errno, never 0 once set
    char message[ERROR_MESSAGE_MAX];
};

#define ERROR_INIT ((struct error){0})

// Sets *err from a status, a positive errno (0 stands for EINVAL) and a message. Returns -errnum.
// A message too long is cut at a UTF-8 boundary. err may be NULL.
int error_set(struct error *err, enum status status, int errnum, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int error_vset(struct error *err, enum status status, int errnum, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

// The common case of a failed system call: the status follows from errnum (ENOENT: NOT_FOUND, EEXIST:
// ALREADY_EXISTS, ENOSPC/EDQUOT/EMFILE/ENFILE/ENOMEM: RESOURCE_EXHAUSTED, ETIMEDOUT: DEADLINE_EXCEEDED,
// ECANCELED: CANCELLED, else INTERNAL) and ": <strerror>" is added to the message. Returns -errnum.
int error_errno(struct error *err, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Puts "<context>: " before the message and keeps status and errno. Returns -err->errnum
// (-EIO when err is NULL). Use: return error_wrap(err, "start container %s", id);
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Changes the status of an error, e.g. where a missing file is the caller's INVALID_ARGUMENT.
void error_restatus(struct error *err, enum status status);

enum status error_status_of_errno(int errnum);
const char *error_status_name(enum status status); // "NOT_FOUND"; static

#endif
