#include "runtime/selinux.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define CONFIG_MAX    ((size_t)64 << 10) // of /etc/selinux/config and of lxc_contexts
#define PRIVILEGED    "spc_t"            // "super privileged container": what policies for containers call it
#define FALLBACK_USER "system_u"
#define FALLBACK_ROLE "system_r"

// A label in its parts, which point into text.
struct context {
    char text[SELINUX_LABEL_MAX];
    char *user, *role, *type;
    char *level; // "" where the policy has none
};

struct selinux {
    char *fs;
    bool levels;
    struct context process, file;                                         // as the policy's file names them
    char process_label[SELINUX_LABEL_MAX], file_label[SELINUX_LABEL_MAX]; // "" where the policy lacks them
};

// ---- The host's policy ----

// The value of "key = value" or "key=value"; quotes and blanks around it are taken off. false: not there.
static bool config_value(const char *text, const char *key, char *out, size_t size)
{
    size_t len = strlen(key);
    for (const char *line = text; *line;) {
        const char *end = strchrnul(line, '\n'), *p = line + strspn(line, " \t");
        if (strncmp(p, key, len) == 0) {
            p += len;
            p += strspn(p, " \t");
            if (*p == '=') {
                p++;
                p += strspn(p, " \t\"");
                size_t n = strcspn(p, " \t\"\r\n#");
                if (n == 0 || n >= size)
                    return false;
                memcpy(out, p, n);
                out[n] = '\0';
                return true;
            }
        }
        line = *end ? end + 1 : end;
    }
    return false;
}

static bool split_context(const char *text, struct context *c)
{
    if (strlen(text) >= sizeof(c->text))
        return false;
    (void)snprintf(c->text, sizeof(c->text), "%s", text);
    c->user = c->text;
    c->role = strchr(c->user, ':');
    c->type = c->role ? strchr(c->role + 1, ':') : NULL;
    if (!c->type)
        return false;
    c->level = strchr(c->type + 1, ':');
    *c->role++ = '\0';
    *c->type++ = '\0';
    if (c->level)
        *c->level++ = '\0';
    else
        c->level = c->type + strlen(c->type); // its NUL
    return true;
}

static void set_context(struct context *c, const char *role, const char *type)
{
    char text[SELINUX_LABEL_MAX];
    (void)snprintf(text, sizeof(text), FALLBACK_USER ":%s:%s:s0", role, type);
    (void)split_context(text, c);
}

static void read_defaults(struct selinux *s, const char *etc)
{
    char path[PATH_MAX], type[128], value[SELINUX_LABEL_MAX];
    _cleanup_free_ char *config = NULL, *contexts = NULL;
    set_context(&s->process, FALLBACK_ROLE, "container_t");
    set_context(&s->file, "object_r", "container_file_t");
    (void)snprintf(path, sizeof(path), "%s/config", etc);
    if (file_read(path, CONFIG_MAX, &config, NULL, NULL) < 0 ||
        !config_value(config, "SELINUXTYPE", type, sizeof(type)) || strchr(type, '/'))
        return;
    (void)snprintf(path, sizeof(path), "%s/%s/contexts/lxc_contexts", etc, type);
    if (file_read(path, CONFIG_MAX, &contexts, NULL, NULL) < 0)
        return;
    struct context c;
    if (config_value(contexts, "process", value, sizeof(value)) && split_context(value, &c))
        (void)split_context(value, &s->process);
    if (config_value(contexts, "file", value, sizeof(value)) && split_context(value, &c))
        (void)split_context(value, &s->file);
}

// Is it a context of the loaded policy? canonical: as the kernel writes it.
static bool canonicalize(const struct selinux *s, const char *label, char canonical[SELINUX_LABEL_MAX])
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/context", s->fs);
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC);
    size_t len = strlen(label) + 1;
    // One write is one question, which the same descriptor's read answers.
    if (fd < 0 || write(fd, label, len) != (ssize_t)len)
        return false;
    ssize_t n = read(fd, canonical, SELINUX_LABEL_MAX - 1);
    if (n <= 0)
        return false;
    canonical[n] = '\0';
    return true;
}

// Puts the parts together. false: too long.
static bool join_context(const struct selinux *s, const char *user, const char *role, const char *type,
                         const char *level, char out[SELINUX_LABEL_MAX])
{
    bool with_level = !str_empty(level) && (s->levels || strcmp(level, "s0") != 0);
    int n = snprintf(out, SELINUX_LABEL_MAX, "%s:%s:%s%s%s", user, role, type, with_level ? ":" : "",
                     with_level ? level : "");
    return n > 0 && n < SELINUX_LABEL_MAX;
}

static void find_default(const struct selinux *s, const struct context *c, char out[SELINUX_LABEL_MAX])
{
    char label[SELINUX_LABEL_MAX];
    if (!join_context(s, c->user, c->role, c->type, c->level, label) || !canonicalize(s, label, out))
        out[0] = '\0';
}

