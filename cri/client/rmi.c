// crisp rmi: images go, with all their names.
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/images.h"
#include "cri/client/output.h"

struct rmi_options {
    bool force, all;
};

static const struct option_row rows[] = {
    OPTION_ROW(struct rmi_options, force, "force", 'f', OPTION_SWITCH, NULL,
               "those that containers use, too: their files stay as\nlong as the containers; what isn't here "
               "is no error"),
    OPTION_ROW(struct rmi_options, all, "all", 'a', OPTION_SWITCH, NULL,
               "all that no container uses; pinned ones stay"),
};
static const struct options table = {
    .command = "rmi",
    .usage = "rmi [-f] IMAGE… | rmi --all",
    .intro = "Removes images, by name, id or the beginning of one. An image goes with all its names.\n",
    .rows = rows,
    .n_rows = ARRAY_SIZE(rows),
    .bad_code = CLI_EXIT_USAGE,
};

// The id of what the runtime understands by a name; NULL: it isn't there.
static int find_id(struct cli *cli, const char *name, char **id, struct error *err)
{
    _cleanup_message_ Cri__ImageStatusResponse *response = NULL;
    Cri__ImageStatusRequest request = CRI__IMAGE_STATUS_REQUEST__INIT;
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;

    spec.image = (char *)name;
    request.image = &spec;
    int rc = cli_call(cli, "ImageStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0 || !response->image)
        return rc;
    *id = strdup(response->image->id);
    return *id ? 0 : error_errno(err, ENOMEM, "remove image %s", name);
}

// Which container has the image; NULL: none.
static int find_user(struct cli *cli, const char *id, char **container, struct error *err)
{
    _cleanup_message_ Cri__ListContainersResponse *list = NULL;
    Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;

    int rc = cli_call(cli, "ListContainers", &request.base, (ProtobufCMessage **)&list, err);
    for (size_t i = 0; rc == 0 && i < list->n_containers; i++) {
        const Cri__Container *c = list->containers[i];
        if (!str_eq(c->image_ref, id) && !str_eq(c->image_id, id))
            continue;
        *container = str_printf("%s (%.12s)", c->metadata ? c->metadata->name : "", c->id);
        return *container ? 0 : error_errno(err, ENOMEM, "remove image %s", id);
    }
    return rc;
}

static int remove_one(struct cli *cli, const struct rmi_options *o, const char *name, struct error *err)
{
    _cleanup_free_ char *id = NULL, *user = NULL;
    Cri__RemoveImageRequest request = CRI__REMOVE_IMAGE_REQUEST__INIT;
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;

    int rc = find_id(cli, name, &id, err);
    if (rc == 0 && !id && !o->force)
        return error_set(err, STATUS_NOT_FOUND, ENOENT, "image %s is not here (`crisp images`)", name);
    if (rc == 0 && id && !o->force)
        rc = find_user(cli, id, &user, err);
    if (rc < 0)
        return rc;
    if (user)
        return error_set(err, STATUS_FAILED_PRECONDITION, EBUSY,
                         "image %s is used by container %s: remove that first, or use `crisp rmi -f`", name,
                         user);
    spec.image = id ? id : (char *)name; // by id: the image, not one of its names
    request.image = &spec;
    return cli_call(cli, "RemoveImage", &request.base, NULL, err);
}

static int remove_all(struct cli *cli, struct error *err)
{
    _cleanup_message_ Crisp__PruneResponse *response = NULL;
    Crisp__PruneRequest request = CRISP__PRUNE_REQUEST__INIT;

    request.all = true;
    int rc = cli_call(cli, "Prune", &request.base, (ProtobufCMessage **)&response, err);
    for (size_t i = 0; rc == 0 && i < response->n_images; i++)
        (void)printf("%s\n", images_name(response->images[i]));
    return rc;
}

int command_rmi(struct cli *cli, int argc, char **argv)
{
    struct rmi_options o = {0};
    struct error err = ERROR_INIT;
    char **names = NULL;
    int n = 0;

    int code = options_parse(&table, &o, argc, argv, &names, &n);
    if (code >= 0)
        return code;
    if (o.all ? n > 0 : n == 0)
        return options_bad(&table, o.all ? "--all takes no image" : "rmi needs an image");
    code = 0;
    if (o.all && remove_all(cli, &err) < 0) {
        output_error("%s", err.message);
        code = 1;
    }
    for (; *names; names++) {
        err = ERROR_INIT;
        if (remove_one(cli, &o, *names, &err) == 0) {
            (void)printf("%s\n", *names);
            continue;
        }
        output_error("%s", err.message);
        code = 1;
    }
    return code;
}
