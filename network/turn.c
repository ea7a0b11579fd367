// Operations on one pod's attachment come one after the other.
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/internal.h"

static struct turn *turn_new(const char *pod_id)
{
    struct turn *turn = calloc(1, sizeof(*turn));
    if (!turn)
        return NULL;
    turn->id = strdup(pod_id);
    turn->sem = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (turn->id && turn->sem >= 0)
        return turn;
    fd_closep(&turn->sem);
    free(turn->id);
    free(turn);
    return NULL;
}

static void turn_unref(struct network *net, struct turn *turn)
{
    (void)pthread_mutex_lock(&net->lock);
    bool last = --turn->refs == 0;
    if (last)
        (void)map_remove(net->turns, turn->id);
    (void)pthread_mutex_unlock(&net->lock);
    if (!last)
        return;
    fd_closep(&turn->sem);
    free(turn->id);
    free(turn);
}

int network_turn_take(struct network *net, const char *pod_id, const struct ctx *ctx, struct turn **out,
                      struct error *err)
{
    (void)pthread_mutex_lock(&net->lock);
    struct turn *turn = map_get(net->turns, pod_id);
    if (!turn && (turn = turn_new(pod_id)) != NULL && map_set(net->turns, pod_id, turn) < 0) {
        fd_closep(&turn->sem);
        free(turn->id);
        free(turn);
        turn = NULL;
    }
    if (turn)
        turn->refs++;
    (void)pthread_mutex_unlock(&net->lock);
    if (!turn)
        return error_set(err, STATUS_RESOURCE_EXHAUSTED, ENOMEM,
                         "network of pod %s: out of memory or descriptors", pod_id);
    uint64_t one;
    while (read(turn->sem, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        int r = ctx_wait_fd(ctx, turn->sem, POLLIN, err);
        if (r < 0) {
            turn_unref(net, turn);
            return error_wrap(err, "network of pod %s: waiting for its other operation", pod_id);
        }
    }
    *out = turn;
    return 0;
}

void network_turn_give(struct network *net, struct turn *turn)
{
    if (!turn)
        return;
    (void)eventfd_write(turn->sem, 1);
    turn_unref(net, turn);
}
