// Fuzz target: image configs.
#include <stdint.h>
#include <stdlib.h>

#include "image/pull/manifest.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4u << 20);
    Pull__ImageConfig *config;

    if (arena && image_config_parse((const char *)data, size, arena, &config, NULL) == 0)
        for (size_t i = 0; i < config->n_diff_ids; i++)
            if (!digest_is_valid(config->diff_ids[i]))
                abort();
    arena_free(arena);
    return 0;
}
