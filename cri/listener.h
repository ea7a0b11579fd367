// The Unix socket: binding it without stealing another daemon's, accepting within a cap, removing it.
//
// gRPC's own listener would unlink whatever is at the path, at start and again at exit. Here a lock file
// beside the socket decides who may; a socket that is found is removed only with the lock held and when
// nobody listens on it.
#ifndef CRI_LISTENER_H
#define CRI_LISTENER_H

#include <stddef.h>

#include "base/error.h"

struct listener;

// Gets each accepted connection (non-blocking), which it owns from then on. Called on the listener's thread.
typedef void (*listener_fn)(int fd, void *data);

struct listener_options {
    const char *path;       // at most 107 bytes; missing folders above it are made
    size_t max_connections; // open at one time; further ones are closed at once
    listener_fn accepted;
    void *data;
};

// Locks, binds (mode 0660) and listens; connections are taken from listener_start() on.
int listener_open(const struct listener_options *options, struct listener **out, struct error *err);
int listener_start(struct listener *l, struct error *err);
// Stops accepting, joins the thread, removes the socket if it is still ours. NULL is fine.
void listener_close(struct listener *l);

#endif
