// An arena with a cap, usable as protobuf-c's allocator: one request's messages live and die together, and a
// hostile message that would unpack to gigabytes runs into the cap instead (unpack then returns NULL).
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>
#include <protobuf-c/protobuf-c.h>

struct arena;

struct arena *arena_new(size_t max_bytes); // NULL on ENOMEM
// The same with memory that is mapped, and so leaves no holes in the heap of a process that is to stay small.
struct arena *arena_new_apart(size_t max_bytes);
void arena_free(struct arena *a);
void arena_freep(struct arena **a);
void *arena_alloc(struct arena *a, size_t size);    // zeroed, 16-byte aligned; NULL past the cap
char *arena_strdup(struct arena *a, const char *s); // NULL stays NULL
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *arena_memdup(struct arena *a, const void *p, size_t size);
size_t arena_used(const struct arena *a);
ProtobufCAllocator *arena_pb(struct arena *a); // its free() does nothing

#endif
