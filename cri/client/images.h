// The list of images, as crisp's own service or any CRI runtime tells it.
#ifndef CRI_CLIENT_IMAGES_H
#define CRI_CLIENT_IMAGES_H

#include "api/crisp/images.pb-c.h"
#include "cri/client/cli.h"

struct images {
    Crisp__ListResponse *own;     // what was told
    bool full;                    // by crisp's service: times and use are known
    Cri__ListImagesResponse *cri; // behind `own`, of another runtime
};
int images_list(struct cli *cli, struct images *out, struct error *err);
void images_free(struct images *images);

// One image on a line of `crisp prune` and `crisp rmi`: its first name, or its id.
const char *images_name(const Crisp__ImageFacts *image);

#endif
