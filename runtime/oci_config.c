// A container's plan as the config.json of the OCI runtime specification: what hooks read in their bundle.
//
// It says what is so. What the specification has no word for is left out: the filter of system calls, which
// exists as a compiled program only, and a user that is a name until the container's /etc/passwd is there.
#include "runtime/oci_config.h"

#include <jansson.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/caps.h"

// What is no UTF-8 gets replacement characters: JSON has no way to say it.
static json_t *text_of(const char *s)
{
    _cleanup_free_ char *clean = str_sanitize_utf8(s);
    return clean ? json_string(clean) : NULL;
}

static json_t *texts(char *const *list, size_t n)
{
    json_t *out = json_array();
    for (size_t i = 0; out && i < n; i++)
        (void)json_array_append_new(out, text_of(list[i]));
    return out;
}

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); // no memory shows where all of it is written out
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (!str_empty(text))
        set(object, key, text_of(text));
}

static json_t *capability_set(uint64_t bits)
{
    json_t *out = json_array();
    for (int i = 0; i < caps_count(); i++) {
        if (bits & CAPS_BIT(i))
            (void)json_array_append_new(out, json_sprintf("CAP_%s", caps_name(i)));
    }
    return out;
}

static json_t *capabilities(const Pod__Capabilities *c)
{
    json_t *out = json_object();
    set(out, "bounding", capability_set(c->bounding));
    set(out, "effective", capability_set(c->effective));
    set(out, "permitted", capability_set(c->permitted));
    set(out, "inheritable", capability_set(c->inheritable));
    set(out, "ambient", capability_set(c->ambient));
    return out;
}

static const char *const rlimit_names[RLIM_NLIMITS] = {
    [RLIMIT_CPU] = "CPU",           [RLIMIT_FSIZE] = "FSIZE",
    [RLIMIT_DATA] = "DATA",         [RLIMIT_STACK] = "STACK",
    [RLIMIT_CORE] = "CORE",         [RLIMIT_RSS] = "RSS",
    [RLIMIT_NPROC] = "NPROC",       [RLIMIT_NOFILE] = "NOFILE",
    [RLIMIT_MEMLOCK] = "MEMLOCK",   [RLIMIT_AS] = "AS",
    [RLIMIT_LOCKS] = "LOCKS",       [RLIMIT_SIGPENDING] = "SIGPENDING",
    [RLIMIT_MSGQUEUE] = "MSGQUEUE", [RLIMIT_NICE] = "NICE",
    [RLIMIT_RTPRIO] = "RTPRIO",     [RLIMIT_RTTIME] = "RTTIME",
};

static json_t *rlimits(const Pod__Process *p)
{
    json_t *out = json_array();
    for (size_t i = 0; i < p->n_rlimits; i++) {
        const Pod__Rlimit *r = p->rlimits[i];
        if (r->resource >= RLIM_NLIMITS)
            continue;
        json_t *one = json_object();
        set(one, "type", json_sprintf("RLIMIT_%s", rlimit_names[r->resource]));
        set(one, "soft", json_integer((json_int_t)r->soft));
        set(one, "hard", json_integer((json_int_t)r->hard));
        (void)json_array_append_new(out, one);
    }
    return out;
}

static json_t *user(const Pod__User *u)
{
    json_t *out = json_object(), *groups = json_array();
    if (u->has_uid || str_empty(u->user))
        set(out, "uid", json_integer(u->uid));
    else
        set_text(out, "username", u->user);
    if (u->has_gid || (str_empty(u->user) && u->uid == 0))
        set(out, "gid", json_integer(u->gid));
    for (size_t i = 0; i < u->n_supplemental_groups; i++)
        (void)json_array_append_new(groups, json_integer(u->supplemental_groups[i]));
    set(out, "additionalGids", groups);
    return out;
}