int selinux_open(const struct selinux_paths *paths, struct selinux **out, struct error *err)
{
    const char *fs = paths && paths->fs ? paths->fs : "/sys/fs/selinux";
    const char *etc = paths && paths->etc ? paths->etc : "/etc/selinux";
    char path[PATH_MAX];
    _cleanup_free_ char *mls = NULL;
    *out = NULL;
    (void)snprintf(path, sizeof(path), "%s/enforce", fs);
    if (access(path, F_OK) < 0)
        return 0;
    struct selinux *s = calloc(1, sizeof(*s));
    if (!s)
        return error_errno(err, ENOMEM, "look for SELinux");
    s->fs = strdup(fs);
    if (!s->fs) {
        free(s);
        return error_errno(err, ENOMEM, "look for SELinux");
    }
    (void)snprintf(path, sizeof(path), "%s/mls", fs);
    s->levels = file_read(path, 16, &mls, NULL, NULL) == 0 && mls[0] == '1';
    read_defaults(s, etc);
    find_default(s, &s->process, s->process_label);
    find_default(s, &s->file, s->file_label);
    *out = s;
    return 0;
}

void selinux_close(struct selinux *s)
{
    if (!s)
        return;
    free(s->fs);
    free(s);
}

bool selinux_is_enforcing(const struct selinux *s)
{
    char path[PATH_MAX];
    _cleanup_free_ char *text = NULL;
    (void)snprintf(path, sizeof(path), "%s/enforce", s->fs);
    return file_read(path, 16, &text, NULL, NULL) == 0 && text[0] == '1';
}

bool selinux_has_levels(const struct selinux *s)
{
    return s->levels;
}

const char *selinux_process_default(const struct selinux *s)
{
    return s->process_label;
}

const char *selinux_file_default(const struct selinux *s)
{
    return s->file_label;
}

// ---- Labels ----

bool selinux_is_unset(const Cri__SELinuxOption *o)
{
    return !o || (str_empty(o->user) && str_empty(o->role) && str_empty(o->type) && str_empty(o->level));
}

static int bad(struct error *err, const char *field, const char *label, const char *why)
{
    return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "%s: \"%.200s\" %s", field, label, why);
}

// What a part may be made of: it goes between colons into a label, and that between quotes into mount
// options.
static int check_parts(const char *field, const Cri__SELinuxOption *o, struct error *err)
{
    static const char names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    static const char levels[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:,";
    const struct {
        const char *name, *value, *allowed;
    } parts[] = {{"user", o->user, names},
                 {"role", o->role, names},
                 {"type", o->type, names},
                 {"level", o->level, levels}};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        const char *value = parts[i].value ? parts[i].value : "";
        if (strspn(value, parts[i].allowed) != strlen(value))
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "%s.%s: \"%.100s\" has a character that no SELinux %s has", field, parts[i].name,
                             value, parts[i].name);
    }
    return 0;
}

static const char *either(const char *wanted, const char *otherwise)
{
    return str_empty(wanted) ? otherwise : wanted;
}

static int make_process(const struct selinux *s, const char *field, const Cri__SELinuxOption *o,
                        const char *level, struct selinux_labels *out, struct error *err)
{
    char label[SELINUX_LABEL_MAX];
    const struct context *c = &s->process;
    if (str_empty(o->type) && !s->process_label[0]) {
        if (selinux_is_unset(o))
            return 0;
        return error_set(err, STATUS_FAILED_PRECONDITION, ENOTSUP,
                         "%s: a label without a type is asked for, but the policy of this host has none for"
                         " containers (%s): name a type, or leave all of it unset",
                         field, c->type);
    }
    if (!join_context(s, either(o->user, c->user), either(o->role, c->role), either(o->type, c->type), level,
                      label))
        return bad(err, field, level, "makes the label too long");
    if (!canonicalize(s, label, out->process))
        return bad(err, field, label, "is not a context of this host's SELinux policy");
    return 0;
}

static void make_privileged(const struct selinux *s, struct selinux_labels *out)
{
    char label[SELINUX_LABEL_MAX];
    out->process[0] = '\0';
    if (join_context(s, s->process.user, s->process.role, PRIVILEGED, "s0", label) &&
        !canonicalize(s, label, out->process))
        out->process[0] = '\0';
}

int selinux_make_labels(const struct selinux *s, const char *field, const Cri__SELinuxOption *options,
                        const char *level, bool privileged, struct selinux_labels *out, struct error *err)
{
    static const Cri__SELinuxOption none = CRI__SELINUX_OPTION__INIT;
    const Cri__SELinuxOption *o = options ? options : &none;
    char label[SELINUX_LABEL_MAX];
    out->process[0] = out->file[0] = '\0';
    int r = check_parts(field, o, err);
    if (r < 0)
        return r;
    const char *own = either(o->level, either(level, s->process.level));
    r = make_process(s, field, o, own, out, err);
    if (r < 0)
        return r;
    if (privileged)
        make_privileged(s, out);
    if (!s->file_label[0])
        return 0;
    if (!join_context(s, s->file.user, s->file.role, s->file.type,
                      either(o->level, either(level, s->file.level)), label) ||
        !canonicalize(s, label, out->file))
        return bad(err, field, own, "makes no label of a file in this host's SELinux policy");
    return 0;
}
