#include "cni/plugin.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/spawn.h"
#include "base/str.h"
#include "cni/json.h"
#include "cni/name.h"
#include "cni/result.h"

#define STDERR_TAIL  400 // bytes of stderr that go into an error
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *join_dirs(const char *const *dirs)
{
    struct buf b;
    buf_init(&b, (size_t)64 << 10);
    int r = 0;
    for (const char *const *d = dirs; *d && r == 0; d++)
        r = buf_printf(&b, "%s%s", d == dirs ? "" : ":", *d);
    char *joined = r == 0 ? buf_steal(&b) : NULL;
    buf_done(&b);
    return joined;
}

int cni_plugin_find(const char *const *bin_dirs, const char *type, char **path, struct error *err)
{
    if (!cni_type_is_valid(type))
        return error_set(err, STATUS_INVALID_ARGUMENT, EINVAL, "bad CNI plugin type");
    for (const char *const *dir = bin_dirs; *dir; dir++) {
        _cleanup_free_ char *file = str_printf("%s/%s", *dir, type);
        struct stat st;
        if (!file)
            return error_errno(err, ENOMEM, "CNI plugin %s", type);
        if (stat(file, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111)) {
            *path = steal_ptr(&file);
            return 0;
        }
    }
    _cleanup_free_ char *dirs = join_dirs(bin_dirs);
    return error_set(err, STATUS_FAILED_PRECONDITION, ENOENT,
                     "CNI plugin %s not found in %s: install it or correct the plugin directories", type,
                     dirs ? dirs : "the plugin directories");
}

static int add_env(char ***env, const char *key, const char *value)
{
    if (!value)
        return 0;
    _cleanup_free_ char *entry = str_printf("%s=%s", key, value);
    return entry ? strv_append(env, entry) : -ENOMEM;
}

// Plugins get the protocol's variables and PATH (portmap looks for iptables there), nothing of the daemon's.
static char **make_env(const struct cni_call *call)
{
    _cleanup_strv_ char **env = strv_new(0);
    _cleanup_free_ char *dirs = join_dirs(call->bin_dirs);
    if (!env || !dirs)
        return NULL;
    const char *search = getenv("PATH"); // NOLINT(concurrency-mt-unsafe): nobody calls setenv
    const struct {
        const char *key, *value;
    } vars[] = {
        {"CNI_COMMAND", call->command},
        {"CNI_CONTAINERID", call->container_id},
        {"CNI_NETNS", call->netns},
        {"CNI_IFNAME", call->ifname},
        {"CNI_ARGS", call->args},
        {"CNI_PATH", dirs},
        {"PATH", str_empty(search) ? DEFAULT_PATH : search},
    };
    for (size_t i = 0; i < ARRAY_SIZE(vars); i++)
        if (add_env(&env, vars[i].key, vars[i].value) < 0)
            return NULL;
    return steal_ptr(&env);
}

// The last bytes of what it said, on one line and printable; NULL if nothing (or no memory).
static char *stderr_tail(const struct buf *text)
{
    size_t len = text->len;
    while (len && strchr(" \t\r\n", text->data[len - 1]))
        len--;
    if (!len)
        return NULL;
    size_t from = len > STDERR_TAIL ? len - STDERR_TAIL : 0;
    while (from && from < len && ((unsigned char)text->data[from] & 0xc0) == 0x80)
        from++; // not in the middle of a UTF-8 sequence
    _cleanup_free_ char *tail = str_printf("%.*s", (int)(len - from), text->data + from);
    for (char *s = tail; s && *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            *s = ' ';
    return tail ? str_sanitize_utf8(tail) : NULL;
}

static enum status status_of_code(unsigned code)
{
    switch (code) {
    case CNI_CODE_TRY_AGAIN_LATER:
    case CNI_CODE_UNAVAILABLE:
    case CNI_CODE_LIMITED:
        return STATUS_UNAVAILABLE;
    case CNI_CODE_INCOMPATIBLE_VERSION:
    case CNI_CODE_INVALID_CONFIG:
        return STATUS_FAILED_PRECONDITION;
    default:
        return STATUS_INTERNAL;
    }
}

// Makes an error of a plugin that ended badly: by its error object if it printed one.
static int explain_failure(const struct cni_call *call, const char *type, const struct spawn_result *res,
                           unsigned *code, struct error *err)
{
    _cleanup_json_ json_t *json = NULL;
    _cleanup_free_ char *tail = stderr_tail(&res->err);
    char sep[] = ": stderr: ";
    if (res->out.len)
        (void)cni_json_parse(res->out.data, res->out.len, type, &json, NULL);
    const char *msg = json_string_value(json_object_get(json, "msg"));
    const char *details = json_string_value(json_object_get(json, "details"));
    json_int_t number = json_integer_value(json_object_get(json, "code"));
    if (!msg || number <= 0 || number > UINT32_MAX)
        return error_set(err, STATUS_INTERNAL, EIO, "CNI plugin %s %s ended with exit code %d%s%s", type,
                         call->command, res->exit_code, tail ? sep : " and no CNI error", tail ? tail : "");
    if (code)
        *code = (unsigned)number;
    bool more = !str_empty(details) && !str_eq(details, msg);
    return error_set(err, status_of_code((unsigned)number), EIO, "CNI plugin %s %s: %s%s%s (code %u)%s%s",
                     type, call->command, msg, more ? ": " : "", more ? details : "", (unsigned)number,
                     tail ? sep : "", tail ? tail : "");
}

static int run_file(const struct cni_call *call, const char *type, const char *path, const char *input,
                    const struct ctx *ctx, struct spawn_result *res, struct error *err)
{
    _cleanup_strv_ char **env = make_env(call);
    char *const argv[] = {(char *)(uintptr_t)path, NULL};
    if (!env)
        return error_errno(err, ENOMEM, "CNI plugin %s", type);
    struct spawn_options options = {.path = path, .argv = argv, .envp = env};
    int r = spawn_run(&options, input, strlen(input), CNI_RESULT_MAX_BYTES, ctx, res, err);
    if (r == -EFBIG)
        return error_set(err, STATUS_INTERNAL, EFBIG, "CNI plugin %s %s printed more than %zu bytes", type,
                         call->command, CNI_RESULT_MAX_BYTES);
    return r < 0 ? error_wrap(err, "CNI plugin %s %s (%s)", type, call->command, path) : 0;
}

int cni_plugin_run(const struct cni_call *call, const char *type, const char *input, const struct ctx *ctx,
                   struct buf *out, unsigned *code, struct error *err)
{
    _cleanup_free_ char *path = NULL;
    struct spawn_result res = {0};
    if (code)
        *code = CNI_CODE_NONE;
    int r = cni_plugin_find(call->bin_dirs, type, &path, err);
    if (r < 0)
        return r;
    r = run_file(call, type, path, input, ctx, &res, err);
    if (r == 0 && res.exit_code != 0)
        r = explain_failure(call, type, &res, code, err);
    if (r == 0) {
        buf_done(out);
        *out = res.out;
        res.out = (struct buf){0};
    }
    spawn_result_done(&res);
    return r;
}
