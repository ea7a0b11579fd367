#ifndef CRI_CLIENT_FIND_H
#define CRI_CLIENT_FIND_H

#include "api/cri/api.pb-c.h"
#include "cri/client/cli.h"

// The container that a person means by text: its id, its name (of several with that name the one that runs,
// else the newest one), or a unique beginning of its id. *id is the caller's to free. -ENOENT, -EINVAL
// (ambiguous), or a failed call's error.
int find_container(struct cli *cli, const char *text, char **id, struct error *err);

// The same in a list that the caller has; the result points into it.
int find_in_list(const Cri__ListContainersResponse *list, const char *text, const Cri__Container **out,
                 struct error *err);

const char *find_label(const Cri__Container *c, const char *key); // NULL: it has none

#endif
