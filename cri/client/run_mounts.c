// Volumes, mounts and devices.
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/run_config.h"

static Cri__Mount *new_mount(struct run_config *c)
{
    Cri__Mount *m = run_config_alloc(c->arena, sizeof(*m));

    cri__mount__init(m);
    RUN_CONFIG_ADD(c->arena, c->container.mounts, c->container.n_mounts, m);
    return m;
}

static bool set_propagation(Cri__Mount *m, const char *name)
{
    static const struct {
        const char *name;
        Cri__MountPropagation propagation;
    } names[] = {{"private", CRI__MOUNT_PROPAGATION__PROPAGATION_PRIVATE},
                 {"rprivate", CRI__MOUNT_PROPAGATION__PROPAGATION_PRIVATE},
                 {"slave", CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER},
                 {"rslave", CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER},
                 {"shared", CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL},
                 {"rshared", CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL}};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (str_eq(name, names[i].name)) {
            m->propagation = names[i].propagation;
            return true;
        }
    }
    return false;
}

static bool set_volume_option(Cri__Mount *m, const char *option)
{
    if (str_eq(option, "ro") || str_eq(option, "readonly"))
        m->readonly = true;
    else if (str_eq(option, "z") || str_eq(option, "Z"))
        m->selinux_relabel = true;
    else if (!str_eq(option, "rw") && !str_eq(option, "rbind"))
        return set_propagation(m, option);
    return true;
}

// HOST:PATH[:OPT,…]
static int add_volume(struct run_config *c, const char *text, struct error *err)
{
    char *host = run_config_printf(c->arena, "%s", text);
    char *path = strchr(host, ':');
    char *options = path ? strchr(path + 1, ':') : NULL;

    if (host[0] != '/' || !path || path[1] != '/')
        return run_config_bad(err, "volume", text,
                              "HOST:PATH or HOST:PATH:OPTIONS, both absolute: there are no named volumes");
    Cri__Mount *m = new_mount(c);
    *path++ = '\0';
    if (options)
        *options++ = '\0';
    m->host_path = host;
    m->container_path = path;
    for (char *word; (word = strsep(&options, ",")) != NULL;)
        if (!set_volume_option(m, word))
            return run_config_bad(err, "volume", text,
                                  "made of these options: ro, rw, z, private, rslave, rshared");
    return 0;
}

// --mount's tmpfs as --tmpfs has it.
static int add_tmpfs(struct run_config *c, char ***tmpfs, const char *path, const char *options,
                     bool readonly, struct error *err)
{
    char *item = run_config_printf(c->arena, "%s:%s%s", path, readonly ? "ro" : "rw", options);

    return strv_append(tmpfs, item) < 0 ? error_errno(err, ENOMEM, "--mount") : 0;
}

struct mount_words {
    const char *type, *source, *target, *propagation, *subpath;
    char *tmpfs; // ",size=…,mode=…"
    bool readonly, recursive;
};

static bool set_mount_word(struct run_config *c, struct mount_words *w, const char *key, const char *value)
{
    bool yes = !value || str_eq(value, "true") || str_eq(value, "1");

    if (str_eq(key, "readonly") || str_eq(key, "ro"))
        w->readonly = yes;
    else if (str_eq(key, "bind-recursive") && str_eq(value, "readonly"))
        w->recursive = true;
    else if (!value)
        return false;
    else if (str_eq(key, "type"))
        w->type = value;
    else if (str_eq(key, "source") || str_eq(key, "src"))
        w->source = value;
    else if (str_eq(key, "target") || str_eq(key, "destination") || str_eq(key, "dst"))
        w->target = value;
    else if (str_eq(key, "bind-propagation"))
        w->propagation = value;
    else if (str_eq(key, "image-subpath"))
        w->subpath = value;
    else if (str_eq(key, "tmpfs-size") || str_eq(key, "tmpfs-mode"))
        w->tmpfs = run_config_printf(c->arena, "%s,%s=%s", w->tmpfs, key + strlen("tmpfs-"), value);
    else
        return false;
    return true;
}

static int use_mount(struct run_config *c, const struct mount_words *w, char ***tmpfs, const char *text,
                     struct error *err)
{
    bool image = str_eq(w->type, "image"), bind = str_eq(w->type, "bind");

