// The container's process: argv, environment, directory, identity, privileges.
#include "runtime/plan_internal.h"

#include <string.h>

#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/seccomp.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Docker's rules: a command replaces the image's entrypoint and command, arguments alone only its command.
static int build_args(struct plan_builder *b, Pod__Process *p)
{
    const Cri__ContainerConfig *c = b->in->config;
    const Pull__ImageConfig *image = b->in->image;
    char **head = c->n_command ? c->command : image->entrypoint;
    size_t n_head = c->n_command ? c->n_command : image->n_entrypoint;
    bool own_tail = c->n_command || c->n_args;
    char **tail = own_tail ? c->args : image->cmd;
    size_t n_tail = own_tail ? c->n_args : image->n_cmd;
    if (n_head + n_tail == 0)
        return error_set(b->err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "no command: neither the config's command and args nor the image's entrypoint and "
                         "cmd name one");
    p->args = arena_alloc(b->arena, (n_head + n_tail) * sizeof(*p->args));
    if (!p->args)
        return plan_no_memory(b->err);
    for (size_t i = 0; i < n_head; i++)
        p->args[p->n_args++] = head[i];
    for (size_t i = 0; i < n_tail; i++)
        p->args[p->n_args++] = tail[i];
    return 0;
}

void plan_set_env(struct plan_builder *b, Pod__Process *p, char *entry)
{
    if (!entry) {
        b->out_of_memory = true;
        return;
    }
    size_t key = strcspn(entry, "=");
    for (size_t i = 0; i < p->n_env; i++) {
        if (strncmp(p->env[i], entry, key) == 0 && (p->env[i][key] == '=' || p->env[i][key] == '\0')) {
            p->env[i] = entry;
            return;
        }
    }
    p->env[p->n_env++] = entry;
}

static int build_env(struct plan_builder *b, Pod__Process *p)
{
    const Cri__ContainerConfig *c = b->in->config;
    const Pull__ImageConfig *image = b->in->image;
    size_t room = image->n_env + c->n_envs + 3;
    if (room > PLAN_ENV_MAX)
        return error_set(b->err, STATUS_INVALID_ARGUMENT, E2BIG, "envs: more than %d variables",
                         PLAN_ENV_MAX);
    p->env = arena_alloc(b->arena, room * sizeof(*p->env));
    if (!p->env)
        return plan_no_memory(b->err);
    plan_set_env(b, p, (char *)DEFAULT_PATH);
    if (c->tty)
        plan_set_env(b, p, (char *)"TERM=xterm");
    for (size_t i = 0; i < image->n_env; i++)
        plan_set_env(b, p, image->env[i]);
    // After the image's: a HOSTNAME that was the build machine's is no use to anybody.
    if (!str_empty(b->in->hostname))
        plan_set_env(b, p, arena_printf(b->arena, "HOSTNAME=%s", b->in->hostname));
    for (size_t i = 0; i < c->n_envs; i++) {
        const Cri__KeyValue *kv = c->envs[i];
        plan_set_env(b, p,
                     arena_printf(b->arena, "%s=%.*s", kv->key, (int)kv->value.len,
                                  kv->value.data ? (const char *)kv->value.data : ""));
    }
    return 0;
}

static int build_user(struct plan_builder *b, Pod__Process *p)
{
    const Cri__LinuxContainerSecurityContext *sc = plan_security(b->in->config);
    Pod__User *u = arena_alloc(b->arena, sizeof(*u));
    uint32_t *groups = arena_alloc(b->arena, (sc->n_supplemental_groups + 1) * sizeof(*groups));
    if (!u || !groups)
        return plan_no_memory(b->err);
    pod__user__init(u);
    if (sc->run_as_user) {
        u->has_uid = true;
        u->uid = (uint32_t)sc->run_as_user->value;
    } else if (!str_empty(sc->run_as_username)) {
        u->user = sc->run_as_username;
    } else {
        u->user = b->in->image->user;
    }
    if (sc->run_as_group) {
        u->has_gid = true;
        u->gid = (uint32_t)sc->run_as_group->value;
    }
    for (size_t i = 0; i < sc->n_supplemental_groups; i++)
        groups[u->n_supplemental_groups++] = (uint32_t)sc->supplemental_groups[i];
    u->supplemental_groups = groups;
    u->merge_image_groups = sc->supplemental_groups_policy == CRI__SUPPLEMENTAL_GROUPS_POLICY__Merge;
    p->user = u;
    return 0;
}

// The profile that applies: the field, else its deprecated form ("runtime/default", "localhost/PATH").
static const Cri__SecurityProfile *seccomp_profile(const Cri__LinuxContainerSecurityContext *sc,
                                                   Cri__SecurityProfile *scratch)
{
    const char *path = sc->seccomp_profile_path;
    if (sc->seccomp || str_empty(path) || str_eq(path, "unconfined"))
        return sc->seccomp;
    cri__security_profile__init(scratch);
    if (str_has_prefix(path, "localhost/")) {
        scratch->profile_type = CRI__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
        scratch->localhost_ref = (char *)path + strlen("localhost/");
    }
    return scratch;
}

