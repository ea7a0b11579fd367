// crisp info: who answers, whether it is ready, what it can do, and what images take.
#include <stdarg.h>

#include "api/cri/api.pb-c.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/client/cli.h"
#include "cri/client/output.h"

static const struct options table = {
    .command = "info",
    .usage = "info",
    .intro = "Tells who answers at the endpoint and whether pods can run there; ends with 1\n"
             "when they can't.\n",
    .bad_code = CLI_EXIT_USAGE,
};

static void add(struct table *t, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(struct table *t, const char *key, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    table_row(t, (const char *const[]){key, text});
}

static const char *yes_no(protobuf_c_boolean value)
{
    return value ? "yes" : "no";
}

static int add_version(struct cli *cli, struct table *t, struct error *err)
{
    _cleanup_message_ Cri__VersionResponse *v = NULL;
    Cri__VersionRequest request = CRI__VERSION_REQUEST__INIT;

    int rc = cli_call(cli, "Version", &request.base, (ProtobufCMessage **)&v, err);
    if (rc < 0)
        return rc;
    add(t, "runtime", "%s %s", v->runtime_name, v->runtime_version);
    add(t, "CRI", "%s", v->runtime_api_version);
    add(t, "endpoint", "%s", cli->endpoint);
    return 0;
}

static int add_status(struct cli *cli, struct table *t, bool *ready, struct error *err)
{
    _cleanup_message_ Cri__StatusResponse *s = NULL;
    Cri__StatusRequest request = CRI__STATUS_REQUEST__INIT;

    int rc = cli_call(cli, "Status", &request.base, (ProtobufCMessage **)&s, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; s->status && i < s->status->n_conditions; i++) {
        const Cri__RuntimeCondition *c = s->status->conditions[i];
        *ready = *ready && c->status;
        if (c->status)
            add(t, c->type, "yes");
        else
            add(t, c->type, "no: %s: %s", c->reason, c->message);
    }
    for (size_t i = 0; i < s->n_runtime_handlers; i++) {
        const Cri__RuntimeHandler *h = s->runtime_handlers[i];
        const Cri__RuntimeHandlerFeatures *f = h->features;
        add(t, "handler", "%s: recursive read-only mounts %s, user namespaces %s",
            str_empty(h->name) ? "(default)" : h->name, yes_no(f && f->recursive_read_only_mounts),
            yes_no(f && f->user_namespaces));
    }
    if (s->features)
        add(t, "supplemental groups policy", "%s", yes_no(s->features->supplemental_groups_policy));
    return 0;
}

// Not every runtime has this RPC; without it there's only less to tell.
static int add_runtime_config(struct cli *cli, struct table *t, struct error *err)
{
    _cleanup_message_ Cri__RuntimeConfigResponse *r = NULL;
    Cri__RuntimeConfigRequest request = CRI__RUNTIME_CONFIG_REQUEST__INIT;

    int rc = cli_call(cli, "RuntimeConfig", &request.base, (ProtobufCMessage **)&r, err);
    if (rc < 0)
        return err->status == STATUS_UNIMPLEMENTED ? 0 : rc;
    if (r->linux)
        add(t, "cgroup driver", "%s",
            r->linux->cgroup_driver == CRI__CGROUP_DRIVER__SYSTEMD ? "systemd" : "cgroupfs");
    return 0;
}

static void add_filesystem(struct table *t, const char *what, const Cri__FilesystemUsage *fs)
{
    char size[OUTPUT_TEXT_MAX];

    output_size(fs->used_bytes ? fs->used_bytes->value : 0, size);
    add(t, what, "%s in %s", size, fs->fs_id ? fs->fs_id->mountpoint : "?");
}

static int add_filesystems(struct cli *cli, struct table *t, struct error *err)
{
    _cleanup_message_ Cri__ImageFsInfoResponse *r = NULL;
    Cri__ImageFsInfoRequest request = CRI__IMAGE_FS_INFO_REQUEST__INIT;

    int rc = cli_call(cli, "ImageFsInfo", &request.base, (ProtobufCMessage **)&r, err);
    if (rc < 0)
        return err->status == STATUS_UNIMPLEMENTED ? 0 : rc;
    for (size_t i = 0; i < r->n_image_filesystems; i++)
        add_filesystem(t, "images", r->image_filesystems[i]);
    for (size_t i = 0; i < r->n_container_filesystems; i++)
        add_filesystem(t, "containers", r->container_filesystems[i]);
    return 0;
}

int command_info(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse_nothing(&table, argc, argv);
    if (code >= 0)
        return code;

    struct error err = ERROR_INIT;
    struct table t;
    bool ready = true;
    table_init(&t, 2, (const char *const[]){"client", "crisp " CRISP_VERSION});
    int rc = add_version(cli, &t, &err);
    if (rc == 0)
        rc = add_status(cli, &t, &ready, &err);
    if (rc == 0)
        rc = add_runtime_config(cli, &t, &err);
    if (rc == 0)
        rc = add_filesystems(cli, &t, &err);
    if (rc == 0)
        table_print(&t, stdout);
    else
        output_error("%s", err.message);
    table_done(&t);
    return rc == 0 && ready ? 0 : 1;
}