static json_t *process(const Pod__Process *p)
{
    json_t *out = json_object();
    set(out, "terminal", json_boolean(p->tty));
    set(out, "user", user(p->user));
    set(out, "args", texts(p->args, p->n_args));
    set(out, "env", texts(p->env, p->n_env));
    set(out, "cwd", text_of(str_empty(p->cwd) ? "/" : p->cwd));
    if (p->capabilities)
        set(out, "capabilities", capabilities(p->capabilities));
    set(out, "rlimits", rlimits(p));
    set(out, "noNewPrivileges", json_boolean(p->no_new_privileges));
    set_text(out, "apparmorProfile", p->apparmor_profile);
    set_text(out, "selinuxLabel", p->selinux_label);
    if (p->oom_score_adj)
        set(out, "oomScoreAdj", json_integer(p->oom_score_adj->value));
    return out;
}

static void add_flag_options(json_t *options, uint64_t flags)
{
    static const struct {
        uint64_t flag;
        const char *name;
    } names[] = {{MOUNT_ATTR_NOSUID, "nosuid"},
                 {MOUNT_ATTR_NODEV, "nodev"},
                 {MOUNT_ATTR_NOEXEC, "noexec"},
                 {MOUNT_ATTR_NODIRATIME, "nodiratime"},
                 {MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"}};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (flags & names[i].flag)
            (void)json_array_append_new(options, json_string(names[i].name));
    }
    (void)json_array_append_new(options, json_string(flags & MOUNT_ATTR_RDONLY ? "ro" : "rw"));
    if ((flags & MOUNT_ATTR__ATIME) == MOUNT_ATTR_NOATIME)
        (void)json_array_append_new(options, json_string("noatime"));
    else if ((flags & MOUNT_ATTR__ATIME) == MOUNT_ATTR_STRICTATIME)
        (void)json_array_append_new(options, json_string("strictatime"));
}

static json_t *mount(const Pod__Mount *m)
{
    static const char *const propagations[] = {"rprivate", "rslave", "rshared"};
    json_t *out = json_object(), *options = json_array();
    bool bind = str_eq(m->type, "bind");
    set(out, "destination", text_of(m->destination));
    set(out, "type", json_string(m->type));
    set(out, "source", text_of(str_empty(m->source) ? m->type : m->source));
    if (bind)
        (void)json_array_append_new(options, json_string(m->recursive ? "rbind" : "bind"));
    add_flag_options(options, m->flags);
    if (m->recursive_readonly)
        (void)json_array_append_new(options, json_string("rro"));
    if (bind && (size_t)m->propagation < ARRAY_SIZE(propagations))
        (void)json_array_append_new(options, json_string(propagations[m->propagation]));
    if (!bind && !str_empty(m->data))
        (void)json_array_append_new(options, json_string(m->data));
    set(out, "options", options);
    return out;
}

static json_t *mounts(const Pod__LaunchPlan *plan)
{
    json_t *out = json_array();
    for (size_t i = 0; i < plan->n_mounts; i++)
        (void)json_array_append_new(out, mount(plan->mounts[i]));
    return out;
}

static json_t *devices(const Pod__LaunchPlan *plan)
{
    json_t *out = json_array();
    for (size_t i = 0; i < plan->n_devices; i++) {
        const Pod__Device *d = plan->devices[i];
        json_t *one = json_object();
        set(one, "path", text_of(d->path));
        set(one, "type", json_string(S_ISBLK(d->type) ? "b" : S_ISFIFO(d->type) ? "p" : "c"));
        set(one, "major", json_integer(d->major));
        set(one, "minor", json_integer(d->minor));
        set(one, "fileMode", json_integer(d->mode));
        set(one, "uid", json_integer(d->uid));
        set(one, "gid", json_integer(d->gid));
        (void)json_array_append_new(out, one);
    }
    return out;
}

static json_t *hook_list(Pod__Hook *const *list, size_t n)
{
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_object();
        set(one, "path", text_of(list[i]->path));
        set(one, "args", texts(list[i]->args, list[i]->n_args));
        set(one, "env", texts(list[i]->env, list[i]->n_env));
        if (list[i]->timeout_ms > 0)
            set(one, "timeout", json_integer(list[i]->timeout_ms / 1000));
        (void)json_array_append_new(out, one);
    }
    return out;
}

