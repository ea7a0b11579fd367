// Reading JSON documents of others with jansson: bounded, typed, errors that name the key.
#ifndef IMAGE_PULL_JSON_H
#define IMAGE_PULL_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

#define _cleanup_json_ __attribute__((cleanup(json_decrefp)))

// An object, or an error that names `what`. NULL on failure.
json_t *json_load_object(const char *data, size_t len, const char *what, struct error *err);
// A member that must be a string if it is there; absent and null are "". Into arena; NULL on failure.
const char *json_get_string(const json_t *object, const char *key, struct arena *arena, struct error *err);
// The member, checked to be an object or array; NULL in *out when absent or null.
int json_get_object(const json_t *object, const char *key, json_t **out, struct error *err);
int json_get_array(const json_t *object, const char *key, json_t **out, struct error *err);

#endif
