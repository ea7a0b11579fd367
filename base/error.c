#include "base/error.h"

#include <stdio.h>
#include <string.h>

// snprintf() may have cut a multi-byte character in two: drops the bytes of an incomplete last one.
static void cut_at_utf8_boundary(char *s)
{
    size_t len = strlen(s), start = len;

    while (start > 0 && len - start < 4 && ((unsigned char)s[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)s[start - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > 1 && len - start + 1 < want)
        s[start - 1] = '\0';
}

int error_vset(struct error *err, enum status status, int errnum, const char *format, va_list args)
{
    if (errnum == 0)
        errnum = EINVAL;
    if (errnum < 0)
        errnum = -errnum;
    if (!err)
        return -errnum;

    err->status = status;
    err->errnum = errnum;
    int n = vsnprintf(err->message, sizeof(err->message), format, args);
    if (n < 0)
        err->message[0] = '\0';
    else if ((size_t)n >= sizeof(err->message))
        cut_at_utf8_boundary(err->message);
    return -errnum;
}

int error_set(struct error *err, enum status status, int errnum, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int rc = error_vset(err, status, errnum, format, args);
    va_end(args);
    return rc;
}

int error_errno(struct error *err, int errnum, const char *format, ...)
{
    if (errnum < 0)
        errnum = -errnum;
    if (errnum == 0)
        errnum = EINVAL;
    if (!err)
        return -errnum;

    va_list args;
    va_start(args, format);
    (void)error_vset(err, error_status_of_errno(errnum), errnum, format, args);
    va_end(args);

    // strerrordesc_np (glibc 2.32) needs no locale and, unlike strerror(), is safe in threads.
    const char *text = strerrordesc_np(errnum);
    size_t len = strlen(err->message);
    int n = snprintf(err->message + len, sizeof(err->message) - len, ": %s", text ? text : "unknown error");
    if (n > 0 && (size_t)n >= sizeof(err->message) - len)
        cut_at_utf8_boundary(err->message);
    return -errnum;
}

int error_wrap(struct error *err, const char *format, ...)
{
    if (!err)
        return -EIO;
    if (err->errnum == 0) // wrapped before it was set: still an error, never a success
        err->errnum = EIO;
    if (err->status == STATUS_OK)
        err->status = STATUS_INTERNAL;

    char context[ERROR_MESSAGE_MAX], joined[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(context, sizeof(context), format, args);
    va_end(args);
    if (n < 0)
        return -err->errnum;
    if ((size_t)n >= sizeof(context))
        cut_at_utf8_boundary(context);

    n = snprintf(joined, sizeof(joined), "%.*s: %.*s", (int)sizeof(context), context,
                 (int)sizeof(err->message), err->message);
    if (n > 0 && (size_t)n >= sizeof(joined))
        cut_at_utf8_boundary(joined);
    memcpy(err->message, joined, sizeof(joined));
    return -err->errnum;
}

void error_restatus(struct error *err, enum status status)
{
    if (err)
        err->status = status;
}

enum status error_status_of_errno(int errnum)
{
    switch (errnum < 0 ? -errnum : errnum) {
    case 0:
        return STATUS_OK;
    case ENOENT:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_ALREADY_EXISTS;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return STATUS_RESOURCE_EXHAUSTED;
    case ETIMEDOUT:
        return STATUS_DEADLINE_EXCEEDED;
    case ECANCELED:
        return STATUS_CANCELLED;
    default:
        return STATUS_INTERNAL;
    }
}

const char *error_status_name(enum status status)
{
    static const char *const names[] = {
        [STATUS_OK] = "OK",
        [STATUS_CANCELLED] = "CANCELLED",
        [STATUS_UNKNOWN] = "UNKNOWN",
        [STATUS_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
        [STATUS_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
        [STATUS_NOT_FOUND] = "NOT_FOUND",
        [STATUS_ALREADY_EXISTS] = "ALREADY_EXISTS",
        [STATUS_PERMISSION_DENIED] = "PERMISSION_DENIED",
        [STATUS_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
        [STATUS_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
        [STATUS_ABORTED] = "ABORTED",
        [STATUS_OUT_OF_RANGE] = "OUT_OF_RANGE",
        [STATUS_UNIMPLEMENTED] = "UNIMPLEMENTED",
        [STATUS_INTERNAL] = "INTERNAL",
        [STATUS_UNAVAILABLE] = "UNAVAILABLE",
        [STATUS_DATA_LOSS] = "DATA_LOSS",
        [STATUS_UNAUTHENTICATED] = "UNAUTHENTICATED",
    };

    if ((unsigned)status >= sizeof(names) / sizeof(names[0]))
        return "UNKNOWN";
    return names[status];
}
