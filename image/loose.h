// What is asked of a Loose before anything of it is a path: it comes from the process that had the layer's
// bytes.
#ifndef IMAGE_LOOSE_H
#define IMAGE_LOOSE_H

#include <stdbool.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"

// Every name is clean: relative, without empty, "." or ".." components, and short enough; "." alone is a
// folder (the root). `mend`: an image's mending layer, which has parts and nothing else. loose may be NULL.
// DATA_LOSS.
int loose_check(const Pull__Loose *loose, bool mend, struct error *err);

#endif
