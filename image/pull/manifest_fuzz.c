// Fuzz target: manifests and indexes, and the choice of a platform in them.
#include <stdint.h>
#include <stdlib.h>

#include "image/pull/platform.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct manifest *m, struct arena *arena)
{
    Pull__Platform platform = PULL__PLATFORM__INIT, *list[] = {&platform};
    const struct platforms platforms = {list, 1};
    const struct index_entry **entries;
    size_t n;

    platform.os = (char *)"linux";
    platform.architecture = (char *)"amd64";
    if (m->kind == MANIFEST_INDEX) {
        (void)platform_choose(m, &platforms, arena, &entries, &n, NULL);
        for (size_t i = 0; i < n; i++)
            if (!digest_is_valid(entries[i]->descriptor.digest))
                abort();
        return;
    }
    if (!digest_is_valid(m->config.digest) || m->n_layers > MANIFEST_LAYERS_MAX)
        abort();
    for (size_t i = 0; i < m->n_layers; i++)
        if (!digest_is_valid(m->layers[i].digest))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4u << 20);
    struct manifest m;

    if (arena && manifest_parse((const char *)data, size, NULL, arena, &m, NULL) == 0)
        check(&m, arena);
    arena_free(arena);
    return 0;
}
