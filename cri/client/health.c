// crispd tells of health checks in a container's verbose status, JSON: {…, "health": {"status": "healthy",
// …}}.
#include "cri/client/health.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cri/client/run_config.h"

void health_of_status(const Cri__ContainerStatusResponse *response, char out[HEALTH_MAX])
{
    out[0] = '\0';
    for (size_t i = 0; i < response->n_info; i++) {
        if (!str_eq(response->info[i]->key, "info"))
            continue;
        json_t *info = json_loads(response->info[i]->value, 0, NULL);
        const json_t *health = json_object_get(info, "health");
        const char *status = json_string_value(json_object_get(health, "status"));
        (void)snprintf(out, HEALTH_MAX, "%s", status ? status : "");
        json_decref(info);
    }
}

int health_read(struct cli *cli, const Cri__Container *c, char out[HEALTH_MAX], struct error *err)
{
    _cleanup_message_ Cri__ContainerStatusResponse *response = NULL;
    Cri__ContainerStatusRequest request = CRI__CONTAINER_STATUS_REQUEST__INIT;
    bool checked = false;

    out[0] = '\0';
    for (size_t i = 0; i < c->n_annotations; i++)
        checked = checked || str_eq(c->annotations[i]->key, RUN_ANNOTATION "health");
    if (!checked || c->state != CRI__CONTAINER_STATE__CONTAINER_RUNNING)
        return 0;
    request.container_id = c->id;
    request.verbose = true;
    int rc = cli_call(cli, "ContainerStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0) // it may have gone meanwhile
        return err->status == STATUS_NOT_FOUND ? 0 : rc;
    health_of_status(response, out);
    return 0;
}
