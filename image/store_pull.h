// One pull under way: the thread that talks to crisp-pull, and who waits for it.
#ifndef IMAGE_STORE_PULL_H
#define IMAGE_STORE_PULL_H

#include <pthread.h>

#include "base/arena.h"
#include "image/reference.h"
#include "image/store.h"
#include "image/store_program.h"

// Somebody who wants to know how a pull goes on.
struct pull_watcher {
    struct pull_watcher *next;
    int fd; // an eventfd, written when there is news
};

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
    bool in_full;  // the image is resolved anew even if it is here
    bool no_spare; // a crisp-pull of its own
    int done_fd;   // readable (an eventfd) when it has ended
    int cancel_fd; // written to call it off
    int wake_fd;   // written when layers of others have changed

    // An import: the tar (of the caller, who waits) in the place of a registry, and ref is empty.
    int archive_fd; // -1: a pull
    unsigned archive_index;
    const char *archive_name; // what it is to be called; NULL: as the archive says
    unsigned archive_images;  // how many images the archive has; a result
    char **names;             // that the image was given; a result

    struct pull_watcher *watchers;         // under store->lock, like the next two
    struct image_layer_progress *progress; // bottom first; NULL: not known yet
    size_t n_progress;

    // The result; constant once ended.
    int result;
    struct error error;
    char *image_id;
};

// The whole conversation; fills in the result. Runs on the operation's own thread, for crisp-pull ends with
// it.
void pull_op_run(struct pull_op *op);

// store_pull_watch.c: how far it is, for those who watch.
// A pull of these layers, all WAITING. 0 or -ENOMEM.
int pull_progress_begin(struct pull_op *op, const Pull__PullResolved *resolved);
// A layer's state; FETCHING leaves fetched alone, UNPACKING and those after it set it to the whole size.
void pull_progress_set(struct pull_op *op, size_t layer, enum image_layer_state state);
void pull_progress_amounts(struct pull_op *op, const Pull__Amounts *amounts);
// Waits for the end, telling watch (NULL: nobody) of the news: 1, or -errno as ctx_wait_fd() or the watch has
// it.
int pull_watch_wait(struct pull_op *op, const struct ctx *ctx, const struct image_watch *watch,
                    struct error *err);

// The result is final: those who wait get it, while the thread still tidies up.
void pull_op_answer(struct pull_op *op);
// store_pull.c. A new operation, not listed yet; NULL on ENOMEM.
struct pull_op *pull_op_new(struct image_store *s, const struct reference *ref, const char *key,
                            const uint8_t *auth, size_t auth_len);
void pull_op_free(struct pull_op *op); // NULL is fine
// Starts its thread and lists it, with the caller as one who waits; an error leaves it the caller's. `lock`
// is held.
int pull_op_start(struct image_store *s, struct pull_op *op, struct error *err);
// The last one to leave a pull that still runs calls it off.
void pull_op_leave(struct image_store *s, struct pull_op *op);

// store_import.c: the names that an imported image gets, in fresh memory: NULL-terminated, perhaps none.
int import_names(const struct pull_op *op, const Pull__PullResolved *resolved, char ***names,
                 struct error *err);
// Sends the PullRequest; arena is scratch memory.
int pull_request_send(const struct pull_op *op, int sock, const char *staging_dir, struct arena *arena,
                      struct error *err);

// Sets request->known_digests (in arena): what a reference that is here already may mean.
int unchanged_digests(const struct pull_op *op, struct arena *arena, Pull__PullRequest *request,
                      struct error *err);
// The id (the caller's) of the image that the reference still means, having this digest; NULL when it went
// meanwhile, or on ENOMEM.
char *unchanged_image(const struct pull_op *op, const char *digest);
// Until op->image_id is on disk for good. That is taken away when the image has gone meanwhile.
int unchanged_wait(struct pull_op *op, struct error *err);

#endif
