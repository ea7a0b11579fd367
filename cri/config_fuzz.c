// Fuzzes the reader of configuration files.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "cri/config_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_problems problems;
    _cleanup_(config_freep) struct config *config = calloc(1, sizeof(*config));
    if (!config || !(config->arena = arena_new(8u << 20)))
        return 0;
    config_problems_init(&problems);
    struct config_loader loader = {.config = config, .problems = &problems, .file = "fuzz"};
    config_read_document(&loader, (const char *)data, size);
    for (size_t i = 0; i < config_keys_len; i++)
        free(loader.origins[i].file);
    if (problems.n == 0 && config->registries) {
        struct buf out;
        buf_init(&out, 4u << 20);
        (void)config_print_registries(config->registries, &out);
        buf_done(&out);
    }
    if (problems.n == 0 && config->image_policies) {
        struct buf out;
        buf_init(&out, 4u << 20);
        (void)config_print_policies(config->image_policies, &out);
        buf_done(&out);
    }
    config_problems_done(&problems);
    return 0;
}
