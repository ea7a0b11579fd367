// What `crisp run` leaves behind: with --rm nothing.
#include "cri/client/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cri/api.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cri/client/output.h"

#define FIND_TRIES    3
#define FIND_PAUSE_NS (300 * NS_PER_MS)

// Not called off by signals: they have done their part.
static int call(struct run *r, const char *rpc, const ProtobufCMessage *request, ProtobufCMessage **response,
                struct error *err)
{
    return client_call(r->cli->client, &CTX_NONE, rpc, request, r->cli->timeout_ns, response, err);
}

static int find_pod_once(struct run *r, struct error *err)
{
    _cleanup_message_ Cri__ListPodSandboxResponse *response = NULL;
    Cri__ListPodSandboxRequest request = CRI__LIST_POD_SANDBOX_REQUEST__INIT;
    Cri__PodSandboxFilter filter = CRI__POD_SANDBOX_FILTER__INIT;
    Cri__PodSandboxFilter__LabelSelectorEntry label = CRI__POD_SANDBOX_FILTER__LABEL_SELECTOR_ENTRY__INIT;
    Cri__PodSandboxFilter__LabelSelectorEntry *labels[] = {&label};

    label.key = (char *)RUN_LABEL_ID;
    label.value = r->label;
    filter.label_selector = labels;
    filter.n_label_selector = 1;
    request.filter = &filter;
    int rc = call(r, "ListPodSandbox", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0 || response->n_items == 0)
        return rc;
    r->pod_id = strdup(response->items[0]->id);
    return r->pod_id ? 0 : error_errno(err, ENOMEM, "ListPodSandbox");
}

// RunPodSandbox was called off or its answer got lost: the pod may be there all the same, or be about to.
static int find_pod(struct run *r, struct error *err)
{
    int rc = find_pod_once(r, err);

    for (int i = 0; i < FIND_TRIES && rc == 0 && !r->pod_id; i++) {
        struct ctx pause = ctx_with_timeout(NULL, FIND_PAUSE_NS);
        (void)ctx_wait_fd(&pause, -1, 0, NULL);
        rc = find_pod_once(r, err);
    }
    return rc;
}

static int stop_pod(struct run *r, struct error *err)
{
    Cri__StopPodSandboxRequest request = CRI__STOP_POD_SANDBOX_REQUEST__INIT;

    request.pod_sandbox_id = r->pod_id;
    return call(r, "StopPodSandbox", &request.base, NULL, err);
}

// The pod's containers go with it.
static int remove_pod(struct run *r, struct error *err)
{
    Cri__RemovePodSandboxRequest request = CRI__REMOVE_POD_SANDBOX_REQUEST__INIT;

    request.pod_sandbox_id = r->pod_id;
    return call(r, "RemovePodSandbox", &request.base, NULL, err);
}

static int remove_logs(struct run *r, struct error *err)
{
    int rc = file_remove_tree(r->log_dir, err);
    char *slash = strrchr(r->log_dir, '/');

    // The last one turns off the light; with others about, rmdir() refuses.
    if (rc == 0 && slash && str_has_prefix(r->log_dir, "/var/log/crisp/")) {
        *slash = '\0';
        (void)rmdir(r->log_dir);
    }
    return rc;
}

int run_clean_up(struct run *r)
{
    struct error err = ERROR_INIT;
    bool remove = r->options.remove || !r->started;
    int rc = 0;

    if (r->pod_asked && !r->pod_id)
        rc = find_pod(r, &err);
    if (rc == 0 && r->pod_id)
        rc = stop_pod(r, &err);
    if (rc == 0 && r->pod_id && remove)
        rc = remove_pod(r, &err);
    if (rc < 0)
        output_error("clear up after pod %s: %s", r->pod_id ? r->pod_id : r->name, err.message);
    if (rc == 0 && r->log_dir && remove) {
        rc = remove_logs(r, &err);
        if (rc < 0)
            output_error("remove the log: %s", err.message);
    }
    return rc < 0 ? -1 : 0;
}
