// From a request to the function that serves it.
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/pb.h"
#include "runtime/pod/pod.h"

// What a plan may require (LaunchPlan.required_features). A name is never taken out or given a new meaning.
const char *const pod_features[] = {"launch-1",     "lsm-1",          "hooks-1",
                                    "image-volume", "volume-content", "userns-1"};
const size_t pod_n_features = ARRAY_SIZE(pod_features);

const int pod_ignored_signals[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
const size_t pod_n_ignored_signals = ARRAY_SIZE(pod_ignored_signals);

bool pod_id_valid(const char *id)
{
    size_t len = strlen(id);

    return len > 0 && len <= POD_ID_MAX && id[0] != '.' &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == len;
}

static void hello(struct pod *p, struct waiter w)
{
    Pod__Reply reply = POD__REPLY__INIT;
    Pod__HelloReply r = POD__HELLO_REPLY__INIT;

    r.version = POD_PROTOCOL_VERSION;
    r.features = (char **)(uintptr_t)pod_features;
    r.n_features = pod_n_features;
    r.pod_id = p->id;
    r.pid = (int32_t)getpid();
    (void)clock_process_start(r.pid, &r.start_ticks);
    r.ready = p->ready;
    reply.result_case = POD__REPLY__RESULT_HELLO;
    reply.hello = &r;
    conn_reply(p, w, &reply, NULL, 0);
}

static void refuse(struct pod *p, struct waiter w, const char *why)
{
    struct error err;

    (void)error_set(&err, STATUS_UNIMPLEMENTED, EOPNOTSUPP, "pod %s: crisp-pod %s %s", p->id, CRISP_VERSION,
                    why);
    conn_reply_error(p, w, &err, NULL);
}

void pod_dispatch(struct pod *p, struct waiter w, const Pod__Request *request, int *fds, size_t n_fds)
{
    pod_active(p);
    // Fields from a newer crispd may mean less access: carrying on without them would be half an isolation.
    if (pb_has_unknown(&request->base)) {
        refuse(p, w, "does not know a field of this request");
        return;
    }
    switch (request->op_case) {
    case POD__REQUEST__OP_HELLO:
        hello(p, w);
        return;
    case POD__REQUEST__OP_SETUP:
        setup_start(p, w, request->setup, fds, n_fds);
        return;
    case POD__REQUEST__OP_ENTER:
        setup_enter(p, w, request->enter);
        return;
    case POD__REQUEST__OP_PREPARE:
        container_prepare(p, w, request->prepare);
        return;
    case POD__REQUEST__OP_PLACED:
        container_placed(p, w, request->placed);
        return;
    case POD__REQUEST__OP_START:
        container_start(p, w, request->start);
        return;
    case POD__REQUEST__OP_PROCEED:
        container_proceed(p, w, request->proceed);
        return;
    case POD__REQUEST__OP_KILL:
        container_signal(p, w, request->kill);
        return;
    case POD__REQUEST__OP_FORGET:
        container_forget(p, w, request->forget);
        return;
    case POD__REQUEST__OP_EXEC:
        exec_start(p, w, request->exec, fds, n_fds);
        return;
    case POD__REQUEST__OP_EXEC_KILL:
        exec_signal(p, w, request->exec_kill);
        return;
    case POD__REQUEST__OP_REOPEN_LOG:
        container_reopen_log(p, w, request->reopen_log);
        return;
    case POD__REQUEST__OP_STATE:
        container_list(p, w);
        return;
    case POD__REQUEST__OP_SHUTDOWN:
        pod_shutdown(p, w, request->shutdown);
        return;
    case POD__REQUEST__OP__NOT_SET:
    default:
        refuse(p, w, "does not know this request");
    }
}
