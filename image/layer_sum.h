// A checksum over everything that a layer's folder holds, to find damage (not forgery: who may write there
// may write the records too).
#ifndef IMAGE_LAYER_SUM_H
#define IMAGE_LAYER_SUM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define LAYER_SUM_LEN 16

// Over names, types, modes, owners, sizes, times, link counts, link targets, device numbers, extended
// attributes (but those that hosts set: SELinux's, IMA's and EVM's) and content; the order of reading doesn't
// count. pause is called between pieces of work of some 100 µs and may rest; true: give up, -ECANCELED.
// Both may be NULL. -E2BIG: names that are nested too deep to be looked at.
int layer_sum(const char *path, bool (*pause)(void *data), void *data, uint8_t out[LAYER_SUM_LEN],
              struct error *err);

#endif
