// What annotations add to a plan.
#include "runtime/annotation.h"

#include "runtime/plan_internal.h"

// After all other mounts, so that of two at one place the tmpfs is the one that is seen; a mount at a path
// below it is still made in it.
int plan_add_tmpfs(struct plan_builder *b)
{
    const struct annotations *a = b->in->annotations;
    for (size_t i = 0; a && i < a->n_tmpfs; i++) {
        const struct annotation_tmpfs *t = &a->tmpfs[i];
        if (plan_is_covered(b->in->config, t->destination, false))
            return error_set(b->err, STATUS_INVALID_ARGUMENT, EEXIST,
                             "annotation \"crisp.run/tmpfs\": %.200s is the place of one of the mounts too",
                             t->destination);
        (void)plan_new_mount(b, t->destination, "tmpfs", "tmpfs", t->flags, t->data);
    }
    return 0;
}

void plan_rlimits(const struct plan_builder *b, struct rlimit_list *out)
{
    const struct annotations *a = b->in->annotations;
    *out = b->policy->rlimits;
    for (size_t i = 0; a && i < a->ulimits.n; i++) {
        size_t at = 0;
        while (at < out->n && out->items[at].resource != a->ulimits.items[i].resource)
            at++;
        out->items[at] = a->ulimits.items[i];
        out->n += at == out->n;
    }
}