static json_t *hooks(const Pod__Hooks *h)
{
    json_t *out = json_object();
    set(out, "prestart", hook_list(h->prestart, h->n_prestart));
    set(out, "createRuntime", hook_list(h->create_runtime, h->n_create_runtime));
    set(out, "createContainer", hook_list(h->create_container, h->n_create_container));
    set(out, "startContainer", hook_list(h->start_container, h->n_start_container));
    set(out, "poststart", hook_list(h->poststart, h->n_poststart));
    set(out, "poststop", hook_list(h->poststop, h->n_poststop));
    return out;
}

static void add_namespace(json_t *list, const char *type, const char *path)
{
    json_t *one = json_object();
    set(one, "type", json_string(type));
    set_text(one, "path", path);
    (void)json_array_append_new(list, one);
}

static json_t *namespaces(const struct oci_config_input *in)
{
    json_t *out = json_array();
    add_namespace(out, "mount", NULL);
    if (in->pid_mode != POD__PID_MODE__PID_HOST)
        add_namespace(out, "pid", NULL);
    if (!in->plan->host_network)
        add_namespace(out, "network", in->netns);
    if (!in->plan->host_ipc)
        add_namespace(out, "ipc", NULL);
    if (!in->plan->host_uts)
        add_namespace(out, "uts", NULL);
    if (in->plan->own_cgroup_ns)
        add_namespace(out, "cgroup", NULL);
    return out;
}

static json_t *linux_part(const struct oci_config_input *in)
{
    const Pod__LaunchPlan *plan = in->plan;
    json_t *out = json_object(), *sysctls = json_object();
    for (size_t i = 0; i < plan->n_sysctls; i++)
        set(sysctls, plan->sysctls[i]->name, json_string(plan->sysctls[i]->value));
    set(out, "namespaces", namespaces(in));
    set(out, "devices", devices(plan));
    set(out, "cgroupsPath", text_of(in->cgroup));
    set(out, "maskedPaths", texts(plan->masked_paths, plan->n_masked_paths));
    set(out, "readonlyPaths", texts(plan->readonly_paths, plan->n_readonly_paths));
    set(out, "sysctl", sysctls);
    set(out, "resources",
        oci_resources_json(in->resources       ? in->resources
                           : in->config->linux ? in->config->linux->resources
                                               : NULL,
                           in->extra, in->pids_limit));
    set_text(out, "rootfsPropagation", plan->root->propagation);
    set_text(out, "mountLabel", plan->root->mount_label);
    return out;
}

char *oci_config_json(const struct oci_config_input *in)
{
    json_t *top = json_object(), *root = json_object(), *annotations = json_object();
    set(root, "path", text_of(in->rootfs));
    set(root, "readonly", json_boolean(in->plan->root->readonly));
    for (size_t i = 0; i < in->config->n_annotations; i++)
        set(annotations, in->config->annotations[i]->key, text_of(in->config->annotations[i]->value));
    set(top, "ociVersion", json_string(OCI_VERSION));
    set(top, "process", process(in->plan->process));
    set(top, "root", root);
    set_text(top, "hostname", in->plan->host_uts ? "" : in->hostname);
    set(top, "mounts", mounts(in->plan));
    if (in->plan->hooks)
        set(top, "hooks", hooks(in->plan->hooks));
    set(top, "annotations", annotations);
    set(top, "linux", linux_part(in));
    char *text = json_dumps(top, JSON_COMPACT);
    json_decref(top);
    return text;
}

char *oci_state_members(const char *id, const char *bundle, const Cri__ContainerConfig *config)
{
    json_t *state = json_object(), *annotations = json_object();
    for (size_t i = 0; i < config->n_annotations; i++)
        set(annotations, config->annotations[i]->key, json_string(config->annotations[i]->value));
    set(state, "ociVersion", json_string(OCI_VERSION));
    set(state, "id", json_string(id));
    set(state, "bundle", json_string(bundle));
    set(state, "annotations", annotations);
    char *text = json_dumps(state, JSON_COMPACT);
    json_decref(state);
    size_t len = text ? strlen(text) : 0;
    if (len < 2)
        return text;
    memmove(text, text + 1, len - 2); // without its braces
    text[len - 2] = '\0';
    return text;
}
