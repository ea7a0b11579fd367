// From what a person types to a container: an id, the beginning of one, or a name.
#include "cri/client/find.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

// A container of this name, the running one if several have had it. The id, or NULL.
static const Cri__Container *by_name(const Cri__ListContainersResponse *list, const char *name)
{
    const Cri__Container *found = NULL;

    for (size_t i = 0; i < list->n_containers; i++) {
        const Cri__Container *c = list->containers[i];
        if (!c->metadata || !str_eq(c->metadata->name, name))
            continue;
        if (!found || (c->state == CRI__CONTAINER_STATE__CONTAINER_RUNNING &&
                       found->state != CRI__CONTAINER_STATE__CONTAINER_RUNNING))
            found = c;
    }
    return found;
}

int find_container(struct cli *cli, const char *text, char **id, struct error *err)
{
    _cleanup_message_ Cri__ListContainersResponse *list = NULL;
    Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;
    const Cri__Container *found = NULL;
    size_t matches = 0;

    int rc = cli_call(cli, "ListContainers", &request.base, (ProtobufCMessage **)&list, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < list->n_containers; i++) {
        if (str_has_prefix(list->containers[i]->id, text)) {
            found = list->containers[i];
            matches++;
        }
    }
    if (matches > 1)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "\"%s\" is the beginning of %zu containers' ids: give more of it", text, matches);
    if (!found)
        found = by_name(list, text);
    if (!found)
        return error_set(err, STATUS_NOT_FOUND, ENOENT,
                         "there is no container \"%s\"; `crisp ps -a` lists all", text);
    *id = strdup(found->id);
    return *id ? 0 : error_errno(err, ENOMEM, "find container %s", text);
}
