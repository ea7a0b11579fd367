// crisp images: what the node holds, a line for each name.
#include "api/cri/api.pb-c.h"
#include "cri/client/cli.h"
#include "cri/client/output.h"

static const struct options table = {
    .command = "images",
    .usage = "images",
    .intro = "Lists the images, a line for each of their names.\n",
    .bad_code = CLI_EXIT_USAGE,
};

static void add_image(struct table *t, const Cri__Image *image)
{
    char id[OUTPUT_TEXT_MAX], size[OUTPUT_TEXT_MAX];
    // Without a tag an image is known by its digest, and without that by its id only.
    size_t n = image->n_repo_tags ? image->n_repo_tags : image->n_repo_digests;
    char **names = image->n_repo_tags ? image->repo_tags : image->repo_digests;

    output_short_id(image->id, id);
    output_size(image->size, size);
    for (size_t i = 0; i < n; i++)
        table_row(t, (const char *const[]){names[i], id, size, image->pinned ? "yes" : "no"});
    if (n == 0)
        table_row(t, (const char *const[]){"<none>", id, size, image->pinned ? "yes" : "no"});
}

int command_images(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse_nothing(&table, argc, argv);
    if (code >= 0)
        return code;

    struct error err = ERROR_INIT;
    _cleanup_message_ Cri__ListImagesResponse *list = NULL;
    Cri__ListImagesRequest request = CRI__LIST_IMAGES_REQUEST__INIT;
    if (cli_call(cli, "ListImages", &request.base, (ProtobufCMessage **)&list, &err) < 0) {
        output_error("%s", err.message);
        return 1;
    }
    struct table t;
    table_init(&t, 4, (const char *const[]){"IMAGE", "ID", "SIZE", "PINNED"});
    for (size_t i = 0; i < list->n_images; i++)
        add_image(&t, list->images[i]);
    table_print(&t, stdout);
    table_done(&t);
    return 0;
}
