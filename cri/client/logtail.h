// Reads a container's log file in CRI form and gives back what the container wrote:
//
//     2026-11-22T03:04:05.123456789Z stdout P first half of a long li
//     2026-11-22T03:04:05.123456790Z stdout F ne
//
// A line tagged P goes on in the next one of its stream, a line tagged F ends. Text is passed on as it comes,
// so no line is too long.
#ifndef CRI_CLIENT_LOGTAIL_H
#define CRI_CLIENT_LOGTAIL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum logtail_stream { LOGTAIL_STDOUT, LOGTAIL_STDERR };

// Takes a piece of what the container wrote: 0, or -errno, which ends the reading.
typedef int (*logtail_write_fn)(void *data, enum logtail_stream stream, const char *text, size_t len);

#define LOGTAIL_HEAD_MAX 256 // bytes of "time stream tag "

struct logtail {
    logtail_write_fn write;
    void *data;
    char head[LOGTAIL_HEAD_MAX];
    size_t head_len;
    bool in_text; // the head of this line is read
    bool partial; // its tag says P
    enum logtail_stream stream;
};

void logtail_init(struct logtail *t, logtail_write_fn write, void *data);
// Takes the next bytes of the file, cut anywhere: 0, -EBADMSG for what isn't such a log, or what write said.
int logtail_feed(struct logtail *t, const char *bytes, size_t len, struct error *err);
// Reads what fd holds by now, to its present end: bytes read, or negative as above.
long logtail_read(struct logtail *t, int fd, struct error *err);

#endif
