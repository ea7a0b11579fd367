// A hash map from strings to pointers (keys are copied, values are the caller's). Not thread-safe.
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

struct map;

struct map *map_new(void);                                // NULL on ENOMEM
void map_free(struct map *m);                             // values are left alone; NULL is fine
void *map_get(const struct map *m, const char *key);      // NULL when absent
int map_set(struct map *m, const char *key, void *value); // adds or replaces: 0 or -ENOMEM; value not NULL
void *map_remove(struct map *m, const char *key);         // the value, or NULL
size_t map_len(const struct map *m);

// for (struct map_iter it = {0}; map_next(m, &it);) use(it.key, it.value);
// No change of the map while iterating. The order is that of insertion.
struct map_iter {
    size_t pos;
    const char *key;
    void *value;
};
int map_next(const struct map *m, struct map_iter *it);

#endif
