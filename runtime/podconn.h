// The connection to one crisp-pod, and the one thread that watches them all.
//
// Any thread may call; requests go out under a write lock, and the monitor's thread gives each reply to the
// call with its id. Events and the end of the process are told by callbacks on that thread: they must not
// block, and may not make calls themselves.
#ifndef RUNTIME_PODCONN_H
#define RUNTIME_PODCONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/pod/pod.pb-c.h"
#include "base/error.h"
#include "base/pb.h"

#define PODCONN_VERSION 1

struct monitor;
struct podconn;

int monitor_new(struct monitor **out, struct error *err);
// Ends the thread: nothing calls back any more. Owners' references stay theirs.
void monitor_free(struct monitor *m);

struct podconn_events {
    void (*exited)(void *data, const Pod__ExitRecord *exit);
    void (*exec_exited)(void *data, const Pod__ExecExit *exit);
    // The socket is unusable, but the process lives (it dropped us, or spoke nonsense): podconn_reattach().
    void (*broken)(void *data);
    // The process has ended (and was reaped, if it was our child). Comes once, after everything it sent; data
    // isn't used afterwards.
    void (*gone)(void *data);
};

// Takes sock and pidfd over, also on failure. name is for messages (the pod's id; copied). The caller owns
// one reference.
int podconn_new(struct monitor *m, const char *name, int sock, int pidfd, const struct podconn_events *events,
                void *data, struct podconn **out, struct error *err);
// A new socket to the same process, after `broken`. Takes sock over.
int podconn_reattach(struct podconn *c, int sock, struct error *err);
struct podconn *podconn_ref(struct podconn *c);
void podconn_unref(struct podconn *c); // NULL is fine
int podconn_pidfd(const struct podconn *c);

// A request under way. Zeroed before podconn_send(), which begins it; podconn_wait() or podconn_drop() ends
// it.
struct podconn_call {
    struct podconn_call *next;
    uint64_t id;
    bool done;
    int errnum; // the connection broke
    Pod__Reply *reply;
    int fds[PB_FRAME_FDS_MAX];
    size_t n_fds;
};

// Sets request->id and sends it, with descriptors (the caller's still). UNAVAILABLE if there is no
// connection.
int podconn_send(struct podconn *c, Pod__Request *request, const int *fds, size_t n_fds,
                 struct podconn_call *call, struct error *err);
// Waits until deadline_mono_ns. *reply (may be NULL) is the caller's, by podconn_reply_free(). An error that
// crisp-pod answered becomes the result, with its status; the reply is then given out too, for its details.
int podconn_wait(struct podconn *c, struct podconn_call *call, int64_t deadline_mono_ns, Pod__Reply **reply,
                 struct error *err);
void podconn_drop(struct podconn *c, struct podconn_call *call); // releases call->fds that nobody took
// Both at once, when no descriptors come back.
int podconn_request(struct podconn *c, Pod__Request *request, int64_t timeout_ns, Pod__Reply **reply,
                    struct error *err);
// Sends and doesn't wait for the reply.
int podconn_post(struct podconn *c, Pod__Request *request, struct error *err);
void podconn_reply_free(Pod__Reply **reply);
#define _cleanup_reply_ __attribute__((cleanup(podconn_reply_free)))

#endif
