// Health checks: commands that tell whether a container is well, asked for by the annotation crisp.run/health
// and never by an image (as Kubernetes has it, whose probes are kubelet's). Nothing follows from their
// results but what ContainerStatus and the log tell.
//
// Each check is a job of one worker, which adds the next one; what is known is kept beside the pod's run
// files too, for the daemon's next start.
#ifndef RUNTIME_HEALTH_H
#define RUNTIME_HEALTH_H

#include "base/clock.h"
#include "runtime/annotation.h"
#include "runtime/runtime.h"

#define HEALTH_LOG_MAX    5    // results that are kept
#define HEALTH_OUTPUT_MAX 4096 // bytes of a check's output that are kept
#define HEALTH_THREADS    512  // checks at one time, of all containers
#define HEALTH_PER_POD    2    // of these, of one pod
#define HEALTH_YOUNG      16   // of these, younger than HEALTH_YOUNG_NS: so many begin at one time
#define HEALTH_YOUNG_NS   NS_PER_SEC
#define HEALTH_NO_CODE    (-1) // exit code of a check that took too long or couldn't be executed

enum health_status { HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct health_result {
    int64_t start_ns, end_ns;
    int32_t exit_code;
    char *output; // malloc'd UTF-8
};

struct health {
    struct arena *arena; // config's
    const struct annotation_health *config;
    enum health_status status;
    unsigned failing_streak;
    struct health_result log[HEALTH_LOG_MAX]; // the oldest first
    size_t n_log;
};

// Checks that have begun a moment ago. One that takes long, or hangs, gives its place to the next: it holds
// up nobody else's for more than a moment, and yet a node's checks don't begin all at once.
struct health_turns {
    int64_t begun_mono_ns[HEALTH_YOUNG]; // 0: free
};
bool health_turn_take(struct health_turns *t, int64_t now_mono_ns);   // false: not yet
void health_turn_give(struct health_turns *t, int64_t begun_mono_ns); // what was `now` when it was taken

// What is wanted of a container; NULL in *out: nothing.
int health_new(const Cri__PodSandboxConfig *pod, const Cri__ContainerConfig *config, struct health **out);
void health_free(struct health *h); // NULL is fine
// A check's result. result's output becomes h's. started_at_ns: of the container. true: the status is
// another.
bool health_apply(struct health *h, struct health_result *result, int64_t started_at_ns);
// Until the next check.
int64_t health_delay_ns(const struct health *h, int64_t started_at_ns, int64_t now_ns);
// {"status": …, "failing_streak": …, "log": […]}; the caller frees. NULL: no memory.
char *health_json(const struct health *h);
// Takes over what health_json() told; what can't be read changes nothing.
void health_restore(struct health *h, const char *json);
const char *health_status_name(enum health_status status);

// health_run.c. The container runs (again, as a restarted daemon sees it): begins with its checks, once. No
// lock is held.
void health_started(struct runtime *rt, struct container *c);
// It has ended and is to be removed: its next check is called off. The caller holds a reference.
void health_forget(struct runtime *rt, struct container *c);

#endif
