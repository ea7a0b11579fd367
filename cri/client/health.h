#ifndef CRI_CLIENT_HEALTH_H
#define CRI_CLIENT_HEALTH_H

#include "api/cri/api.pb-c.h"
#include "cri/client/cli.h"

#define HEALTH_MAX 16

// "healthy", "unhealthy", "starting" from the verbose information of a container's status; "" when there is
// none.
void health_of_status(const Cri__ContainerStatusResponse *response, char out[HEALTH_MAX]);
// The same of a container that was run with --health-cmd, for which the runtime is asked; "" for others.
int health_read(struct cli *cli, const Cri__Container *c, char out[HEALTH_MAX], struct error *err);

#endif
