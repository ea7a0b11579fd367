// From the table (seccomp_table.c) to the default profile for a container.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/seccomp_internal.h"

// The names of the rows as C strings: made once, never freed (rules point at them).
static char ***row_names;
static pthread_once_t split_once = PTHREAD_ONCE_INIT;
static bool split_failed;

static void split_rows(void)
{
    row_names = calloc(seccomp_n_rows, sizeof(*row_names));
    split_failed = !row_names;
    for (size_t i = 0; i < seccomp_n_rows && !split_failed; i++) {
        _cleanup_free_ char *copy = strdup(seccomp_rows[i].names);
        char *rest = copy;
        row_names[i] = strv_new(0);
        split_failed = !copy || !row_names[i];
        for (char *name; !split_failed && (name = strsep(&rest, " ")) != NULL;)
            split_failed = strv_append(&row_names[i], name) < 0;
    }
}

uint64_t seccomp_default_caps(void)
{
    uint64_t caps = 0;
    for (size_t i = 0; i < seccomp_n_rows; i++)
        caps |= seccomp_rows[i].caps;
    for (size_t i = 0; i < seccomp_n_conditions; i++)
        caps |= seccomp_conditions[i].unless_caps;
    return caps;
}

static bool row_allows(const struct seccomp_row *row, const struct seccomp_target *t)
{
    return row->verdict == SECCOMP_ALLOWED && (!row->caps || (row->caps & t->caps)) &&
           t->kernel >= row->kernel;
}

int seccomp_default_profile(const struct seccomp_target *t, struct seccomp_profile *out)
{
    (void)pthread_once(&split_once, split_rows);
    *out = (struct seccomp_profile){.default_action = SECCOMP_RET_ERRNO | EPERM,
                                    // Without it kernels before 5.16 slow the container's processes down.
                                    .flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW};
    out->arches[t->native] = true;
    out->arches[SECCOMP_X86] = out->arches[SECCOMP_X32] = t->native == SECCOMP_X86_64;
    int r = split_failed ? -ENOMEM : 0;
    for (size_t i = 0; i < seccomp_n_rows && r == 0; i++) {
        if (!row_allows(&seccomp_rows[i], t))
            continue;
        for (char **name = row_names[i]; *name && r == 0; name++) {
            struct seccomp_rule rule = {.name = *name, .action = SECCOMP_RET_ALLOW};
            r = seccomp_profile_add(out, &rule);
        }
    }
    for (size_t i = 0; i < seccomp_n_conditions && r == 0; i++) {
        if (!(seccomp_conditions[i].unless_caps & t->caps))
            r = seccomp_profile_add(out, &seccomp_conditions[i].rule);
    }
    if (r < 0)
        seccomp_profile_done(out);
    return r;
}
