#include "runtime/pod/crilog.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#define BATCH_IOVS 128
#define HEAD_MAX   (CLOCK_RFC3339_MAX + 16)

// The lines of one call, as pieces of memory to be written together.
struct batch {
    struct iovec iov[BATCH_IOVS];
    int n;
    size_t content;          // bytes of output in it
    char heads[2][HEAD_MAX]; // "TIME STREAM P ", "TIME STREAM F "
    size_t head_len;
};

int crilog_init(struct crilog *log, const char *path, struct error *err)
{
    *log = (struct crilog){.fd = -1};
    if (!*path)
        return 0;
    if (*path != '/')
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "log path %s is not absolute", path);
    log->path = strdup(path);
    return log->path ? 0 : error_errno(err, ENOMEM, "log %s", path);
}

// Wiped: children of crisp-pod get copies of its memory.
static void drop_held(struct crilog *log, int stream)
{
    if (log->streams[stream].held)
        explicit_bzero(log->streams[stream].held, log->streams[stream].alloc);
    free(log->streams[stream].held);
    log->streams[stream].held = NULL;
}

void crilog_done(struct crilog *log)
{
    fd_closep(&log->fd);
    free(log->path);
    log->path = NULL;
    for (int i = 0; i < CRILOG_STREAMS; i++)
        drop_held(log, i);
    memset(log->streams, 0, sizeof(log->streams));
}

static int open_file(const char *path, struct error *err)
{
    // O_NONBLOCK: should somebody have put a FIFO there, neither the open nor a write may hang.
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW, 0640);
    return fd < 0 ? error_errno(err, errno, "open log %s", path) : fd;
}

int crilog_open(struct crilog *log, struct error *err)
{
    if (!log->path)
        return 0;
    int fd = open_file(log->path, err);
    if (fd == -ENOENT) {
        char *dir = strdup(log->path);
        if (!dir)
            return error_errno(err, ENOMEM, "open log %s", log->path);
        *strrchr(dir, '/') = '\0';
        int rc = file_mkdir_p(*dir ? dir : "/", 0755, err);
        free(dir);
        if (rc < 0)
            return error_wrap(err, "open log %s", log->path);
        fd = open_file(log->path, err);
    }
    if (fd < 0)
        return fd;
    fd_closep(&log->fd);
    log->fd = fd;
    log->torn = false;
    log->failed = false;
    return 0;
}

static void note_loss(struct crilog *log, size_t bytes, int errnum)
{
    log->bytes_lost += bytes;
    if (log->failed)
        return;
    log->failed = true;
    log_warn("container output is being lost: its log can't be written", "log", log->path, "error",
             strerrordesc_np(errnum));
}

static const char newline[] = "\n";

// How much of the output itself, without what this adds to it, comes after the first `written` bytes.
static size_t content_after(const struct batch *b, const struct iovec *iov, int n_iov, size_t written)
{
    size_t content = 0;

    for (int i = 0; i < n_iov; i++) {
        size_t done = iov[i].iov_len < written ? iov[i].iov_len : written;
        const char *base = iov[i].iov_base;
        written -= done;
        if (base != newline && base != b->heads[0] && base != b->heads[1])
            content += iov[i].iov_len - done;
    }
    return content;
}

// After a partial write of n bytes: was its last byte the end of a line?
static bool ended_line(const struct iovec *iov, int n_iov, size_t n)
{
    char last = '\n';

    for (int i = 0; i < n_iov && n > 0; i++) {
        size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;
        if (part)
            last = ((const char *)iov[i].iov_base)[part - 1];
        n -= part;
    }
    return last == '\n';
}

