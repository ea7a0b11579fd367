#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/pull/extract_internal.h"

// Bytes of names: they go into one frame, and into the layer's record.
// Of comparing names, so that it ends.
#define LOOSE_STEPS_MAX 100000000u
#define LOOSE_BYTES_MAX (2u << 20)
// crispd looks for each in all layers of an image.
#define LOOSE_DIRS_MAX  32768
#define LOOSE_LINKS_MAX 4096

static int count_bytes(struct extract *x, size_t len)
{
    x->loose_bytes += len + 8;
    if (x->loose_bytes <= LOOSE_BYTES_MAX)
        return 0;
    return error_set(
        x->err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
        "the layer has too many directories without an entry of their own, or hard links to what "
        "is not in it: %u bytes of names are possible",
        LOOSE_BYTES_MAX);
}

static int check_number(struct extract *x, const struct map *seen, size_t max, const char *what)
{
    if (map_len(seen) < max)
        return 0;
    return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
                     "the layer has too many %s: %zu are possible; the image has to be built otherwise", what,
                     max);
}

static int on_implicit(void *data, const char *path, struct error *err)
{
    struct extract *x = data;
    int r = check_number(x, x->implicit, LOOSE_DIRS_MAX, "directories without an entry of their own");

    (void)err; // x->err
    if (r == 0)
        r = count_bytes(x, strlen(path));
    if (r == 0 && map_set(x->implicit, path, x) < 0)
        r = extract_failed(x, ENOMEM, "remember a directory");
    return r;
}

int extract_loose_start(struct extract *x)
{
    x->implicit = map_new();
    x->links = map_new();
    x->tree.implicit = on_implicit;
    x->tree.data = x;
    return x->implicit && x->links ? 0 : error_errno(x->err, ENOMEM, "unpack");
}

void extract_loose_done(struct extract *x)
{
    for (struct map_iter it = {0}; x->links && map_next(x->links, &it);)
        free(it.value);
    if (x->links)
        map_free(x->links);
    if (x->implicit)
        map_free(x->implicit);
}

int extract_loose_link(struct extract *x, const char *target)
{
    int r = check_number(x, x->links, LOOSE_LINKS_MAX, "hard links to what is not in it");
    if (r == 0)
        r = count_bytes(x, strlen(x->path) + strlen(target));
    if (r < 0)
        return r;
    char *copy = strdup(target);
    free(map_remove(x->links, x->path));
    if (!copy || map_set(x->links, x->path, copy) < 0) {
        free(copy);
        return extract_failed(x, ENOMEM, "remember a hard link");
    }
    return 0;
}

const char *extract_loose_target(struct extract *x, const char *path)
{
    return map_get(x->links, path);
}

void extract_loose_named(struct extract *x, bool is_dir)
{
    if (map_len(x->links) > 0)
        free(map_remove(x->links, x->path));
    if (is_dir && map_len(x->implicit) > 0)
        (void)map_remove(x->implicit, x->path);
}

int extract_loose_replaced(struct extract *x)
{
    size_t len = strlen(x->path);

    x->tree.removed_dir = false;
    for (bool more = true; more;) {
        const char *below = NULL;
        for (struct map_iter it = {0}; !below && map_next(x->links, &it);) {
            if (strncmp(it.key, x->path, len) == 0 && it.key[len] == '/')
                below = it.key;
            if (++x->loose_steps > LOOSE_STEPS_MAX)
                return error_set(x->err, STATUS_RESOURCE_EXHAUSTED, E2BIG,
                                 "entry \"%s\": the layer replaces too many directories that have hard links",
                                 x->path);
        }
        more = below != NULL; // the walk ends with a change of the map
        if (below)
            free(map_remove(x->links, below));
    }
    return 0;
}

int extract_loose_report(struct extract *x)
{
    Pull__Loose *loose = x->options->loose;
    size_t n = map_len(x->implicit), n_links = map_len(x->links);

    if (!loose)
        return 0;
    loose->implicit_dirs = calloc(n + 2, sizeof(char *));
    loose->links = calloc(n_links + 1, sizeof(*loose->links));
    if (!loose->implicit_dirs || !loose->links)
        return error_errno(x->err, ENOMEM, "unpack");
    for (struct map_iter it = {0}; map_next(x->implicit, &it);) {
        char *path = strdup(it.key);
        if (!path)
            return error_errno(x->err, ENOMEM, "unpack");
        loose->implicit_dirs[loose->n_implicit_dirs++] = path;
    }
    if (!x->root_named) {
        if (!(loose->implicit_dirs[loose->n_implicit_dirs] = strdup(".")))
            return error_errno(x->err, ENOMEM, "unpack");
        loose->n_implicit_dirs++;
    }
    for (struct map_iter it = {0}; map_next(x->links, &it);) {
        Pull__LooseLink *link = malloc(sizeof(*link));
        if (!link)
            return error_errno(x->err, ENOMEM, "unpack");
        pull__loose_link__init(link);
        loose->links[loose->n_links++] = link;
        link->name = strdup(it.key);
        link->target = strdup(it.value);
        if (!link->name || !link->target)
            return error_errno(x->err, ENOMEM, "unpack");
    }
    return 0;
}
