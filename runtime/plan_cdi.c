// What CDI devices change in a container's plan, as the specification says: in the order of the devices, each
// file's own edits before those of its first device.
#include "runtime/plan_internal.h"

#include <linux/capability.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/caps.h"
#include "runtime/cdi.h"
#include "runtime/cgroup.h"
#include "runtime/oci_config.h"

#define HOOKS_MAX 256

// What the host lacks is no mistake of the request's.
static int missing(struct error *err, const struct cdi_edit *e, const char *list, size_t i, const char *what,
                   const char *path, int errnum)
{
    return error_set(err, STATUS_FAILED_PRECONDITION, errnum,
                     "CDI device \"%s\": %s: %s.%s[%zu].%s: \"%.200s\": %s", e->device, e->file,
                     e->edits->key, list, i, what, path, strerrordesc_np(errnum));
}

static int unsupported(struct error *err, const struct cdi_edit *e, const char *list, size_t i,
                       const char *what, const char *text)
{
    return error_set(err, STATUS_UNIMPLEMENTED, ENOTSUP,
                     "CDI device \"%s\": %s: %s.%s[%zu].%s: \"%.100s\" is not supported", e->device, e->file,
                     e->edits->key, list, i, what, text);
}

// ---- Device nodes ----

static mode_t node_type(const char *type)
{
    return str_eq(type, "b") ? S_IFBLK : str_eq(type, "p") ? S_IFIFO : type[0] ? S_IFCHR : 0;
}

// The node as it is to be made: what the file leaves out is the host's. A fully described one needs none
// there.
static int look_at_node(const struct cdi_edit *e, size_t i, struct stat *out, struct error *err)
{
    const struct cdi_node *d = &e->edits->nodes.v[i];
    const char *host = d->host_path[0] ? d->host_path : d->path;
    mode_t type = node_type(d->type);
    bool whole = type == S_IFIFO || (type && d->major.value != 0);
    struct stat st = {0};
    int errnum = stat(host, &st) < 0 ? errno : 0;
    if (errnum && !whole)
        return missing(err, e, "deviceNodes", i, d->host_path[0] ? "hostPath" : "path", host, errnum);
    mode_t found = st.st_mode & S_IFMT;
    if (!whole && found != S_IFCHR && found != S_IFBLK && found != S_IFIFO)
        return missing(err, e, "deviceNodes", i, d->host_path[0] ? "hostPath" : "path", host, ENODEV);
    if (!whole && type && type != found)
        return error_set(err, STATUS_FAILED_PRECONDITION, ENODEV,
                         "CDI device \"%s\": %s: %s.deviceNodes[%zu].type: is \"%s\", but %.200s is another",
                         e->device, e->file, e->edits->key, i, d->type, host);
    mode_t mode = d->mode.set ? (mode_t)d->mode.value : errnum ? 0600 : st.st_mode & 07777;
    *out = (struct stat){.st_mode = (type ? type : found) | mode, .st_rdev = whole ? 0 : st.st_rdev};
    if (d->major.value != 0)
        out->st_rdev = makedev((unsigned)d->major.value, (unsigned)d->minor.value);
    return 0;
}

// Unless the file names an owner it is the container's user, where that is known as a number here.
static uint32_t owner_of(const struct cdi_number *given, const struct cdi_number *users)
{
    return given->set ? (uint32_t)given->value : users->set ? (uint32_t)users->value : 0;
}

// The image's "1000" or "1000:50" counts as numbers too; a name is looked up too late for this.
static void known_owner(const Pod__User *u, struct cdi_number *uid, struct cdi_number *gid)
{
    const char *text = u->user ? u->user : "";
    char *end;
    *uid = (struct cdi_number){.set = u->has_uid, .value = u->uid};
    *gid = (struct cdi_number){.set = u->has_gid, .value = u->gid};
    if (u->has_uid || text[0] < '0' || text[0] > '9')
        return;
    unsigned long value = strtoul(text, &end, 10);
    if (value > UINT32_MAX || (*end && *end != ':'))
        return;
    *uid = (struct cdi_number){.set = true, .value = (int64_t)value};
    if (u->has_gid || *end != ':' || end[1] < '0' || end[1] > '9')
        return;
    value = strtoul(end + 1, &end, 10);
    *gid = (struct cdi_number){.set = *end == '\0' && value <= UINT32_MAX, .value = (int64_t)value};
}

