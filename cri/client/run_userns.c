// --userns auto: ids of the host that no other pod of this runtime has. Where kubelet runs, it does this.
#include <sys/random.h>

#include "cri/client/run.h"

#define RANGE      65536 // ids of one pod, and what its first one is a multiple of: as kubelet has it
#define RANGES     32767 // the last ones end below 2^31
#define PODS_MAX   4096
#define TRIES_MAX  64
#define FIRST_FREE 2 // the ranges below are the host's own users, and often given away by /etc/subuid

static int note_pod(struct run *r, const char *id, bool used[RANGES + 1], struct error *err)
{
    _cleanup_message_ Cri__PodSandboxStatusResponse *response = NULL;
    Cri__PodSandboxStatusRequest request = CRI__POD_SANDBOX_STATUS_REQUEST__INIT;

    request.pod_sandbox_id = (char *)id;
    int rc = cli_call(r->cli, "PodSandboxStatus", &request.base, (ProtobufCMessage **)&response, err);
    if (rc < 0)
        return err->status == STATUS_NOT_FOUND ? 0 : rc;
    const Cri__LinuxPodSandboxStatus *l = response->status ? response->status->linux : NULL;
    const Cri__NamespaceOption *o = l && l->namespaces ? l->namespaces->options : NULL;
    for (size_t i = 0; o && o->userns_options && i < o->userns_options->n_uids; i++) {
        const Cri__IDMapping *m = o->userns_options->uids[i];
        uint64_t last = (uint64_t)m->host_id + (m->length ? m->length - 1 : 0);
        for (uint64_t range = m->host_id / RANGE; range <= last / RANGE && range <= RANGES; range++)
            used[range] = true;
    }
    return 0;
}

int run_choose_ids(struct run *r, struct error *err)
{
    _cleanup_message_ Cri__ListPodSandboxResponse *list = NULL;
    Cri__ListPodSandboxRequest request = CRI__LIST_POD_SANDBOX_REQUEST__INIT;
    static bool used[RANGES + 1];

    int rc = cli_call(r->cli, "ListPodSandbox", &request.base, (ProtobufCMessage **)&list, err);
    for (size_t i = 0; rc == 0 && i < list->n_items && i < PODS_MAX; i++)
        rc = note_pod(r, list->items[i]->id, used, err);
    for (int i = 0; rc == 0 && i < TRIES_MAX; i++) {
        uint32_t random = 0;
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
            return error_errno(err, errno, "--userns auto");
        uint32_t range = FIRST_FREE + random % (RANGES - FIRST_FREE);
        if (used[range])
            continue;
        run_config_map_ids(&r->config, range * RANGE, RANGE);
        return 0;
    }
    return rc < 0 ? rc
                  : error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOSPC,
                              "--userns auto: no range of ids is free; name one: --userns HOST_ID:SIZE");
}
