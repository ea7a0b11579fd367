// A crisp-pull that is started before it is needed: loading its libraries takes longer than asking a registry
// whether an image is up to date.
#ifndef IMAGE_STORE_SPARE_H
#define IMAGE_STORE_SPARE_H

#include "image/store_program.h"
#include "image/store_pull.h"

// Hands over one that may serve this pull: the one that answered the same question last, with the same
// credentials, or one that has served nobody. False: there is none.
bool spare_take(struct pull_op *op, struct pull_program *out);
// After a pull that had found nothing to do: takes *p over, for the next pull of the same, if it can.
// *p is PULL_PROGRAM_NONE then.
void spare_keep(const struct pull_op *op, struct pull_program *p);

#endif