static int add_node(struct plan_builder *b, const struct cdi_edit *e, size_t i)
{
    const struct cdi_node *node = &e->edits->nodes.v[i];
    struct cdi_number uid, gid;
    Pod__Device *d;
    struct stat st;
    int r = look_at_node(e, i, &st, b->err);
    if (r < 0)
        return r;
    if (plan_device_at(b, node->path, &d) < 0)
        return plan_no_memory(b->err);
    d->type = st.st_mode & S_IFMT;
    d->mode = st.st_mode & 07777;
    d->major = major(st.st_rdev);
    d->minor = minor(st.st_rdev);
    known_owner(b->plan->process->user, &uid, &gid);
    d->uid = owner_of(&node->uid, &uid);
    d->gid = owner_of(&node->gid, &gid);
    return 0;
}

int plan_add_cdi_rules(const struct cdi_set *cdi, struct cgroup_device_rule *rules, size_t room, size_t *n,
                       struct error *err)
{
    for (size_t k = 0; k < cdi->n; k++) {
        for (size_t i = 0; i < cdi->v[k].edits->nodes.n; i++) {
            const char *permissions = cdi->v[k].edits->nodes.v[i].permissions;
            struct stat st;
            int r = look_at_node(&cdi->v[k], i, &st, err);
            if (r < 0)
                return r;
            if (S_ISFIFO(st.st_mode) || str_eq(permissions, "none"))
                continue;
            if (*n == room)
                return plan_no_memory(err);
            rules[(*n)++] = (struct cgroup_device_rule){.type = S_ISBLK(st.st_mode) ? 'b' : 'c',
                                                        .major = major(st.st_rdev),
                                                        .minor = minor(st.st_rdev),
                                                        .access = permissions[0] ? permissions : "rwm"};
        }
    }
    return 0;
}

// ---- Mounts ----

// Mount options in the words of mount(8) and the OCI runtime specification.
static const struct {
    const char *name;
    uint64_t set, clear;
} flag_options[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
    {"defaults", 0, 0},
    {"async", 0, 0},
};
static const struct {
    const char *name;
    Pod__Propagation propagation;
} propagation_options[] = {
    {"private", POD__PROPAGATION__PROPAGATION_PRIVATE}, {"rprivate", POD__PROPAGATION__PROPAGATION_PRIVATE},
    {"slave", POD__PROPAGATION__PROPAGATION_SLAVE},     {"rslave", POD__PROPAGATION__PROPAGATION_SLAVE},
    {"shared", POD__PROPAGATION__PROPAGATION_SHARED},   {"rshared", POD__PROPAGATION__PROPAGATION_SHARED},
};

static bool take_option(Pod__Mount *m, const char *option, bool *bind)
{
    if (str_eq(option, "bind") || str_eq(option, "rbind")) {
        *bind = true;
        m->recursive = m->recursive || option[0] == 'r';
        return true;
    }
    if (str_eq(option, "rro")) {
        m->flags |= MOUNT_ATTR_RDONLY;
        m->recursive = m->recursive_readonly = true;
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(flag_options); i++) {
        if (str_eq(option, flag_options[i].name)) {
            m->flags = (m->flags & ~flag_options[i].clear) | flag_options[i].set;
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(propagation_options); i++) {
        if (str_eq(option, propagation_options[i].name)) {
            m->propagation = propagation_options[i].propagation;
            return true;
        }
    }
    return false;
}

// tmpfs's own options go to the file system.
static int take_options(struct plan_builder *b, const struct cdi_edit *e, size_t i, Pod__Mount *m, bool *bind)
{
    const struct cdi_mount *mount = &e->edits->mounts.v[i];
    bool tmpfs = str_eq(mount->type, "tmpfs");
    *bind = mount->type[0] == '\0' || str_eq(mount->type, "bind");
    for (size_t k = 0; k < mount->options.n; k++) {
        const char *option = mount->options.v[k];
        if (take_option(m, option, bind))
            continue;
        if (!tmpfs || strchr(option, ','))
            return unsupported(b->err, e, "mounts", i, "options", option);
        m->data = arena_printf(b->arena, "%s%s%s", m->data, m->data[0] ? "," : "", option);
        if (!m->data)
            return plan_no_memory(b->err);
    }
    if (!*bind && !tmpfs)
        return unsupported(b->err, e, "mounts", i, "type", mount->type);
    return 0;
}

static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && path[len] == '/';
}

