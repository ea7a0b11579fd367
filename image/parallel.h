// What the configuration, crispd and crisp-pull have to agree on.
#ifndef IMAGE_PARALLEL_H
#define IMAGE_PARALLEL_H

#define IMAGE_PARALLEL_LAYERS_MAX 64 // of one image, that are on their way at the same time

#endif
