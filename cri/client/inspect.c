// crisp inspect: what is known of one container and its pod.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/find.h"
#include "cri/client/health.h"
#include "cri/client/options.h"
#include "cri/client/output.h"

struct inspect_options {
    bool info;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct inspect_options, info, "info", 0, OPTION_SWITCH, NULL,
               "only the runtime's own facts, as JSON (its pid among them)"),
};
static const struct options table = {
    .command = "inspect",
    .usage = "inspect [--info] CONTAINER",
    .intro = "Tells about a container (by name, id or the beginning of one) and its pod.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

static void print_line(const char *key, const char *value)
{
    (void)printf("%-10s ", key);
    for (const char *p = value ? value : ""; *p; p++) // a name must not steer a terminal
        (void)putchar((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p);
    (void)putchar('\n');
}

static void print_time(const char *key, int64_t ns)
{
    char text[CLOCK_RFC3339_MAX];

    if (ns == 0)
        return;
    clock_format_rfc3339(ns, text);
    print_line(key, text);
}

static void print_container(const Cri__ContainerStatus *s)
{
    const ProtobufCEnumValue *state =
        protobuf_c_enum_descriptor_get_value(&cri__container_state__descriptor, (int)s->state);

    print_line("id", s->id);
    print_line("name", s->metadata ? s->metadata->name : "");
    print_line("image", s->image ? s->image->image : s->image_ref);
    print_line("state", state ? state->name : "?");
    print_time("created", s->created_at);
    print_time("started", s->started_at);
    print_time("finished", s->finished_at);
    if (s->state == CRI__CONTAINER_STATE__CONTAINER_EXITED) {
        (void)printf("%-10s %" PRId32 " (%s)\n", "exit code", s->exit_code, s->reason);
        if (!str_empty(s->message))
            print_line("message", s->message);
    }
    print_line("log", s->log_path);
}

static void print_pod(const Cri__PodSandboxStatus *s)
{
    print_line("pod", s->id);
    if (s->metadata) {
        print_line("pod name", s->metadata->name);
        print_line("namespace", s->metadata->namespace_);
    }
    if (s->network) {
        print_line("ip", str_empty(s->network->ip) ? "(the host's)" : s->network->ip);
        for (size_t i = 0; i < s->network->n_additional_ips; i++)
            print_line("ip", s->network->additional_ips[i]->ip);
    }
}

static char *pod_of(struct cli *cli, const char *id, struct error *err)
{
    _cleanup_message_ Cri__ListContainersResponse *list = NULL;
    Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;
    Cri__ContainerFilter filter = CRI__CONTAINER_FILTER__INIT;

    filter.id = (char *)id;
    request.filter = &filter;
    if (cli_call(cli, "ListContainers", &request.base, (ProtobufCMessage **)&list, err) < 0)
        return NULL;
    if (list->n_containers != 1) {
        error_set(err, STATUS_NOT_FOUND, ENOENT, "container %s is gone", id);
        return NULL;
    }
    return strdup(list->containers[0]->pod_sandbox_id);
}

static int inspect(struct cli *cli, const char *text, bool info_only, struct error *err)
{
    _cleanup_free_ char *id = NULL;
    _cleanup_free_ char *pod_id = NULL;
    _cleanup_message_ Cri__ContainerStatusResponse *status = NULL;
    _cleanup_message_ Cri__PodSandboxStatusResponse *pod = NULL;
    Cri__ContainerStatusRequest request = CRI__CONTAINER_STATUS_REQUEST__INIT;
    char health[HEALTH_MAX];
    Cri__PodSandboxStatusRequest pod_request = CRI__POD_SANDBOX_STATUS_REQUEST__INIT;

    int rc = find_container(cli, text, &id, err);
    if (rc < 0)
        return rc;
    request.container_id = id;
    request.verbose = true; // health is told there
    rc = cli_call(cli, "ContainerStatus", &request.base, (ProtobufCMessage **)&status, err);
    if (rc < 0)
        return rc;
    if (info_only) {
        for (size_t i = 0; i < status->n_info; i++)
            (void)printf("%s\n", status->info[i]->value);
        return 0;
    }
    pod_id = pod_of(cli, id, err);
    if (!pod_id)
        return -ENOENT;
    pod_request.pod_sandbox_id = pod_id;
    rc = cli_call(cli, "PodSandboxStatus", &pod_request.base, (ProtobufCMessage **)&pod, err);
    if (rc < 0)
        return rc;
    if (status->status)
        print_container(status->status);
    health_of_status(status, health);
    if (*health)
        print_line("health", health);
    if (pod->status)
        print_pod(pod->status);
    return 0;
}

int command_inspect(struct cli *cli, int argc, char **argv)
{
    struct inspect_options o = {0};
    struct error err = ERROR_INIT;
    char **words = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &words, &n);
    if (code >= 0)
        return code;
    if (n != 1 || str_empty(words[0]))
        return options_bad(&table, "inspect needs one container");
    if (inspect(cli, words[0], o.info, &err) == 0)
        return 0;
    output_error("%s", err.message);
    return 1;
}
