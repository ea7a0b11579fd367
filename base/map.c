#include "base/map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// Entries sit in a vector in order of insertion; an open-addressed table of indices (+ 1, 0: free) finds
// them. Removed entries leave a hole (key NULL) until the next rebuild.
struct entry {
    char *key;
    void *value;
    uint64_t hash;
};

struct map {
    struct entry *entries;
    size_t used, alloc; // of entries, holes included
    size_t live;
    uint32_t *slots;
    size_t n_slots; // a power of two, at least twice `alloc`
    uint64_t seed;  // keys come from clients: the seed keeps them from choosing collisions
};

static uint64_t hash_of(const struct map *m, const char *key)
{
    uint64_t h = m->seed ^ UINT64_C(0xcbf29ce484222325);

    for (const unsigned char *p = (const unsigned char *)key; *p; p++) {
        h = (h ^ *p) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    return h;
}

struct map *map_new(void)
{
    struct map *m = calloc(1, sizeof(*m));

    if (m && getrandom(&m->seed, sizeof(m->seed), GRND_NONBLOCK) != (ssize_t)sizeof(m->seed))
        m->seed = (uintptr_t)m;
    return m;
}

void map_free(struct map *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->used; i++)
        free(m->entries[i].key);
    free(m->entries);
    free(m->slots);
    free(m);
}

// The slot of key, or of the free slot where it would go. The table always has free slots.
static size_t find_slot(const struct map *m, const char *key, uint64_t hash)
{
    size_t slot = hash & (m->n_slots - 1);

    for (; m->slots[slot]; slot = (slot + 1) & (m->n_slots - 1)) {
        const struct entry *e = &m->entries[m->slots[slot] - 1];
        if (e->key && e->hash == hash && strcmp(e->key, key) == 0)
            break;
    }
    return slot;
}

void *map_get(const struct map *m, const char *key)
{
    if (m->n_slots == 0)
        return NULL;
    size_t slot = find_slot(m, key, hash_of(m, key));
    return m->slots[slot] ? m->entries[m->slots[slot] - 1].value : NULL;
}

// Drops the holes and makes room for one more entry.
static int rebuild(struct map *m)
{
    size_t alloc = m->live < 4 ? 8 : m->live * 2, n_slots = 16;
    while (n_slots < 2 * alloc)
        n_slots *= 2;
    if (alloc >= UINT32_MAX / 2)
        return -ENOMEM;
    struct entry *entries = calloc(alloc, sizeof(*entries));
    uint32_t *slots = calloc(n_slots, sizeof(*slots));
    if (!entries || !slots) {
        free(entries);
        free(slots);
        return -ENOMEM;
    }

    size_t used = 0;
    for (size_t i = 0; i < m->used; i++) {
        if (!m->entries[i].key)
            continue;
        size_t slot = m->entries[i].hash & (n_slots - 1);
        while (slots[slot])
            slot = (slot + 1) & (n_slots - 1);
        entries[used++] = m->entries[i];
        slots[slot] = (uint32_t)used;
    }
    free(m->entries);
    free(m->slots);
    m->entries = entries;
    m->slots = slots;
    m->used = used;
    m->alloc = alloc;
    m->n_slots = n_slots;
    return 0;
}

int map_set(struct map *m, const char *key, void *value)
{
    uint64_t hash = hash_of(m, key);

    if (m->n_slots) {
        size_t slot = find_slot(m, key, hash);
        if (m->slots[slot]) {
            m->entries[m->slots[slot] - 1].value = value;
            return 0;
        }
    }
    char *copy = strdup(key);
    if (!copy || (m->used == m->alloc && rebuild(m) < 0)) {
        free(copy);
        return -ENOMEM;
    }
    size_t slot = find_slot(m, key, hash);
    m->entries[m->used++] = (struct entry){.key = copy, .value = value, .hash = hash};
    m->slots[slot] = (uint32_t)m->used;
    m->live++;
    return 0;
}

void *map_remove(struct map *m, const char *key)
{
    if (m->n_slots == 0)
        return NULL;
    size_t slot = find_slot(m, key, hash_of(m, key));
    if (!m->slots[slot])
        return NULL;

    // The slot keeps pointing at the hole, so that probes go on past it.
    struct entry *e = &m->entries[m->slots[slot] - 1];
    void *value = e->value;
    free(e->key);
    *e = (struct entry){0};
    m->live--;
    return value;
}

size_t map_len(const struct map *m)
{
    return m->live;
}

int map_next(const struct map *m, struct map_iter *it)
{
    while (it->pos < m->used) {
        const struct entry *e = &m->entries[it->pos++];
        if (e->key) {
            it->key = e->key;
            it->value = e->value;
            return 1;
        }
    }
    return 0;
}
