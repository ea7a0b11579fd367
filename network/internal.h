// What the files of network/ share.
#ifndef NETWORK_INTERNAL_H
#define NETWORK_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "base/map.h"
#include "cni/chain.h"
#include "cni/config.h"
#include "cni/record.h"
#include "network/network.h"

#define NETWORK_IFNAME         "eth0"
#define NETWORK_RETRY_FIRST_NS (1 * INT64_C(1000000000))
#define NETWORK_RETRY_MAX_NS   (300 * INT64_C(1000000000))

// A tear-down that is still to be done.
struct pending {
    int64_t due_mono_ns;
    int64_t backoff_ns;
    unsigned attempts;
    char last_error[256];
};

// One operation at a time on a pod's attachment: whoever holds the semaphore. Exists while somebody holds it
// or waits for it.
struct turn {
    char *id;
    int sem; // eventfd, EFD_SEMAPHORE, 1 when free: unlike a mutex it can be waited for with a deadline
    int refs;
};

struct network {
    struct cni_config *config;
    char **bin_dirs;
    char *cache_dir;
    int64_t plugin_timeout_ns;
    bool exclusive;
    int stop_fd; // eventfd: readable when the worker is to end
    int gc_fd;   // eventfd: readable when a GC that runs is to end

    pthread_mutex_t lock;   // guards what follows; never held while a plugin runs
    pthread_cond_t changed; // of pending, stopping, adding or collecting
    struct map *turns;      // pod id -> struct turn
    struct map *pending;    // pod id -> struct pending
    char *pod_cidr;         // NULL: none told
    bool stopping;
    bool gc_due;
    bool collecting; // a GC is under way
    unsigned adding; // ADDs under way: a GC in the middle of one would free what it has just made
    pthread_t worker;
    bool worker_started;
};

// turn.c
int network_turn_take(struct network *net, const char *pod_id, const struct ctx *ctx, struct turn **out,
                      struct error *err);
void network_turn_give(struct network *net, struct turn *turn);

// worker.c: pending tear-downs.
int network_worker_start(struct network *net, struct error *err);
void network_worker_stop(struct network *net);
// Adds one, due now or, after a failure (why not NULL), with back-off.
void network_pending_add(struct network *net, const char *pod_id, const struct error *why);
void network_pending_drop(struct network *net, const char *pod_id);
// Around what a GC must not see half done: from before the record of an ADD is written until ADD is over. A
// GC that runs is ended (it comes again), so that no plugin's GC keeps a pod waiting.
void network_adding_begin(struct network *net);
void network_adding_end(struct network *net);

// attach.c: DEL of the pod whose turn the caller holds. On success the record is gone.
int network_tear_down(struct network *net, const char *pod_id, const struct ctx *ctx, struct error *err);

// podargs.c
// CNI_ARGS of a pod; NULL and *err when a value can't be put into them. The caller frees.
char *network_make_args(const struct network_pod *pod, struct error *err);
// The values for capabilities. A fresh object, or NULL and *err.
json_t *network_make_capability_args(const struct network_pod *pod, struct error *err);

#endif