    if (!image && !bind && !str_eq(w->type, "tmpfs"))
        return run_config_bad(err, "mount", text, "type=bind, type=tmpfs or type=image");
    if (str_empty(w->target) || w->target[0] != '/')
        return run_config_bad(err, "mount", text, "given target=PATH, absolute");
    if (!image && !bind)
        return add_tmpfs(c, tmpfs, w->target, w->tmpfs, w->readonly, err);
    if (str_empty(w->source) || (bind && w->source[0] != '/'))
        return run_config_bad(err, "mount", text,
                              bind ? "given source=PATH, absolute" : "given source=IMAGE");
    Cri__Mount *m = new_mount(c);
    m->container_path = (char *)w->target;
    m->readonly = w->readonly || w->recursive || image;
    m->recursive_read_only = w->recursive;
    if (w->propagation && !set_propagation(m, w->propagation))
        return run_config_bad(err, "mount", text, "of a bind-propagation private, rslave or rshared");
    if (bind) {
        m->host_path = (char *)w->source;
        return 0;
    }
    m->image = run_config_alloc(c->arena, sizeof(*m->image));
    cri__image_spec__init(m->image);
    m->image->image = m->image->user_specified_image = (char *)w->source;
    if (w->subpath)
        m->image_sub_path = (char *)w->subpath;
    RUN_CONFIG_ADD(c->arena, c->image_volumes, c->n_image_volumes, (char *)w->source);
    return 0;
}

// type=bind,source=/a,target=/b,readonly
static int add_mount(struct run_config *c, const char *text, char ***tmpfs, struct error *err)
{
    struct mount_words words = {.type = "volume", .tmpfs = (char *)""};
    char *rest = run_config_printf(c->arena, "%s", text);

    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        if (!set_mount_word(c, &words, word, value))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "--mount \"%s\": \"%s\" isn't one of type=, source=, target=, readonly, "
                             "bind-propagation=, bind-recursive=readonly, tmpfs-size=, tmpfs-mode=, "
                             "image-subpath=",
                             text, word);
    }
    return use_mount(c, &words, tmpfs, text, err);
}

// HOST[:PATH[:rwm]], HOST:rwm, or a CDI name, which has no slash before its "=".
static int add_device(struct run_config *c, const char *text, struct error *err)
{
    char *host = run_config_printf(c->arena, "%s", text);

    if (host[0] != '/' && strchr(host, '/') && strchr(host, '=')) {
        Cri__CDIDevice *cdi = run_config_alloc(c->arena, sizeof(*cdi));
        cri__cdidevice__init(cdi);
        cdi->name = host;
        RUN_CONFIG_ADD(c->arena, c->container.cdi_devices, c->container.n_cdi_devices, cdi);
        return 0;
    }
    char *rest = host;
    const char *words[3] = {0}, *permissions = "rwm";
    size_t n = 0;
    for (char *word; n < ARRAY_SIZE(words) && (word = strsep(&rest, ":")) != NULL;)
        words[n++] = word;
    const char *path = n > 1 && words[1][0] == '/' ? words[1] : words[0];
    if (n == 3 || (n == 2 && words[1][0] != '/'))
        permissions = words[n - 1];
    if (host[0] != '/' || rest || (n == 3 && words[1][0] != '/') || *permissions == '\0' ||
        strspn(permissions, "rwm") != strlen(permissions))
        return run_config_bad(err, "device", text,
                              "HOST, HOST:PATH or HOST:PATH:rwm, both absolute, or a CDI name such as "
                              "vendor.com/class=name");
    Cri__Device *d = run_config_alloc(c->arena, sizeof(*d));
    cri__device__init(d);
    d->host_path = (char *)words[0];
    d->container_path = (char *)path;
    d->permissions = (char *)permissions;
    RUN_CONFIG_ADD(c->arena, c->container.devices, c->container.n_devices, d);
    return 0;
}

int run_config_mounts(struct run_config *c, struct run_options *o, struct error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < strv_len(o->volume); i++)
        rc = add_volume(c, o->volume[i], err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->mount); i++)
        rc = add_mount(c, o->mount[i], &o->extra.tmpfs, err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->device); i++)
        rc = add_device(c, o->device[i], err);
    return rc;
}
