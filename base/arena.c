#include "base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_ALIGN      16
#define ARENA_CHUNK_MIN  4096
#define ARENA_CHUNK_MAX  ((size_t)256 << 10)
#define ARENA_CHUNK_HEAD ((sizeof(struct chunk) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1))

struct chunk {
    struct chunk *next;
    size_t size, used; // of the bytes after the header
};

struct arena {
    struct chunk *chunks; // the one being filled first
    size_t max, used;     // used counts what was handed out, aligned
    size_t next_size;
    bool apart; // chunks are mappings
    ProtobufCAllocator pb;
};

static void *pb_alloc_from_arena(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void pb_free_nothing(void *data, void *p)
{
    (void)data;
    (void)p;
}

struct arena *arena_new(size_t max_bytes)
{
    struct arena *a = calloc(1, sizeof(*a));

    if (!a)
        return NULL;
    a->max = max_bytes;
    a->next_size = ARENA_CHUNK_MIN;
    a->pb = (ProtobufCAllocator){.alloc = pb_alloc_from_arena, .free = pb_free_nothing, .allocator_data = a};
    return a;
}

struct arena *arena_new_apart(size_t max_bytes)
{
    struct arena *a = arena_new(max_bytes);

    if (a)
        a->apart = true;
    return a;
}

static struct chunk *new_chunk(const struct arena *a, size_t size)
{
    struct chunk *c;

    if (a->apart)
        c = mmap(NULL, ARENA_CHUNK_HEAD + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else
        c = calloc(1, ARENA_CHUNK_HEAD + size);
    if (!c || c == MAP_FAILED)
        return NULL;
    c->size = size;
    return c;
}

static void free_chunk(const struct arena *a, struct chunk *c)
{
    if (a->apart)
        (void)munmap(c, ARENA_CHUNK_HEAD + c->size);
    else
        free(c);
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    for (struct chunk *c = a->chunks; c;) {
        struct chunk *next = c->next;
        free_chunk(a, c);
        c = next;
    }
    free(a);
}

void arena_freep(struct arena **a)
{
    arena_free(*a);
    *a = NULL;
}

static struct chunk *add_chunk(struct arena *a, size_t need)
{
    size_t size = need > a->next_size ? need : a->next_size;
    struct chunk *c = new_chunk(a, size);

    if (!c)
        return NULL;
    if (need > a->next_size && a->chunks) {
        // A big one of its own: keep filling the current chunk.
        c->next = a->chunks->next;
        a->chunks->next = c;
        return c;
    }
    if (a->next_size < ARENA_CHUNK_MAX)
        a->next_size *= 2;
    c->next = a->chunks;
    a->chunks = c;
    return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size == 0)
        size = 1; // protobuf-c takes NULL for a failure
    if (size > SIZE_MAX - 2 * ARENA_CHUNK_HEAD)
        return NULL;
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (size > a->max - a->used)
        return NULL;

    struct chunk *c = a->chunks;
    if (!c || c->size - c->used < size)
        c = add_chunk(a, size);
    if (!c)
        return NULL;
    void *p = (char *)c + ARENA_CHUNK_HEAD + c->used;
    c->used += size;
    a->used += size;
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s ? arena_memdup(a, s, strlen(s) + 1) : NULL;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    if (!s)
        return NULL;
    n = strnlen(s, n);
    char *copy = arena_alloc(a, n + 1);
    if (copy)
        memcpy(copy, s, n);
    return copy;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *out = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (!out)
        return NULL;
    va_start(args, format);
    (void)vsnprintf(out, (size_t)n + 1, format, args);
    va_end(args);
    return out;
}

void *arena_memdup(struct arena *a, const void *p, size_t size)
{
    void *copy = arena_alloc(a, size);

    if (copy && size)
        memcpy(copy, p, size);
    return copy;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

ProtobufCAllocator *arena_pb(struct arena *a)
{
    return &a->pb;
}
