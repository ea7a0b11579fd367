// Users and groups of a container's root: a bounded parser of /etc/passwd and /etc/group (no NSS: a static
// program must not load what the image brings), and Docker's rules for "user[:group]".
#ifndef RUNTIME_POD_ACCOUNTS_H
#define RUNTIME_POD_ACCOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/pod/pod.pb-c.h"
#include "base/error.h"

#define ACCOUNTS_FILE_MAX   (1u << 20) // bytes of /etc/passwd or /etc/group
#define ACCOUNTS_GROUPS_MAX 1024       // supplemental groups of a process
#define ACCOUNTS_NAME_MAX   256
#define ACCOUNTS_HOME_MAX   1024

struct account {
    uint32_t uid, gid;
    uint32_t groups[ACCOUNTS_GROUPS_MAX]; // with gid first
    size_t n_groups;
    char home[ACCOUNTS_HOME_MAX];
};

// user: what is asked for. passwd, group: the files' contents ("" for none). An unknown name is
// NOT_FOUND and named.
int account_resolve(const Pod__User *user, const char *passwd, const char *group, struct account *out,
                    struct error *err);

#endif
