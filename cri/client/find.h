#ifndef CRI_CLIENT_FIND_H
#define CRI_CLIENT_FIND_H

#include "api/cri/api.pb-c.h"
#include "cri/client/cli.h"

// The container that a person means by text: a unique beginning of its id, else its name (of several, the one
// that runs). *id is the caller's to free. -ENOENT, -EINVAL (ambiguous), or a failed call's error.
int find_container(struct cli *cli, const char *text, char **id, struct error *err);

#endif
