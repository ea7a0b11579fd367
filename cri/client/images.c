// crisp images: what the node holds, a line for each name.
#include "cri/client/images.h"

#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/client/output.h"

struct images_options {
    bool quiet, digests, full_ids;
    const char *output;
    char **filters;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct images_options, quiet, "quiet", 'q', OPTION_SWITCH, NULL, "print ids only"),
    OPTION_ROW(struct images_options, digests, "digests", 0, OPTION_SWITCH, NULL, "the digests, too"),
    OPTION_ROW(struct images_options, full_ids, "no-trunc", 0, OPTION_SWITCH, NULL, "whole ids"),
    OPTION_ROW(struct images_options, filters, "filter", 'f', OPTION_LIST, "KEY=VALUE",
               "only those: dangling=true (without a tag),\nreference=PATTERN, pinned=true, in-use=true,\n"
               "and the same with false; several: all of them"),
    OPTION_ROW(struct images_options, output, "output", 'o', OPTION_TEXT, "FORM",
               "table, or json: an object per image and line\n(table)"),
};
static const struct options table = {
    .command = "images",
    .usage = "images [-q] [-f KEY=VALUE] [-o json] [PATTERN…]",
    .intro = "Lists the images, a line for each of their names; with patterns (as a shell has\n"
             "them) those with a matching name.\n",
    .footer = "CREATED is when the image was built, as it says itself; SIZE what its layers take on\n"
              "disk, also of layers that other images have, too.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

// "registry.k8s.io/pause:3.9" is matched by itself, "registry.k8s.io/pause", "*/pause", "*/pause:3*".
static bool name_matches(const char *pattern, const char *name)
{
    const char *slash = strrchr(name, '/'), *at = strchr(name, '@');
    const char *colon = strchr(slash ? slash : name, ':');
    _cleanup_free_ char *repository = strndup(name, at      ? (size_t)(at - name)
                                                    : colon ? (size_t)(colon - name)
                                                            : strlen(name));

    return fnmatch(pattern, name, 0) == 0 || (repository && fnmatch(pattern, repository, 0) == 0);
}

static bool any_matches(const char *pattern, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (name_matches(pattern, names[i]))
            return true;
    return false;
}

static bool image_matches(const Crisp__ImageFacts *image, const char *pattern)
{
    return any_matches(pattern, image->repo_tags, image->n_repo_tags) ||
           any_matches(pattern, image->repo_digests, image->n_repo_digests);
}

static bool passes(const Crisp__ImageFacts *image, const char *filter)
{
    const char *value = strchr(filter, '=') + 1;
    bool wanted = str_eq(value, "true");

    if (str_has_prefix(filter, "reference="))
        return image_matches(image, value);
    if (str_has_prefix(filter, "dangling="))
        return (image->n_repo_tags == 0) == wanted;
    return (str_has_prefix(filter, "pinned=") ? image->pinned : image->in_use) == wanted;
}

static bool is_shown(const Crisp__ImageFacts *image, const struct images_options *o, char *const *patterns)
{
    bool named = !patterns || !*patterns;

    for (char **f = o->filters; f && *f; f++)
        if (!passes(image, *f))
            return false;
    for (; !named && *patterns; patterns++)
        named = image_matches(image, *patterns);
    return named;
}

static void add_rows(struct table *t, const struct images_options *o, const Crisp__ImageFacts *image)
{
    char short_id[OUTPUT_TEXT_MAX], size[OUTPUT_TEXT_MAX], age[OUTPUT_TEXT_MAX] = "-";
    // Without a tag an image is known by its digest, and without that by its id only.
    size_t n = image->n_repo_tags ? image->n_repo_tags : image->n_repo_digests;
    char **names = image->n_repo_tags ? image->repo_tags : image->repo_digests;
    const char *id = o->full_ids ? image->id : short_id;
    const char *digest = image->n_repo_digests ? strchr(image->repo_digests[0], '@') : NULL;
    const char *pinned = image->pinned ? "yes" : "no";

    output_short_id(image->id, short_id);
    output_size(image->size, size);
    if (image->created_at > 0)
        output_age(clock_wall_ns() - image->created_at, age);
    for (size_t i = 0; i < n || i == 0; i++) {
        const char *name = n ? names[i] : "<none>";
        table_row(t, o->digests
                         ? (const char *const[]){name, id, size, pinned, age, digest ? digest + 1 : "<none>"}
                         : (const char *const[]){name, id, size, pinned, age});
    }
}

static json_t *strings(char *const *v, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(array, json_string(v[i]));
    return array;
}

static void set_time(json_t *object, const char *key, int64_t ns)
{
    char text[CLOCK_RFC3339_MAX];

    if (ns > 0)
        (void)clock_format_rfc3339(ns, text);
    (void)json_object_set_new(object, key, ns > 0 ? json_string(text) : json_null());
}

static void print_json(const Crisp__ImageFacts *image, bool full)
{
    json_t *object = json_object();

    (void)json_object_set_new(object, "id", json_string(image->id));
    (void)json_object_set_new(object, "tags", strings(image->repo_tags, image->n_repo_tags));
    (void)json_object_set_new(object, "digests", strings(image->repo_digests, image->n_repo_digests));
    (void)json_object_set_new(object, "size_bytes", json_integer((json_int_t)image->size));
    (void)json_object_set_new(object, "pinned", json_boolean(image->pinned));
    (void)json_object_set_new(object, "in_use", full ? json_boolean(image->in_use) : json_null());
    (void)json_object_set_new(object, "os", *image->os ? json_string(image->os) : json_null());
    (void)json_object_set_new(object, "architecture",
                              *image->architecture ? json_string(image->architecture) : json_null());
    set_time(object, "created_at", image->created_at);
    set_time(object, "pulled_at", image->pulled_at);
    char *text = json_dumps(object, JSON_COMPACT);
    if (text)
        (void)printf("%s\n", text);
    free(text);
    json_decref(object);
}

static void print(const struct images *images, const struct images_options *o, char *const *patterns)
{
    static const char *const titles[] = {"IMAGE", "ID", "SIZE", "PINNED", "CREATED", "DIGEST"};
    bool json = str_eq(o->output, "json");
    struct table t;

    table_init(&t, o->digests ? 6 : 5, titles);
    for (size_t i = 0; i < images->own->n_images; i++) {
        const Crisp__ImageFacts *image = images->own->images[i];
        if (!is_shown(image, o, patterns))
            continue;
        if (o->quiet)
            (void)printf("%s\n", image->id);
        else if (json)
            print_json(image, images->full);
        else
            add_rows(&t, o, image);
    }
    if (!o->quiet && !json)
        table_print(&t, stdout);
    table_done(&t);
}

static int check(const struct images_options *o)
{
    static const char *const keys[] = {"dangling=", "pinned=", "in-use="};

    if (o->output && !str_eq(o->output, "json") && !str_eq(o->output, "table"))
        return options_bad(&table, "--output \"%s\": must be table or json", o->output);
    for (char **f = o->filters; f && *f; f++) {
        bool good = str_has_prefix(*f, "reference=") && !str_eq(*f, "reference=");
        const char *value = strchr(*f, '=');
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
            good =
                good || (str_has_prefix(*f, keys[i]) && (str_eq(value, "=true") || str_eq(value, "=false")));
        if (!good)
            return options_bad(
                &table,
                "--filter \"%s\": must be reference=PATTERN, or dangling, pinned or in-use and "
                "=true or =false",
                *f);
    }
    return -1;
}

int command_images(struct cli *cli, int argc, char **argv)
{
    struct images_options o = {0};
    struct images images = {0};
    struct error err = ERROR_INIT;
    char **patterns = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &patterns, &n);
    if (code < 0)
        code = check(&o);
    if (code < 0 && images_list(cli, &images, &err) < 0) {
        output_error("%s", err.message);
        code = 1;
    }
    if (code < 0) {
        print(&images, &o, patterns);
        code = 0;
    }
    images_free(&images);
    strv_free(o.filters);
    return code;
}
