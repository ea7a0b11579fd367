#include "base/buf.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUF_FIRST_ALLOC 256

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

// Makes room for len more bytes and the NUL.
static int buf_reserve(struct buf *b, size_t len)
{
    size_t need, alloc = b->alloc ? b->alloc : BUF_FIRST_ALLOC;

    if (len > b->max - b->len)
        return -E2BIG;
    if (__builtin_add_overflow(b->len + 1, len, &need))
        return -E2BIG;
    if (need <= b->alloc)
        return 0;
    while (alloc < need)
        alloc = alloc > SIZE_MAX / 2 ? need : alloc * 2;
    if (b->max < SIZE_MAX && alloc > b->max + 1)
        alloc = b->max + 1;

    char *grown = realloc(b->data, alloc);
    if (!grown)
        return -ENOMEM;
    if (!b->data)
        grown[0] = '\0';
    b->data = grown;
    b->alloc = alloc;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
    int rc = buf_reserve(b, len);
    if (rc < 0)
        return rc;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
    return 0;
}

int buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return -EINVAL;
    int rc = buf_reserve(b, (size_t)n);
    if (rc < 0)
        return rc;

    va_start(args, format);
    (void)vsnprintf(b->data + b->len, (size_t)n + 1, format, args);
    va_end(args);
    b->len += (size_t)n;
    return 0;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n == 0 || !b->data)
        return;
    if (n > b->len)
        n = b->len;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

char *buf_steal(struct buf *b)
{
    char *taken = b->data ? b->data : calloc(1, 1);

    *b = (struct buf){.max = b->max};
    return taken;
}

long buf_read_fd(struct buf *b, int fd, size_t chunk)
{
    if (chunk > b->max - b->len)
        chunk = b->max - b->len;
    if (chunk == 0)
        return -E2BIG;
    int rc = buf_reserve(b, chunk);
    if (rc < 0)
        return rc;

    ssize_t n;
    do
        n = read(fd, b->data + b->len, chunk);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    b->len += (size_t)n;
    b->data[b->len] = '\0';
    return n;
}
