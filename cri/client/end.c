#include "cri/client/end.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/find.h"
#include "cri/client/output.h"
#include "cri/client/run_config.h"

static int stop_pod(struct cli *cli, const char *id, struct error *err)
{
    Cri__StopPodSandboxRequest request = CRI__STOP_POD_SANDBOX_REQUEST__INIT;

    request.pod_sandbox_id = (char *)id;
    return cli_call(cli, "StopPodSandbox", &request.base, NULL, err);
}

int end_stop(struct cli *cli, const Cri__Container *c, int64_t grace_s, struct error *err)
{
    Cri__StopContainerRequest request = CRI__STOP_CONTAINER_REQUEST__INIT;
    const char *own = find_label(c, RUN_LABEL_TIMEOUT);
    struct ctx ctx = CTX_NONE;

    ctx.cancel_fd = cli->signal_fd;
    request.container_id = c->id;
    request.timeout = grace_s;
    if (grace_s < 0 && (!own || str_parse_i64(own, 0, 86400, &request.timeout) < 0))
        request.timeout = CLI_STOP_GRACE_S;
    int rc = client_call(cli->client, &ctx, "StopContainer", &request.base,
                         cli->timeout_ns + request.timeout * NS_PER_SEC, NULL, err);
    return rc == 0 && find_label(c, RUN_LABEL_ID) ? stop_pod(cli, c->pod_sandbox_id, err) : rc;
}

// The folder of the log, if it looks like one that `crisp run` makes: the path is the runtime's word.
static int log_dir_of(struct cli *cli, const char *id, char **dir, struct error *err)
{
    _cleanup_message_ Cri__ContainerStatusResponse *response = NULL;
    Cri__ContainerStatusRequest request = CRI__CONTAINER_STATUS_REQUEST__INIT;

    request.container_id = (char *)id;
    int rc = cli_call(cli, "ContainerStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return err->status == STATUS_NOT_FOUND ? 0 : rc;
    const char *path = response->status ? response->status->log_path : NULL;
    if (str_empty(path) || path[0] != '/' || !str_has_suffix(path, "/" RUN_LOG_NAME))
        return 0;
    *dir = strndup(path, strlen(path) - strlen("/" RUN_LOG_NAME));
    return *dir ? 0 : error_errno(err, ENOMEM, "remove the log");
}

// Not a whole tree: only what is certain to be the log's.
static int remove_log(char *dir, struct error *err)
{
    _cleanup_free_ char *file = str_printf("%s/" RUN_LOG_NAME, dir);

    if (!file)
        return error_errno(err, ENOMEM, "remove the log");
    if ((unlink(file) < 0 && errno != ENOENT) || (rmdir(dir) < 0 && errno != ENOENT && errno != ENOTEMPTY))
        return error_errno(err, errno, "remove the log in %s", dir);
    char *slash = strrchr(dir, '/');
    if (slash && str_has_prefix(dir, "/var/log/crisp/")) { // the last one turns off the light
        *slash = '\0';
        (void)rmdir(dir);
    }
    return 0;
}

static int remove_run(struct cli *cli, const Cri__Container *c, struct error *err)
{
    Cri__RemovePodSandboxRequest request = CRI__REMOVE_POD_SANDBOX_REQUEST__INIT;
    _cleanup_free_ char *log_dir = NULL;

    request.pod_sandbox_id = c->pod_sandbox_id;
    int rc = log_dir_of(cli, c->id, &log_dir, err);
    if (rc == 0)
        rc = stop_pod(cli, c->pod_sandbox_id, err);
    if (rc == 0)
        rc = cli_call(cli, "RemovePodSandbox", &request.base, NULL, err);
    return rc == 0 && log_dir ? remove_log(log_dir, err) : rc;
}

int end_remove(struct cli *cli, const Cri__Container *c, struct error *err)
{
    Cri__RemoveContainerRequest request = CRI__REMOVE_CONTAINER_REQUEST__INIT;

    if (find_label(c, RUN_LABEL_ID))
        return remove_run(cli, c, err);
    request.container_id = c->id;
    return cli_call(cli, "RemoveContainer", &request.base, NULL, err);
}

int end_each(struct cli *cli, char *const *names, end_fn end, void *data)
{
    int code = 0;

    for (; *names; names++) {
        _cleanup_message_ Cri__ListContainersResponse *list = NULL;
        Cri__ListContainersRequest request = CRI__LIST_CONTAINERS_REQUEST__INIT;
        const Cri__Container *c = NULL;
        struct error err = ERROR_INIT;
        int rc = cli_call(cli, "ListContainers", &request.base, (ProtobufCMessage **)&list, &err);
        if (rc == 0)
            rc = find_in_list(list, *names, &c, &err);
        if (rc == 0)
            rc = end(cli, c, data, &err);
        if (rc < 0) {
            output_error("%s", err.message);
            code = 1;
        } else {
            (void)printf("%s\n", *names);
        }
    }
    return code;
}
