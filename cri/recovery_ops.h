// What a start of the daemon does once every module has read its records.
#ifndef CRI_RECOVERY_OPS_H
#define CRI_RECOVERY_OPS_H

#include "base/error.h"

struct daemon;

// Takes the holds on images again, undoes what a crash interrupted, and sweeps what belongs to nobody. What
// can't be done is logged; nothing of it keeps the daemon from serving.
void recovery_run(struct daemon *d);

#endif
