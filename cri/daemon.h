// What one crispd is made of. Built by main() before the first call is taken, constant afterwards.
#ifndef CRI_DAEMON_H
#define CRI_DAEMON_H

struct config;
struct db;
struct image_store;
struct network;
struct runtime;

struct daemon {
    const struct config *config; // cri/config.h
    struct db *db;               // base/db/db.h
    struct image_store *images;  // image/image.h
    struct network *network;     // network/network.h
    struct runtime *runtime;     // runtime/runtime.h
};

#endif
