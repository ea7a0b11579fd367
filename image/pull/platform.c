#include "image/pull/platform.h"

#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

struct name {
    const char *os, *architecture, *variant;
};

// Other words for the same: uname's and GNU's for Go's, and variants that are an architecture's ordinary one.
static struct name normal_name(const char *os, const char *architecture, const char *variant)
{
    static const struct {
        const char *other, *go, *variant;
    } names[] = {{"x86_64", "amd64", ""},  {"x86-64", "amd64", ""}, {"i386", "386", ""},
                 {"aarch64", "arm64", ""}, {"armhf", "arm", "v7"},  {"armel", "arm", "v6"}};
    struct name n = {os, architecture, variant};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcasecmp(architecture, names[i].other) != 0)
            continue;
        n.architecture = names[i].go;
        if (*names[i].variant)
            n.variant = names[i].variant;
    }
    if (str_eq(n.architecture, "amd64") && str_eq(n.variant, "v1"))
        n.variant = "";
    if (str_eq(n.architecture, "arm64") && (str_eq(n.variant, "v8") || str_eq(n.variant, "8")))
        n.variant = "";
    if (str_eq(n.architecture, "arm")) {
        if (*n.variant == '\0' || str_eq(n.variant, "7"))
            n.variant = "v7";
        else if (str_eq(n.variant, "5") || str_eq(n.variant, "6") || str_eq(n.variant, "8"))
            n.variant = *n.variant == '5' ? "v5" : *n.variant == '6' ? "v6" : "v8";
    }
    return n;
}

static bool is_same(struct name n, const Pull__Platform *platform)
{
    return strcasecmp(n.os, platform->os) == 0 && strcasecmp(n.architecture, platform->architecture) == 0 &&
           str_eq(n.variant, platform->variant);
}

// An entry that may be anybody's. Signatures and the like are not: their types are no manifest's.
static bool says_nothing(const struct index_entry *entry)
{
    return !*entry->os && !*entry->architecture && manifest_type_is_known(entry->descriptor.media_type);
}

static int no_match(const struct manifest *index, const struct platforms *platforms, struct error *err)
{
    _cleanup_(buf_done) struct buf there;
    bool any = false;

    buf_init(&there, 512); // what doesn't fit is left out
    for (size_t i = 0; i < index->n_entries; i++) {
        const struct index_entry *e = &index->entries[i];
        if (!*e->os || str_eq(e->os, "unknown")) // attestations
            continue;
        (void)buf_printf(&there, "%s%.32s/%.32s%s%.32s", any ? ", " : "", e->os, e->architecture,
                         *e->variant ? "/" : "", e->variant);
        any = true;
    }
    return error_set(err, STATUS_FAILED_PRECONDITION, ENOEXEC, "no image for platform %s/%s; there are: %s",
                     platforms->list[0]->os, platforms->list[0]->architecture,
                     there.len ? there.data : "none");
}

int platform_choose(const struct manifest *index, const struct platforms *platforms, struct arena *arena,
                    const struct index_entry ***out, size_t *n, struct error *err)
{
    const struct index_entry **chosen =
        arena_alloc(arena, (index->n_entries + 1) * sizeof(struct index_entry *));

    *n = 0;
    if (!chosen)
        return error_errno(err, ENOMEM, "image index");
    for (size_t p = 0; p < platforms->n; p++)
        for (size_t i = 0; i < index->n_entries; i++) {
            const struct index_entry *e = &index->entries[i];
            // Platforms differ, so no entry comes twice.
            if (is_same(normal_name(e->os, e->architecture, e->variant), platforms->list[p]))
                chosen[(*n)++] = e;
        }
    for (size_t i = 0; i < index->n_entries; i++)
        if (says_nothing(&index->entries[i]))
            chosen[(*n)++] = &index->entries[i];
    *out = chosen;
    return *n > 0 ? 0 : no_match(index, platforms, err);
}

bool platform_is_runnable(const char *os, const char *architecture, const struct platforms *platforms)
{
    struct name n = normal_name(os, architecture, "");

    for (size_t p = 0; p < platforms->n; p++)
        if ((!*n.os || strcasecmp(n.os, platforms->list[p]->os) == 0) &&
            (!*n.architecture || strcasecmp(n.architecture, platforms->list[p]->architecture) == 0))
            return true;
    return false;
}
