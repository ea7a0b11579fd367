// Program, environment, user and stop signal.
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/run_config.h"

#define ENV_FILE_MAX (4 << 20)
#define ID_MAX       4294967294 // the kernel's last id stands for none

static void add_env(struct run_config *c, char *key, char *value)
{
    Cri__KeyValue *entry = run_config_alloc(c->arena, sizeof(*entry));

    cri__key_value__init(entry);
    entry->key = key;
    entry->value.data = (uint8_t *)value;
    entry->value.len = strlen(value);
    RUN_CONFIG_ADD(c->arena, c->container.envs, c->container.n_envs, entry);
}

static int take_env(struct run_config *c, const char *text, struct error *err)
{
    char *key, *value;

    if (*text == '=' || *text == '\0')
        return run_config_bad(err, "env", text, "NAME=VALUE, or the NAME of a variable of crisp's own");
    if (run_config_pair(c->arena, text, &key, &value) == 0) {
        add_env(c, key, value);
        return 0;
    }
    const char *own = getenv(text); // NOLINT(concurrency-mt-unsafe): nobody sets any
    if (!own)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--env %s: there is no such variable to take the value from", text);
    add_env(c, run_config_printf(c->arena, "%s", text), run_config_printf(c->arena, "%s", own));
    return 0;
}

// docker's form: a variable per line, "#" begins a comment line, nothing is quoted. A NAME alone that crisp
// doesn't have is left out.
static int read_env_file(struct run_config *c, const char *path, struct error *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;

    int rc = file_read_regular(path, ENV_FILE_MAX, &text, &len, err);
    if (rc < 0)
        return error_wrap(err, "--env-file");
    if (strlen(text) != len)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "--env-file %s: has a NUL byte in it", path);
    char *next = text;
    for (size_t number = 1; next; number++) {
        char *line = next;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        size_t end = strlen(line);
        if (end > 0 && line[end - 1] == '\r')
            line[end - 1] = '\0';
        line += strspn(line, " \t");
        if (*line == '\0' || *line == '#')
            continue;
        if (*line == '=')
            return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                             "--env-file %s:%zu: must be NAME=VALUE or NAME", path, number);
        if (strchr(line, '=') || getenv(line)) // NOLINT(concurrency-mt-unsafe)
            rc = take_env(c, line, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take_number(const char *option, const char *text, int64_t *out, struct error *err)
{
    return run_config_number(option, text, 0, ID_MAX, out, err);
}

// NAME, UID, and a group's number behind a colon.
static int take_user(struct run_config *c, const char *text, struct error *err)
{
    size_t len = strcspn(text, ":");
    const char *group = text[len] == ':' ? text + len + 1 : NULL;
    char *user = run_config_printf(c->arena, "%.*s", (int)len, text);

    if (len == 0 || str_eq(group, ""))
        return run_config_bad(err, "user", text, "a name or a number, and maybe :GROUP");
    if (strspn(user, "0123456789") == len) {
        cri__int64_value__init(&c->user);
        int rc = take_number("user", user, &c->user.value, err);
        if (rc < 0)
            return rc;
        c->security.run_as_user = &c->user;
    } else {
        c->security.run_as_username = user;
    }
    if (!group)
        return 0;
    if (strspn(group, "0123456789") != strlen(group))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--user \"%s\": the group must be a number: CRI takes no group's name", text);
    cri__int64_value__init(&c->group);
    c->security.run_as_group = &c->group;
    return take_number("user", group, &c->group.value, err);
}

static int take_groups(struct run_config *c, char **groups, struct error *err)
{
    size_t n = strv_len(groups);

    c->security.supplemental_groups = run_config_alloc(c->arena, (n + 1) * sizeof(int64_t));
    for (size_t i = 0; i < n; i++) {
        int rc = take_number("group-add", groups[i], &c->security.supplemental_groups[i], err);
        if (rc < 0)
            return rc;
    }
    c->security.n_supplemental_groups = n;
    return 0;
}

// "TERM", "SIGTERM", "15", "RTMIN+3": CRI's names are SIGTERM and SIGRTMINPLUS3.
static int take_signal(struct run_config *c, const char *text, struct error *err)
{
    char name[32];
    int64_t number = 0;
    const char *bare = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;

    if (str_parse_i64(text, 1, SIGRTMIN - 1, &number) == 0)
        bare = sigabbrev_np((int)number);
    size_t len = 3;
    memcpy(name, "SIG", 4);
    for (; bare && *bare && len + sizeof("MINUS") < sizeof(name); bare++) {
        const char *sign = *bare == '+' ? "PLUS" : *bare == '-' ? "MINUS" : NULL;
        len += (size_t)snprintf(name + len, sizeof(name) - len, sign ? "%s" : "%.1s", sign ? sign : bare);
        if (!sign)
            name[len - 1] = (char)toupper((unsigned char)name[len - 1]);
    }
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value_by_name(&cri__signal__descriptor, name);
    if (!value || value->value == CRI__SIGNAL__RUNTIME_DEFAULT)
        return run_config_bad(err, "stop-signal", text,
                              "a signal's name or number: TERM, SIGQUIT, 9, RTMIN+3");
    c->container.stop_signal = (Cri__Signal)value->value;
    return 0;
}

// CRI's command stands in the place of the image's entrypoint and command, its args in that of the command.
static int take_command(struct run_config *c, const char *entrypoint, char **args, struct error *err)
{
    size_t n = strv_len(args);

    if (!entrypoint || *entrypoint) {
        c->container.args = args;
        c->container.n_args = n;
        if (entrypoint)
            RUN_CONFIG_ADD(c->arena, c->container.command, c->container.n_command, (char *)entrypoint);
        return 0;
    }
    if (n == 0)
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL,
                         "--entrypoint \"\": takes the image's entrypoint away, so there must be a command "
                         "behind the image");
    c->container.command = args;
    c->container.n_command = n;
    return 0;
}

int run_config_process(struct run_config *c, const struct process_options *o, char **args, struct error *err)
{
    int64_t seconds = 0;

    int rc = take_command(c, o->entrypoint, args, err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->env_file); i++)
        rc = read_env_file(c, o->env_file[i], err);
    for (size_t i = 0; rc == 0 && i < strv_len(o->env); i++)
        rc = take_env(c, o->env[i], err);
    if (rc == 0 && o->user)
        rc = take_user(c, o->user, err);
    if (rc == 0)
        rc = take_groups(c, o->group_add, err);
    if (rc == 0 && o->workdir && o->workdir[0] != '/')
        rc = run_config_bad(err, "workdir", o->workdir, "an absolute path");
    if (rc == 0 && o->workdir)
        c->container.working_dir = (char *)o->workdir;
    if (rc == 0 && o->stop_signal)
        rc = take_signal(c, o->stop_signal, err);
    if (rc == 0 && o->stop_timeout)
        rc = run_config_number("stop-timeout", o->stop_timeout, 0, 86400, &seconds, err);
    if (rc == 0 && o->stop_timeout)
        run_config_label(c, RUN_LABEL_TIMEOUT, run_config_printf(c->arena, "%lld", (long long)seconds));
    return rc;
}