static void write_batch(struct crilog *log, struct batch *b)
{
    struct iovec iov[BATCH_IOVS + 1];
    size_t total = 0;
    int n = 0;

    if (log->torn)
        iov[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)newline, .iov_len = 1};
    for (int i = 0; i < b->n; i++)
        iov[n++] = b->iov[i];
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    b->n = 0;
    if (total == 0 || !log->path)
        return;

    if (log->fd < 0 && clock_mono_ns() >= log->retry_mono_ns) {
        log->retry_mono_ns = clock_mono_ns() + NS_PER_SEC; // at most one try a second
        (void)crilog_open(log, NULL);
    }
    if (log->fd < 0) {
        note_loss(log, content_after(b, iov, n, 0), ENOENT);
        return;
    }
    ssize_t written;
    do
        written = writev(log->fd, iov, n);
    while (written < 0 && errno == EINTR);
    if (written == (ssize_t)total) {
        log->torn = false;
        log->failed = false;
        return;
    }
    if (written > 0)
        log->torn = !ended_line(iov, n, (size_t)written);
    note_loss(log, content_after(b, iov, n, written > 0 ? (size_t)written : 0), written < 0 ? errno : ENOSPC);
}

static void begin_batch(struct batch *b, enum crilog_stream stream)
{
    static const char *const kinds[2] = {"P ", "F "};
    const char *name = stream == CRILOG_STDOUT ? " stdout " : " stderr ";
    char *head = b->heads[0];

    b->n = 0;
    size_t len = clock_format_rfc3339(clock_wall_ns(), head);
    memcpy(head + len, name, 8);
    len += 8;
    memcpy(b->heads[1], head, len);
    memcpy(b->heads[0] + len, kinds[0], 2);
    memcpy(b->heads[1] + len, kinds[1], 2);
    b->head_len = len + 2;
}

static void add_piece(struct batch *b, const char *data, size_t len)
{
    if (len)
        b->iov[b->n++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
}

// One line: what was held, then text, then a newline.
static void add_line(struct crilog *log, struct batch *b, bool full, const char *held, size_t held_len,
                     const char *text, size_t len)
{
    if (b->n + 4 > BATCH_IOVS)
        write_batch(log, b);
    add_piece(b, b->heads[full], b->head_len);
    add_piece(b, held, held_len);
    add_piece(b, text, len);
    add_piece(b, newline, 1);
}

static void hold(struct crilog *log, enum crilog_stream stream, const char *data, size_t len)
{
    if (len == 0)
        return;
    size_t used = log->streams[stream].len;
    if (used + len > log->streams[stream].alloc) {
        size_t want = used + len < 256 ? 256 : used + len < 4096 ? 4096 : CRILOG_LINE_MAX;
        char *grown = malloc(want);
        if (!grown) {
            log->bytes_lost += len;
            return;
        }
        if (used)
            memcpy(grown, log->streams[stream].held, used);
        drop_held(log, stream);
        log->streams[stream].held = grown;
        log->streams[stream].alloc = want;
    }
    memcpy(log->streams[stream].held + used, data, len);
    log->streams[stream].len += len;
}

void crilog_write(struct crilog *log, enum crilog_stream stream, const char *data, size_t len)
{
    if (!log->path || len == 0)
        return;
    struct batch b;
    const char *held = log->streams[stream].held;
    size_t held_len = log->streams[stream].len;
    const char *end = data + len;

    begin_batch(&b, stream);
    for (;;) {
        const char *end_of_line = memchr(data, '\n', (size_t)(end - data));
        size_t rest = (size_t)((end_of_line ? end_of_line : end) - data);
        while (held_len + rest > CRILOG_LINE_MAX) {
            size_t part = CRILOG_LINE_MAX - held_len;
            add_line(log, &b, false, held, held_len, data, part);
            data += part;
            rest -= part;
            held_len = 0;
        }
        if (!end_of_line)
            break;
        add_line(log, &b, true, held, held_len, data, rest);
        held_len = 0;
        data = end_of_line + 1;
    }
    write_batch(log, &b);
    if (held && held_len < log->streams[stream].len)
        explicit_bzero(log->streams[stream].held, log->streams[stream].len);
    log->streams[stream].len = held_len; // 0 once it was written; the batch pointed into it until now
    hold(log, stream, data, (size_t)(end - data));
}

void crilog_end(struct crilog *log, enum crilog_stream stream)
{
    struct batch b;

    if (log->streams[stream].len) {
        begin_batch(&b, stream);
        add_line(log, &b, true, log->streams[stream].held, log->streams[stream].len, NULL, 0);
        write_batch(log, &b);
    }
    drop_held(log, stream);
    log->streams[stream].len = log->streams[stream].alloc = 0;
}
