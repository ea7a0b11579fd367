// What one crispd is made of. Built before the first call is taken, constant afterwards.
#ifndef CRI_DAEMON_H
#define CRI_DAEMON_H

#include "base/error.h"
#include "cri/lockfile.h"

struct config;
struct db;
struct image_store;
struct image_verified;
struct network;
struct runtime;

struct daemon {
    const struct config *config; // cri/config.h
    struct db *db;               // base/db/db.h
    struct image_store *images;  // image/image.h
    struct network *network;     // network/network.h
    struct runtime *runtime;     // runtime/runtime.h
    struct lockfile root_lock, run_lock;
};

// Makes and locks the directories, opens records, images, networks and runtime, and finishes or undoes what
// an earlier run left half done. The config is the caller's and has to outlive the daemon.
int daemon_open(struct daemon *d, const struct config *config, struct error *err);
// Reads all images of a daemon that doesn't run and compares them with what was unpacked (image/image.h).
int daemon_verify_images(const struct config *config, struct image_verified *out, struct error *err);
// Makes waits end that outlive the client that asked for them. For server_stop(); data is the daemon.
void daemon_shutdown(void *data);
// In reverse order. No call may be under way. What was never opened is skipped.
void daemon_close(struct daemon *d);

#endif
