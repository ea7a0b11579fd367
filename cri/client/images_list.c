#include <stdlib.h>

#include "cri/client/images.h"

// The CRI's image in the other one's clothes: the strings stay the CRI's.
static int wrap(const Cri__ListImagesResponse *list, Crisp__ListResponse *out)
{
    out->images = calloc(list->n_images + 1, sizeof(*out->images));
    for (size_t i = 0; out->images && i < list->n_images; i++) {
        const Cri__Image *image = list->images[i];
        Crisp__ImageFacts *facts = malloc(sizeof(*facts));

        if (!facts)
            return -ENOMEM;
        crisp__image_facts__init(facts);
        facts->id = image->id;
        facts->repo_tags = image->repo_tags;
        facts->n_repo_tags = image->n_repo_tags;
        facts->repo_digests = image->repo_digests;
        facts->n_repo_digests = image->n_repo_digests;
        facts->size = image->size;
        facts->pinned = image->pinned;
        out->images[out->n_images++] = facts;
    }
    return out->images ? 0 : -ENOMEM;
}

int images_list(struct cli *cli, struct images *out, struct error *err)
{
    Crisp__ListRequest request = CRISP__LIST_REQUEST__INIT;
    Cri__ListImagesRequest cri_request = CRI__LIST_IMAGES_REQUEST__INIT;

    *out = (struct images){.full = true};
    int rc = cli_call(cli, "List", &request.base, (ProtobufCMessage **)&out->own, err);
    if (rc == 0 || err->status != STATUS_UNIMPLEMENTED)
        return rc;
    out->full = false;
    rc = cli_call(cli, "ListImages", &cri_request.base, (ProtobufCMessage **)&out->cri, err);
    if (rc < 0)
        return rc;
    out->own = malloc(sizeof(*out->own));
    if (!out->own)
        return error_errno(err, ENOMEM, "list images");
    crisp__list_response__init(out->own);
    return wrap(out->cri, out->own) < 0 ? error_errno(err, ENOMEM, "list images") : 0;
}

void images_free(struct images *images)
{
    if (images->own && images->full) {
        crisp__list_response__free_unpacked(images->own, NULL);
    } else if (images->own) {
        for (size_t i = 0; i < images->own->n_images; i++)
            free(images->own->images[i]);
        free(images->own->images);
        free(images->own);
    }
    if (images->cri)
        cri__list_images_response__free_unpacked(images->cri, NULL);
    *images = (struct images){0};
}

const char *images_name(const Crisp__ImageFacts *image)
{
    return image->n_repo_tags      ? image->repo_tags[0]
           : image->n_repo_digests ? image->repo_digests[0]
                                   : image->id;
}