// In the place of a mount that is there already; else before the first one below it, which it would cover.
static int place_mount(struct plan_builder *b, Pod__Mount *m)
{
    Pod__LaunchPlan *plan = b->plan;
    size_t at = plan->n_mounts;
    for (size_t i = 0; i < plan->n_mounts; i++) {
        if (str_eq(plan->mounts[i]->destination, m->destination)) {
            plan->mounts[i] = m;
            return 0;
        }
        if (at == plan->n_mounts && is_below(plan->mounts[i]->destination, m->destination))
            at = i;
    }
    if (plan->n_mounts == PLAN_MOUNTS_MAX)
        return plan_no_memory(b->err);
    memmove(&plan->mounts[at + 1], &plan->mounts[at], (plan->n_mounts - at) * sizeof(*plan->mounts));
    plan->mounts[at] = m;
    plan->n_mounts++;
    return 0;
}

static int add_mount(struct plan_builder *b, const struct cdi_edit *e, size_t i)
{
    const struct cdi_mount *mount = &e->edits->mounts.v[i];
    Pod__Mount *m = arena_alloc(b->arena, sizeof(*m));
    char *destination = plan_clean_path(b->arena, mount->container_path);
    struct stat st;
    bool bind;
    if (!m || !destination)
        return plan_no_memory(b->err);
    pod__mount__init(m);
    m->destination = destination;
    int r = take_options(b, e, i, m, &bind);
    if (r < 0)
        return r;
    m->type = (char *)(bind ? "bind" : mount->type);
    m->source = (char *)mount->host_path;
    m->idmap =
        bind && policy_userns(b->in->pod) != NULL; // as peers have it: root's files are the pod's root's
    if (bind && mount->host_path[0] != '/')
        return missing(b->err, e, "mounts", i, "hostPath", mount->host_path, EINVAL);
    // Never made: a driver's file that isn't there is a broken driver.
    if (bind && stat(mount->host_path, &st) < 0)
        return missing(b->err, e, "mounts", i, "hostPath", mount->host_path, errno);
    return place_mount(b, m);
}

// ---- Environment and groups ----

static int add_env(struct plan_builder *b, const struct cdi_set *cdi)
{
    Pod__Process *p = b->plan->process;
    size_t room = p->n_env;
    for (size_t k = 0; k < cdi->n; k++)
        room += cdi->v[k].edits->env.n;
    if (room == p->n_env)
        return 0;
    if (room > PLAN_ENV_MAX)
        return error_set(b->err, STATUS_INVALID_ARGUMENT, E2BIG,
                         "CDI_devices: more than %d variables together with the container's", PLAN_ENV_MAX);
    char **env = arena_alloc(b->arena, room * sizeof(*env));
    if (!env)
        return plan_no_memory(b->err);
    memcpy(env, p->env, p->n_env * sizeof(*env));
    p->env = env;
    for (size_t k = 0; k < cdi->n; k++) {
        for (size_t i = 0; i < cdi->v[k].edits->env.n; i++)
            plan_set_env(b, p, cdi->v[k].edits->env.v[i]);
    }
    return 0;
}

static bool has_group(const Pod__User *u, uint32_t gid)
{
    for (size_t i = 0; i < u->n_supplemental_groups; i++) {
        if (u->supplemental_groups[i] == gid)
            return true;
    }
    return false;
}

// 0 means nothing: the specification says so.
static int add_groups(struct plan_builder *b, const struct cdi_set *cdi)
{
    Pod__User *u = b->plan->process->user;
    size_t room = u->n_supplemental_groups;
    for (size_t k = 0; k < cdi->n; k++)
        room += cdi->v[k].edits->gids.n;
    if (room == u->n_supplemental_groups)
        return 0;
    uint32_t *groups = arena_alloc(b->arena, room * sizeof(*groups));
    if (!groups)
        return plan_no_memory(b->err);
    if (u->n_supplemental_groups > 0)
        memcpy(groups, u->supplemental_groups, u->n_supplemental_groups * sizeof(*groups));
    u->supplemental_groups = groups;
    for (size_t k = 0; k < cdi->n; k++) {
        for (size_t i = 0; i < cdi->v[k].edits->gids.n; i++) {
            uint32_t gid = cdi->v[k].edits->gids.v[i];
            if (gid != 0 && !has_group(u, gid))
                groups[u->n_supplemental_groups++] = gid;
        }
    }
    return 0;
}

// ---- Hooks ----

static Pod__Hook *new_hook(struct plan_builder *b, const struct cdi_hook *from)
{
    Pod__Hook *h = arena_alloc(b->arena, sizeof(*h));
    if (!h)
        return NULL;
    pod__hook__init(h);
    h->path = (char *)from->path;
    h->args = from->args.v;
    h->n_args = from->args.n;
    h->env = from->env.v;
    h->n_env = from->env.n;
    h->timeout_ms = (uint32_t)from->timeout_s.value * 1000;
    return h;
}