static int build_privileges(struct plan_builder *b, Pod__Process *p)
{
    const Cri__LinuxContainerSecurityContext *sc = plan_security(b->in->config);
    const Cri__LinuxContainerResources *resources = plan_resources(b->in->config);
    Cri__SecurityProfile scratch;
    struct seccomp_filter filter = {0};
    p->capabilities = arena_alloc(b->arena, sizeof(*p->capabilities));
    p->oom_score_adj = arena_alloc(b->arena, sizeof(*p->oom_score_adj));
    if (!p->capabilities || !p->oom_score_adj)
        return plan_no_memory(b->err);
    int r = caps_compute(sc->capabilities, sc->privileged, b->policy->caps_held, p->capabilities, b->err);
    if (r == 0 && !sc->privileged)
        r = seccomp_cache_get(b->policy->seccomp, seccomp_profile(sc, &scratch), p->capabilities->bounding,
                              b->arena, &filter, b->err);
    if (r < 0)
        return r;
    p->seccomp.data = (uint8_t *)filter.bpf;
    p->seccomp.len = filter.len;
    p->seccomp_flags = filter.flags;
    p->no_new_privileges = sc->no_new_privs;
    // Always: crisp-pod's own score, which a container would inherit, shields it from the OOM killer.
    pod__oom_score_adj__init(p->oom_score_adj);
    p->oom_score_adj->value = resources ? (int32_t)resources->oom_score_adj : 0;
    return 0;
}

static int build_rlimits(struct plan_builder *b, Pod__Process *p)
{
    struct rlimit_list list;
    plan_rlimits(b, &list);
    Pod__Rlimit *limits = arena_alloc(b->arena, (list.n + 1) * sizeof(*limits));
    p->rlimits = arena_alloc(b->arena, (list.n + 1) * sizeof(*p->rlimits));
    if (!limits || !p->rlimits)
        return plan_no_memory(b->err);
    for (size_t i = 0; i < list.n; i++) {
        pod__rlimit__init(&limits[i]);
        limits[i].resource = list.items[i].resource;
        limits[i].soft = list.items[i].soft;
        limits[i].hard = list.items[i].hard;
        p->rlimits[p->n_rlimits++] = &limits[i];
    }
    return 0;
}

int plan_add_process(struct plan_builder *b)
{
    const Cri__ContainerConfig *c = b->in->config;
    Pod__Process *p = arena_alloc(b->arena, sizeof(*p));
    if (!p)
        return plan_no_memory(b->err);
    pod__process__init(p);
    p->tty = c->tty;
    p->cwd = (char *)"/";
    if (!str_empty(c->working_dir))
        p->cwd = c->working_dir;
    else if (!str_empty(b->in->image->working_dir))
        p->cwd = b->in->image->working_dir;
    // Images name directories that no layer has, and pod specs rely on peers' making theirs.
    p->cwd_from_image = true;
    if (p->cwd[0] != '/') // an image's may lack it
        p->cwd = arena_printf(b->arena, "/%s", p->cwd);
    b->out_of_memory = b->out_of_memory || !p->cwd;
    b->plan->process = p;
    int r = build_args(b, p);
    if (r == 0)
        r = build_env(b, p);
    if (r == 0)
        r = build_user(b, p);
    if (r == 0)
        r = build_rlimits(b, p);
    return r < 0 ? r : build_privileges(b, p);
}

int plan_build_exec(const Pod__Process *container, const Pod__ResolvedUser *user, const char *const *cmd,
                    size_t n_cmd, bool tty, struct arena *arena, Pod__Process **process, struct error *err)
{
    if (n_cmd == 0 || str_empty(cmd[0]))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "cmd: no command to execute");
    Pod__Process *p = arena_alloc(arena, sizeof(*p));
    Pod__User *u = arena_alloc(arena, sizeof(*u));
    char **env = arena_alloc(arena, (container->n_env + 1) * sizeof(*env));
    if (!p || !u || !env)
        return plan_no_memory(err);
    *p = *container; // limits, capabilities, filter and directory are the container's
    p->args = (char **)cmd;
    p->n_args = n_cmd;
    p->tty = tty;
    p->cwd_from_image = false;
    p->env = env;
    memcpy(env, container->env, container->n_env * sizeof(*env));
    bool has_term = false;
    for (size_t i = 0; i < container->n_env; i++)
        has_term = has_term || str_has_prefix(env[i], "TERM=");
    if (tty && !has_term)
        env[p->n_env++] = (char *)"TERM=xterm";
    pod__user__init(u);
    u->resolved = u->has_uid = u->has_gid = true;
    u->uid = user->uid;
    u->gid = user->gid;
    u->supplemental_groups = user->groups;
    u->n_supplemental_groups = user->n_groups;
    u->home = user->home;
    p->user = u;
    *process = p;
    return 0;
}
