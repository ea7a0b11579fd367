// crisp ps: the containers, with the pods that they are in.
#include <getopt.h>
#include <string.h>

#include "api/cri/api.pb-c.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"
#include "cri/client/cli.h"
#include "cri/client/output.h"

static const char usage_text[] = "Usage: crisp ps [-a]\n"
                                 "\n"
                                 "Lists the containers that run.\n"
                                 "  -a, --all    those that don't, too\n";

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

static void print_containers(const Cri__ListContainersResponse *list, const struct map *pods)
{
    struct table t;
    int64_t now = clock_wall_ns();

    table_init(&t, 7,
               (const char *const[]){"CONTAINER", "IMAGE", "AGE", "STATE", "NAME", "POD", "NAMESPACE"});
    for (size_t i = 0; i < list->n_containers; i++) {
        const Cri__Container *c = list->containers[i];
        const Cri__PodSandbox *pod = map_get(pods, c->pod_sandbox_id);
        const Cri__PodSandboxMetadata *meta = pod ? pod->metadata : NULL;
        char id[OUTPUT_TEXT_MAX], age[OUTPUT_TEXT_MAX], pod_id[OUTPUT_TEXT_MAX];
        output_short_id(c->id, id);
        output_short_id(c->pod_sandbox_id, pod_id);
        output_age(now - c->created_at, age);
        const char *image = c->image ? c->image->image : c->image_ref;
        if (c->image && !str_empty(c->image->user_specified_image))
            image = c->image->user_specified_image;
        table_row(&t, (const char *const[]){id, image, age, state_name(c->state),
                                            c->metadata ? c->metadata->name : "", meta ? meta->name : pod_id,
                                            meta ? meta->namespace_ : ""});
    }
    table_print(&t, stdout);
    table_done(&t);
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
    print_containers(containers, by_id);
    return 0;
}

int command_ps(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"all", no_argument, NULL, 'a'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct error err = ERROR_INIT;
    bool all = false;
    int option;

    while ((option = getopt_long(argc, argv, "ah", options, NULL)) != -1) { // NOLINT(concurrency-mt-unsafe)
        if (option == 'h') {
            (void)fputs(usage_text, stdout);
            return 0;
        }
        if (option != 'a')
            return CLI_EXIT_USAGE;
        all = true;
    }
    if (optind < argc) {
        output_error("ps takes no \"%s\"; try `crisp ps --help`", argv[optind]);
        return CLI_EXIT_USAGE;
    }
    if (list(cli, all, &err) == 0)
        return 0;
    output_error("%s", err.message);
    return 1;
}
