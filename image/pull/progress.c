#include "image/pull/progress.h"

#include <poll.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define PERIOD_NS (100 * NS_PER_MS)

// A stream socket says so while three quarters of its buffer are free: then a small frame never waits.
static bool has_room(int sock)
{
    struct pollfd fd = {.fd = sock, .events = POLLOUT};

    return poll(&fd, 1, 0) == 1 && (fd.revents & POLLOUT);
}

static int send_amounts(int sock, const struct layer *layers, size_t n, struct error *err)
{
    Pull__FromPull m = PULL__FROM_PULL__INIT;
    Pull__Amounts amounts = PULL__AMOUNTS__INIT;
    _cleanup_free_ Pull__LayerAmount *items = calloc(n + 1, sizeof(*items));
    _cleanup_free_ Pull__LayerAmount **pointers = calloc(n + 1, sizeof(Pull__LayerAmount *));

    if (!items || !pointers)
        return error_errno(err, ENOMEM, "tell of the pull");
    for (size_t i = 0; i < n; i++) {
        if (layers[i].state != LAYER_RUNNING)
            continue;
        Pull__LayerAmount *item = &items[amounts.n_layers];
        pull__layer_amount__init(item);
        item->index = layers[i].index;
        item->received = layers[i].received;
        pointers[amounts.n_layers++] = item;
    }
    amounts.layers = pointers;
    m.kind_case = PULL__FROM_PULL__KIND_AMOUNTS;
    m.amounts = &amounts;
    return pb_frame_send(sock, &m.base, NULL, 0, err);
}

int progress_report(struct progress *p, int sock, const struct layer *layers, size_t n, struct error *err)
{
    int64_t now = clock_mono_ns();
    uint64_t sum = 0;

    if (now < p->next_ns)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (layers[i].state == LAYER_RUNNING)
            sum += layers[i].received + 1;
    if (sum == p->told || !has_room(sock))
        return 0;
    p->told = sum;
    p->next_ns = now + PERIOD_NS;
    return send_amounts(sock, layers, n, err);
}

void progress_figures(const struct layer *l, Pull__LayerDone *done)
{
    int64_t all_ns = clock_mono_ns() - l->started_ns;
    uint64_t worked_ns = l->unpack.result->inflate_ns + l->unpack.result->write_ns;

    done->received = l->received;
    done->inflate_ns = l->unpack.result->inflate_ns;
    done->write_ns = l->unpack.result->write_ns;
    done->fetch_ns = all_ns > 0 && (uint64_t)all_ns > worked_ns ? (uint64_t)all_ns - worked_ns : 0;
}
