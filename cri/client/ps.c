// crisp ps: the containers, with the pods that they are in.
#include <stdio.h>
#include <string.h>

#include "api/cri/api.pb-c.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"
#include "cri/client/cli.h"
#include "cri/client/health.h"
#include "cri/client/options.h"
#include "cri/client/output.h"

struct ps_options {
    bool all;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct ps_options, all, "all", 'a', OPTION_SWITCH, NULL, "those that don't run, too"),
};
static const struct options table = {
    .command = "ps",
    .usage = "ps [-a]",
    .intro = "Lists the containers that run, and how healthy those with a check are.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

static void map_freep(struct map **m)
{
    map_free(*m);
}

static const char *state_name(Cri__ContainerState state)
{
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&cri__container_state__descriptor, (int)state);

    return v && str_has_prefix(v->name, "CONTAINER_") ? v->name + strlen("CONTAINER_") : "?";
}

static int print_containers(struct cli *cli, const Cri__ListContainersResponse *list, const struct map *pods,
                            struct error *err)
{
    int rc = 0;
    struct table t;
    int64_t now = clock_wall_ns();

    table_init(&t, 7,
               (const char *const[]){"CONTAINER", "IMAGE", "AGE", "STATE", "NAME", "POD", "NAMESPACE"});
    for (size_t i = 0; rc == 0 && i < list->n_containers; i++) {
        const Cri__Container *c = list->containers[i];
        const Cri__PodSandbox *pod = map_get(pods, c->pod_sandbox_id);
        const Cri__PodSandboxMetadata *meta = pod ? pod->metadata : NULL;
        char id[OUTPUT_TEXT_MAX], age[OUTPUT_TEXT_MAX], pod_id[OUTPUT_TEXT_MAX];
        char health[HEALTH_MAX], state[OUTPUT_TEXT_MAX + HEALTH_MAX];
        rc = health_read(cli, c, health, err);
        (void)snprintf(state, sizeof(state), "%s%s%s%s", state_name(c->state), *health ? " (" : "", health,
                       *health ? ")" : "");
        output_short_id(c->id, id);
        output_short_id(c->pod_sandbox_id, pod_id);
        output_age(now - c->created_at, age);
        const char *image = c->image ? c->image->image : c->image_ref;
        if (c->image && !str_empty(c->image->user_specified_image))
            image = c->image->user_specified_image;
        table_row(&t, (const char *const[]){id, image, age, state, c->metadata ? c->metadata->name : "",
                                            meta ? meta->name : pod_id, meta ? meta->namespace_ : ""});
    }
    if (rc == 0)
        table_print(&t, stdout);
    table_done(&t);
    return rc;
}

static int list(struct cli *cli, bool all, struct error *err)
{
    _cleanup_message_ Cri__ListContainersResponse *containers = NULL;
    _cleanup_message_ Cri__ListPodSandboxResponse *pods = NULL;
    _cleanup_(map_freep) struct map *by_id = map_new();
    Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;
    Cri__ListPodSandboxRequest pod_request = CRI__LIST_POD_SANDBOX_REQUEST__INIT;
    Cri__ContainerFilter filter = CRI__CONTAINER_FILTER__INIT;
    Cri__ContainerStateValue running = CRI__CONTAINER_STATE_VALUE__INIT;

    running.state = CRI__CONTAINER_STATE__CONTAINER_RUNNING;
    filter.state = &running;
    if (!all)
        request.filter = &filter;
    int rc = cli_call(cli, "ListContainers", &request.base, (ProtobufCMessage **)&containers, err);
    if (rc == 0)
        rc = cli_call(cli, "ListPodSandbox", &pod_request.base, (ProtobufCMessage **)&pods, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; by_id && i < pods->n_items; i++)
        if (map_set(by_id, pods->items[i]->id, pods->items[i]) < 0)
            return error_errno(err, ENOMEM, "list pods");
    if (!by_id)
        return error_errno(err, ENOMEM, "list pods");
    return print_containers(cli, containers, by_id, err);
}

int command_ps(struct cli *cli, int argc, char **argv)
{
    struct ps_options o = {0};
    struct error err = ERROR_INIT;
    char **words = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &words, &n);
    if (code >= 0)
        return code;
    if (n > 0)
        return options_bad(&table, "ps takes no \"%s\"", words[0]);
    if (list(cli, o.all, &err) == 0)
        return 0;
    output_error("%s", err.message);
    return 1;
}
