// crisp update: other limits for containers that are there.
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/end.h"
#include "cri/client/output.h"
#include "cri/client/run_config.h"

#define UPDATE_MAX (1 << 20) // bytes of one request

struct update_options {
    struct resource_options resources;
};

static const struct option_row rows[] = {
    RESOURCE_ROWS(struct update_options),
};
static const struct options table = {
    .command = "update",
    .usage = "update OPTION… CONTAINER…",
    .intro = "Changes the limits of containers (by name, id or the beginning of one). What isn't\n"
             "named stays as it is.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

struct update {
    struct arena *arena;
    Cri__LinuxContainerResources resources;
    Cri__UpdateContainerResourcesRequest request;
};

static void annotate(struct update *u, const char *name, const char *value)
{
    Cri__UpdateContainerResourcesRequest__AnnotationsEntry *entry =
        run_config_alloc(u->arena, sizeof(*entry));

    cri__update_container_resources_request__annotations_entry__init(entry);
    entry->key = run_config_printf(u->arena, RUN_ANNOTATION "%s", name);
    entry->value = (char *)value;
    RUN_CONFIG_ADD(u->arena, u->request.annotations, u->request.n_annotations, entry);
}

static int fill(struct update *u, const struct update_options *o, struct error *err)
{
    const char *pids = NULL;

    cri__linux_container_resources__init(&u->resources);
    cri__update_container_resources_request__init(&u->request);
    u->request.linux = &u->resources;
    int rc = run_config_resources(u->arena, &u->resources, &o->resources, &pids, err);
    if (rc == 0 && pids)
        annotate(u, "pids-limit", pids);
    return rc;
}

static int update(struct cli *cli, const Cri__Container *c, void *data, struct error *err)
{
    struct update *u = data;

    u->request.container_id = c->id;
    int rc = cli_call(cli, "UpdateContainerResources", &u->request.base, NULL, err);
    return rc < 0 ? error_wrap(err, "%s", c->metadata ? c->metadata->name : c->id) : 0;
}

static bool nothing_asked(const struct update_options *o)
{
    static const struct update_options none;

    return memcmp(o, &none, sizeof(none)) == 0;
}

int command_update(struct cli *cli, int argc, char **argv)
{
    struct update_options o = {0};
    struct update u = {0};
    struct error err = ERROR_INIT;
    char **names = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &names, &n);
    if (code < 0 && (n == 0 || nothing_asked(&o)))
        code = options_bad(&table, "update needs %s", n == 0 ? "a container" : "something to change");
    if (code < 0) {
        u.arena = arena_new(UPDATE_MAX);
        int rc = u.arena ? fill(&u, &o, &err) : error_errno(&err, ENOMEM, "update");
        code = rc < 0 ? CLI_EXIT_USAGE : end_each(cli, names, update, &u);
        if (rc < 0)
            output_error("%s", err.message);
        arena_freep(&u.arena);
    }
    strv_free(o.resources.cgroup_conf);
    return code;
}
