// From what a person types to a container: an id, a name, or the beginning of an id.
#include "cri/client/find.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

static bool runs(const Cri__Container *c)
{
    return c->state == CRI__CONTAINER_STATE__CONTAINER_RUNNING;
}

// kubelet gives the same name to a container's successors, and to those of other pods.
static int by_name(const Cri__ListContainersResponse *list, const char *name, const Cri__Container **out,
                   struct error *err)
{
    size_t running = 0;

    for (size_t i = 0; i < list->n_containers; i++) {
        const Cri__Container *c = list->containers[i];
        if (!c->metadata || !str_eq(c->metadata->name, name))
            continue;
        running += runs(c);
        if (!*out || runs(c) > runs(*out) || (runs(c) == runs(*out) && c->created_at > (*out)->created_at))
            *out = c;
    }
    if (running > 1)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "%zu containers that run have the name \"%s\": give an id (`crisp ps`)", running,
                         name);
    return 0;
}

int find_in_list(const Cri__ListContainersResponse *list, const char *text, const Cri__Container **out,
                 struct error *err)
{
    size_t matches = 0;

    *out = NULL;
    if (str_empty(text)) // an unset variable, an empty --cidfile: the beginning of every id
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "an empty word names no container: give an id or a name (`crisp ps`)");
    for (size_t i = 0; i < list->n_containers; i++)
        if (str_eq(list->containers[i]->id, text)) {
            *out = list->containers[i];
            return 0;
        }
    int rc = by_name(list, text, out, err);
    if (rc < 0 || *out)
        return rc;
    for (size_t i = 0; i < list->n_containers; i++) {
        if (str_has_prefix(list->containers[i]->id, text)) {
            *out = list->containers[i];
            matches++;
        }
    }
    if (matches > 1)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "\"%s\" is the beginning of %zu containers' ids: give more of it", text, matches);
    if (!*out)
        return error_set(err, STATUS_NOT_FOUND, ENOENT,
                         "there is no container \"%s\"; `crisp ps -a` lists all", text);
    return 0;
}

int find_container(struct cli *cli, const char *text, char **id, struct error *err)
{
    _cleanup_message_ Cri__ListContainersResponse *list = NULL;
    Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;
    const Cri__Container *found = NULL;

    int rc = cli_call(cli, "ListContainers", &request.base, (ProtobufCMessage **)&list, err);
    if (rc == 0)
        rc = find_in_list(list, text, &found, err);
    if (rc < 0)
        return rc;
    *id = strdup(found->id);
    return *id ? 0 : error_errno(err, ENOMEM, "find container %s", text);
}

const char *find_label(const Cri__Container *c, const char *key)
{
    for (size_t i = 0; i < c->n_labels; i++)
        if (str_eq(c->labels[i]->key, key))
            return c->labels[i]->value;
    return NULL;
}
