// A growing byte buffer with a hard maximum (like curl's dynbuf): appending past it fails with -E2BIG.
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data;   // always NUL-terminated once anything was appended; NULL before
    size_t len;   // bytes in use, without the NUL
    size_t alloc; // bytes allocated
    size_t max;   // bytes that may ever be in use
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
int buf_append(struct buf *b, const void *data, size_t len); // 0, -E2BIG, -ENOMEM; unchanged on failure
int buf_append_str(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t n); // drops the first n bytes
char *buf_steal(struct buf *b);            // the caller frees; "" allocated when empty
// Reads once from fd, at most `chunk` bytes: bytes read, 0 at EOF, -errno, -E2BIG when full.
long buf_read_fd(struct buf *b, int fd, size_t chunk);

#endif
