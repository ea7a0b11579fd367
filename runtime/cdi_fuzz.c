// Fuzzes the reader of CDI files. The first byte chooses between JSON and YAML.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "runtime/cdi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_freep) struct arena *arena = arena_new(8u << 20);
    struct cdi_spec *spec;
    struct error err = ERROR_INIT;
    if (size == 0 || !arena)
        return 0;
    int r = cdi_parse("fuzz", (const char *)data + 1, size - 1, data[0] & 1, arena, &spec, &err);
    if (r < 0 && err.message[0] == '\0')
        abort(); // a refusal says why
    for (size_t i = 0; r == 0 && i < spec->devices.n; i++) {
        if (!spec->devices.v[i].edits.key)
            abort();
    }
    return 0;
}
