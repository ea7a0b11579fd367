// The labels of security modules: AppArmor's profile, SELinux's contexts.
#include "runtime/plan_internal.h"

#include "base/str.h"
#include "runtime/apparmor.h"
#include "runtime/selinux.h"

static int add_apparmor(struct plan_builder *b)
{
    static const char field[] = "linux.security_context.apparmor";
    const Cri__LinuxContainerSecurityContext *sc = plan_security(b->in->config);
    struct apparmor_choice choice;
    const char *name = "";
    if (sc->privileged)
        return 0;
    int r = apparmor_choose(field, sc->apparmor, sc->apparmor_profile, &choice, b->err);
    if (r == 0)
        r = apparmor_resolve(b->policy->apparmor, field, &choice, &name, b->err);
    b->plan->process->apparmor_profile = (char *)name;
    return r;
}

// Sources are there by now: those that were missing have been made.
static int relabel_mounts(struct plan_builder *b, const char *label)
{
    const Cri__ContainerConfig *c = b->in->config;
    for (size_t i = 0; i < c->n_mounts; i++) {
        const Cri__Mount *m = c->mounts[i];
        if (!m->selinux_relabel || str_empty(m->host_path))
            continue;
        int r = selinux_relabel(m->host_path, label, b->err);
        if (r < 0)
            return error_wrap(b->err, "mounts[%zu].selinux_relabel", i);
    }
    return 0;
}

static int add_selinux(struct plan_builder *b)
{
    const Cri__LinuxContainerSecurityContext *sc = plan_security(b->in->config);
    struct selinux_labels labels;
    // selinux_relabel is set by kubelet on every host: without SELinux there is nothing to be done.
    if (!b->policy->selinux)
        return 0;
    int r = selinux_make_labels(b->policy->selinux, "linux.security_context.selinux_options",
                                sc->selinux_options, b->in->selinux_level, sc->privileged, &labels, b->err);
    if (r < 0)
        return r;
    b->plan->process->selinux_label = arena_strdup(b->arena, labels.process);
    b->plan->root->mount_label = arena_strdup(b->arena, labels.file);
    if (!b->plan->process->selinux_label || !b->plan->root->mount_label)
        return plan_no_memory(b->err);
    return labels.file[0] ? relabel_mounts(b, labels.file) : 0;
}

int plan_add_labels(struct plan_builder *b)
{
    if (!b->plan->root)
        return plan_no_memory(b->err);
    int r = add_apparmor(b);
    if (r == 0)
        r = add_selinux(b);
    if (r < 0)
        return r;
    const Pod__Process *p = b->plan->process;
    if (!str_empty(p->apparmor_profile) || !str_empty(p->selinux_label) ||
        !str_empty(b->plan->root->mount_label))
        plan_require(b, "lsm-1");
    return 0;
}