static size_t count_hooks(const struct cdi_set *cdi)
{
    size_t n = 0;
    for (size_t k = 0; k < cdi->n; k++)
        n += cdi->v[k].edits->hooks.n;
    return n;
}

static int fill_hooks(struct plan_builder *b, const struct cdi_set *cdi, Pod__Hook **room, size_t total,
                      Pod__Hooks *hooks)
{
    const struct {
        Pod__Hook ***list;
        size_t *n;
    } points[CDI_HOOK_POINTS] = {
        [CDI_PRESTART] = {&hooks->prestart, &hooks->n_prestart},
        [CDI_CREATE_RUNTIME] = {&hooks->create_runtime, &hooks->n_create_runtime},
        [CDI_CREATE_CONTAINER] = {&hooks->create_container, &hooks->n_create_container},
        [CDI_START_CONTAINER] = {&hooks->start_container, &hooks->n_start_container},
        [CDI_POSTSTART] = {&hooks->poststart, &hooks->n_poststart},
        [CDI_POSTSTOP] = {&hooks->poststop, &hooks->n_poststop},
    };
    for (int p = 0; p < CDI_HOOK_POINTS; p++)
        *points[p].list = room + (size_t)p * total;
    for (size_t k = 0; k < cdi->n; k++) {
        const struct cdi_edits *e = cdi->v[k].edits;
        for (size_t i = 0; i < e->hooks.n; i++) {
            Pod__Hook *h = new_hook(b, &e->hooks.v[i]);
            if (!h)
                return plan_no_memory(b->err);
            (*points[e->hooks.v[i].point].list)[(*points[e->hooks.v[i].point].n)++] = h;
        }
    }
    return 0;
}

// Such a hook is a program of the container, and runs while the launching process still has all privileges,
// in the same pid namespace: it must not be able to trace it.
static int check_start_container(struct plan_builder *b, const Pod__Hooks *hooks)
{
    const Pod__Capabilities *c = b->plan->process->capabilities;
    if (hooks->n_start_container == 0 || plan_security(b->in->config)->privileged ||
        !(c->bounding & CAPS_BIT(CAP_SYS_PTRACE)))
        return 0;
    return error_set(b->err, STATUS_UNIMPLEMENTED, ENOTSUP,
                     "CDI_devices: a startContainer hook (%.200s) is not supported together with SYS_PTRACE",
                     hooks->start_container[0]->path);
}

static int add_hooks(struct plan_builder *b, const struct cdi_set *cdi)
{
    size_t total = count_hooks(cdi);
    if (total == 0)
        return 0;
    if (total > HOOKS_MAX)
        return error_set(b->err, STATUS_INVALID_ARGUMENT, E2BIG, "CDI_devices: bring %zu hooks, more than %d",
                         total, HOOKS_MAX);
    Pod__Hooks *hooks = arena_alloc(b->arena, sizeof(*hooks));
    Pod__Hook **room = arena_alloc(b->arena, CDI_HOOK_POINTS * total * sizeof(*room));
    _cleanup_free_ char *state = oci_state_members(b->in->id, b->in->bundle, b->in->config);
    if (!hooks || !room || !state)
        return plan_no_memory(b->err);
    pod__hooks__init(hooks);
    hooks->root_dir = arena_printf(b->arena, "%s/mnt", b->in->bundle);
    hooks->state = arena_strdup(b->arena, state);
    if (!hooks->root_dir || !hooks->state)
        return plan_no_memory(b->err);
    b->plan->hooks = hooks;
    plan_require(b, "hooks-1");
    int r = fill_hooks(b, cdi, room, total, hooks);
    return r < 0 ? r : check_start_container(b, hooks);
}

static int add_one(struct plan_builder *b, const struct cdi_edit *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < e->edits->nodes.n; i++)
        r = add_node(b, e, i);
    for (size_t i = 0; r == 0 && i < e->edits->mounts.n; i++)
        r = add_mount(b, e, i);
    return r;
}

int plan_add_cdi(struct plan_builder *b)
{
    const struct cdi_set *cdi = b->in->cdi;
    if (!cdi || cdi->n == 0)
        return 0;
    int r = add_env(b, cdi);
    if (r == 0)
        r = add_groups(b, cdi);
    for (size_t k = 0; r == 0 && k < cdi->n; k++)
        r = add_one(b, &cdi->v[k]);
    return r < 0 ? r : add_hooks(b, cdi);
}
