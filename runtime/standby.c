// A head start for a pod's first container, on cgroup v1.
//
// Joining a v1 cgroup waits for a grace period of RCU (cgroup_threadgroup_rwsem): 6 to 13 ms on a machine at
// rest, more than all the rest of a container's start. So the first container's id and cgroup are made while
// RunPodSandbox waits for CNI, and crisp-pod parks a process in them; CreateContainer then takes that id. v2
// has CLONE_INTO_CGROUP and needs none of it.
#include "runtime/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/plan.h"

#define STANDBY_ARENA_MAX (64u << 10)

// What most containers of this pod will ask for. A wrong guess costs the head start, nothing else.
static Pod__PidMode likely_pid_mode(const struct pod *pod)
{
    Cri__LinuxContainerSecurityContext security = CRI__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
    Cri__LinuxContainerConfig l = CRI__LINUX_CONTAINER_CONFIG__INIT;
    Cri__ContainerConfig config = CRI__CONTAINER_CONFIG__INIT;
    const Cri__LinuxPodSandboxConfig *pl = pod->config->linux;

    if (pl && pl->security_context)
        security.namespace_options = pl->security_context->namespace_options;
    l.security_context = &security;
    config.linux = &l;
    return plan_pid_mode(pod->config, &config);
}

static void remove_leaf(struct runtime *rt, const char *leaf)
{
    // Its process may still be dying; what stays is removed with the pod, or swept at the next start.
    (void)cgroup_kill(rt->cgroups, leaf, NULL);
    (void)cgroup_remove(rt->cgroups, leaf, NULL);
}

// crisp-pod parks a process in the leaf: in the background, without an answer that anybody waits for.
static bool park(struct runtime *rt, struct pod *pod, const char *id, const char *leaf)
{
    struct arena *arena __attribute__((cleanup(arena_freep))) = arena_new(STANDBY_ARENA_MAX);
    struct podconn *conn = store_pod_conn(rt, pod);
    Pod__PrepareRequest prepare = POD__PREPARE_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    bool parked = conn && arena && cgroup_place(rt->cgroups, leaf, arena, &prepare.cgroup, NULL) == 0;

    prepare.container_id = (char *)id;
    prepare.pid_mode = likely_pid_mode(pod);
    request.op_case = POD__REQUEST__OP_PREPARE;
    request.prepare = &prepare;
    parked = parked && podconn_post(conn, &request, NULL) == 0;
    podconn_unref(conn);
    return parked;
}

// Is it still wanted? Then a stop of the pod waits until it is made: or it would find a cgroup in its way.
static bool enter(struct runtime *rt, struct pod *pod)
{
    struct pod_private *p = pod->private;

    store_lock(rt);
    bool yes = p->launched && p->state != POD_NOTREADY && !p->forgotten && !p->standby_taken &&
               !p->standby[0] && !p->standby_busy;
    p->standby_busy |= yes;
    store_unlock(rt);
    return yes;
}

// Keeps what was made (NULL: nothing was), unless the first container has come without it.
static bool leave(struct runtime *rt, struct pod *pod, const char *id)
{
    struct pod_private *p = pod->private;

    store_lock(rt);
    bool kept = id && p->launched && p->state != POD_NOTREADY && !p->standby_taken;
    if (kept)
        memcpy(p->standby, id, sizeof(p->standby));
    p->standby_busy = false;
    notify_wake(&p->changed);
    store_unlock(rt);
    return kept;
}

static int standby_job(void *data, unsigned attempt)
{
    struct pod *pod = data;
    struct runtime *rt = pod->private->rt;
    char id[RUNTIME_ID_LEN + 1], leaf[CGROUP_PATH_MAX];

    (void)attempt; // once: it is a comfort
    if (!enter(rt, pod))
        return 0;
    bool made = str_random_hex(id, RUNTIME_ID_LEN) == 0 &&
                cgroup_leaf_path(pod->private->cgroup, id, leaf, NULL) == 0 &&
                cgroup_create(rt->cgroups, leaf, NULL, NULL, NULL) == 0;
    bool parked = made && park(rt, pod, id, leaf);
    if (!leave(rt, pod, parked ? id : NULL) && made)
        standby_discard(rt, pod, id);
    return 0;
}

static void standby_drop(void *data)
{
    pod_unref(data);
}

void standby_begin(struct runtime *rt, struct pod *pod)
{
    if (!cgroup_host_is_v2(rt->cgroups))
        (void)worker_add(rt->worker, standby_job, standby_drop, pod_ref(pod), 0);
}

bool standby_take(struct pod *pod, char id[RUNTIME_ID_LEN + 1])
{
    struct pod_private *p = pod->private;
    bool there = p->standby[0] != '\0';

    p->standby_taken = true;
    if (there)
        memcpy(id, p->standby, sizeof(p->standby));
    p->standby[0] = '\0';
    return there;
}

void standby_put_back(struct pod *pod, const char *id)
{
    struct pod_private *p = pod->private;

    memcpy(p->standby, id, sizeof(p->standby));
    p->standby_taken = false;
}

void standby_again(struct runtime *rt, struct pod *pod, const char *id)
{
    standby_discard(rt, pod, id);
    store_lock(rt);
    pod->private->standby_taken = false;
    store_unlock(rt);
    standby_begin(rt, pod);
}

void standby_wait(struct runtime *rt, struct pod *pod)
{
    const struct ctx none = CTX_NONE;

    store_lock(rt);
    while (pod->private->standby_busy)
        (void)notify_wait(&rt->lock, &pod->private->changed, &none, NULL);
    store_unlock(rt);
}

void standby_discard(struct runtime *rt, struct pod *pod, const char *id)
{
    Pod__ForgetRequest forget = POD__FORGET_REQUEST__INIT;
    Pod__Request request = POD__REQUEST__INIT;
    struct podconn *conn = store_pod_conn(rt, pod);
    char leaf[CGROUP_PATH_MAX];

    forget.container_id = (char *)id;
    request.op_case = POD__REQUEST__OP_FORGET;
    request.forget = &forget;
    if (conn)
        (void)podconn_request(conn, &request, ANSWER_TIMEOUT_NS, NULL, NULL);
    podconn_unref(conn);
    if (cgroup_leaf_path(pod->private->cgroup, id, leaf, NULL) == 0)
        remove_leaf(rt, leaf);
}

int standby_remove(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct pod_private *p = pod->private;
    char id[RUNTIME_ID_LEN + 1], leaf[CGROUP_PATH_MAX];

    store_lock(rt);
    memcpy(id, p->standby, sizeof(id));
    store_unlock(rt);
    if (!id[0] || cgroup_leaf_path(p->cgroup, id, leaf, NULL) < 0)
        return 0;
    int r = cgroup_remove(rt->cgroups, leaf, err);
    if (r == 0) {
        store_lock(rt);
        p->standby[0] = '\0';
        store_unlock(rt);
    }
    return r;
}
