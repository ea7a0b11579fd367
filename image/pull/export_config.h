#ifndef IMAGE_PULL_EXPORT_CONFIG_H
#define IMAGE_PULL_EXPORT_CONFIG_H

#include <jansson.h>

#include "api/pull/pull.pb-c.h"
#include "base/error.h"

// The config of an image that is exported: the one that it was pulled with (or, where that wasn't kept, one
// made of what the runtime knows) with the layers' new diffIDs.
int export_config_make(const Pull__ExportImage *image, json_t *diff_ids, json_t **out, struct error *err);

#endif
