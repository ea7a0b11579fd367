// Fuzz target: all that is parsed of a registry's words. The first byte says as what.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "image/pull/challenge.h"
#include "image/pull/platform.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_reference(const char *text)
{
    struct reference ref;

    if (reference_parse(text, &ref, NULL) < 0)
        return;
    _cleanup_free_ char *normal = reference_format(&ref);
    reference_done(&ref);
    // What was normalised is a reference again, and the same.
    if (!normal || reference_parse(normal, &ref, NULL) < 0)
        abort();
    _cleanup_free_ char *again = reference_format(&ref);
    reference_done(&ref);
    if (!again || strcmp(normal, again) != 0)
        abort();
}

static void parse_challenge(const char *text)
{
    struct challenge challenge;

    if (challenge_parse(text, &challenge, NULL) == 0)
        challenge_done(&challenge);
}

static void parse_json(const char *text, size_t len, bool config, struct arena *arena)
{
    Pull__Platform platform = PULL__PLATFORM__INIT, *list[] = {&platform};
    const struct platforms platforms = {list, 1};
    const struct index_entry **entries;
    size_t n;
    Pull__ImageConfig *out;
    struct manifest manifest;

    platform.os = (char *)"linux";
    platform.architecture = (char *)"amd64";
    if (config)
        (void)image_config_parse(text, len, arena, &out, NULL);
    else if (manifest_parse(text, len, NULL, arena, &manifest, NULL) == 0 && manifest.kind == MANIFEST_INDEX)
        (void)platform_choose(&manifest, &platforms, arena, &entries, &n, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4u << 20);
    char *text;

    if (size == 0 || !arena) {
        arena_free(arena);
        return 0;
    }
    text = malloc(size);
    if (!text)
        abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 4) {
    case 0:
        parse_reference(text);
        break;
    case 1:
        parse_challenge(text);
        break;
    case 2:
        parse_json(text, size - 1, false, arena);
        break;
    default:
        parse_json(text, size - 1, true, arena);
    }
    free(text);
    arena_free(arena);
    return 0;
}
