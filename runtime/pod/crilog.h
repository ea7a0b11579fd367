// A container's log file in CRI's format: "RFC3339Nano stdout|stderr P|F text". One writer, whole lines in
// one writev(2), so that they are never torn. A log that can't be written never stops the container: what is
// lost is counted.
#ifndef RUNTIME_POD_CRILOG_H
#define RUNTIME_POD_CRILOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CRILOG_LINE_MAX 16384 // a longer line is split into parts marked P

enum crilog_stream { CRILOG_STDOUT, CRILOG_STDERR, CRILOG_STREAMS };

struct crilog {
    char *path; // NULL: output is discarded
    int fd;
    bool torn;           // the last write ended inside a line: begin the next with a newline
    bool failed;         // the last open or write failed, and it was told
    uint64_t bytes_lost; // of output
    int64_t retry_mono_ns;
    struct {
        char *held; // the beginning of a line whose end has not come yet
        size_t len, alloc;
    } streams[CRILOG_STREAMS];
};

// path: absolute, or "" to discard. Nothing is opened yet.
int crilog_init(struct crilog *log, const char *path, struct error *err);
void crilog_done(struct crilog *log);
// Opens (creates, 0640) the file, and the directory if it is missing. After a rename: the new file.
int crilog_open(struct crilog *log, struct error *err);
// Appends output. len: any; data with no newline yet is held back, at most CRILOG_LINE_MAX bytes of it.
void crilog_write(struct crilog *log, enum crilog_stream stream, const char *data, size_t len);
// The stream has ended: a last line without a newline is written as it is.
void crilog_end(struct crilog *log, enum crilog_stream stream);

#endif
