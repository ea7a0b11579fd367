// One pull under way: the thread that talks to crisp-pull, and who waits for it.
#ifndef IMAGE_STORE_PULL_H
#define IMAGE_STORE_PULL_H

#include <pthread.h>

#include "base/arena.h"
#include "image/reference.h"
#include "image/store.h"

struct pull_op {
    struct image_store *store;
    struct pull_op *next;
    struct reference ref;
    char *key;     // the normalised reference
    uint8_t *auth; // the packed AuthConfig: only equal credentials may join. Wiped at the end
    size_t auth_len;
    unsigned waiters; // under store->lock, like the next three
    bool cancelled;   // nobody may join any more
    bool ended;
    pthread_t thread;
    int done_fd;   // readable (an eventfd) when it has ended
    int cancel_fd; // written to call it off
    int wake_fd;   // written when layers of others have changed

    // The result; constant once ended.
    int result;
    struct error error;
    char *image_id;
};

// The whole conversation; fills in the result. Runs on the operation's own thread, for crisp-pull ends with
// it.
void pull_op_run(struct pull_op *op);

// Sends the PullRequest; arena is scratch memory.
int pull_request_send(const struct pull_op *op, int sock, const char *staging_dir, struct arena *arena,
                      struct error *err);

#endif
